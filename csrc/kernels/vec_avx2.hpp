// Vector operations of AVX2 with FMA; included by vec.hpp only.
#pragma once
#include <immintrin.h>

#if !defined(__AVX2__) || !defined(__FMA__)
#error "PFN_ISA_AVX2 needs -mavx2 -mfma"
#endif

namespace pfn::PFN_ISA {

// A window of 8 (or 4) entries that starts `count` before the zeros has its first `count` lanes set.
alignas(32) static constexpr std::int32_t kMaskWindowF[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
alignas(32) static constexpr std::int64_t kMaskWindowD[8] = {-1, -1, -1, -1, 0, 0, 0, 0};

static inline __m256i low_mask_f(std::int64_t count) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMaskWindowF + 8 - count));
}
static inline __m256i low_mask_d(std::int64_t count) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMaskWindowD + 4 - count));
}

// First `count` lanes, 0 <= count <= lanes; the others read as 0 and are not touched in memory.
static inline VecF load_partial(const float* p, std::int64_t count) {
  return (VecF)_mm256_maskload_ps(p, low_mask_f(count));
}
static inline VecD load_partial(const double* p, std::int64_t count) {
  return (VecD)_mm256_maskload_pd(p, low_mask_d(count));
}
static inline void store_partial(float* p, VecF v, std::int64_t count) {
  _mm256_maskstore_ps(p, low_mask_f(count), (__m256)v);
}
static inline void store_partial(double* p, VecD v, std::int64_t count) {
  _mm256_maskstore_pd(p, low_mask_d(count), (__m256d)v);
}

static inline VecF splat(float x) { return (VecF)_mm256_set1_ps(x); }
static inline VecD splat(double x) { return (VecD)_mm256_set1_pd(x); }

// a * b + c, rounded once.
static inline VecF fma(VecF a, VecF b, VecF c) { return (VecF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
static inline VecD fma(VecD a, VecD b, VecD c) { return (VecD)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
static inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }

// The second operand is returned when either is NaN: vmax(0, x) keeps a NaN in x, vmax(x, 0) would lose it.
static inline VecF vmax(VecF a, VecF b) { return (VecF)_mm256_max_ps((__m256)a, (__m256)b); }
static inline VecD vmax(VecD a, VecD b) { return (VecD)_mm256_max_pd((__m256d)a, (__m256d)b); }
static inline VecF vmin(VecF a, VecF b) { return (VecF)_mm256_min_ps((__m256)a, (__m256)b); }
static inline VecD vmin(VecD a, VecD b) { return (VecD)_mm256_min_pd((__m256d)a, (__m256d)b); }

static inline VecF vsqrt(VecF a) { return (VecF)_mm256_sqrt_ps((__m256)a); }
static inline VecD vsqrt(VecD a) { return (VecD)_mm256_sqrt_pd((__m256d)a); }

// A vector's worth of bytes as floats.
static inline VecF load_bytes(const std::uint8_t* p, float) {
  return (VecF)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
static inline VecD load_bytes(const std::uint8_t* p, double) {
  std::int32_t four;
  __builtin_memcpy(&four, p, sizeof(four));
  return (VecD)_mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
}

}  // namespace pfn::PFN_ISA
