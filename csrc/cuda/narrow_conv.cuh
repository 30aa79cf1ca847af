// Convolutions of few channels on tensor cores, as the residual kernels share them: a CTA
// multiplies activated rows that lie in shared memory by weights that come from L2 in fragment
// order; its accumulators stay in registers across a barrier, after which they may overwrite those
// rows.
//
// Shared:   rows x kPitch bytes. Pitch is an odd multiple of 16 bytes, so that ldmatrix meets no
//           bank conflicts at any dilation.
// Numerics: taps and channels are summed in the same order for every row and tile.
#pragma once

#include <cstdint>

#include "elements.cuh"
#include "mma.cuh"
#include "narrow_tile.h"

namespace vk {
namespace cuda {

// Warps own kMTiles x 16 rows and C / kWarpsN channels each; kInterleaved: their m-tiles take
// turns, so that every warp has a share of the outermost rows.
template <typename T, int C, int kWarpsM, int kWarpsN, int kMTiles, bool kInterleaved = false>
struct NarrowConv {
    static_assert(C % 8 == 0 && C >= 8, "channels come in groups of eight");
    static_assert((C / 8) % kWarpsN == 0, "every warp owns whole groups of eight channels");
    static constexpr int kGroups = C / 8;
    static constexpr int kNTiles = kGroups / kWarpsN;
    static_assert(kWarpsN == 1 || kNTiles % 2 == 0, "weights are read in pairs of groups");
    static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
    static constexpr int kRows = 16 * kWarpsM * kMTiles;
    static constexpr int kPitch = narrow_pitch_bytes(C);
    static constexpr int kMStride = kInterleaved ? 16 * kWarpsM : 16;   // rows between m-tiles
    static constexpr int kWarpRows = kInterleaved ? 16 : 16 * kMTiles;  // rows between warps
    static constexpr int kStepBytes = kGroups * 256;                    // weights of one k16 step
    // Taps between two barriers that keep the warps on the same weights while these are in L1.
    static constexpr int kTapsPerBarrier = 2;
    // Unrolling further lets the compiler request weights several steps ahead, and spill.
    static constexpr int kStepUnroll = kMTiles * kNTiles >= 16   ? 2
                                       : kMTiles * kNTiles >= 12 ? 1
                                                                 : kGroups;
    static constexpr bool kTapBarrier = C >= 48 && kWarpsM > 1;

    using Core = TensorCore<T>;

    struct Weights {
        FragmentB tile[kNTiles];
    };

    struct Accumulators {
        FragmentC tile[kMTiles][kNTiles];
    };

    // Columns n and n + 1 (n even) of one k16 step: 16 bytes per lane, 8 for a last odd one.
    __device__ __forceinline__ static void load_weights(Weights& w, const char* step, int n) {
        const int lane = threadIdx.x % 32;
        if (n + 1 < kNTiles) {
            const uint4 v = __ldg(reinterpret_cast<const uint4*>(step + n * 256) + lane);
            w.tile[n].r[0] = v.x;
            w.tile[n].r[1] = v.y;
            w.tile[n + 1].r[0] = v.z;
            w.tile[n + 1].r[1] = v.w;
        } else {
            const uint2 v = __ldg(reinterpret_cast<const uint2*>(step + n * 256) + lane);
            w.tile[n].r[0] = v.x;
            w.tile[n].r[1] = v.y;
        }
    }

    __device__ __forceinline__ static void load_weights(Weights& w, const char* step) {
#pragma unroll
        for (int n = 0; n < kNTiles; n += 2)
            load_weights(w, step, n);
    }

    // One k16 step of m-tiles [kFirst, kLast): `address` is this lane's row of the warp's first
    // m-tile. The next step's weights are requested a step ahead, hiding their latency; the packed
    // array ends with one spare step so that the last request stays inside. Of A and B, the smaller
    // one is held whole: with wide n, weights are replaced as soon as they are used up instead of
    // being double-buffered.
    template <int kFirst, int kLast>
    __device__ __forceinline__ static void step(Accumulators& acc, Weights& w, const char*& weights,
                                                uint32_t address) {
        weights += kStepBytes;
        if (kNTiles > kMTiles) {
            FragmentA a[kMTiles];
#pragma unroll
            for (int m = kFirst; m < kLast; ++m)
                a[m] = load_matrix_x4(address + m * kMStride * kPitch);
#pragma unroll
            for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
                for (int m = kFirst; m < kLast; ++m)
                    Core::multiply_add(acc.tile[m][n], a[m], w.tile[n]);
                if (n % 2 == 1 || n + 1 == kNTiles) load_weights(w, weights, n / 2 * 2);
            }
        } else {
            Weights next;
            load_weights(next, weights);
#pragma unroll
            for (int m = kFirst; m < kLast; ++m) {
                const FragmentA a = load_matrix_x4(address + m * kMStride * kPitch);
#pragma unroll
                for (int n = 0; n < kNTiles; ++n)
                    Core::multiply_add(acc.tile[m][n], a, w.tile[n]);
            }
            w = next;
        }
    }

    // This warp's share of the weights that begin at `weights`.
    __device__ __forceinline__ static const char* share_of(const void* weights) {
        const unsigned share = kWarpsN == 1 ? 0 : threadIdx.x / 32 / kWarpsM;
        return static_cast<const char*>(weights) + share * kNTiles * 256;
    }

    // acc = sum over taps and channels; reads buffer rows [row, row + (K - 1) * dilation] for
    // output row `row`. `weights` is this warp's share, `w` its first step. Pairs of 8-channel
    // groups form a k16 step; with an odd number of groups one step takes its halves from two
    // neighbouring taps, and the last tap's last half has zero weights.
    template <int kFirst = 0, int kLast = kMTiles>
    __device__ static void convolve(Accumulators& acc, Weights w, const char* weights,
                                    uint32_t address, int K, int dilation) {
        const int lane = threadIdx.x % 32;
        const uint32_t high = lane / 16;
        const uint32_t tap_bytes = dilation * kPitch;
#pragma unroll
        for (int m = 0; m < kMTiles; ++m)
#pragma unroll
            for (int n = 0; n < kNTiles; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    acc.tile[m][n].v[i] = 0.0f;
        if (kGroups % 2 == 0) {
            for (int tap = 0; tap < K; ++tap) {
                if (kTapBarrier && tap % kTapsPerBarrier == 0) __syncthreads();
#pragma unroll kStepUnroll
                for (int q = 0; q < kGroups / 2; ++q)
                    step<kFirst, kLast>(acc, w, weights, address + high * 16 + q * 32);
                address += tap_bytes;
            }
        } else {
            for (int tap = 0; tap + 1 < K; tap += 2) {
                const uint32_t across = address + (high ? tap_bytes : (kGroups - 1) * 16);
#pragma unroll
                for (int q = 0; q < kGroups / 2; ++q)
                    step<kFirst, kLast>(acc, w, weights, address + high * 16 + q * 32);
                step<kFirst, kLast>(acc, w, weights, across);
#pragma unroll
                for (int q = 0; q < kGroups / 2; ++q)
                    step<kFirst, kLast>(acc, w, weights,
                                        address + tap_bytes + 16 + high * 16 + q * 32);
                address += 2 * tap_bytes;
            }
#pragma unroll
            for (int q = 0; q < kGroups / 2; ++q)
                step<kFirst, kLast>(acc, w, weights, address + high * 16 + q * 32);
            step<kFirst, kLast>(acc, w, weights, address + (kGroups - 1) * 16);
        }
    }

    // The thread's index, read from the special register each time: from threadIdx the compiler
    // would compute rows, channels and addresses once and keep them across the multiplications.
    __device__ __forceinline__ static int thread_index() {
        int thread;
        asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
        return thread;
    }

    // This thread's first accumulator.
    struct Corner {
        int row;
        int channel;
    };

    __device__ __forceinline__ static Corner corner() {
        const unsigned thread = thread_index(), lane = thread % 32, warp = thread / 32;
        return {static_cast<int>((warp % kWarpsM) * kWarpRows + lane / 4),
                static_cast<int>((warp / kWarpsM) * kNTiles * 8 + 2 * (lane % 4))};
    }

    // Calls body(pair of accumulators, their row and channel relative to the corner).
    template <typename Body>
    __device__ __forceinline__ static void for_each(Accumulators& acc, Body body) {
#pragma unroll
        for (int m = 0; m < kMTiles; ++m)
#pragma unroll
            for (int half = 0; half < 2; ++half)
#pragma unroll
                for (int n = 0; n < kNTiles; ++n) {
                    float* v = acc.tile[m][n].v + 2 * half;
                    body(v[0], v[1], m * kMStride + half * 8, n * 8);
                }
    }

    __device__ static void add_bias(Accumulators& acc, const float* bias) {
        bias += corner().channel;
#pragma unroll
        for (int n = 0; n < kNTiles; ++n) {
            const float2 b = __ldg(reinterpret_cast<const float2*>(bias + n * 8));
#pragma unroll
            for (int m = 0; m < kMTiles; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    acc.tile[m][n].v[i] += i % 2 ? b.y : b.x;
        }
    }

    __device__ __forceinline__ static T* element(char* shared, int row, int channel) {
        return reinterpret_cast<T*>(shared + row * kPitch) + channel;
    }

    // activation(acc) in T at row 0 of `shared` and after, zeros outside rows [begin, end).
    template <typename Activation>
    __device__ __forceinline__ static void store_rows(Accumulators& acc, char* shared, int begin,
                                                      int end, Activation activation) {
        const Corner from = corner();
        const int first = begin - from.row, last = end - from.row;
        T* const corner_element = element(shared, from.row, from.channel);
        for_each(acc, [&](float v0, float v1, int row, int channel) {
            const float a = activation(v0), b = activation(v1);
            *reinterpret_cast<uint32_t*>(corner_element + row * (kPitch / sizeof(T)) + channel) =
                row >= first && row < last ? Core::pack(a, b) : 0u;
        });
    }
};

}  // namespace cuda
}  // namespace vk
