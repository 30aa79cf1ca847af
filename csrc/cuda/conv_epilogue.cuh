// What follows a convolution's sums: biases, condition, residuals and mean; the fp32 stream and the
// activated output. A thread holds four consecutive columns of a row, so that it reads and writes
// 16 bytes at a time.
#pragma once

#include "conv.h"
#include "elements.cuh"
#include "mma.cuh"

namespace vk {
namespace cuda {

template <typename Shape>
struct ConvAccumulator {
    FragmentC c[Shape::kMTiles][4];
};

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

}  // namespace cuda
}  // namespace vk
