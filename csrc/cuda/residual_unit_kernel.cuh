// Narrow-channel residual unit, one launch for both convolutions of all branches of a stage.
//
//   out_j = x_j + conv2_j(act2_j(conv1_j(act1_j(x_j))))
//
// Shapes:   x_j, out_j: fp32 [B, T_cap, C] contiguous; weights in mma-fragment order; bias fp32
// [C]. Compute:  T (fp16, bf16) products, fp32 accumulators; activations and residual in fp32.
// Grid:     one CTA per time tile of a branch and batch row, branches one after another (longest
//           first, so that the short ones fill the last wave). Block: kWarpsM x kWarpsN warps.
// Shared:   rows x kPitch bytes: activated input, overwritten in place by the intermediate (its
//           accumulators live in registers across a barrier). Pitch is an odd multiple of
//           16 bytes, so that ldmatrix meets no bank conflicts at any dilation.
// Halo:     dilation * (K - 1) / 2 + (K - 1) / 2, and 5 more per anti-aliased snake.
// FLOPs:    2 * n_convs * K * C^2 per row; bytes 12 C per row (x twice, the second time from L2):
//           bound by the tensor cores for K >= 7, by L2 and issue slots for K = 3.
// Numerics: taps and channels are summed in the same order for every row, so the bits do not depend
//           on where a tile or a window starts. Rows outside the valid range are zeros to both
//           convolutions; nothing outside it is read.
#pragma once

#include <cstdint>

#include "elements.cuh"
#include "mma.cuh"
#include "residual_unit.h"
#include "residual_unit_snake.cuh"

namespace vk {
namespace cuda {

// Bytes between rows in shared memory.
constexpr int unit_pitch_bytes(int C) { return ((C / 8) | 1) * 16; }

// What a CTA works on; rows count from the first row of the intermediate. Kept in shared memory: in
// registers it would be live, unused, across the multiplications.
struct UnitWork {
    UnitBranch branch;  // x and out at the intermediate's first row
    int output_begin;   // rows of the result
    int output_end;
    int valid_begin;  // rows that hold data
    int valid_end;
};

template <typename T, int C, bool kSnake, int kWarpsM, int kWarpsN, int kMTiles>
struct ResidualUnit {
    static_assert(C % 8 == 0 && C >= 8, "channels come in groups of eight");
    static_assert((C / 8) % kWarpsN == 0, "every warp owns whole groups of eight channels");
    static constexpr int kGroups = C / 8;
    static constexpr int kNTiles = kGroups / kWarpsN;
    static_assert(kWarpsN == 1 || kNTiles % 2 == 0, "weights are read in pairs of groups");
    static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
    static constexpr int kRows = 16 * kWarpsM * kMTiles;
    static constexpr int kPitch = unit_pitch_bytes(C);
    static constexpr int kStepBytes = kGroups * 256;  // weights of one k16 step
    static constexpr int kActHalo = kSnake ? kAliasFreeHalo : 0;
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

    // One k16 step: `address` is this lane's row of the warp's first m-tile. The next step's
    // weights are requested a step ahead, hiding their latency; the packed array ends with one
    // spare step so that the last request stays inside. Of A and B, the smaller one is held whole:
    // with wide n, weights are replaced as soon as they are used up instead of being
    // double-buffered.
    __device__ __forceinline__ static void step(Accumulators& acc, Weights& w, const char*& weights,
                                                uint32_t address) {
        weights += kStepBytes;
        if (kNTiles > kMTiles) {
            FragmentA a[kMTiles];
#pragma unroll
            for (int m = 0; m < kMTiles; ++m)
                a[m] = load_matrix_x4(address + m * 16 * kPitch);
#pragma unroll
            for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
                for (int m = 0; m < kMTiles; ++m)
                    Core::multiply_add(acc.tile[m][n], a[m], w.tile[n]);
                if (n % 2 == 1 || n + 1 == kNTiles) load_weights(w, weights, n / 2 * 2);
            }
        } else {
            Weights next;
            load_weights(next, weights);
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
                const FragmentA a = load_matrix_x4(address + m * 16 * kPitch);
#pragma unroll
                for (int n = 0; n < kNTiles; ++n)
                    Core::multiply_add(acc.tile[m][n], a, w.tile[n]);
            }
            w = next;
        }
    }

    // acc = sum over taps and channels; reads buffer rows [row, row + (K - 1) * dilation] for
    // output row `row`. Pairs of 8-channel groups form a k16 step; with an odd number of groups one
    // step takes its halves from two neighbouring taps, and the last tap's last half has zero
    // weights.
    __device__ static void convolve(Accumulators& acc, const char* weights, uint32_t address, int K,
                                    int dilation) {
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
        weights += (threadIdx.x / 32 / kWarpsM) * kNTiles * 256;
        Weights w;
        load_weights(w, weights);
        if (kGroups % 2 == 0) {
            for (int tap = 0; tap < K; ++tap) {
                if (kTapBarrier && tap % kTapsPerBarrier == 0) __syncthreads();
#pragma unroll kStepUnroll
                for (int q = 0; q < kGroups / 2; ++q)
                    step(acc, w, weights, address + high * 16 + q * 32);
                address += tap_bytes;
            }
        } else {
            for (int tap = 0; tap + 1 < K; tap += 2) {
                const uint32_t across = address + (high ? tap_bytes : (kGroups - 1) * 16);
#pragma unroll
                for (int q = 0; q < kGroups / 2; ++q)
                    step(acc, w, weights, address + high * 16 + q * 32);
                step(acc, w, weights, across);
#pragma unroll
                for (int q = 0; q < kGroups / 2; ++q)
                    step(acc, w, weights, address + tap_bytes + 16 + high * 16 + q * 32);
                address += 2 * tap_bytes;
            }
#pragma unroll
            for (int q = 0; q < kGroups / 2; ++q)
                step(acc, w, weights, address + high * 16 + q * 32);
            step(acc, w, weights, address + (kGroups - 1) * 16);
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
        return {static_cast<int>((warp % kWarpsM) * kMTiles * 16 + lane / 4),
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
                    body(v[0], v[1], m * 16 + half * 8, n * 8);
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

    // LeakyReLU of x, `n_rows` rows (a multiple of 8) from row -halo, zeros outside the valid
    // range. Loads are never conditional, so that the compiler can put several in flight; eight
    // threads store one group of eight rows, which meets no bank conflicts at any odd pitch.
    __device__ static void fill_leaky(const UnitParams& p, const UnitWork& tile, char* shared,
                                      int halo) {
        const int first = tile.valid_begin, last = tile.valid_end - 1;
        const float* x = tile.branch.x;
        const int chunks = p.n_rows * kGroups;
#pragma unroll 4
        for (int i = threadIdx.x; i < chunks; i += kThreads) {
            const int row = i / (8 * kGroups) * 8 + i % 8, group = i / 8 % kGroups, t = row - halo;
            const float4* source =
                reinterpret_cast<const float4*>(x + min(max(t, first), last) * C);
            float4 a = __ldg(source + 2 * group), b = __ldg(source + 2 * group + 1);
            const uint32_t mask = t >= first && t <= last ? 0xffffffffu : 0u;
            uint4 packed;
            packed.x = Core::pack(leaky_relu(a.x, p.slope), leaky_relu(a.y, p.slope)) & mask;
            packed.y = Core::pack(leaky_relu(a.z, p.slope), leaky_relu(a.w, p.slope)) & mask;
            packed.z = Core::pack(leaky_relu(b.x, p.slope), leaky_relu(b.y, p.slope)) & mask;
            packed.w = Core::pack(leaky_relu(b.z, p.slope), leaky_relu(b.w, p.slope)) & mask;
            *reinterpret_cast<uint4*>(shared + row * kPitch + group * 16) = packed;
        }
    }

    __device__ __forceinline__ static T* element(char* shared, int row, int channel) {
        return reinterpret_cast<T*>(shared + row * kPitch) + channel;
    }

    // A thread owns one segment of one channel in both anti-aliased snakes.
    static constexpr int kSegments = kThreads / C;
    static_assert(!kSnake || kSegments > 0, "fewer threads than channels");

    // Two segments of fewer than 32 channels share a warp. At kPitch their rows then lie 8 * blocks
    // banks apart: in the order of the segments for 2 or 3 blocks modulo 4, in the reverse order
    // for 1, they meet no bank conflicts.
    __device__ __forceinline__ static int segment_of(unsigned thread, int blocks) {
        const int segment = thread / C;
        return C < 32 && blocks % 4 == 1 ? kSegments - 1 - segment : segment;
    }

    __device__ __forceinline__ static T* step_row(T* column, int rows) {
        return column + rows * (kPitch / sizeof(T));
    }

    // Anti-aliased snake of x, as fill_leaky.
    __device__ static void fill_snake(const UnitParams& p, const UnitWork& tile, char* shared,
                                      int halo) {
        if (threadIdx.x >= kSegments * C) return;
        const int blocks = p.n_rows / (kSegments * kAliasFreeUnroll);
        const int length = blocks * kAliasFreeUnroll;
        const int channel = threadIdx.x % C, row = segment_of(threadIdx.x, blocks) * length;
        const SnakeParams snake = {__ldg(tile.branch.alpha[0] + channel),
                                   __ldg(tile.branch.inv_beta[0] + channel)};
        const ValidRows valid = {tile.valid_begin - (row - halo), tile.valid_end - (row - halo)};
        const float* x = tile.branch.x + (row - halo) * C + channel;
        T* const column = element(shared, row, channel);
        auto store = [=](int block, int u, float v) {
            *step_row(column, block * kAliasFreeUnroll + u) = from_float<T>(v);
        };
        float before[2 * kAliasFreeHalo];
        if (valid.contain(-kAliasFreeHalo, length + kAliasFreeHalo)) {
#pragma unroll
            for (int k = 0; k < 2 * kAliasFreeHalo; ++k)
                before[k] = __ldg(x + (k - kAliasFreeHalo) * C);
            auto load = [=](int block, int u) {
                const float* base = x + block * (kAliasFreeUnroll * C);
                return __ldg(base + (u + kAliasFreeHalo) * C);
            };
            alias_free_walk<false>(p.filter, snake, blocks, valid, before, load, store);
        } else if (valid.meet(0, length)) {
#pragma unroll
            for (int k = 0; k < 2 * kAliasFreeHalo; ++k)
                before[k] = __ldg(x + valid.clamp(k - kAliasFreeHalo) * C);
            auto load = [=](int block, int u) {
                return __ldg(x + valid.clamp(block * kAliasFreeUnroll + u + kAliasFreeHalo) * C);
            };
            alias_free_walk<true>(p.filter, snake, blocks, valid, before, load, store);
        } else {
            for (int i = 0; i < length; ++i)
                *step_row(column, i) = from_float<T>(0.0f);
        }
    }

    // The intermediate in place: activation of acc for LeakyReLU, acc itself for the snake.
    __device__ static void store_intermediate(const UnitParams& p, const UnitWork& tile,
                                              Accumulators& acc, char* shared) {
        const Corner from = corner();
        const int first = tile.valid_begin - from.row, last = tile.valid_end - from.row;
        T* const corner_element = element(shared, from.row, from.channel);
        for_each(acc, [&](float v0, float v1, int row, int channel) {
            const float a = kSnake ? v0 : leaky_relu(v0, p.slope);
            const float b = kSnake ? v1 : leaky_relu(v1, p.slope);
            *reinterpret_cast<uint32_t*>(corner_element + row * (kPitch / sizeof(T)) + channel) =
                row >= first && row < last ? Core::pack(a, b) : 0u;
        });
    }

    // Anti-aliased snake of the intermediate, in place. Every thread fetches the neighbours' rows
    // it needs before anyone writes; in its own rows it reads ahead of where it writes.
    __device__ static void snake_in_place(const UnitParams& p, const UnitWork& tile, char* shared) {
        constexpr int kBlocks = alias_free_blocks(kRows, kSegments);
        constexpr int kLength = kBlocks * kAliasFreeUnroll;
        const unsigned thread = thread_index();
        const bool active = thread < kSegments * C;
        const int channel = thread % C, row = active ? segment_of(thread, kBlocks) * kLength : 0;
        const ValidRows valid = {tile.valid_begin - row, tile.valid_end - row};
        T* const column = element(shared, row, channel);
        const SnakeParams snake = {__ldg(tile.branch.alpha[1] + channel),
                                   __ldg(tile.branch.inv_beta[1] + channel)};
        const int top = -row, bottom = p.n_rows - 1 - row;
        float before[2 * kAliasFreeHalo], after[kAliasFreeHalo];
#pragma unroll
        for (int k = 0; k < 2 * kAliasFreeHalo; ++k) {
            const int i = max(k - kAliasFreeHalo, max(valid.begin, top));
            before[k] = to_float(*step_row(column, min(i, bottom)));
        }
#pragma unroll
        for (int k = 0; k < kAliasFreeHalo; ++k) {
            const int i = max(kLength + k, valid.begin);
            after[k] = to_float(*step_row(column, min(i, bottom)));
        }
        __syncthreads();
        if (!active || !valid.meet(0, kLength)) return;
        auto store = [=](int block, int u, float v) {
            *step_row(column, block * kAliasFreeUnroll + u) = from_float<T>(v);
        };
        if (valid.contain(-kAliasFreeHalo, kLength + kAliasFreeHalo)) {
            auto load = [&](int block, int u) {
                if (u > 0 && block == kBlocks - 1) return after[u - 1];
                return to_float(*step_row(column, block * kAliasFreeUnroll + u + kAliasFreeHalo));
            };
            alias_free_walk<false>(p.filter, snake, kBlocks, valid, before, load, store);
        } else {
            auto load = [&](int block, int u) {
                if (u > 0 && block == kBlocks - 1) return after[u - 1];
                const int i = block * kAliasFreeUnroll + u + kAliasFreeHalo;
                return to_float(*step_row(column, max(i, valid.begin)));
            };
            alias_free_walk<true>(p.filter, snake, kBlocks, valid, before, load, store);
        }
    }

    // out = x + acc, accumulator row 0 holding row output_begin.
    __device__ static void store_output(const UnitWork& tile, Accumulators& acc) {
        const Corner from = corner();
        const int rows = tile.output_end - tile.output_begin - from.row;
        const int offset = (tile.output_begin + from.row) * C + from.channel;
        const float* x = tile.branch.x + offset;
        float* out = tile.branch.out + offset;
        for_each(acc, [&](float v0, float v1, int row, int channel) {
            if (row >= rows) return;
            const float2 residual = __ldg(reinterpret_cast<const float2*>(x + row * C + channel));
            __stcg(reinterpret_cast<float2*>(out + row * C + channel),
                   make_float2(residual.x + v0, residual.y + v1));
        });
    }

    __device__ static void compute(const UnitParams& p, const UnitWork& tile, char* shared) {
        const int halo = tile.branch.dilation * (tile.branch.K - 1) / 2;
        if constexpr (kSnake) {
            fill_snake(p, tile, shared, halo);
        } else {
            fill_leaky(p, tile, shared, halo);
        }
        __syncthreads();
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const int row = (warp % kWarpsM) * kMTiles * 16 + lane % 16;
        uint32_t address = shared_address(shared) + row * kPitch;
        Accumulators acc;
#pragma unroll 1
        for (int pass = 0;; ++pass) {
            convolve(acc, static_cast<const char*>(tile.branch.weight[pass]), address,
                     tile.branch.K, pass == 0 ? tile.branch.dilation : 1);
            add_bias(acc, tile.branch.bias[pass]);
            if (pass + 1 == p.n_convs) break;
            __syncthreads();
            store_intermediate(p, tile, acc, shared);
            __syncthreads();
            if constexpr (kSnake) {
                snake_in_place(p, tile, shared);
                __syncthreads();
            }
            address += kActHalo * kPitch;
        }
        store_output(tile, acc);
    }
};

template <typename T, int C, bool kSnake, int kWarpsM, int kWarpsN, int kMTiles, int kCtasPerSm>
__global__ void __launch_bounds__(32 * kWarpsM * kWarpsN, kCtasPerSm)
    residual_unit_kernel(const __grid_constant__ UnitParams p) {
    if constexpr (!TensorCore<T>::kAvailable) {
        __trap();
        return;
    }
    using Unit = ResidualUnit<T, C, kSnake, kWarpsM, kWarpsN, kMTiles>;
    extern __shared__ __align__(16) char shared[];
    __shared__ UnitWork tile;
    int j = 0;
    while (static_cast<int>(blockIdx.x) >= p.branches[j].cta_end)
        ++j;
    const UnitBranch& branch = p.branches[j];
    const int cta = blockIdx.x - (j ? p.branches[j - 1].cta_end : 0);
    const int b = cta / branch.tiles;
    const RowRange valid = valid_rows(p.ranges, b, p.scale, p.extra);
    const int start = valid.first + (cta % branch.tiles) * branch.tile_rows;
    if (start >= valid.last) return;
    if (threadIdx.x == 0) {
        const int halo = p.n_convs == 2 ? (branch.K - 1) / 2 + Unit::kActHalo : 0;
        const int first = start - halo;
        const int64_t offset = (b * p.T_cap + first) * C;
        tile.branch = branch;
        tile.branch.x += offset;
        tile.branch.out += offset;
        tile.output_begin = halo;
        tile.output_end = min(halo + branch.tile_rows, valid.last - first);
        tile.valid_begin = valid.first - first;
        tile.valid_end = valid.last - first;
    }
    __syncthreads();
    Unit::compute(p, tile, shared);
}

}  // namespace cuda
}  // namespace vk
