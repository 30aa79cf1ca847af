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

template <typename Shape>
struct ConvAccumulator {
    FragmentC c[Shape::kMTiles][4];
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

// What a thread holds of a pair of fragments: four consecutive columns in kRows rows, eight apart.
template <typename Shape>
class ConvQuads {
  public:
    static constexpr int kRows = 2 * Shape::kMTiles;

    __device__ __forceinline__ ConvQuads(ConvAccumulator<Shape>& acc, int pair)
        : acc_(acc), pair_(pair) {}

    __device__ __forceinline__ static int column(int pair) {
        return pair * 16 + 4 * (threadIdx.x % 4);
    }
    __device__ __forceinline__ float& operator()(int i, int column) {
        return acc_.c[i / 2][2 * pair_ + column / 2].v[i % 2 * 2 + column % 2];
    }
    __device__ __forceinline__ void add(int i, const float4& v) {
        ConvQuads& y = *this;
        y(i, 0) += v.x;
        y(i, 1) += v.y;
        y(i, 2) += v.z;
        y(i, 3) += v.w;
    }

  private:
    ConvAccumulator<Shape>& acc_;
    const int pair_;
};

// Four channels of a branch's bias and of the condition.
__device__ __forceinline__ float4 conv_bias(const ConvParams& p, int branch, int b, int channel) {
    const float* bias = p.branches[branch].bias;
    const float4 v = bias ? load_float4(bias + channel) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (!p.cond) return v;
    const float* g = p.cond + p.source[2 * b] * p.cond_stride + channel;
    return make_float4(v.x + g[0], v.y + g[1], v.z + g[2], v.w + g[3]);
}

// Assigned as a structure, what lies in accumulators is stored in four pieces.
__device__ __forceinline__ void store_float4(float* p, const float4& v) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p), "f"(v.x), "f"(v.y), "f"(v.z),
                 "f"(v.w)
                 : "memory");
}
__device__ __forceinline__ void store_uint2(void* p, uint32_t low, uint32_t high) {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(p), "r"(low), "r"(high) : "memory");
}

// Adds a residual to those elements that `inside` has a bit for; x: the first row's. All of it is
// requested before any is waited for.
template <typename Shape, typename R>
__device__ __forceinline__ void conv_add_residual(ConvQuads<Shape>& y, const R* x, int N,
                                                  uint32_t inside, float undo) {
    using Quads = ConvQuads<Shape>;
    float4 r[Quads::kRows];
#pragma unroll
    for (int i = 0; i < Quads::kRows; ++i) {
        r[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (inside >> i & 1) r[i] = load_float4(x + static_cast<int64_t>(8 * i) * N);
    }
#pragma unroll
    for (int i = 0; i < Quads::kRows; ++i) {
        // LeakyReLU's inverse for slopes in (0, 1].
        if constexpr (!std::is_same<R, float>::value) {
            r[i] = make_float4(fminf(r[i].x, r[i].x * undo), fminf(r[i].y, r[i].y * undo),
                               fminf(r[i].z, r[i].z * undo), fminf(r[i].w, r[i].w * undo));
        }
        y.add(i, r[i]);
    }
}

// Adds biases, condition and residuals, of all branches with kSummed, and writes the fp32 stream
// and the activated output. A residual may be the output's own memory.
template <typename Shape, bool kSummed>
__device__ __forceinline__ void conv_store(const ConvParams& p, int branch, int b,
                                           RowRange valid_out, int m0, int n0,
                                           ConvAccumulator<Shape>& acc) {
    using T = typename Shape::Element;
    using Quads = ConvQuads<Shape>;
    const int N = p.stride * p.C_out;
    const int end = kSummed ? p.inputs : branch + 1;
    float* const stream = p.branches[branch].stream;
    T* const activated = static_cast<T*>(p.branches[branch].activated);
    const float share = kSummed ? 1.0f / p.inputs : 1.0f;
    const int64_t first = static_cast<int64_t>(valid_out.first) * p.C_out;
    const int64_t last = static_cast<int64_t>(valid_out.last) * p.C_out;
    const int64_t row_offset = static_cast<int64_t>(b) * p.T_out_cap * p.C_out;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
        const int n = n0 + Quads::column(pair);
        if (n >= N) continue;
        // The thread's element of the first row; a row is 8 N further than the one before.
        const int64_t start = static_cast<int64_t>(m0 + threadIdx.x % 32 / 4) * N + n -
                              static_cast<int64_t>(p.padding) * p.C_out;
        uint32_t inside = 0;
#pragma unroll
        for (int i = 0; i < Quads::kRows; ++i) {
            const int64_t at = start + static_cast<int64_t>(8 * i) * N;
            if (at >= first && at < last) inside |= 1u << i;
        }
        Quads y(acc, pair);
        for (int j = branch; j < end; ++j) {
            const float4 bias = conv_bias(p, j, b, n % p.C_out);
#pragma unroll
            for (int i = 0; i < Quads::kRows; ++i)
                y.add(i, bias);
        }
        for (int j = branch; j < end; ++j) {
            const void* x = p.branches[j].residual;
            if (!x) continue;
            if (p.undo == 0.0f) {
                const float* r = static_cast<const float*>(x) + row_offset + start;
                conv_add_residual(y, r, N, inside, 0.0f);
            } else {
                const T* r = static_cast<const T*>(x) + row_offset + start;
                conv_add_residual(y, r, N, inside, p.undo);
            }
        }
#pragma unroll
        for (int i = 0; i < Quads::kRows; ++i) {
            if (!(inside >> i & 1)) continue;
            const int64_t at = row_offset + start + static_cast<int64_t>(8 * i) * N;
            const float4 v =
                make_float4(y(i, 0) * share, y(i, 1) * share, y(i, 2) * share, y(i, 3) * share);
            if (stream) store_float4(stream + at, v);
            if (activated) {
                const float s = p.slope_out;
                store_uint2(activated + at,
                            TensorCore<T>::pack(leaky_relu(v.x, s), leaky_relu(v.y, s)),
                            TensorCore<T>::pack(leaky_relu(v.z, s), leaky_relu(v.w, s)));
            }
        }
    }
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
