// Whole residual branches of few channels, one launch for all units of all branches of a stage.
//
//   out_j = unit_n(... unit_1(x_j)),  unit(x) = x + conv2(leaky(conv1(leaky(x))))
//
// Shapes:   x_j, out_j: fp32 [B, T_cap, C] contiguous; weights in mma-fragment order; bias fp32
//           [convolutions, C].
// Compute:  T (fp16, bf16) products, fp32 accumulators; activations and residual in fp32.
// Grid:     one CTA per time tile of a branch and batch row, branches one after another (longest
//           first, so that the short ones fill the last wave). Block: kWarpsM x kWarpsN warps.
// Shared:   the tile's activated rows, overwritten in place by every convolution, between margins
//           of zeros as wide as the largest tap reaches.
// Registers: the residual stream in fp32, laid out as the accumulators: 2 x C / kWarpsN / 8 x
//           kMTiles x 4 of them.
// Halo:     the branch's, (dilation + 1) * (K - 1) / 2 per unit: 60 for K = 11 and dilations 1, 3,
//           5. The outermost rows of a tile become wrong layer by layer, and are not written.
// FLOPs:    2 * convolutions * K * C^2 per row of a tile; bytes 8 C per row of output: bound by the
//           tensor cores and by shared memory.
// Numerics: the operations of an element are those of the residual units launched one by one, in
//           the same order. Rows outside the valid range are zeros to every convolution; nothing
//           outside it is read.
#pragma once

#include <cstdint>

#include "elements.cuh"
#include "narrow_conv.cuh"
#include "residual_branch.h"

namespace vk {
namespace cuda {

// What a CTA works on; rows count from the first of its tile. Kept in shared memory: in registers
// it would be live, unused, across the multiplications.
struct BranchWork {
    Branch branch;  // x and out at the tile's first row
    int output_end;
    int valid_begin;  // rows that hold data
    int valid_end;
};

template <typename T, int C, int kWarpsM, int kWarpsN, int kMTiles>
struct ResidualBranch : NarrowConv<T, C, kWarpsM, kWarpsN, kMTiles, true> {
    using Base = NarrowConv<T, C, kWarpsM, kWarpsN, kMTiles, true>;
    using Base::add_bias;
    using Base::corner;
    using Base::for_each;
    using Base::kGroups;
    using Base::kMStride;
    using Base::kNTiles;
    using Base::kPitch;
    using Base::kRows;
    using Base::kStepBytes;
    using Base::kThreads;
    using Base::kWarpRows;
    using Base::load_weights;
    using Base::thread_index;
    using typename Base::Accumulators;
    using typename Base::Corner;
    using typename Base::Weights;

    // Turing needs two products of k8 where later architectures need one of k16, and more
    // registers: the largest tiles would spill, and the host does not choose them there.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    static constexpr bool kAvailable = TensorCore<T>::kAvailable && kMTiles * kNTiles < 24;
    static constexpr bool kTrims = false;
#else
    static constexpr bool kAvailable = true;
    static constexpr bool kTrims = kWarpsM >= 8;
#endif

    // Zeros before and after the tile. They reach only rows that are not written, but must not be
    // what another kernel left: a NaN there would be multiplied by the zero weights that fill up
    // an odd number of channel groups.
    __device__ static void clear_margins(char* shared, int margin) {
        const int chunks = margin * kPitch / 16;
        uint4* const before = reinterpret_cast<uint4*>(shared);
        uint4* const after = before + chunks + kRows * kPitch / 16;
        for (int i = threadIdx.x; i < chunks; i += kThreads)
            before[i] = after[i] = make_uint4(0, 0, 0, 0);
    }

    // Rows outside the valid range take the nearest value inside: loads are never conditional, so
    // that the compiler can put several in flight.
    __device__ static void load_stream(const BranchWork& tile, Accumulators& stream) {
        const Corner from = corner();
        const int first = tile.valid_begin - from.row, last = tile.valid_end - 1 - from.row;
        const float* x = tile.branch.x + from.row * C + from.channel;
        for_each(stream, [&](float& v0, float& v1, int row, int channel) {
            const int t = min(max(row, first), last);
            const float2 v = __ldg(reinterpret_cast<const float2*>(x + t * C + channel));
            v0 = v.x;
            v1 = v.y;
        });
    }

    __device__ static void store_output(const BranchWork& tile, Accumulators& stream) {
        const Corner from = corner();
        const int begin = tile.branch.halo - from.row, end = tile.output_end - from.row;
        float* out = tile.branch.out + from.row * C + from.channel;
        for_each(stream, [&](float v0, float v1, int row, int channel) {
            if (row < begin || row >= end) return;
            __stcg(reinterpret_cast<float2*>(out + row * C + channel), make_float2(v0, v1));
        });
    }

    // acc and stream = stream + acc.
    __device__ __forceinline__ static void end_unit(Accumulators& acc, Accumulators& stream) {
#pragma unroll
        for (int m = 0; m < kMTiles; ++m)
#pragma unroll
            for (int n = 0; n < kNTiles; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    stream.tile[m][n].v[i] += acc.tile[m][n].v[i];
                    acc.tile[m][n].v[i] = stream.tile[m][n].v[i];
                }
    }

    __device__ __forceinline__ static void store_activated(const BranchParams& p,
                                                           const BranchWork& tile,
                                                           Accumulators& acc, char* rows) {
        Base::store_rows(acc, rows, tile.valid_begin, tile.valid_end,
                         [&](float v) { return leaky_relu(v, p.slope); });
    }

    // This warp's weights of a convolution.
    __device__ __forceinline__ static const char* weights_of(const BranchWork& tile, int conv) {
        const int steps = (tile.branch.K * kGroups + 1) / 2 + 1;
        return Base::share_of(tile.branch.weight) + conv * steps * kStepBytes;
    }

    // This lane's row of the warp's first m-tile.
    __device__ __forceinline__ static uint32_t row_address(const char* rows) {
        const unsigned thread = thread_index(), lane = thread % 32, warp = thread / 32;
        return shared_address(rows) + ((warp % kWarpsM) * kWarpRows + lane % 16) * kPitch;
    }

    // Without the outermost m-tiles of warps where all their rows are `spent`: beyond those that
    // the rows of output depend on. Of 8 warps none owns both a first and a last such m-tile; a K
    // of 11 saves 4 to 11% of its products, modelled 5 to 16% of the time on an RTX 4090.
    __device__ __forceinline__ static void convolve_needed(Accumulators& acc, const Weights& w,
                                                           const char* weights, uint32_t address,
                                                           int K, int dilation, int spent) {
        const int row = thread_index() / 32 % kWarpsM * kWarpRows;
        if (kTrims && row + 16 <= spent) {
            Base::template convolve<1, kMTiles>(acc, w, weights, address, K, dilation);
        } else if (kTrims && row >= kMStride - spent) {
            Base::template convolve<0, kMTiles - 1>(acc, w, weights, address, K, dilation);
        } else {
            Base::template convolve<0, kMTiles>(acc, w, weights, address, K, dilation);
        }
    }

    // Between convolutions their count alone is kept: all else is cheaper to compute again than to
    // hold in registers.
    __device__ static void compute(const BranchParams& p, const BranchWork& tile, char* shared) {
        char* const rows = shared + p.margin * kPitch;
        Accumulators acc, stream;
        load_stream(tile, stream);
        clear_margins(shared, p.margin);
        Weights w;
        load_weights(w, weights_of(tile, 0));
        store_activated(p, tile, stream, rows);
        __syncthreads();
        int spent = 0;
#pragma unroll 1
        for (int conv = 0;;) {
            const int K = tile.branch.K;
            const int dilation = conv % p.n_convs ? 1 : tile.branch.dilation[conv / p.n_convs];
            spent += dilation * (K - 1) / 2;
            convolve_needed(acc, w, weights_of(tile, conv),
                            row_address(rows) - dilation * (K - 1) / 2 * kPitch, K, dilation,
                            spent);
            add_bias(acc, tile.branch.bias + conv * C);
            ++conv;
            if (conv % p.n_convs == 0) end_unit(acc, stream);
            if (conv == tile.branch.units * p.n_convs) break;
            load_weights(w, weights_of(tile, conv));  // in flight during the exchange
            __syncthreads();
            store_activated(p, tile, acc, rows);
            __syncthreads();
        }
        store_output(tile, stream);
    }
};

template <typename T, int C, int kWarpsM, int kWarpsN, int kMTiles, int kCtasPerSm>
__global__ void __launch_bounds__(32 * kWarpsM * kWarpsN, kCtasPerSm)
    residual_branch_kernel(const __grid_constant__ BranchParams p) {
    if constexpr (!ResidualBranch<T, C, kWarpsM, kWarpsN, kMTiles>::kAvailable) {
        __trap();
        return;
    }
    extern __shared__ __align__(16) char shared[];
    __shared__ BranchWork tile;
    int j = 0;
    while (static_cast<int>(blockIdx.x) >= p.branches[j].cta_end)
        ++j;
    const Branch& branch = p.branches[j];
    const int cta = blockIdx.x - (j ? p.branches[j - 1].cta_end : 0);
    const int b = cta / branch.tiles;
    const RowRange valid = valid_rows(p.ranges, b, p.scale, p.extra);
    const int start = valid.first + (cta % branch.tiles) * branch.tile_rows;
    if (start >= valid.last) return;
    if (threadIdx.x == 0) {
        const int first = start - branch.halo;
        const int64_t offset = (b * p.T_cap + first) * C;
        tile.branch = branch;
        tile.branch.x += offset;
        tile.branch.out += offset;
        tile.output_end = min(branch.halo + branch.tile_rows, valid.last - first);
        tile.valid_begin = valid.first - first;
        tile.valid_end = valid.last - first;
    }
    __syncthreads();
    ResidualBranch<T, C, kWarpsM, kWarpsN, kMTiles>::compute(p, tile, shared);
}

}  // namespace cuda
}  // namespace vk
