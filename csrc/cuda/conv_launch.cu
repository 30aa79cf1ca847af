#include <algorithm>
#include <string>

#include "conv_entry.cuh"
#include "error.h"

namespace vk {
namespace cuda {
namespace {

constexpr const char* kOp = "conv";
constexpr int kSharedBytes = 48 * 1024;  // what every device gives without opting in

void check_shapes(const ConvParams& p, int branches, int B, ConvSource source) {
    const bool grouped = source == ConvSource::kActivated || source == ConvSource::kSummed;
    const int most = grouped ? kConvMaxBranches : 1;
    require(branches >= 1 && branches <= most, kOp,
            "expected 1 to " + std::to_string(most) + " branches, got " + std::to_string(branches) +
                ".");
    require(source != ConvSource::kMean || (p.inputs >= 1 && p.inputs <= kConvMaxBranches), kOp,
            "expected the mean of 1 to 4 inputs, got " + std::to_string(p.inputs) + ".");
    require(source != ConvSource::kSummed || p.inputs == branches, kOp,
            "expected the mean of all " + std::to_string(branches) + " branches, got " +
                std::to_string(p.inputs) + ".");
    require(p.C_out >= 4 && p.C_out % 4 == 0, kOp,
            "expected output channels in fours, got " + std::to_string(p.C_out) + ".");
    require(p.C_in >= 1 && (source == ConvSource::kStrided || p.C_in % 8 == 0), kOp,
            "expected input channels in eights, got " + std::to_string(p.C_in) + ".");
    require(
        B >= 1 && B * branches <= 65535 && p.T_in_cap >= 1 && p.T_out_cap >= 1 && p.stride >= 1 &&
            p.padding >= 0,
        kOp,
        "expected 1 to 65535 rows of batch over all branches, capacities and stride of at least "
        "1, got B = " +
            std::to_string(B) + ", T_in_cap = " + std::to_string(p.T_in_cap) + ", T_out_cap = " +
            std::to_string(p.T_out_cap) + ", stride " + std::to_string(p.stride) + ".");
}

}  // namespace

int conv_shared_bytes(const ConvTile& tile, int reach) {
    return 2 * kConvRowBytes * (tile.rows + reach);
}

bool conv_tile(ConvSource source, int index, ConvTile& tile) {
    const ConvEntry* entry = conv_fp16(source, index);
    if (entry) tile = entry->tile;
    return entry;
}

void launch_conv(const ConvParams& params, int branches, int B, ConvSource source, DType dtype,
                 int tile, cudaStream_t stream) {
    check_shapes(params, branches, B, source);
    const ConvEntry* entry = dtype == DType::kFloat16    ? conv_fp16(source, tile)
                             : dtype == DType::kBFloat16 ? conv_bf16(source, tile)
                                                         : nullptr;
    require(entry, kOp,
            std::string("no kernel computes in ") + name(dtype) + " with tile " +
                std::to_string(tile) + "; expected fp16 or bf16 and a tile of the list.");
    int reach = 0;
    for (int j = 0; j < branches; ++j) {
        const ConvBranch& branch = params.branches[j];
        require(branch.K >= 1 && branch.dilation >= 1, kOp,
                "expected kernel sizes and dilations of at least 1, got " +
                    std::to_string(branch.K) + " and " + std::to_string(branch.dilation) + ".");
        reach = std::max(reach, (branch.K - 1) * branch.dilation);
    }
    const int bytes = conv_shared_bytes(entry->tile, reach);
    require(bytes <= kSharedBytes, kOp,
            "a reach of " + std::to_string(reach) + " rows needs " + std::to_string(bytes) +
                " bytes of shared memory, 49152 are there; choose a tile of fewer rows.");
    // A row range that does not start at a multiple of the stride touches one more product row.
    const int m_cap = params.T_out_cap / params.stride + (params.stride == 1 ? 0 : 2);
    const int columns = params.stride * params.C_out;
    const dim3 grid((m_cap + entry->tile.rows - 1) / entry->tile.rows,
                    (columns + entry->tile.columns - 1) / entry->tile.columns,
                    source == ConvSource::kSummed ? B : branches * B);
    entry->kernel<<<grid, entry->tile.threads, bytes, stream>>>(params, B);
    check_launch(kOp, std::string(name(dtype)) + ", C_in = " + std::to_string(params.C_in) +
                          ", C_out = " + std::to_string(params.C_out) + ", stride " +
                          std::to_string(params.stride) + ", tile " +
                          std::to_string(entry->tile.rows) + " x " +
                          std::to_string(entry->tile.columns) + ", grid " + std::to_string(grid.x) +
                          " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z));
}

}  // namespace cuda
}  // namespace vk
