#include <algorithm>
#include <string>

#include "error.h"
#include "residual_unit_entry.cuh"

namespace vk {
namespace cuda {
namespace {

constexpr const char* kOp = "residual_unit";
constexpr int kSharedBytesWithoutOptIn = 48 * 1024;

UnitKernel select(DType dtype, bool snake, int C, int tile) {
    if (tile < 0 || tile >= kUnitTiles) return nullptr;
    if (dtype == DType::kFloat16)
        return snake ? unit_snake_fp16(C, tile) : unit_leaky_fp16(C, tile);
    if (dtype == DType::kBFloat16)
        return snake ? unit_snake_bf16(C, tile) : unit_leaky_bf16(C, tile);
    return nullptr;
}

// Fills in what the launch chooses for a branch; returns the rows of shared memory it needs.
int plan_branch(UnitBranch& branch, const UnitParams& p, int B, int C, bool snake,
                const NarrowTile& tile, int64_t& ctas) {
    require(branch.K >= 1 && branch.K % 2 == 1 && branch.dilation >= 1, kOp,
            "expected odd kernel sizes and dilations of at least 1, got K = " +
                std::to_string(branch.K) + ", dilation = " + std::to_string(branch.dilation) + ".");
    branch.tile_rows = unit_tile_rows(tile, snake, p.n_convs, branch.K);
    require(branch.tile_rows >= 1, kOp,
            "the halo of K = " + std::to_string(branch.K) + " leaves no rows of a tile of " +
                std::to_string(tile.rows()) + "; use the larger tile or separate convolutions.");
    const int64_t tiles = (p.T_cap + branch.tile_rows - 1) / branch.tile_rows;
    ctas += tiles * B;
    require(ctas < 1ll << 31, kOp,
            std::to_string(p.T_cap) + " rows x " + std::to_string(B) +
                " rows of batch need more than 2^31 CTAs; use smaller windows.");
    branch.tiles = static_cast<int>(tiles);
    branch.cta_end = static_cast<int>(ctas);
    return unit_shared_rows(tile, C, snake, p.n_convs, branch.K, branch.dilation);
}

}  // namespace

int unit_tile_rows(const NarrowTile& tile, bool snake, int n_convs, int K) {
    const int halo = n_convs == 2 ? (K - 1) / 2 + (snake ? kAliasFreeHalo : 0) : 0;
    return tile.rows() - 2 * halo;
}

int unit_shared_rows(const NarrowTile& tile, int C, bool snake, int n_convs, int K, int dilation) {
    const int second = n_convs == 2 ? K - 1 + (snake ? kAliasFreeHalo : 0) : 0;
    const int rows = tile.rows() + std::max(dilation * (K - 1), second);
    if (!snake) return (rows + 7) / 8 * 8;
    const int block = kAliasFreeUnroll * (tile.threads() / C);  // all segments of equal length
    int blocks = (rows + block - 1) / block;
    if (C < 32 && blocks % 4 == 0) ++blocks;  // see ResidualUnit::segment_of
    return blocks * block;
}

int unit_shared_bytes(int C, int rows) { return rows * narrow_pitch_bytes(C); }

void launch_residual_unit(UnitParams params, int branches, int B, int C, bool snake, DType dtype,
                          int tile_index, cudaStream_t stream) {
    const UnitKernel kernel = select(dtype, snake, C, tile_index);
    require(kernel, kOp,
            "no kernel for C = " + std::to_string(C) + ", " + name(dtype) + ", tile " +
                std::to_string(tile_index) +
                "; expected 16, 24, 32, 48, 64 or 96 channels in fp16 or bf16.");
    require(branches >= 1 && branches <= kUnitMaxBranches, kOp,
            "expected 1 to 4 branches, got " + std::to_string(branches) + ".");
    require(params.n_convs == 1 || params.n_convs == 2, kOp,
            "expected 1 or 2 convolutions, got " + std::to_string(params.n_convs) + ".");
    require(B >= 1 && params.T_cap >= 1 && params.T_cap * C < 1ll << 31, kOp,
            "expected B of at least 1 and 1 to 2^31 values per row of batch, got B = " +
                std::to_string(B) + ", T_cap = " + std::to_string(params.T_cap) + ".");
    const NarrowTile tile = unit_tile(C, tile_index);
    int64_t ctas = 0;
    params.n_rows = 0;
    for (int j = 0; j < branches; ++j) {
        const int rows = plan_branch(params.branches[j], params, B, C, snake, tile, ctas);
        params.n_rows = std::max(params.n_rows, rows);
    }
    const int bytes = unit_shared_bytes(C, params.n_rows);
    const std::string config = std::string(name(dtype)) + (snake ? ", snake" : "") +
                               ", C = " + std::to_string(C) + ", tile " +
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
