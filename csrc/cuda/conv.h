// Launch interface of the tensor-core convolutions for wide channels: head, upsampling, residual.
//
// One implicit GEMM serves all three. Row m and column n of the product go to element
// m * N + n - shift of the output row, N = stride * C_out: a transposed convolution's phases are
// columns, and its cropping is the shift (padding * C_out). Tap k reads input row
// m + first_tap + k * dilation.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "dtype.h"

namespace vk {
namespace cuda {

constexpr int kConvMaxBranches = 4;

enum class ConvSource : int {
    kActivated = 0,  // x: [B, T_in_cap, C_in] in the compute dtype, one per branch
    kMean = 1,       // leaky(mean of `inputs` fp32 streams [B, T_in_cap, C_in]), one branch
    kStrided = 2,    // the caller's [B, C_in, T] in any dtype, one branch
    kSummed = 3      // as kActivated; the branches' mean goes to the outputs of the first
};

struct ConvBranch {
    const void* x;
    const void* weight;    // fragments, see conv_kernel.cuh
    const float* bias;     // [C_out] or null
    const void* residual;  // [B, T_out_cap, C_out] as `undo` says, or null
    float* stream;         // the same in fp32, or null
    void* activated;       // the same in the compute dtype, or null
    int K, dilation, first_tap;
};

struct ConvParams {
    ConvBranch branches[kConvMaxBranches];
    const float* means[kConvMaxBranches];  // kMean
    int64_t stride_b, stride_c, stride_t;  // kStrided, in elements
    DType x_dtype;                         // kStrided
    // kStrided: [B, 2], the caller's row, and its time at the window's sample 0, which may lie
    // outside the tensor as long as the valid samples do not.
    const int32_t* source;
    int inputs;           // kMean: streams; kSummed: branches
    float slope_in;       // kMean
    const float* cond;    // kStrided: [caller's rows, C_out] added to every sample, or null
    int64_t cond_stride;  // elements between its rows, 0 too
    float slope_out;      // of `activated`; 1 is no activation
    // Residuals are fp32 for 0, else activated in the compute dtype by LeakyReLU of slope 1 / undo.
    float undo;
    const int32_t* ranges;  // [B, 2] frames
    int scale_in, extra_in, scale_out, extra_out;
    int T_in_cap, T_out_cap, C_in, C_out, stride, padding;
};

struct ConvTile {
    int rows, columns, threads;
};

// Tiles compiled for a source, by index, largest first; false past the last. Results do not depend
// on the tile.
bool conv_tile(ConvSource source, int index, ConvTile& tile);

// Shared memory of a CTA when `reach` is the largest (K - 1) * dilation of the branches.
int conv_shared_bytes(const ConvTile& tile, int reach);

void launch_conv(const ConvParams& params, int branches, int B, ConvSource source, DType dtype,
                 int tile, cudaStream_t stream);

}  // namespace cuda
}  // namespace vk
