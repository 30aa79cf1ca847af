// Convolution of wide channels as an implicit GEMM on tensor cores, branches of a stage in one
// grid.
//
//   y[b, m, n] = bias[n] (+ cond[b, n]) + sum_{k, c} x[b, m + first_tap + k * dilation, c] w[k, c,
//   n] stream = y + residual (fp32),  activated = leaky(y + residual) (compute dtype)
//
// m16n8k16 (two m16n8k8 on sm_75), fp32 accumulators. Grid: (row tiles, column tiles,
// branches * B), the first branch first. A CTA keeps two tiles of 32 input channels with their halo
// in shared memory and runs all taps over one while the next arrives; one barrier per 32 channels.
// A warp owns all rows of 32 columns, so that each weight is fetched once per CTA: straight from
// global memory in fragment order, kSlots k16 steps ahead in registers. Two steps ahead left a CTA
// of 32 rows waiting for L2 three quarters of its time.
// Reduction order: (chunk of 32 channels, tap, k16), whatever the tile. Columns of a fragment pair
// are interleaved so that a thread owns four consecutive ones: 16-byte accesses in the epilogue.
// Weight fragments: [ceil(N / 32)][chunks][K][2 k16][2 column groups of 16][32 lanes][8], see pack.
// Shared memory: 2 * (rows + (K - 1) * dilation) * 64 bytes. 2 K C_in FLOP per output value;
// weights are read from L2 once per row tile: bound by the tensor cores once both fill the device.
#pragma once

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

// Weights of a warp's 32 columns, kSlots k16 steps in flight.
template <int kSlots>
class ConvWeights {
  public:
    __device__ __forceinline__ ConvWeights(const void* weight, int group, int groups, int steps)
        : steps_left_(steps - 1) {
        // Columns beyond the last are computed from its weights and dropped.
        next_ = static_cast<const uint4*>(weight) + threadIdx.x % 32 +
                static_cast<int64_t>(min(group, groups - 1)) * steps * kStepUnits;
#pragma unroll
        for (int slot = 0; slot < kSlots; ++slot)
            fetch(slot);
    }
    __device__ __forceinline__ void fetch(int slot) {
        held_[slot][0] = next_[0];
        held_[slot][1] = next_[32];
        if (steps_left_ > 0) next_ += kStepUnits;  // the last step's again rather than past the end
        --steps_left_;
    }
    __device__ __forceinline__ FragmentB fragment(int slot, int n_tile) const {
        const uint4& v = held_[slot][n_tile / 2];
        return n_tile % 2 ? FragmentB{{v.z, v.w}} : FragmentB{{v.x, v.y}};
    }

  private:
    static constexpr int kStepUnits = 64;
    const uint4* next_;
    int steps_left_;
    uint4 held_[kSlots][2];
};

template <typename Shape>
struct ConvAccumulator {
    FragmentC c[Shape::kMTiles][4];
};

template <typename Shape>
__device__ __forceinline__ void conv_step(ConvAccumulator<Shape>& acc, uint32_t address, int slot,
                                          ConvWeights<Shape::kWeightSlots>& weights) {
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

// Bias, condition, residual; fp32 stream and activated output.
template <typename Shape>
__device__ __forceinline__ void conv_store(const ConvParams& p, const ConvBranch& branch, int b,
                                           RowRange valid_out, int m0, int n0,
                                           const ConvAccumulator<Shape>& acc) {
    using T = typename Shape::Element;
    const int lane = threadIdx.x % 32;
    const int N = p.stride * p.C_out;
    const int64_t first = static_cast<int64_t>(valid_out.first) * p.C_out;
    const int64_t last = static_cast<int64_t>(valid_out.last) * p.C_out;
    const int64_t row_offset = static_cast<int64_t>(b) * p.T_out_cap * p.C_out;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
        const int n = n0 + pair * 16 + 4 * (lane % 4);
        if (n >= N) continue;
        const int channel = n % p.C_out;
        float4 bias = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (branch.bias) bias = load_float4(branch.bias + channel);
        if (p.cond) {
            const float* cond = p.cond + p.source[2 * b] * p.cond_stride + channel;
            const float4 g = make_float4(cond[0], cond[1], cond[2], cond[3]);
            bias = make_float4(bias.x + g.x, bias.y + g.y, bias.z + g.z, bias.w + g.w);
        }
#pragma unroll
        for (int i = 0; i < 2 * Shape::kMTiles; ++i) {
            const int m = m0 + i / 2 * 16 + i % 2 * 8 + lane / 4;
            const int64_t at =
                static_cast<int64_t>(m) * N + n - static_cast<int64_t>(p.padding) * p.C_out;
            if (at < first || at >= last) continue;
            const FragmentC& low = acc.c[i / 2][2 * pair];
            const FragmentC& high = acc.c[i / 2][2 * pair + 1];
            const int v = i % 2 * 2;
            float4 y = make_float4(low.v[v] + bias.x, low.v[v + 1] + bias.y, high.v[v] + bias.z,
                                   high.v[v + 1] + bias.w);
            if (branch.residual) {
                const float4 r = load_float4(branch.residual + row_offset + at);
                y = make_float4(y.x + r.x, y.y + r.y, y.z + r.z, y.w + r.w);
            }
            if (branch.stream) {
                *reinterpret_cast<float4*>(branch.stream + row_offset + at) = y;
            }
            if (branch.activated) {
                const uint2 packed = make_uint2(
                    TensorCore<T>::pack(leaky_relu(y.x, p.slope_out), leaky_relu(y.y, p.slope_out)),
                    TensorCore<T>::pack(leaky_relu(y.z, p.slope_out),
                                        leaky_relu(y.w, p.slope_out)));
                *reinterpret_cast<uint2*>(static_cast<T*>(branch.activated) + row_offset + at) =
                    packed;
            }
        }
    }
}

// All taps of all chunks. Chunks alternate between two buffers; while one is multiplied, the next
// arrives in the other.
template <typename Shape, typename Loader>
__device__ __forceinline__ void conv_multiply(Loader& loader, ConvWeights<Shape::kWeightSlots>& w,
                                              uint32_t buffers, int rows, int chunks, int K,
                                              int dilation, ConvAccumulator<Shape>& acc) {
    const int lane = threadIdx.x % 32;
    const uint32_t buffer_bytes = rows * kConvRowBytes;
    uint32_t current = buffers, other = buffers + buffer_bytes;
    loader.start(current, 0);
    loader.finish(current, 0);
    int c0 = 0, k = 0, row = lane % 16;
    bool more = chunks > 1;
    if (more) loader.start(other, kConvChunk);
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
            if (more) loader.start(other, c0 + kConvChunk);
        }
    }
}

template <typename Shape, typename Source>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinCtas)
    conv_kernel(const __grid_constant__ ConvParams p, int B) {
    if constexpr (!TensorCore<typename Shape::Element>::kAvailable) {
        __trap();
        return;
    }
    extern __shared__ __align__(128) uint4 tiles[];
    const int branch_index = blockIdx.z / B;
    const int b = blockIdx.z - branch_index * B;
    const ConvBranch& branch = p.branches[branch_index];
    const RowRange valid_out = valid_rows(p.ranges, b, p.scale_out, p.extra_out);
    // Rows of the product that hold valid output, anchored to the utterance.
    const int m_first = (valid_out.first + p.padding) / p.stride + blockIdx.x * Shape::kTileRows;
    const int m_last = (valid_out.last - 1 + p.padding) / p.stride + 1;
    if (valid_out.last <= valid_out.first || m_first >= m_last) return;

    ConvTileRows rows;
    rows.first = m_first + branch.first_tap;
    rows.rows = Shape::kTileRows + (branch.K - 1) * branch.dilation;
    rows.valid = valid_rows(p.ranges, b, p.scale_in, p.extra_in);
    rows.C_in = p.C_in;
    ConvLoader<Source, Shape::kThreads> loader(Source(p, branch_index, b), rows);

    const int group = (blockIdx.y * Shape::kThreads + threadIdx.x) / 32;
    const int groups = (p.stride * p.C_out + 31) / 32;
    const int chunks = (p.C_in + kConvChunk - 1) / kConvChunk;
    ConvWeights<Shape::kWeightSlots> weights(branch.weight, group, groups, chunks * 2 * branch.K);
    ConvAccumulator<Shape> acc = {};
    conv_multiply(loader, weights, shared_address(tiles), rows.rows, chunks, branch.K,
                  branch.dilation, acc);
    conv_store(p, branch, b, valid_out, m_first, group * 32, acc);
}

}  // namespace cuda
}  // namespace vk
