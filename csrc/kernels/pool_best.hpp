// The largest value so far and its cell, lane by lane, and one row of touching windows of 2 x 2: what the max pool and
// the convolution that pools share, so that both choose the same cell.
#pragma once
#include "kernels/pool.hpp"

namespace pfn::PFN_ISA {

// Whole numbers as wide as T, which comparisons of vectors give; and a vector's worth of bytes.
template <class T>
using Codes = decltype(Vec<T>{} > Vec<T>{});
template <class T>
using Code = decltype(Codes<T>{}[0] + 0);
template <class T>
struct ByteTypes {
  typedef std::uint8_t type __attribute__((vector_size(kLanes<T>)));
  typedef std::uint8_t unaligned __attribute__((vector_size(kLanes<T>), aligned(1), may_alias));
};
template <class T>
using Bytes = typename ByteTypes<T>::type;

// The low bytes of numbers. Written as a conversion of vectors the compiler would take them out one by one.
#if defined(PFN_ISA_AVX512)
static PFN_ALWAYS_INLINE __m128i low_bytes(Codes<float> codes) { return _mm512_cvtepi32_epi8((__m512i)codes); }
static PFN_ALWAYS_INLINE __m128i low_bytes(Codes<double> codes) { return _mm512_cvtepi64_epi8((__m512i)codes); }

template <class T>
static PFN_ALWAYS_INLINE void store_codes(std::uint8_t* p, Codes<T> codes, Whole) {
  const __m128i bytes = low_bytes(codes);
  __builtin_memcpy(p, &bytes, kLanes<T>);
}
template <class T>
static PFN_ALWAYS_INLINE void store_codes(std::uint8_t* p, Codes<T> codes, Part part) {
  _mm_mask_storeu_epi8(p, low_mask_f(part.count), low_bytes(codes));
}
#else
template <class T>
static PFN_ALWAYS_INLINE void store_codes(std::uint8_t* p, Codes<T> codes, Whole) {
  *reinterpret_cast<typename ByteTypes<T>::unaligned*>(p) = __builtin_convertvector(codes, Bytes<T>);
}
template <class T>
static PFN_ALWAYS_INLINE void store_codes(std::uint8_t* p, Codes<T> codes, Part part) {
  const Bytes<T> bytes = __builtin_convertvector(codes, Bytes<T>);
  for (std::int64_t k = 0; k < part.count; ++k) p[k] = bytes[k];
}
#endif

// The largest value so far, and its cell.
template <class T>
struct Best {
  Vec<T> value;
  Codes<T> code;
};

// Takes `later` where it is larger, or NaN.
#if defined(PFN_ISA_AVX512)
static PFN_ALWAYS_INLINE void take(Best<float>& best, VecF later, Codes<float> code) {
  const __m512 v = (__m512)later, old = (__m512)best.value;
  const __mmask16 taken = _mm512_cmp_ps_mask(v, old, _CMP_GT_OQ) | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  best.value = (VecF)_mm512_mask_mov_ps(old, taken, v);
  best.code = (Codes<float>)_mm512_mask_mov_epi32((__m512i)best.code, taken, (__m512i)code);
}
static PFN_ALWAYS_INLINE void take(Best<double>& best, VecD later, Codes<double> code) {
  const __m512d v = (__m512d)later, old = (__m512d)best.value;
  const __mmask8 taken = _mm512_cmp_pd_mask(v, old, _CMP_GT_OQ) | _mm512_cmp_pd_mask(v, v, _CMP_UNORD_Q);
  best.value = (VecD)_mm512_mask_mov_pd(old, taken, v);
  best.code = (Codes<double>)_mm512_mask_mov_epi64((__m512i)best.code, taken, (__m512i)code);
}
#else
template <class T, class V>
static PFN_ALWAYS_INLINE void take(Best<T>& best, V later, Codes<T> code) {
  const Codes<T> taken = (later > best.value) | (later != later);
  best.value = taken ? later : best.value;
  best.code = taken ? code : best.code;
}
#endif

// A row of windows of 2 x 2 that touch: `x` is their first row of pixels.
template <class T>
static void halve_row(const PoolShape& s, const T* x, T* y, std::uint8_t* index) {
  const std::int64_t c = s.c, below = s.w * s.c;
  const Codes<T> zero = {};
  for (std::int64_t q = 0; q < s.out_w; ++q, x += 2 * c, y += c, index += c) {
    for_channels<T>(c, [&](std::int64_t k, auto extent) {
      const T* p = x + k;
      Best<T> best{load_at(p, extent), zero}, low{load_at(p + below, extent), zero + 2};
      take(best, load_at(p + c, extent), zero + 1);
      take(low, load_at(p + below + c, extent), zero + 3);
      take(best, low.value, low.code);
      store_at(y + k, best.value, extent);
      store_codes<T>(index + k, best.code, extent);
    });
  }
}

}  // namespace pfn::PFN_ISA
