// Vector operations in the compiler's own vector extensions, 16 bytes wide: the baseline of every processor. No
// intrinsics, and no fused multiply-add: fma is a product and a sum, never libm's software version. Included by vec.hpp
// only.
#pragma once

namespace pfn::PFN_ISA {

// First `count` lanes, 0 <= count <= lanes; the others read as 0 and are not touched in memory.
template <class T>
static inline Vec<T> load_partial(const T* p, std::int64_t count) {
  T lane[kLanes<T>] = {};
  for (std::int64_t i = 0; i < count; ++i) lane[i] = p[i];
  return load<T>(lane);
}
template <class T, class V>
static inline void store_partial(T* p, V v, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) p[i] = v[i];
}

static inline VecF splat(float x) { return VecF{x, x, x, x}; }
static inline VecD splat(double x) { return VecD{x, x}; }

// a * b + c, rounded twice.
static inline VecF fma(VecF a, VecF b, VecF c) { return a * b + c; }
static inline VecD fma(VecD a, VecD b, VecD c) { return a * b + c; }
static inline float fma(float a, float b, float c) { return a * b + c; }
static inline double fma(double a, double b, double c) { return a * b + c; }

// The second operand is returned when either is NaN: vmax(0, x) keeps a NaN in x, vmax(x, 0) would lose it.
static inline VecF vmax(VecF a, VecF b) { return a > b ? a : b; }
static inline VecD vmax(VecD a, VecD b) { return a > b ? a : b; }
static inline VecF vmin(VecF a, VecF b) { return a < b ? a : b; }
static inline VecD vmin(VecD a, VecD b) { return a < b ? a : b; }

static inline VecF vsqrt(VecF a) {
  return VecF{__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}
static inline VecD vsqrt(VecD a) { return VecD{__builtin_sqrt(a[0]), __builtin_sqrt(a[1])}; }

// A vector's worth of bytes as floats.
static inline VecF load_bytes(const std::uint8_t* p, float) {
  const VecI32 whole = {p[0], p[1], p[2], p[3]};
  return __builtin_convertvector(whole, VecF);
}
static inline VecD load_bytes(const std::uint8_t* p, double) {
  return VecD{static_cast<double>(p[0]), static_cast<double>(p[1])};
}

}  // namespace pfn::PFN_ISA
