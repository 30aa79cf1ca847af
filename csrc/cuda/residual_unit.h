// Launch interface of the narrow-channel residual unit.
//
//   out_j = x_j + conv2_j(act2_j(conv1_j(act1_j(x_j))))     n_convs = 2 (resblock "1")
//   out_j = x_j + conv_j(act_j(x_j))                        n_convs = 1 (resblock "2")
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

constexpr int kUnitMaxBranches = 4;
constexpr int kUnitFilterTaps = 12;

// `x` of several branches may be the same; no `out` may overlap any `x`.
struct UnitBranch {
    const float* x;
    float* out;
    const void* weight[2];     // fragments, see vocoder_kernels.ops.residual_unit.pack
    const float* bias[2];      // [C]
    const float* alpha[2];     // snake: [C]
    const float* inv_beta[2];  // snake: [C]
    int K, dilation;           // K odd; dilation of the first convolution
    // Chosen by the launch: rows of output per CTA, CTAs per batch row, one past the last CTA.
    int tile_rows, tiles, cta_end;
};

struct UnitFilter {
    float up[kUnitFilterTaps];  // gain of 2 included
    float down[kUnitFilterTaps];
};

struct UnitParams {
    UnitBranch branches[kUnitMaxBranches];
    const int32_t* ranges;  // [B, 2] frames
    int64_t T_cap;
    int n_convs, scale, extra;
    int n_rows;  // rows in shared memory, chosen by the launch
    float slope;
    UnitFilter filter;
};

// Rows of output of a branch per CTA; not positive where the halo leaves none.
int unit_tile_rows(const NarrowTile& tile, bool snake, int n_convs, int K);

// Rows of shared memory that a branch needs, and bytes of so many rows.
int unit_shared_rows(const NarrowTile& tile, int C, bool snake, int n_convs, int K, int dilation);
int unit_shared_bytes(int C, int rows);

void launch_residual_unit(UnitParams params, int branches, int B, int C, bool snake, DType dtype,
                          int tile, cudaStream_t stream);

}  // namespace cuda
}  // namespace vk
