// Launch interface of whole residual branches of few channels.
//
//   out_j = unit_n(... unit_1(x_j)),  unit(x) = x + conv2(leaky(conv1(leaky(x))))  n_convs = 2
//                                     unit(x) = x + conv(leaky(x))                 n_convs = 1
//
// for up to four branches j in one launch. Streams are fp32, channels-last [B, T_cap, C];
// convolutions multiply in fp16 or bf16 and accumulate in fp32.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "dtype.h"
#include "narrow_tile.h"

namespace vk {
namespace cuda {

constexpr int kBranchMaxBranches = 4;
constexpr int kBranchMaxUnits = 4;

// `x` of several branches may be the same; no `out` may overlap any `x`.
struct Branch {
    const float* x;
    float* out;
    const void* weight;             // fragments of its convolutions, one after another
    const float* bias;              // [units * n_convs, C]
    int K, units;                   // K odd
    int dilation[kBranchMaxUnits];  // of the first convolution of a unit
    // Chosen by the launch: rows of output per CTA, samples each side that a result depends on,
    // CTAs per batch row, one past the last CTA.
    int tile_rows, halo, tiles, cta_end;
};

struct BranchParams {
    Branch branches[kBranchMaxBranches];
    const int32_t* ranges;  // [B, 2] frames
    int64_t T_cap;
    int n_convs, scale, extra;
    int margin;  // rows of zeros before and after a tile, chosen by the launch
    float slope;
};

// Samples each side that a result of the branch depends on, and that one convolution reads.
int branch_halo(const Branch& branch, int n_convs);
int branch_reach(const Branch& branch);

// Bytes of shared memory of a tile with so many rows before and after it.
int branch_shared_bytes(const NarrowTile& tile, int C, int margin);

void launch_residual_branch(BranchParams params, int branches, int B, int C, DType dtype, int tile,
                            cudaStream_t stream);

}  // namespace cuda
}  // namespace vk
