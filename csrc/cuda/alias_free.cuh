// Anti-aliased snake of one channel, walked along time in registers.
//
//   u = 2x up of x:   u[2m] = 2 sum_j f[2j+1] x[m+2-j],  u[2m+1] = 2 sum_j f[2j] x[m+3-j],  j < 6
//   a = u + sin(alpha u)^2 * inv_beta
//   y = 2x down of a: y[t] = sum_k g[k] a[2t-5+k],  k < 12
//
// x is replicated beyond its valid rows, and so is a (not the a of replicated x: upstream pads the
// activated signal itself). Each output is one fixed chain of operations, so results do not depend
// on where a walk starts.
#pragma once

#include "elements.cuh"

namespace vk {
namespace cuda {

// sin(alpha u)^2 has period pi, so the argument is reduced to [-pi/2, pi/2] and no quadrant is
// needed; the two-term reduction is exact to 1e-9 up to 2^20 periods. The accurate sine is a
// degree-9 odd polynomial (1.3e-7 with fp32 rounding); the other is the hardware's, 4e-7 in this
// interval and five instructions shorter, for results that are rounded to 16 bits anyway.
// Saturation keeps arguments beyond 2^22 periods, where fp32 holds no phase, inside [0, 1]; it is
// free on the multiplication.
template <bool kAccurate>
__device__ __forceinline__ float snake(float u, float alpha, float inv_beta) {
    constexpr float kInvPi = 0.318309886f;
    constexpr float kPiHigh = 3.14159274f;
    constexpr float kPiLow = -8.74227801e-08f;
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const float z = alpha * u;
    const float periods = __fsub_rn(__fmaf_rn(z, kInvPi, kRound), kRound);
    float r = fmaf(-periods, kPiHigh, z);
    r = fmaf(-periods, kPiLow, r);
    float s;
    if (kAccurate) {
        const float r2 = r * r;
        float p = fmaf(2.6000241e-06f, r2, -1.9806602e-04f);
        p = fmaf(p, r2, 8.333017e-03f);
        p = fmaf(p, r2, -1.6666657e-01f);
        s = fmaf(r * r2, p, r);
    } else {
        s = __sinf(r);
    }
    return fmaf(__saturatef(s * s), inv_beta, u);
}

struct AliasFreeTaps {
    float up[12];  // gain of 2 included
    float down[12];

    __device__ __forceinline__ AliasFreeTaps(const float* filters) {
#pragma unroll
        for (int k = 0; k < 12; ++k) {
            up[k] = filters[k];
            down[k] = filters[12 + k];
        }
    }
};

// `Load` maps a valid row to its fp32 input. kRows outputs per step, kept small enough for the
// window to stay in registers.
template <int kRows, bool kAccurate, typename Load>
class AliasFreeWalk {
  public:
    __device__ __forceinline__ AliasFreeWalk(const AliasFreeTaps& taps, float alpha, float inv_beta,
                                             RowRange valid, const Load& load)
        : taps_(taps), alpha_(alpha), inv_beta_(inv_beta), valid_(valid), load_(load) {}

    // Prepares the walk for outputs from row t on: valid.first, or at least three rows after it.
    __device__ __forceinline__ void start(int t) {
        float x[12], a[12];
#pragma unroll
        for (int i = 0; i < 12; ++i)
            x[i] = load_clamped(t - 6 + i);
#pragma unroll
        for (int i = 0; i < 6; ++i) {
            activate(x + i, a[2 * i], a[2 * i + 1]);
            if (i > 3 && t - 3 + i >= valid_.last) a[2 * i] = a[2 * i + 1] = a[2 * i - 1];
        }
        if (t == valid_.first) {
#pragma unroll
            for (int i = 0; i < 6; ++i)
                a[i] = a[6];
        }
#pragma unroll
        for (int i = 0; i < 6; ++i)
            x_[i] = x[6 + i];
#pragma unroll
        for (int i = 0; i < 11; ++i)
            a_[i] = a[1 + i];
#pragma unroll
        for (int i = 0; i < kRows; ++i)
            next_[i] = load_clamped(t + 6 + i);
    }

    // Calls store(row, value) for the rows from the start() row up to `last`.
    template <typename Store>
    __device__ __forceinline__ void run(int t, int last, const Store& store) {
        // Two loops, not a branch: the compiler would merge the two paths' loads behind their
        // arithmetic, where they hide no latency.
        for (; t + kRows <= last && t + 6 + 2 * kRows <= valid_.last; t += kRows) {
            step<false>(t, last, store);
        }
        for (; t < last; t += kRows)
            step<true>(t, last, store);
    }

  private:
    __device__ __forceinline__ float load_clamped(int t) const {
        return load_(min(max(t, valid_.first), valid_.last - 1));
    }

    // x points at row m - 3; gives a[2m] and a[2m + 1].
    __device__ __forceinline__ void activate(const float* x, float& even, float& odd) const {
        float u0 = taps_.up[1] * x[5];
        float u1 = taps_.up[0] * x[6];
#pragma unroll
        for (int j = 1; j < 6; ++j) {
            u0 = fmaf(taps_.up[2 * j + 1], x[5 - j], u0);
            u1 = fmaf(taps_.up[2 * j], x[6 - j], u1);
        }
        even = snake<kAccurate>(u0, alpha_, inv_beta_);
        odd = snake<kAccurate>(u1, alpha_, inv_beta_);
    }

    template <bool kEdge, typename Store>
    __device__ __forceinline__ void step(int t, int last, const Store& store) {
#pragma unroll
        for (int i = 0; i < kRows; ++i)
            x_[6 + i] = next_[i];
        // Loads of the next step, issued before this step's arithmetic to hide their latency.
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
            const int row = t + 6 + kRows + i;
            next_[i] = kEdge ? load_clamped(row) : load_(row);
        }
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
            activate(x_ + i, a_[11 + 2 * i], a_[12 + 2 * i]);
            if (kEdge && t + 3 + i >= valid_.last) a_[11 + 2 * i] = a_[12 + 2 * i] = a_[10 + 2 * i];
            float sum = taps_.down[0] * a_[2 * i];
#pragma unroll
            for (int k = 1; k < 12; ++k)
                sum = fmaf(taps_.down[k], a_[2 * i + k], sum);
            if (!kEdge || t + i < last) store(t + i, sum);
        }
#pragma unroll
        for (int i = 0; i < 6; ++i)
            x_[i] = x_[i + kRows];
#pragma unroll
        for (int i = 0; i < 11; ++i)
            a_[i] = a_[i + 2 * kRows];
    }

    const AliasFreeTaps& taps_;
    const float alpha_, inv_beta_;
    const RowRange valid_;
    const Load& load_;
    float x_[6 + kRows];       // x_[0] is row m - 3 for the next pair m = t + 3
    float a_[11 + 2 * kRows];  // a_[0] is a[2m - 11]
    float next_[kRows];
};

}  // namespace cuda
}  // namespace vk
