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
#include "narrow_conv.cuh"
#include "residual_unit.h"
#include "residual_unit_snake.cuh"

namespace vk {
namespace cuda {

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
struct ResidualUnit : NarrowConv<T, C, kWarpsM, kWarpsN, kMTiles> {
    using Base = NarrowConv<T, C, kWarpsM, kWarpsN, kMTiles>;
    using Base::corner;
    using Base::element;
    using Base::for_each;
    using Base::kGroups;
    using Base::kPitch;
    using Base::kRows;
    using Base::kThreads;
    using Base::thread_index;
    using typename Base::Accumulators;
    using typename Base::Core;
    using typename Base::Corner;
    static constexpr int kActHalo = kSnake ? kAliasFreeHalo : 0;

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
        Base::store_rows(acc, shared, tile.valid_begin, tile.valid_end,
                         [&](float v) { return kSnake ? v : leaky_relu(v, p.slope); });
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
            const char* const weights = Base::share_of(tile.branch.weight[pass]);
            typename Base::Weights w;
            Base::load_weights(w, weights);
            Base::convolve(acc, w, weights, address, tile.branch.K,
                           pass == 0 ? tile.branch.dilation : 1);
            Base::add_bias(acc, tile.branch.bias[pass]);
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
