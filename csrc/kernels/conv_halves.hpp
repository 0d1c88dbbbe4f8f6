// Vectors of the sparse sums behind a max pool: whole ones, or halves where a run of channels is short: those waste
// fewer lanes and cross fewer cache lines.
#pragma once
#include "kernels/gemm_micro.hpp"

namespace pfn::PFN_ISA {

template <class T, bool half>
struct HalfVec {
  using type = Vec<T>;
  static constexpr std::int64_t lanes = kLanes<T>;
  static PFN_ALWAYS_INLINE type all(T x) { return splat(x); }
  static PFN_ALWAYS_INLINE type read(const T* p) { return load<T>(p); }
  static PFN_ALWAYS_INLINE void write(T* p, type v) { store<T>(p, v); }
  static PFN_ALWAYS_INLINE void write_low(T* p, type v, std::int64_t count) { store_low(p, v, count); }
  static PFN_ALWAYS_INLINE type mul_add(type a, type b, type c) { return fma(a, b, c); }
};

#if defined(PFN_ISA_AVX512)
constexpr int kHalves = 3;  // most halves of a run
template <>
struct HalfVec<float, true> {
  using type = __m256;
  static constexpr std::int64_t lanes = 8;
  static PFN_ALWAYS_INLINE type all(float x) { return _mm256_set1_ps(x); }
  static PFN_ALWAYS_INLINE type read(const float* p) { return _mm256_loadu_ps(p); }
  static PFN_ALWAYS_INLINE void write(float* p, type v) { _mm256_storeu_ps(p, v); }
  static PFN_ALWAYS_INLINE void write_low(float* p, type v, std::int64_t count) {
    _mm256_mask_storeu_ps(p, static_cast<__mmask8>(low_mask_f(count)), v);
  }
  static PFN_ALWAYS_INLINE type mul_add(type a, type b, type c) { return _mm256_fmadd_ps(a, b, c); }
};
template <>
struct HalfVec<double, true> {
  using type = __m256d;
  static constexpr std::int64_t lanes = 4;
  static PFN_ALWAYS_INLINE type all(double x) { return _mm256_set1_pd(x); }
  static PFN_ALWAYS_INLINE type read(const double* p) { return _mm256_loadu_pd(p); }
  static PFN_ALWAYS_INLINE void write(double* p, type v) { _mm256_storeu_pd(p, v); }
  static PFN_ALWAYS_INLINE void write_low(double* p, type v, std::int64_t count) {
    _mm256_mask_storeu_pd(p, low_mask_d(count), v);
  }
  static PFN_ALWAYS_INLINE type mul_add(type a, type b, type c) { return _mm256_fmadd_pd(a, b, c); }
};
#else
constexpr int kHalves = 0;  // there are none
#endif

}  // namespace pfn::PFN_ISA
