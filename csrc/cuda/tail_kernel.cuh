// Last step of a vocoder:
//
//   out[b, t] = end(bias + sum_{k, c} w[k, c] act(mean_j x_j[b, t + k - halo, c])),  x_j: [B,
//   T_cap, C]
//
// halo = (K - 1) / 2; act is none, LeakyReLU or the anti-aliased snake; end is none, tanh or clamp.
// Grid: (ceil(T_cap / block), 1, B); a CTA makes one output per thread. Shared memory: the
// activated rows in fp32 and, for the snake, the mean before it. fp32 accumulation in an order of
// (k, c) alone. 2 K C FLOP against 4 C bytes per branch and output: bound by DRAM; every input row
// is read once plus 2 halo (snake: 2 halo + 12) rows per CTA.
#pragma once

#include "alias_free.cuh"
#include "tail.h"

namespace vk {
namespace cuda {

constexpr int kTailMaxThreads = 256;
constexpr int kTailSnakeReach = 6;

__device__ __forceinline__ void store_as(void* out, int64_t i, float v, DType dtype) {
    if (dtype == DType::kFloat32) {
        static_cast<float*>(out)[i] = v;
    } else if (dtype == DType::kFloat16) {
        static_cast<__half*>(out)[i] = __float2half_rn(v);
    } else {
        static_cast<__nv_bfloat16*>(out)[i] = __float2bfloat16_rn(v);
    }
}

// Mean of the branches for `rows` rows from row t on into shared memory, LeakyReLU applied where
// asked for, rows outside the valid ones and channels beyond C zero.
template <typename In>
__device__ __forceinline__ void load_mean(const TailParams& p, const In* const (&x)[3],
                                          RowRange valid, int t, int rows, bool leaky,
                                          float* shared) {
    const int pitch = p.pitch;
    const float share = 1.0f / p.branches;
    const bool wide = p.C % 4 == 0;
    const int groups = (p.C + 3) / 4;
    // Eight rows of one column group after the other: stores of eight threads then go to rows, not
    // to columns, and meet no bank conflicts; a warp still reads whole sectors.
    const int items = (rows + 7) / 8 * 8 * groups;
    for (int i = threadIdx.x; i < items; i += blockDim.x) {
        const int octet = i / (8 * groups);
        const int rest = i - octet * 8 * groups;
        const int row = octet * 8 + rest % 8;
        const int c = rest / 8 * 4;
        if (row >= rows) continue;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (t + row >= valid.first && t + row < valid.last) {
            const int64_t at = static_cast<int64_t>(t + row) * p.C + c;
            float4 part[3];
#pragma unroll
            for (int j = 0; j < 3; ++j) {
                part[j] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (j >= p.branches) continue;
                if (wide) {
                    part[j] = load_float4(x[j] + at);
                } else {
                    part[j].x = to_float(x[j][at]);
                    if (c + 1 < p.C) part[j].y = to_float(x[j][at + 1]);
                    if (c + 2 < p.C) part[j].z = to_float(x[j][at + 2]);
                    if (c + 3 < p.C) part[j].w = to_float(x[j][at + 3]);
                }
            }
            v.x = (part[0].x + part[1].x + part[2].x) * share;
            v.y = (part[0].y + part[1].y + part[2].y) * share;
            v.z = (part[0].z + part[1].z + part[2].z) * share;
            v.w = (part[0].w + part[1].w + part[2].w) * share;
            if (leaky) {
                v.x = leaky_relu(v.x, p.slope);
                v.y = leaky_relu(v.y, p.slope);
                v.z = leaky_relu(v.z, p.slope);
                v.w = leaky_relu(v.w, p.slope);
            }
        }
        *reinterpret_cast<float4*>(shared + row * pitch + c) = v;
    }
}

// Snake of rows [t, t + rows) from `mean`, whose first row is t - kTailSnakeReach, into `active`.
__device__ __forceinline__ void activate_snake(const TailParams& p, RowRange valid, int t, int rows,
                                               const float* mean, float* active) {
    const int pitch = p.pitch;
    const int groups = (p.C + 3) / 4 * 4;
    for (int i = threadIdx.x; i < rows * groups; i += blockDim.x) {
        const int row = i / groups;
        const int c = i - row * groups;
        const bool padding = t + row < valid.first || t + row >= valid.last || c >= p.C;
        if (padding) active[row * pitch + c] = 0.0f;
    }
    const int first = max(t, valid.first);
    const int last = min(t + rows, valid.last);
    const int mean_last = t + rows + kTailSnakeReach - 1;
    const AliasFreeTaps taps(p.filters);
    for (int item = threadIdx.x;; item += blockDim.x) {
        const int c = item % p.C;
        const int begin = first + item / p.C * p.segment;
        if (begin >= last) break;
        // The walk looks ahead further than its outputs need; those rows are clamped to the tile.
        const auto load = [&](int row) {
            return mean[(min(row, mean_last) - t + kTailSnakeReach) * pitch + c];
        };
        AliasFreeWalk<4, true, decltype(load)> walk(taps, p.alpha[c], p.inv_beta[c], valid, load);
        walk.start(begin);
        walk.run(begin, min(begin + p.segment, last),
                 [&](int row, float v) { active[(row - t) * pitch + c] = v; });
    }
}

template <typename In, bool kSnake>
__global__ void __launch_bounds__(kTailMaxThreads, kSnake ? 3 : 4)
    tail_kernel(TailParams p, bool leaky) {
    extern __shared__ float4 shared[];
    float* active = reinterpret_cast<float*>(shared);
    const RowRange valid = valid_rows(p.ranges, blockIdx.z, p.scale, p.extra);
    const int t0 = valid.first + blockIdx.x * blockDim.x;
    if (t0 >= valid.last) return;

    const int64_t row = static_cast<int64_t>(blockIdx.z) * p.T_cap * p.C;
    const In* x[3];
#pragma unroll
    for (int j = 0; j < 3; ++j)
        x[j] = static_cast<const In*>(p.x[j]) + row;
    const int halo = (p.K - 1) / 2;
    const int rows = blockDim.x + p.K - 1;
    const int pitch = p.pitch;
    if (kSnake) {
        float* mean = active + rows * pitch;
        load_mean(p, x, valid, t0 - halo - kTailSnakeReach, rows + 2 * kTailSnakeReach, false,
                  mean);
        __syncthreads();
        activate_snake(p, valid, t0 - halo, rows, mean, active);
    } else {
        load_mean(p, x, valid, t0 - halo, rows, leaky, active);
    }
    __syncthreads();

    const int t = t0 + threadIdx.x;
    if (t >= valid.last) return;
    float4 sum = make_float4(p.bias ? *p.bias : 0.0f, 0.0f, 0.0f, 0.0f);
    for (int k = 0; k < p.K; ++k) {
        const float* a = active + (threadIdx.x + k) * pitch;
        const float* w = p.weight + k * pitch;
#pragma unroll 4
        for (int c = 0; c < p.C; c += 4) {
            const float4 av = load_float4(a + c);
            const float4 wv = load_float4(w + c);
            sum.x = fmaf(wv.x, av.x, sum.x);
            sum.y = fmaf(wv.y, av.y, sum.y);
            sum.z = fmaf(wv.z, av.z, sum.z);
            sum.w = fmaf(wv.w, av.w, sum.w);
        }
    }
    float y = (sum.x + sum.y) + (sum.z + sum.w);
    if (p.end == TailEnd::kTanh) y = tanhf(y);
    if (p.end == TailEnd::kClamp) y = y < -1.0f ? -1.0f : y > 1.0f ? 1.0f : y;  // keeps NaN
    store_as(p.out, blockIdx.z * p.out_stride + t, y, p.out_dtype);
}

}  // namespace cuda
}  // namespace vk
