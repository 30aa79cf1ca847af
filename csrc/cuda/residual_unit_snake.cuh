// The anti-aliased snake along time, one channel per thread:
//
//   u = 2x Kaiser-sinc upsampling of x, a = u + sin^2(alpha u) * inv_beta, y = 2x downsampling of a
//
// with x and a continued by their first and last valid values. y[t] needs x[t - 5 .. t + 5]. A
// thread walks consecutive rows and keeps the last 6 inputs and 12 activated samples in registers:
// 24 multiply-adds and 2 sines per output. Six rows are unrolled, so that both windows rotate by
// renaming registers. The operations of a row are spelled out (no contraction left to the
// compiler): bits do not depend on the segment a row falls into.
#pragma once

#include <cstdint>

#include "residual_unit.h"

namespace vk {
namespace cuda {

constexpr int kAliasFreeHalo = 5;
constexpr int kAliasFreeUnroll = 6;

// A segment is a whole number of unrolled blocks.
__host__ __device__ constexpr int alias_free_blocks(int rows, int segments) {
    return (rows + segments * kAliasFreeUnroll - 1) / (segments * kAliasFreeUnroll);
}

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

// One channel's window. Slots rotate with the push count modulo 6, known at compile time.
struct AliasFreeWindow {
    float x[6];
    float a[12];

    // Takes row i + 3 of x (slot u = i mod 6) and makes the odd sample of row i and the even one of
    // row i + 1; at edges x and a hold their first and last valid values outside.
    template <bool kEdge>
    __device__ __forceinline__ void push(const UnitFilter& filter, SnakeParams snake, int u,
                                         float value, int i, ValidRows valid) {
        x[(u + 5) % 6] = kEdge && i + 3 >= valid.end ? x[(u + 4) % 6] : value;
        float odd = 0.0f, even = 0.0f;
#pragma unroll
        for (int k = 0; k < 6; ++k) {
            odd = fmaf(x[(u + k) % 6], filter.up[10 - 2 * k], odd);
            even = fmaf(x[(u + k) % 6], filter.up[11 - 2 * k], even);
        }
        odd = snake(odd);
        even = snake(even);
        if (kEdge) {
            odd = i < valid.end ? odd : a[(2 * u + 11) % 12];
            even = i + 1 < valid.end ? even : odd;
        }
        a[2 * u] = odd;
        a[2 * u + 1] = even;
        if (kEdge && i + 1 <= valid.begin) {
#pragma unroll
            for (int k = 0; k < 12; ++k)
                a[k] = even;
        }
    }

    // Result of row i - 2 after push i.
    __device__ __forceinline__ float pull(const UnitFilter& filter, int u) const {
        float y = 0.0f;
#pragma unroll
        for (int k = 0; k < 12; ++k)
            y = fmaf(a[(2 * u + 2 + k) % 12], filter.down[k], y);
        return y;
    }
};

// Rows 0 <= i < 6 * blocks of a segment. load(block, u): x of row 6 * block + u + 5; before[k]: x
// of row k - 5, k < 10. At edges rows at or past valid.end may be anything finite and rows before
// valid.begin are x[valid.begin]. store(block, u, y): result of row 6 * block + u, zero outside the
// valid rows. Loads run one block ahead of the stores.
template <bool kEdge, typename Load, typename Store>
__device__ __forceinline__ void alias_free_walk(const UnitFilter& filter, SnakeParams snake,
                                                int blocks, ValidRows valid,
                                                const float (&before)[2 * kAliasFreeHalo],
                                                Load load, Store store) {
    AliasFreeWindow window;
#pragma unroll
    for (int k = 0; k < 12; ++k)
        window.a[k] = 0.0f;
#pragma unroll
    for (int k = 0; k < kAliasFreeHalo; ++k)
        window.x[k] = before[k];
    float ahead[kAliasFreeUnroll];
#pragma unroll
    for (int u = 0; u < kAliasFreeUnroll; ++u)
        ahead[u] = load(0, u);
#pragma unroll
    for (int k = 0; k < kAliasFreeHalo; ++k)
        window.push<kEdge>(filter, snake, k, before[kAliasFreeHalo + k], k - 3, valid);
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
        float next[kAliasFreeUnroll] = {};
        if (block + 1 < blocks) {
#pragma unroll
            for (int u = 0; u < kAliasFreeUnroll; ++u)
                next[u] = load(block + 1, u);
        }
#pragma unroll
        for (int u = 0; u < kAliasFreeUnroll; ++u) {
            const int row = block * kAliasFreeUnroll + u, slot = (u + kAliasFreeHalo) % 6;
            window.push<kEdge>(filter, snake, slot, ahead[u], row + 2, valid);
            const float y = window.pull(filter, slot);
            store(block, u, kEdge && !valid.contains(row) ? 0.0f : y);
        }
#pragma unroll
        for (int u = 0; u < kAliasFreeUnroll; ++u)
            ahead[u] = next[u];
    }
}

}  // namespace cuda
}  // namespace vk
