// How the convolution's input gets into shared memory, eight channels (16 bytes) at a time.
//
// A tile holds `rows` input rows of 32 channels in the compute dtype, 64 bytes per row; the four
// 16-byte units of a row are permuted by the row so that neither these stores nor ldmatrix meet
// bank conflicts. Rows outside the valid ones and channels beyond C_in become zeros and are not
// read.
#pragma once

#include "conv.h"
#include "elements.cuh"
#include "mma.cuh"

namespace vk {
namespace cuda {

constexpr int kConvChunk = 32;  // channels per tile
constexpr int kConvRowBytes = 2 * kConvChunk;

__device__ __forceinline__ uint32_t conv_unit_offset(int row, int unit) {
    return row * kConvRowBytes + ((unit ^ ((row >> 1) & 3)) << 4);
}

__device__ __forceinline__ void store_unit(uint32_t address, const uint4& v) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
}

// What all sources know of their tile: `first` is the time of its row 0.
struct ConvTileRows {
    int first, rows;
    RowRange valid;
    int C_in;

    __device__ __forceinline__ bool holds(int row, int c) const {
        const int t = first + row;
        return row < rows && t >= valid.first && t < valid.last && c < C_in;
    }
};

// One tensor per branch in the compute dtype.
template <typename T>
struct ActivatedSource {
    struct Unit {
        uint4 raw;
    };
    static constexpr bool kAsync = true;
    static constexpr bool kRowsFirst = false;

    const T* x;

    __device__ __forceinline__ ActivatedSource(const ConvParams& p, int branch, int b)
        : x(static_cast<const T*>(p.branches[branch].x) +
            static_cast<int64_t>(b) * p.T_in_cap * p.C_in) {}

    __device__ __forceinline__ const T* at(const ConvTileRows& tile, int row, int c) const {
        return x + static_cast<int64_t>(tile.first + row) * tile.C_in + c;
    }
    __device__ __forceinline__ void load(const ConvTileRows& tile, int row, int c,
                                         Unit& unit) const {
        unit.raw = *reinterpret_cast<const uint4*>(at(tile, row, c));
    }
    __device__ __forceinline__ uint4 finish(const Unit& unit) const { return unit.raw; }
};

// Mean of up to four fp32 streams, then LeakyReLU in fp32.
template <typename T>
struct MeanSource {
    struct Unit {
        float4 part[3][2];
    };
    static constexpr bool kAsync = false;
    static constexpr bool kRowsFirst = false;

    const ConvParams& p;
    const int64_t row_offset;
    const float share;

    __device__ __forceinline__ MeanSource(const ConvParams& params, int, int b)
        : p(params),
          row_offset(static_cast<int64_t>(b) * params.T_in_cap * params.C_in),
          share(1.0f / params.inputs) {}

    __device__ __forceinline__ void load(const ConvTileRows& tile, int row, int c,
                                         Unit& unit) const {
        const int64_t at = row_offset + static_cast<int64_t>(tile.first + row) * tile.C_in + c;
#pragma unroll
        for (int j = 0; j < 3; ++j) {
            if (j < p.inputs) {
                unit.part[j][0] = load_float4(p.means[j] + at);
                unit.part[j][1] = load_float4(p.means[j] + at + 4);
            }
        }
        if (p.inputs > 3) {
            add(unit.part[2][0], load_float4(p.means[3] + at));
            add(unit.part[2][1], load_float4(p.means[3] + at + 4));
        }
    }
    __device__ __forceinline__ uint4 finish(const Unit& unit) const {
        float4 sum[2] = {unit.part[0][0], unit.part[0][1]};
#pragma unroll
        for (int j = 1; j < 3; ++j) {
            if (j < p.inputs) {
                add(sum[0], unit.part[j][0]);
                add(sum[1], unit.part[j][1]);
            }
        }
        return make_uint4(pack(sum[0].x, sum[0].y), pack(sum[0].z, sum[0].w),
                          pack(sum[1].x, sum[1].y), pack(sum[1].z, sum[1].w));
    }

  private:
    __device__ __forceinline__ static void add(float4& sum, const float4& v) {
        sum.x += v.x;
        sum.y += v.y;
        sum.z += v.z;
        sum.w += v.w;
    }
    __device__ __forceinline__ uint32_t pack(float low, float high) const {
        return TensorCore<T>::pack(leaky_relu(low * share, p.slope_in),
                                   leaky_relu(high * share, p.slope_in));
    }
};

// The caller's [B, C_in, T] tensor with any strides and any float dtype.
template <typename T>
struct StridedSource {
    struct Unit {
        float v[8];
    };
    static constexpr bool kAsync = false;
    static constexpr bool kRowsFirst = true;  // neighbouring threads read neighbouring times

    const ConvParams& p;
    const int64_t row_offset;

    __device__ __forceinline__ StridedSource(const ConvParams& params, int, int b)
        : p(params),
          row_offset(params.source[2 * b] * params.stride_b +
                     params.source[2 * b + 1] * params.stride_t) {}

    __device__ __forceinline__ void load(const ConvTileRows& tile, int row, int c,
                                         Unit& unit) const {
        const int64_t at = row_offset + (tile.first + row) * p.stride_t + c * p.stride_c;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            unit.v[i] = c + i < tile.C_in ? read(at + i * p.stride_c) : 0.0f;
        }
    }
    __device__ __forceinline__ uint4 finish(const Unit& unit) const {
        return make_uint4(
            TensorCore<T>::pack(unit.v[0], unit.v[1]), TensorCore<T>::pack(unit.v[2], unit.v[3]),
            TensorCore<T>::pack(unit.v[4], unit.v[5]), TensorCore<T>::pack(unit.v[6], unit.v[7]));
    }

  private:
    __device__ __forceinline__ float read(int64_t at) const {
        const void* x = p.branches[0].x;
        if (p.x_dtype == DType::kFloat32) return static_cast<const float*>(x)[at];
        if (p.x_dtype == DType::kFloat16) return to_float(static_cast<const __half*>(x)[at]);
        return to_float(static_cast<const __nv_bfloat16*>(x)[at]);
    }
};

// Brings one chunk of 32 channels into shared memory: asynchronously where source and device allow
// it, else in pieces of kUnits units per thread, loaded before and stored after a step of the
// multiplication.
template <typename Source, int kThreads>
class ConvLoader {
  public:
#if __CUDA_ARCH__ >= 800
    static constexpr bool kAsync = Source::kAsync;
#else
    static constexpr bool kAsync = false;
#endif
    static constexpr int kUnits = Source::kAsync ? 2 : 1;

    __device__ __forceinline__ ConvLoader(const Source& source, const ConvTileRows& tile)
        : source_(source),
          tile_(tile),
          units_(tile.rows * (kConvChunk / 8)),
          pieces_((units_ + kUnits * kThreads - 1) / (kUnits * kThreads)) {}

    // Chunks to start from now on are those of another source and tile.
    __device__ __forceinline__ void turn_to(const Source& source, const ConvTileRows& tile) {
        source_ = source;
        tile_ = tile;
        units_ = tile.rows * (kConvChunk / 8);
        pieces_ = (units_ + kUnits * kThreads - 1) / (kUnits * kThreads);
    }

    // Starts the asynchronous copy of the chunk from channel c0 on, if that is the way.
    __device__ __forceinline__ void start(uint32_t buffer, int c0) const {
#if __CUDA_ARCH__ >= 800
        if constexpr (kAsync) {
            for (int i = threadIdx.x; i < units_; i += kThreads) {
                const int row = row_of(i);
                const int unit = unit_of(i);
                const bool holds = tile_.holds(row, c0 + unit * 8);
                // An address outside the tensor is not formed, even though nothing is read there.
                const auto* x = source_.at(tile_, holds ? row : tile_.valid.first - tile_.first,
                                           holds ? c0 + unit * 8 : 0);
                copy_async_16(buffer + conv_unit_offset(row, unit), x, holds);
            }
            copy_async_commit();
        }
#endif
    }

    // Pieces load and store; they do nothing in asynchronous mode or past the last piece.
    __device__ __forceinline__ void load(int piece, int c0) {
        if constexpr (!kAsync) {
            if (piece >= pieces_) return;
#pragma unroll
            for (int j = 0; j < kUnits; ++j) {
                const int i = (piece * kUnits + j) * kThreads + threadIdx.x;
                const int c = c0 + unit_of(i) * 8;
                held_[j] = tile_.holds(row_of(i), c);
                if (held_[j]) source_.load(tile_, row_of(i), c, unit_[j]);
            }
        }
    }
    __device__ __forceinline__ void store(int piece, uint32_t buffer) const {
        if constexpr (!kAsync) {
            if (piece >= pieces_) return;
#pragma unroll
            for (int j = 0; j < kUnits; ++j) {
                const int i = (piece * kUnits + j) * kThreads + threadIdx.x;
                if (i >= units_) continue;
                const uint4 v = held_[j] ? source_.finish(unit_[j]) : make_uint4(0, 0, 0, 0);
                store_unit(buffer + conv_unit_offset(row_of(i), unit_of(i)), v);
            }
        }
    }

    // Completes the chunk from piece `done` on; after it the buffer may be read, and the other one
    // overwritten, by the whole CTA.
    __device__ __forceinline__ void finish(uint32_t buffer, int c0, int done = 0) {
        if (kAsync) {
#if __CUDA_ARCH__ >= 800
            copy_async_wait<0>();
#endif
        } else {
            for (int piece = done; piece < pieces_; ++piece) {
                load(piece, c0);
                store(piece, buffer);
            }
        }
        __syncthreads();
    }

  private:
    __device__ __forceinline__ int row_of(int i) const {
        return Source::kRowsFirst ? i % tile_.rows : i / 4;
    }
    __device__ __forceinline__ int unit_of(int i) const {
        return Source::kRowsFirst ? i / tile_.rows : i % 4;
    }

    Source source_;
    ConvTileRows tile_;
    int units_, pieces_;
    typename Source::Unit unit_[kUnits];
    bool held_[kUnits];
};

}  // namespace cuda
}  // namespace vk
