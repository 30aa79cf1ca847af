// Convolution of wide channels as an implicit GEMM on tensor cores, branches of a stage in one
// grid.
//
//   y[b, m, n] = bias[n] (+ cond[b, n]) + residual +
//                sum_{k, c} x[b, m + first_tap + k * dilation, c] w[k, c, n]
//   stream = y (fp32),  activated = leaky(y) (compute dtype);  with kSummed y: the branches' mean
//
// m16n8k16 (two m16n8k8 on sm_75), fp32 accumulators. Grid: (row tiles, column tiles,
// branches * B), the first branch first; (.., B) with kSummed, where a CTA runs the branches one
// after the other on one accumulator. A CTA keeps two tiles of 32 input channels with their halo
// in shared memory and runs all taps over one while the next arrives; one barrier per 32 channels.
// A warp owns all rows of 32 columns, so that each weight is fetched once per CTA: straight from
// global memory in fragment order, kSlots k16 steps ahead in registers. Two steps ahead left a CTA
// of 32 rows waiting for L2 three quarters of its time.
//
// Reduction order: (branch, chunk of 32 channels, tap, k16), whatever the tile. Columns of a
// fragment pair are interleaved so that a thread owns four consecutive ones: 16-byte accesses in
// the epilogue.
// Weight fragments: [ceil(N / 32)][chunks][K][2 k16][2 column groups of 16][32 lanes][8], see pack.
// Shared memory: 2 * (rows + (K - 1) * dilation) * 64 bytes. 2 K C_in FLOP per output value;
// weights are read from L2 once per row tile: bound by the tensor cores once both fill the device.
#pragma once

#include <type_traits>

#include "conv_epilogue.cuh"
#include "conv_source.cuh"

namespace vk {
namespace cuda {

// kSlots: k16 steps of weights in flight, even. kCtas: CTAs per SM that registers must allow.
template <typename T, int kRows, int kColumns, int kSlots, int kCtas>
struct ConvShape {
    using Element = T;
    static constexpr int kTileRows = kRows;
    static constexpr int kTileColumns = kColumns;
    static constexpr int kThreads = kColumns;  // a warp for 32 columns
    static constexpr int kMTiles = kRows / 16;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    // A step takes Turing's tensor cores twice as long, and staging the input needs registers.
    static constexpr int kWeightSlots = kMTiles >= 4 ? 2 : kSlots < 4 ? kSlots : 4;
#else
    static constexpr int kWeightSlots = kSlots;
#endif
    static constexpr int kMinCtas = kCtas;
    static_assert(kRows % 16 == 0 && kColumns % 32 == 0 && kSlots % 2 == 0, "tile");
};

// Weights of a warp's 32 columns, kSlots k16 steps in flight; of all branches with kSummed, else of
// the one it starts with.
template <int kSlots, bool kSummed>
class ConvWeights {
  public:
    __device__ __forceinline__ ConvWeights(const ConvParams& p, int branch, int group)
        : p_(p), branch_(branch), group_(group) {
        turn_to(branch);
        --steps_left_;
#pragma unroll
        for (int slot = 0; slot < kSlots; ++slot)
            fetch(slot);
    }
    __device__ __forceinline__ void fetch(int slot) {
        held_[slot][0] = next_[0];
        held_[slot][1] = next_[32];
        if (steps_left_ > 0) {
            next_ += kStepUnits;  // the last step's again rather than past the end
        } else if constexpr (kSummed) {
            if (branch_ + 1 < p_.inputs) turn_to(++branch_);
        }
        --steps_left_;
    }
    __device__ __forceinline__ FragmentB fragment(int slot, int n_tile) const {
        const uint4& v = held_[slot][n_tile / 2];
        return n_tile % 2 ? FragmentB{{v.z, v.w}} : FragmentB{{v.x, v.y}};
    }

  private:
    static constexpr int kStepUnits = 64;

    __device__ __forceinline__ void turn_to(int branch) {
        const int groups = (p_.stride * p_.C_out + 31) / 32;
        steps_left_ = (p_.C_in + kConvChunk - 1) / kConvChunk * 2 * p_.branches[branch].K;
        // Columns beyond the last are computed from its weights and dropped.
        next_ = static_cast<const uint4*>(p_.branches[branch].weight) + threadIdx.x % 32 +
                static_cast<int64_t>(min(group_, groups - 1)) * steps_left_ * kStepUnits;
    }

    const ConvParams& p_;
    int branch_;
    const int group_;
    const uint4* next_;
    int steps_left_;
    uint4 held_[kSlots][2];
};

template <typename Shape, typename Weights>
__device__ __forceinline__ void conv_step(ConvAccumulator<Shape>& acc, uint32_t address, int slot,
                                          Weights& weights) {
#pragma unroll
    for (int m = 0; m < Shape::kMTiles; ++m) {
        const FragmentA a = load_matrix_x4(address + m * 16 * kConvRowBytes);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
            TensorCore<typename Shape::Element>::multiply_add(acc.c[m][n], a,
                                                              weights.fragment(slot, n));
        }
    }
    weights.fetch(slot);
}

// What a CTA computes: the rows from m_first on of one batch row.
struct ConvPlace {
    int branch, b, m_first;

    template <typename Shape>
    __device__ __forceinline__ ConvTileRows input(const ConvParams& p, int j) const {
        const ConvBranch& branch = p.branches[j];
        return {m_first + branch.first_tap, Shape::kTileRows + (branch.K - 1) * branch.dilation,
                valid_rows(p.ranges, b, p.scale_in, p.extra_in), p.C_in};
    }
};

// All taps of all chunks of a branch; with kSummed then of those after it. Chunks alternate between
// two buffers of `rows`; while one is multiplied, the next arrives in the other.
template <typename Shape, typename Source, bool kSummed>
__device__ __forceinline__ void conv_multiply(const ConvParams& p, const ConvPlace& place,
                                              ConvLoader<Source, Shape::kThreads>& loader,
                                              ConvWeights<Shape::kWeightSlots, kSummed>& w,
                                              uint32_t buffers, int rows, int chunks, int K,
                                              int dilation, ConvAccumulator<Shape>& acc) {
    const int lane = threadIdx.x % 32;
    const uint32_t buffer_bytes = rows * kConvRowBytes;
    uint32_t current = buffers, other = buffers + buffer_bytes;
    loader.start(current, 0);
    loader.finish(current, 0);
    // The chunk to load is that at c0 + kConvChunk, of `branch`.
    int c0 = 0, k = 0, row = lane % 16, branch = place.branch;
    bool more = chunks > 1;
    const auto turn_to_next_branch = [&] {
        if constexpr (kSummed) {
            if (more || branch + 1 >= p.inputs) return;
            ++branch;
            loader.turn_to(Source(p, branch, place.b), place.input<Shape>(p, branch));
            c0 = -kConvChunk;
            more = true;
        }
    };
    turn_to_next_branch();
    if (more) loader.start(other, c0 + kConvChunk);
    while (true) {
#pragma unroll
        for (int slot = 0; slot < Shape::kWeightSlots; slot += 2) {
            const uint32_t address = current + conv_unit_offset(row, lane / 16);
            if (more) loader.load(2 * k, c0 + kConvChunk);
            conv_step(acc, address, slot, w);
            if (more) {
                loader.store(2 * k, other);
                loader.load(2 * k + 1, c0 + kConvChunk);
            }
            // The next k16 step is two units further, which flips one bit of the permuted offset.
            conv_step(acc, address ^ 32, slot + 1, w);
            if (more) loader.store(2 * k + 1, other);
            row += dilation;
            if (++k < K) continue;
            if (!more) return;
            loader.finish(other, c0 + kConvChunk, 2 * K);
            const uint32_t swap = current;
            current = other;
            other = swap;
            c0 += kConvChunk;
            k = 0;
            row = lane % 16;
            more = c0 + kConvChunk < chunks * kConvChunk;
            if constexpr (kSummed) {
                K = p.branches[branch].K;
                dilation = p.branches[branch].dilation;
                turn_to_next_branch();
            }
            if (more) loader.start(other, c0 + kConvChunk);
        }
    }
}

template <typename Shape, typename Source, bool kSummed>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinCtas)
    conv_kernel(const __grid_constant__ ConvParams p, int B) {
    if constexpr (!TensorCore<typename Shape::Element>::kAvailable) {
        __trap();
        return;
    }
    extern __shared__ __align__(128) uint4 tiles[];
    ConvPlace place;
    place.branch = kSummed ? 0 : blockIdx.z / B;
    place.b = blockIdx.z - place.branch * B;
    const RowRange valid_out = valid_rows(p.ranges, place.b, p.scale_out, p.extra_out);
    // Rows of the product that hold valid output, anchored to the utterance.
    place.m_first = (valid_out.first + p.padding) / p.stride + blockIdx.x * Shape::kTileRows;
    const int m_last = (valid_out.last - 1 + p.padding) / p.stride + 1;
    if (valid_out.last <= valid_out.first || place.m_first >= m_last) return;

    const ConvBranch& branch = p.branches[place.branch];
    const ConvTileRows tile = place.input<Shape>(p, place.branch);
    ConvLoader<Source, Shape::kThreads> loader(Source(p, place.branch, place.b), tile);
    int rows = tile.rows;
    if constexpr (kSummed) {
        for (int j = 1; j < p.inputs; ++j)
            rows = max(rows, place.input<Shape>(p, j).rows);
    }
    const int chunks = (p.C_in + kConvChunk - 1) / kConvChunk;
    const int group = (blockIdx.y * Shape::kThreads + threadIdx.x) / 32;
    ConvWeights<Shape::kWeightSlots, kSummed> weights(p, place.branch, group);
    ConvAccumulator<Shape> acc = {};
    conv_multiply(p, place, loader, weights, shared_address(tiles), rows, chunks, branch.K,
                  branch.dilation, acc);
    conv_store<Shape, kSummed>(p, place.branch, place.b, valid_out, place.m_first, group * 32, acc);
}

}  // namespace cuda
}  // namespace vk
