#include <algorithm>
#include <string>

#include "error.h"
#include "residual_branch_entry.cuh"

namespace vk {
namespace cuda {
namespace {

constexpr const char* kOp = "residual_branch";
constexpr int kSharedBytesWithoutOptIn = 48 * 1024;

BranchKernel select(DType dtype, int C, int tile) {
    if (tile < 0 || tile >= kBranchTiles) return nullptr;
    if (dtype == DType::kFloat16) return branch_fp16(C, tile);
    if (dtype == DType::kBFloat16) return branch_bf16(C, tile);
    return nullptr;
}

void check_sizes(const Branch& branch) {
    require(branch.units >= 1 && branch.units <= kBranchMaxUnits, kOp,
            "expected 1 to 4 units in a branch, got " + std::to_string(branch.units) + ".");
    const int least = *std::min_element(branch.dilation, branch.dilation + branch.units);
    require(branch.K >= 1 && branch.K % 2 == 1 && least >= 1, kOp,
            "expected odd kernel sizes and dilations of at least 1, got K = " +
                std::to_string(branch.K) + ", dilation = " + std::to_string(least) + ".");
}

// Fills in what the launch chooses for a branch.
void plan_branch(Branch& branch, const BranchParams& p, int B, const NarrowTile& tile,
                 int64_t& ctas) {
    branch.halo = branch_halo(branch, p.n_convs);
    branch.tile_rows = tile.rows() - 2 * branch.halo;
    require(branch.tile_rows >= 1, kOp,
            "a halo of " + std::to_string(branch.halo) + " leaves no rows of a tile of " +
                std::to_string(tile.rows()) + "; use the larger tile or separate units.");
    const int64_t tiles = (p.T_cap + branch.tile_rows - 1) / branch.tile_rows;
    ctas += tiles * B;
    require(ctas < 1ll << 31, kOp,
            std::to_string(p.T_cap) + " rows x " + std::to_string(B) +
                " rows of batch need more than 2^31 CTAs; use smaller windows.");
    branch.tiles = static_cast<int>(tiles);
    branch.cta_end = static_cast<int>(ctas);
}

}  // namespace

int branch_halo(const Branch& branch, int n_convs) {
    int dilations = (n_convs - 1) * branch.units;
    for (int i = 0; i < branch.units; ++i)
        dilations += branch.dilation[i];
    return dilations * (branch.K - 1) / 2;
}

int branch_reach(const Branch& branch) {
    return *std::max_element(branch.dilation, branch.dilation + branch.units) * (branch.K - 1) / 2;
}

int branch_shared_bytes(const NarrowTile& tile, int C, int margin) {
    return (tile.rows() + 2 * margin) * narrow_pitch_bytes(C);
}

void launch_residual_branch(BranchParams params, int branches, int B, int C, DType dtype,
                            int tile_index, cudaStream_t stream) {
    const BranchKernel kernel = select(dtype, C, tile_index);
    require(kernel, kOp,
            "no kernel for C = " + std::to_string(C) + ", " + name(dtype) + ", tile " +
                std::to_string(tile_index) + "; expected 16, 24 or 32 channels in fp16 or bf16.");
    require(branches >= 1 && branches <= kBranchMaxBranches, kOp,
            "expected 1 to 4 branches, got " + std::to_string(branches) + ".");
    require(params.n_convs == 1 || params.n_convs == 2, kOp,
            "expected units of 1 or 2 convolutions, got " + std::to_string(params.n_convs) + ".");
    require(B >= 1 && params.T_cap >= 1 && params.T_cap * C < 1ll << 31, kOp,
            "expected B of at least 1 and 1 to 2^31 values per row of batch, got B = " +
                std::to_string(B) + ", T_cap = " + std::to_string(params.T_cap) + ".");
    const NarrowTile tile = branch_tile(C, tile_index);
    int64_t ctas = 0;
    params.margin = 0;
    for (int j = 0; j < branches; ++j) {
        check_sizes(params.branches[j]);
        plan_branch(params.branches[j], params, B, tile, ctas);
        params.margin = std::max(params.margin, branch_reach(params.branches[j]));
    }
    const int bytes = branch_shared_bytes(tile, C, params.margin);
    const std::string config = std::string(name(dtype)) + ", C = " + std::to_string(C) + ", tile " +
                               std::to_string(tile_index) + ", " + std::to_string(ctas) +
                               " CTAs of " + std::to_string(tile.threads()) + " threads, " +
                               std::to_string(bytes) + " bytes of shared memory";
    if (bytes > kSharedBytesWithoutOptIn) {
        check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                        cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                   kOp, config);
    }
    kernel<<<static_cast<unsigned>(ctas), tile.threads(), bytes, stream>>>(params);
    check_launch(kOp, config);
}

}  // namespace cuda
}  // namespace vk
