// Fixed-width float vectors for one instruction set per translation unit.
//
// A kernel source is compiled once per instruction set with VK_ISA set to the namespace it lives in
// (avx512, avx2 or generic). V is the number of float lanes and the channel block of the layout.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#ifndef VK_ISA
#error "compile with -DVK_ISA=avx512, avx2 or generic"
#endif

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(_MSC_VER)
#define VK_INLINE __forceinline
#define VK_NOINLINE __declspec(noinline)
#define VK_UNROLL
#elif defined(__clang__)
#define VK_INLINE inline __attribute__((always_inline))
#define VK_NOINLINE __attribute__((noinline))
#define VK_UNROLL _Pragma("unroll")
#else
#define VK_INLINE inline __attribute__((always_inline))
#define VK_NOINLINE __attribute__((noinline))
#define VK_UNROLL _Pragma("GCC unroll 64")
#endif

namespace vk {
namespace VK_ISA {

// Fetches a line into L1, or into L2 alone.
inline void prefetch_near(const float* p) {
#if defined(__AVX512F__) || defined(__AVX2__)
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
#elif defined(__GNUC__)
    __builtin_prefetch(p);
#else
    (void)p;
#endif
}
inline void prefetch_far(const float* p) {
#if defined(__AVX512F__) || defined(__AVX2__)
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1);
#elif defined(__GNUC__)
    __builtin_prefetch(p, 0, 2);
#else
    (void)p;
#endif
}

#if defined(__AVX512F__)
constexpr int V = 16;
using vec = __m512;
inline vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, vec a) { _mm512_storeu_ps(p, a); }
inline vec set1(float a) { return _mm512_set1_ps(a); }
inline vec fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
inline vec fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
inline vec max(vec a, vec b) { return _mm512_max_ps(a, b); }
inline vec min(vec a, vec b) { return _mm512_min_ps(a, b); }
inline vec round(vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
inline float sum(vec a) { return _mm512_reduce_add_ps(a); }
#elif defined(__AVX2__)
constexpr int V = 8;
using vec = __m256;
inline vec load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, vec a) { _mm256_storeu_ps(p, a); }
inline vec set1(float a) { return _mm256_set1_ps(a); }
inline vec fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
inline vec fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
inline vec max(vec a, vec b) { return _mm256_max_ps(a, b); }
inline vec min(vec a, vec b) { return _mm256_min_ps(a, b); }
inline vec round(vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT); }
inline float sum(vec a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
#else
constexpr int V = 8;
struct vec {
    float lane[V];
};
#define VK_LANES(expression)      \
    vec r;                        \
    for (int i = 0; i < V; ++i)   \
        r.lane[i] = (expression); \
    return r
inline vec load(const float* p) { VK_LANES(p[i]); }
inline void store(float* p, vec a) { std::memcpy(p, a.lane, sizeof a.lane); }
inline vec set1(float a) { VK_LANES(a); }
inline vec fma(vec a, vec b, vec c) { VK_LANES(a.lane[i] * b.lane[i] + c.lane[i]); }
inline vec fnma(vec a, vec b, vec c) { VK_LANES(c.lane[i] - a.lane[i] * b.lane[i]); }
inline vec max(vec a, vec b) { VK_LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
inline vec min(vec a, vec b) { VK_LANES(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
inline vec round(vec a) { VK_LANES(std::nearbyint(a.lane[i])); }
inline vec operator+(vec a, vec b) { VK_LANES(a.lane[i] + b.lane[i]); }
inline vec operator-(vec a, vec b) { VK_LANES(a.lane[i] - b.lane[i]); }
inline vec operator*(vec a, vec b) { VK_LANES(a.lane[i] * b.lane[i]); }
inline float sum(vec a) {
    float s = 0;
    for (int i = 0; i < V; ++i)
        s += a.lane[i];
    return s;
}
#undef VK_LANES
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#if defined(__AVX512F__)
inline vec operator+(vec a, vec b) { return _mm512_add_ps(a, b); }
inline vec operator-(vec a, vec b) { return _mm512_sub_ps(a, b); }
inline vec operator*(vec a, vec b) { return _mm512_mul_ps(a, b); }
#elif defined(__AVX2__)
inline vec operator+(vec a, vec b) { return _mm256_add_ps(a, b); }
inline vec operator-(vec a, vec b) { return _mm256_sub_ps(a, b); }
inline vec operator*(vec a, vec b) { return _mm256_mul_ps(a, b); }
#endif
#endif

}  // namespace VK_ISA
}  // namespace vk
