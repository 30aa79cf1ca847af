// Convolution of wide channels as an implicit GEMM on tensor cores, branches of a stage in one grid.
//
//   y[b, m, n] = bias[n] (+ cond[b, n]) + sum_{k, c} x[b, m + first_tap + k * dilation, c] w[k, c, n]
//   stream = y + residual (fp32),  activated = leaky(y + residual) (compute dtype)
//
// m16n8k16 (two m16n8k8 on sm_75), fp32 accumulators. Grid: (row tiles, column tiles,
// branches * B), the first branch first. A CTA keeps two tiles of 32 input channels with their halo
// in shared memory and runs all taps over one while the next arrives; one barrier per 32 channels.
// Weights come straight from global memory in fragment order, two k16 steps ahead in registers.
// Reduction order: (chunk of 32 channels, tap, k16), whatever the tile. Columns of a fragment pair
// are interleaved so that a thread owns four consecutive ones: 16-byte accesses in the epilogue.
// Weight fragments: [ceil(N / 32)][chunks][K][2 k16][2 column groups of 16][32 lanes][8], see pack.
// Shared memory: 2 * (rows + (K - 1) * dilation) * 64 bytes. 2 K C_in FLOP per output value; weights
// are read from L2 once per row tile: bound by the tensor cores once both fill the device.
#pragma once

#include "conv_source.cuh"

namespace vk {
namespace cuda {

// kCtas: CTAs per SM that registers must allow.
template <typename T, int kRows, int kColumns, int kWarpsM, int kWarpsN, int kCtas>
struct ConvShape {
    using Element = T;
    static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
    static constexpr int kTileRows = kRows;
    static constexpr int kTileColumns = kColumns;
    static constexpr int kMTiles = kRows / kWarpsM / 16;
    static constexpr int kSupers = kColumns / kWarpsN / 32;  // groups of 32 columns per warp
    static constexpr int kWarpColumns = kWarpsN;
    static constexpr int kMinCtas = kCtas;
    static_assert(kRows % (16 * kWarpsM) == 0 && kColumns % (32 * kWarpsN) == 0, "tile");
};

// Weights of one k16 step for a warp's columns, two steps in flight.
template <int kSupers>
class ConvWeights {
   public:
    __device__ __forceinline__ ConvWeights(const void* weight, int super, int supers, int steps)
        : steps_(steps) {
        const uint4* w = static_cast<const uint4*>(weight) + threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < kSupers; ++i) {
            // Columns beyond the last are computed from its weights and dropped.
            next_[i] = w + static_cast<int64_t>(min(super + i, supers - 1)) * steps * kStepUnits;
        }
    }
    template <int kSlot>
    __device__ __forceinline__ void fetch() {
#pragma unroll
        for (int i = 0; i < kSupers; ++i) {
            held_[kSlot][i][0] = next_[i][0];
            held_[kSlot][i][1] = next_[i][32];
            if (fetched_ + 1 < steps_) next_[i] += kStepUnits;
        }
        ++fetched_;
    }
    template <int kSlot>
    __device__ __forceinline__ FragmentB fragment(int n_tile) const {
        const uint4& v = held_[kSlot][n_tile / 4][n_tile / 2 % 2];
        return n_tile % 2 ? FragmentB{{v.z, v.w}} : FragmentB{{v.x, v.y}};
    }

   private:
    static constexpr int kStepUnits = 64;
    const uint4* next_[kSupers];
    uint4 held_[2][kSupers][2];
    int fetched_ = 0;
    const int steps_;
};

template <typename Shape>
struct ConvAccumulator {
    FragmentC c[Shape::kMTiles][4 * Shape::kSupers];
};

template <typename Shape, int kSlot>
__device__ __forceinline__ void conv_step(ConvAccumulator<Shape>& acc, uint32_t address,
                                          ConvWeights<Shape::kSupers>& weights) {
#pragma unroll
    for (int m = 0; m < Shape::kMTiles; ++m) {
        const FragmentA a = load_matrix_x4(address + m * 16 * kConvRowBytes);
#pragma unroll
        for (int n = 0; n < 4 * Shape::kSupers; ++n) {
            TensorCore<typename Shape::Element>::multiply_add(
                acc.c[m][n], a, weights.template fragment<kSlot>(n));
        }
    }
    weights.template fetch<kSlot>();
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
    for (int pair = 0; pair < 2 * Shape::kSupers; ++pair) {
        const int n = n0 + pair * 16 + 4 * (lane % 4);
        if (n >= N) continue;
        const int channel = n % p.C_out;
        float4 bias = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (branch.bias) bias = load_float4(branch.bias + channel);
        if (p.cond) {
            const float4 g = load_float4(p.cond + static_cast<int64_t>(b) * p.C_out + channel);
            bias = make_float4(bias.x + g.x, bias.y + g.y, bias.z + g.z, bias.w + g.w);
        }
#pragma unroll
        for (int i = 0; i < 2 * Shape::kMTiles; ++i) {
            const int m = m0 + i / 2 * 16 + i % 2 * 8 + lane / 4;
            const int64_t at = static_cast<int64_t>(m) * N + n -
                               static_cast<int64_t>(p.padding) * p.C_out;
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
                    TensorCore<T>::pack(leaky_relu(y.z, p.slope_out), leaky_relu(y.w, p.slope_out)));
                *reinterpret_cast<uint2*>(static_cast<T*>(branch.activated) + row_offset + at) =
                    packed;
            }
        }
    }
}

template <typename Shape, typename Source>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kMinCtas) conv_kernel(
    const __grid_constant__ ConvParams p, int B) {
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
    const uint32_t buffers = shared_address(tiles);
    const uint32_t buffer_bytes = rows.rows * kConvRowBytes;

    const int lane = threadIdx.x % 32;
    const int warp = threadIdx.x / 32;
    const int warp_row = warp / Shape::kWarpColumns * Shape::kMTiles * 16;
    const int super = (blockIdx.y * Shape::kWarpColumns + warp % Shape::kWarpColumns) *
                      Shape::kSupers;
    const int supers = (p.stride * p.C_out + 31) / 32;
    const int chunks = (p.C_in + kConvChunk - 1) / kConvChunk;
    const int steps_per_chunk = 2 * branch.K;
    ConvWeights<Shape::kSupers> weights(branch.weight, super, supers, chunks * steps_per_chunk);
    weights.template fetch<0>();
    weights.template fetch<1>();

    ConvAccumulator<Shape> acc = {};
    if (loader.kAsync) {
        loader.copy_async(buffers, 0);
    } else {
        for (int piece = 0; piece < loader.pieces(); ++piece) {
            loader.load(piece, 0);
            loader.store(piece, buffers);
        }
    }
    for (int chunk = 0; chunk < chunks; ++chunk) {
        const uint32_t current = buffers + (chunk & 1) * buffer_bytes;
        const uint32_t other = buffers + (~chunk & 1) * buffer_bytes;
        const int next_c0 = (chunk + 1) * kConvChunk;
        const bool more = chunk + 1 < chunks;
#if __CUDA_ARCH__ >= 800
        if (loader.kAsync) copy_async_wait<0>();
#endif
        __syncthreads();
        if (loader.kAsync && more) loader.copy_async(other, next_c0);
        const int pieces = !loader.kAsync && more ? loader.pieces() : 0;

        int row = warp_row + lane % 16;
        for (int k = 0; k < branch.K; ++k) {
            const uint32_t address = current + conv_unit_offset(row, lane / 16);
            if (2 * k < pieces) loader.load(2 * k, next_c0);
            conv_step<Shape, 0>(acc, address, weights);
            if (2 * k < pieces) loader.store(2 * k, other);
            if (2 * k + 1 < pieces) loader.load(2 * k + 1, next_c0);
            // The second k16 step is two units further, which flips one bit of the permuted offset.
            conv_step<Shape, 1>(acc, address ^ 32, weights);
            if (2 * k + 1 < pieces) loader.store(2 * k + 1, other);
            row += branch.dilation;
        }
        for (int piece = steps_per_chunk; piece < pieces; ++piece) {
            loader.load(piece, next_c0);
            loader.store(piece, other);
        }
    }
    conv_store(p, branch, b, valid_out, m_first + warp_row, super * 32, acc);
}

}  // namespace cuda
}  // namespace vk
