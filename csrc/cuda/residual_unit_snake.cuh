// The anti-aliased snake along time, one channel per thread:
//
//   u = 2x Kaiser-sinc upsampling of x, a = u + sin^2(alpha u) * inv_beta, y = 2x downsampling of a
//
// with x and a continued by their first and last valid values. y[t] needs x[t - 5 .. t + 5]. A
// thread walks consecutive rows and keeps the last 6 inputs and 12 activated samples in registers:
// 24 multiply-adds and 2 sines per output. Six rows are unrolled, so that both windows rotate by
// renaming registers. The operations of a row are spelled out (no contraction left to the compiler):
// bits do not depend on the segment a row falls into.
#pragma once

#include <cstdint>

namespace vk {
namespace cuda {

constexpr int kAliasFreeHalo = 5;
constexpr int kAliasFreeUnroll = 6;

// A walk of n blocks of six loads 6 n rows and finishes 6 n - 5.
__host__ __device__ constexpr int alias_free_segment(int blocks) { return kAliasFreeUnroll * (blocks - 1) + 1; }
__host__ __device__ constexpr int alias_free_blocks(int rows, int segments) {
    return ((rows + segments - 1) / segments - 1 + kAliasFreeUnroll - 1) / kAliasFreeUnroll + 1;
}

struct AliasFreeFilter {
    float up[12];  // gain of 2 included
    float down[12];
};

struct SnakeParams {
    float alpha;
    float inv_beta;

    __device__ __forceinline__ float operator()(float v) const {
        const float s = __sinf(__fmul_rn(alpha, v));
        return fmaf(__fmul_rn(inv_beta, s), s, v);
    }
};

// Valid rows [begin, end) relative to a segment's first row.
struct ValidRows {
    int begin;
    int end;

    __device__ __forceinline__ bool contains(int i) const { return i >= begin && i < end; }
    __device__ __forceinline__ bool contain(int first, int last) const {
        return first >= begin && last <= end;
    }
    __device__ __forceinline__ bool meet(int first, int last) const {
        return first < end && last > begin;
    }
    __device__ __forceinline__ int clamp(int i) const { return min(max(i, begin), end - 1); }
};

// load(i, u): x at row i, -5 <= i < 6 * blocks - 5 + 5, u == (i mod 6) known at compile time for i >= 0;
// at edges the caller answers any finite value for i >= valid.end and x[valid.begin] for
// i < valid.begin. store(i, y): result of row i, 0 <= i < alias_free_segment(blocks); zero outside
// the valid rows. load may run up to 11 rows ahead of store.
template <bool kEdge, typename Load, typename Store>
__device__ __forceinline__ void alias_free_walk(const AliasFreeFilter& filter, SnakeParams snake,
                                                int blocks, ValidRows valid, Load load,
                                                Store store) {
    constexpr int kUnroll = kAliasFreeUnroll;
    float x[6], a[12], ahead[kUnroll];
#pragma unroll
    for (int k = 0; k < kAliasFreeHalo; ++k) x[k] = load(k - kAliasFreeHalo, 0);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) ahead[u] = load(u, u);
#pragma unroll
    for (int k = 0; k < 12; ++k) a[k] = 0.0f;

#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
        float next[kUnroll];
        if (block + 1 < blocks) {
#pragma unroll
            for (int u = 0; u < kUnroll; ++u) next[u] = load((block + 1) * kUnroll + u, u);
        } else {
#pragma unroll
            for (int u = 0; u < kUnroll; ++u) next[u] = 0.0f;
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int i = block * kUnroll + u;
            const int s = i - 3;  // row of the odd sample made now; the even one belongs to s + 1
            x[(u + 5) % 6] = kEdge && i >= valid.end ? x[(u + 4) % 6] : ahead[u];
            float odd = 0.0f, even = 0.0f;
#pragma unroll
            for (int k = 0; k < 6; ++k) {
                odd = fmaf(x[(u + k) % 6], filter.up[10 - 2 * k], odd);
                even = fmaf(x[(u + k) % 6], filter.up[11 - 2 * k], even);
            }
            odd = snake(odd);
            even = snake(even);
            if (kEdge) {
                odd = s < valid.end ? odd : a[(2 * u + 11) % 12];
                even = s + 1 < valid.end ? even : odd;
            }
            a[2 * u] = odd;
            a[2 * u + 1] = even;
            if (kEdge && s + 1 <= valid.begin) {
#pragma unroll
                for (int k = 0; k < 12; ++k) a[k] = even;
            }
            if (u == kUnroll - 1 || block > 0) {
                float y = 0.0f;
#pragma unroll
                for (int k = 0; k < 12; ++k) y = fmaf(a[(2 * u + 2 + k) % 12], filter.down[k], y);
                const int row = i - kAliasFreeHalo;
                store(row, kEdge && !valid.contains(row) ? 0.0f : y);
            }
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) ahead[u] = next[u];
    }
}

}  // namespace cuda
}  // namespace vk
