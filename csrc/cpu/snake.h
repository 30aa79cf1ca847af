// Anti-aliased snake: y = down(x' + sin(alpha x')^2 * inv_beta), x' = up(x).
//
// up:   x'[2m] = 2 sum_j f[2j + 1] x[m + 2 - j], x'[2m + 1] = 2 sum_j f[2j] x[m + 3 - j], j = 0..5
// down: y[t] = sum_k g[k] a[2t + k - 5], k = 0..11
// x is replicated beyond [0, T), the activated a beyond [0, 2T). 80 FLOPs a sample, of which 24 in
// two sines; bound by the FMA units, with `a` of a block of rows in L1.
// Source: Lee et al., "BigVGAN" (arXiv:2206.04658); Ziyin et al. (arXiv:2006.08195).
#pragma once

#include <algorithm>

#include "cpu/layers.h"
#include "cpu/simd.h"

namespace vk {
namespace VK_ISA {

constexpr int kSnakeTaps = 12;
constexpr int kSnakeRows = 96;
// Rows of x read on either side of a row of y; its value depends on five.
constexpr int kSnakeHalo = 6;

// sin(v)^2. v - n pi in three parts: the first two products are exact for |v| < 25000 without FMA,
// far beyond with it. Degree-9 minimax sine on [-pi / 2, pi / 2], error 5e-9. Beyond 1e7, where a
// float's neighbours are further apart than a period, the bound alone is right; NaN stays NaN.
VK_INLINE vec sin_squared(vec v) {
    const vec n = round(v * set1(0.318309886183790672f));
    vec r = fnma(n, set1(3.140625f), v);
    r = fnma(n, set1(9.67502593994140625e-4f), r);
    r = fnma(n, set1(1.509957990978376432e-7f), r);
    const vec q = r * r;
    vec p = set1(2.598746959847631e-6f);
    p = fma(p, q, set1(-1.9806013733614236e-4f));
    p = fma(p, q, set1(8.333008736371994e-3f));
    p = fma(p, q, set1(-1.6666656732559204e-1f));
    const vec s = fma(p * q, r, r);
    return min(set1(1.0f), s * s);
}

// Taps as vectors: up to the even and odd rows, oldest input row first, then down.
struct SnakeFilter {
    alignas(64) float even[6 * V];
    alignas(64) float odd[6 * V];
    alignas(64) float down[kSnakeTaps * V];

    SnakeFilter(const float* up_taps, const float* down_taps) {
        for (int j = 0; j < 6; ++j) {
            store(even + j * V, set1(2.0f * up_taps[11 - 2 * j]));
            store(odd + j * V, set1(2.0f * up_taps[10 - 2 * j]));
        }
        for (int k = 0; k < kSnakeTaps; ++k)
            store(down + k * V, set1(down_taps[k]));
    }
};

// Two activated rows from seven rows of x.
VK_INLINE void snake_up(const vec (&x)[7], const SnakeFilter& f, vec alpha, vec inv_beta,
                        float* a) {
    vec even = x[0] * load(f.even);
    vec odd = x[1] * load(f.odd);
    VK_UNROLL
    for (int j = 1; j < 6; ++j) {
        even = fma(x[j], load(f.even + j * V), even);
        odd = fma(x[j + 1], load(f.odd + j * V), odd);
    }
    store(a, fma(sin_squared(alpha * even), inv_beta, even));
    store(a + V, fma(sin_squared(alpha * odd), inv_beta, odd));
}

// Rows [lo, hi) of y, at most kSnakeRows, for one channel block. Row t is at x + t * V.
VK_NOINLINE inline void snake_rows(const float* x, float* y, Rows rows, const SnakeFilter& f,
                                   vec alpha, vec inv_beta) {
    alignas(64) float a[2 * (kSnakeRows + 6) * V];
    const int T = rows.T;
    const int first = rows.lo - 3;
    const int begin = std::max(first, 0);
    const int end = std::min(rows.hi + 3, T);
    for (int m = begin; m < end; ++m) {
        vec window[7];
        if (m >= 3 && m + 3 < T) {
            VK_UNROLL
            for (int j = 0; j < 7; ++j)
                window[j] = load(x + static_cast<ptrdiff_t>(m - 3 + j) * V);
        } else {
            for (int j = 0; j < 7; ++j) {
                const int t = std::min(std::max(m - 3 + j, 0), T - 1);
                window[j] = load(x + static_cast<ptrdiff_t>(t) * V);
            }
        }
        snake_up(window, f, alpha, inv_beta, a + 2 * (m - first) * V);
    }
    for (int i = 0; i < 2 * (begin - first); ++i)
        store(a + i * V, load(a + 2 * (begin - first) * V));
    for (int i = 2 * (end - first); i < 2 * (rows.hi + 3 - first); ++i)
        store(a + i * V, load(a + (2 * (end - first) - 1) * V));
    for (int t = rows.lo; t < rows.hi; ++t) {
        const float* w = a + (2 * (t - rows.lo) + 1) * V;
        vec s0 = load(w) * load(f.down);
        vec s1 = load(w + V) * load(f.down + V);
        VK_UNROLL
        for (int k = 2; k < kSnakeTaps; k += 2) {
            s0 = fma(load(w + k * V), load(f.down + k * V), s0);
            s1 = fma(load(w + (k + 1) * V), load(f.down + (k + 1) * V), s1);
        }
        store(y + static_cast<ptrdiff_t>(t) * V, s0 + s1);
    }
}

}  // namespace VK_ISA
}  // namespace vk
