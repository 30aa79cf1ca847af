// Element types of activations and the valid range of a batch row.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace vk {
namespace cuda {

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(__half v) { return __half2float(v); }
__device__ __forceinline__ float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

template <typename T>
__device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
    return v;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float v) {
    return __float2half_rn(v);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
    return __float2bfloat16_rn(v);
}

// Four consecutive elements, 16 bytes of fp32 or 8 of a 16-bit type; the address is aligned to
// that.
__device__ __forceinline__ float4 load_float4(const float* p) {
    return *reinterpret_cast<const float4*>(p);
}
__device__ __forceinline__ float4 load_float4(const __half* p) {
    const uint2 raw = *reinterpret_cast<const uint2*>(p);
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&raw.x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&raw.y));
    return make_float4(low.x, low.y, high.x, high.y);
}
__device__ __forceinline__ float4 load_float4(const __nv_bfloat16* p) {
    const uint2 raw = *reinterpret_cast<const uint2*>(p);
    return make_float4(__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xffff0000u),
                       __uint_as_float(raw.y << 16), __uint_as_float(raw.y & 0xffff0000u));
}

// max(x, slope * x) is leaky ReLU for slopes in [0, 1] and compiles to two instructions.
__device__ __forceinline__ float leaky_relu(float x, float slope) { return fmaxf(x, slope * x); }

// Rows [first, last) of one batch row that hold data; everything outside is the layer's padding.
struct RowRange {
    int first, last;
};

__device__ __forceinline__ RowRange valid_rows(const int32_t* ranges, int b, int scale, int extra) {
    const int start = ranges[2 * b];
    const int end = ranges[2 * b + 1];
    // An empty range stays empty whatever extra is.
    return {start * scale, end > start ? end * scale + extra : start * scale};
}

}  // namespace cuda
}  // namespace vk
