// Launch interface of the tail: mean of branches, activation, convolution to one channel, end.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "dtype.h"

namespace vk {
namespace cuda {

enum class TailActivation : int { kNone = 0, kLeakyReLU = 1, kSnake = 2 };
enum class TailEnd : int { kNone = 0, kTanh = 1, kClamp = 2 };

// Channels of one row in shared memory, an odd multiple of four floats: threads on neighbouring
// rows read 16 bytes each without bank conflicts.
constexpr int tail_pitch(int C) { return (C + 3) / 4 % 2 ? (C + 3) / 4 * 4 : (C + 3) / 4 * 4 + 4; }

struct TailParams {
    const void* x[3];       // [B, T_cap, C] input dtype, summed and divided by `branches`
    const float* weight;    // [K, tail_pitch(C)], zero beyond C
    const float* bias;      // [1] or null
    const float* alpha;     // [C], snake only
    const float* inv_beta;  // [C], snake only
    const float* filters;   // [24] as for alias_free, snake only
    void* out;              // [B, out_stride] output dtype, sample t of the window at t
    const int32_t* ranges;  // [B, 2] frames
    int64_t out_stride;
    int branches, T_cap, C, K, scale, extra;
    float slope;
    DType out_dtype;
    TailEnd end;
    // Chosen by launch_tail: floats per row in shared memory; rows a thread activates (snake only).
    int pitch, segment;
};

void launch_tail(TailParams params, int B, DType in, TailActivation activation,
                 cudaStream_t stream);

}  // namespace cuda
}  // namespace vk
