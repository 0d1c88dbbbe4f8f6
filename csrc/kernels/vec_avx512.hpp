// Vector operations of AVX-512 F/BW/DQ/VL; included by vec.hpp only.
#pragma once
// GCC's own header makes undefined registers by "x = x" and then warns about them wherever they are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "PFN_ISA_AVX512 needs -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma"
#endif

namespace pfn::PFN_ISA {

static inline __mmask16 low_mask_f(std::int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }
static inline __mmask8 low_mask_d(std::int64_t count) { return static_cast<__mmask8>((1u << count) - 1u); }

// First `count` lanes, 0 <= count <= lanes; the others read as 0 and are not touched in memory.
static inline VecF load_partial(const float* p, std::int64_t count) {
  return (VecF)_mm512_maskz_loadu_ps(low_mask_f(count), p);
}
static inline VecD load_partial(const double* p, std::int64_t count) {
  return (VecD)_mm512_maskz_loadu_pd(low_mask_d(count), p);
}
static inline void store_partial(float* p, VecF v, std::int64_t count) {
  _mm512_mask_storeu_ps(p, low_mask_f(count), (__m512)v);
}
static inline void store_partial(double* p, VecD v, std::int64_t count) {
  _mm512_mask_storeu_pd(p, low_mask_d(count), (__m512d)v);
}

static inline VecF splat(float x) { return (VecF)_mm512_set1_ps(x); }
static inline VecD splat(double x) { return (VecD)_mm512_set1_pd(x); }

// a * b + c, rounded once.
static inline VecF fma(VecF a, VecF b, VecF c) { return (VecF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
static inline VecD fma(VecD a, VecD b, VecD c) { return (VecD)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
static inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }

// The second operand is returned when either is NaN: vmax(0, x) keeps a NaN in x, vmax(x, 0) would lose it.
static inline VecF vmax(VecF a, VecF b) { return (VecF)_mm512_max_ps((__m512)a, (__m512)b); }
static inline VecD vmax(VecD a, VecD b) { return (VecD)_mm512_max_pd((__m512d)a, (__m512d)b); }
static inline VecF vmin(VecF a, VecF b) { return (VecF)_mm512_min_ps((__m512)a, (__m512)b); }
static inline VecD vmin(VecD a, VecD b) { return (VecD)_mm512_min_pd((__m512d)a, (__m512d)b); }

static inline VecF vsqrt(VecF a) { return (VecF)_mm512_sqrt_ps((__m512)a); }
static inline VecD vsqrt(VecD a) { return (VecD)_mm512_sqrt_pd((__m512d)a); }

// A vector's worth of bytes as floats.
static inline VecF load_bytes(const std::uint8_t* p, float) {
  return (VecF)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static inline VecD load_bytes(const std::uint8_t* p, double) {
  return (VecD)_mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

}  // namespace pfn::PFN_ISA
