// The microkernel: one tile of C, MR rows by NV vectors, kept in registers over one block of k.
//
//             b: NV vectors a row, ldb apart      for each k:  load NV vectors of B,
//   a: MR   +-----------+-----------+---------+     for each row i:  broadcast a(i, k),
//   rows    | acc[0][0] | acc[0][1] | last[0] |       acc[i][j] = fma(a(i, k), b(k, j), acc[i][j])
//           | acc[1][0] |    ...    | last[1] |
//           +-----------+-----------+---------+     c(i, j) = acc[i][j]  (+ add(i, j))
//
// Every element is the fused (generic: rounded) chain over k in order, from 0, whatever the tile: all tile shapes give
// the same bits. A is read where it lies: row-strided a[i * lda + k] or k-strided a[k * lda + i].
//
// The last vector of a panel may have fewer columns than lanes. AVX-512 masks it, and takes a half-width vector where
// half the lanes are enough (it costs half the time). The others read B from a panel padded with zeros.
#pragma once
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

// Widest panel in vectors, and the most rows a tile of nv vectors may have without spilling a register.
#if defined(PFN_ISA_AVX512)
constexpr int kMaxVectors = 4;
constexpr int kMaxRows[kMaxVectors] = {8, 8, 8, 6};
constexpr bool kMasksTail = true;
#elif defined(PFN_ISA_AVX2)
constexpr int kMaxVectors = 2;
constexpr int kMaxRows[kMaxVectors] = {12, 6};
constexpr bool kMasksTail = false;
#else
constexpr int kMaxVectors = 2;
constexpr int kMaxRows[kMaxVectors] = {8, 4};
constexpr bool kMasksTail = false;
#endif

template <class T>
struct TileArgs {
  std::int64_t lda, ldb, ldc;
  std::int64_t ld_add;      // row stride of `add`: 0 for a bias, ldc to add to what C holds
  std::int64_t kc;          // terms of the sum
  std::int64_t last_count;  // columns in the panel's last vector, 1 .. lanes
};
template <class T>
using TileFn = void (*)(const TileArgs<T>& t, const T* a, const T* b, T* c, const T* add);

// Stores the first `count` lanes, 0 <= count <= lanes. Masked stores of AVX2 take tens of cycles: it stores halves.
#if defined(PFN_ISA_AVX2)
static PFN_ALWAYS_INLINE void store_low(float* p, VecF v, std::int64_t count) {
  if (count == kLanes<float>) {
    store<float>(p, v);
    return;
  }
  __m128 x = _mm256_castps256_ps128((__m256)v);
  if (count & 4) {
    _mm_storeu_ps(p, x);
    x = _mm256_extractf128_ps((__m256)v, 1);
    p += 4;
  }
  if (count & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), x);
    x = _mm_movehl_ps(x, x);
    p += 2;
  }
  if (count & 1) _mm_store_ss(p, x);
}
static PFN_ALWAYS_INLINE void store_low(double* p, VecD v, std::int64_t count) {
  if (count == kLanes<double>) {
    store<double>(p, v);
    return;
  }
  __m128d x = _mm256_castpd256_pd128((__m256d)v);
  if (count & 2) {
    _mm_storeu_pd(p, x);
    x = _mm256_extractf128_pd((__m256d)v, 1);
    p += 2;
  }
  if (count & 1) _mm_store_sd(p, x);
}
#else
template <class T, class V>
static PFN_ALWAYS_INLINE void store_low(T* p, V v, std::int64_t count) {
  if (count == kLanes<T>)
    store<T>(p, v);
  else
    store_partial(p, v, count);
}
#endif

// The last vector of a panel.
template <class T, bool half>
struct Last {
  using type = Vec<T>;
  static PFN_ALWAYS_INLINE type zero() { return splat(T(0)); }
  static PFN_ALWAYS_INLINE type low(Vec<T> v) { return v; }
  static PFN_ALWAYS_INLINE type all(T x) { return splat(x); }
  static PFN_ALWAYS_INLINE type mul_add(type a, type b, type c) { return fma(a, b, c); }
#if defined(PFN_ISA_AVX512)
  static PFN_ALWAYS_INLINE type read_b(const T* p, std::int64_t count) { return load_partial(p, count); }
#else
  static PFN_ALWAYS_INLINE type read_b(const T* p, std::int64_t) { return load<T>(p); }
#endif
  static PFN_ALWAYS_INLINE type read(const T* p, std::int64_t count) { return load_partial(p, count); }
  static PFN_ALWAYS_INLINE void write(T* p, type v, std::int64_t count) { store_low(p, v, count); }
};

#if defined(PFN_ISA_AVX512)
template <>
struct Last<float, true> {
  using type = __m256;
  static PFN_ALWAYS_INLINE __mmask8 mask(std::int64_t count) { return static_cast<__mmask8>((1u << count) - 1u); }
  static PFN_ALWAYS_INLINE type zero() { return _mm256_setzero_ps(); }
  static PFN_ALWAYS_INLINE type low(VecF v) { return _mm512_castps512_ps256((__m512)v); }
  static PFN_ALWAYS_INLINE type all(float x) { return _mm256_set1_ps(x); }
  static PFN_ALWAYS_INLINE type mul_add(type a, type b, type c) { return _mm256_fmadd_ps(a, b, c); }
  static PFN_ALWAYS_INLINE type read_b(const float* p, std::int64_t count) {
    return _mm256_maskz_loadu_ps(mask(count), p);
  }
  static PFN_ALWAYS_INLINE type read(const float* p, std::int64_t count) {
    return _mm256_maskz_loadu_ps(mask(count), p);
  }
  static PFN_ALWAYS_INLINE void write(float* p, type v, std::int64_t count) {
    _mm256_mask_storeu_ps(p, mask(count), v);
  }
};
template <>
struct Last<double, true> {
  using type = __m256d;
  static PFN_ALWAYS_INLINE __mmask8 mask(std::int64_t count) { return static_cast<__mmask8>((1u << count) - 1u); }
  static PFN_ALWAYS_INLINE type zero() { return _mm256_setzero_pd(); }
  static PFN_ALWAYS_INLINE type low(VecD v) { return _mm512_castpd512_pd256((__m512d)v); }
  static PFN_ALWAYS_INLINE type all(double x) { return _mm256_set1_pd(x); }
  static PFN_ALWAYS_INLINE type mul_add(type a, type b, type c) { return _mm256_fmadd_pd(a, b, c); }
  static PFN_ALWAYS_INLINE type read_b(const double* p, std::int64_t count) {
    return _mm256_maskz_loadu_pd(mask(count), p);
  }
  static PFN_ALWAYS_INLINE type read(const double* p, std::int64_t count) {
    return _mm256_maskz_loadu_pd(mask(count), p);
  }
  static PFN_ALWAYS_INLINE void write(double* p, type v, std::int64_t count) {
    _mm256_mask_storeu_pd(p, mask(count), v);
  }
};
#endif

template <class T, int MR, int NV, bool k_strided, bool half>
static void tile(const TileArgs<T>& t, const T* a, const T* b, T* c, const T* add) {
  constexpr int whole = NV - 1;
  constexpr std::int64_t lanes = kLanes<T>;
  using Tail = Last<T, half>;
  Vec<T> acc[MR][NV];  // [MR][whole] of them are used; no array of size 0 for NV = 1
  typename Tail::type last[MR];
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < whole; ++j) acc[i][j] = splat(T(0));
    last[i] = Tail::zero();
  }
  const std::int64_t lda = t.lda;
  const std::int64_t ldb = t.ldb;
  const std::int64_t count = t.last_count;
  for (std::int64_t k = t.kc; k > 0; --k) {
    Vec<T> bv[NV];
#pragma GCC unroll 4
    for (int j = 0; j < whole; ++j) bv[j] = load<T>(b + j * lanes);
    const typename Tail::type b_last = Tail::read_b(b + whole * lanes, count);
#pragma GCC unroll 32
    for (int i = 0; i < MR; ++i) {
      const T x = k_strided ? a[i] : a[i * lda];
      if constexpr (NV == 1) {  // a half vector alone: broadcasting to a whole one is twice the load
        last[i] = Tail::mul_add(Tail::all(x), b_last, last[i]);
        continue;
      }
      const Vec<T> av = splat(x);
#pragma GCC unroll 4
      for (int j = 0; j < whole; ++j) acc[i][j] = fma(av, bv[j], acc[i][j]);
      last[i] = Tail::mul_add(Tail::low(av), b_last, last[i]);
    }
    a += k_strided ? lda : 1;
    b += ldb;
  }
  const std::int64_t ldc = t.ldc;
  const std::int64_t ld_add = t.ld_add;
  if (add) {
#pragma GCC unroll 32
    for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < whole; ++j) acc[i][j] += load<T>(add + i * ld_add + j * lanes);
      last[i] += Tail::read(add + i * ld_add + whole * lanes, count);
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < whole; ++j) store<T>(c + i * ldc + j * lanes, acc[i][j]);
    Tail::write(c + i * ldc + whole * lanes, last[i], count);
  }
}

// The tiles of 1 .. kMaxRows[NV - 1] rows. Local tables: constant-initialised, no symbol other ISAs could share.
template <class T, int NV, bool k_strided, bool half>
static const TileFn<T>* tiles_of() {
#define PFN_TILE(MR) tile<T, (MR), NV, k_strided, half>
  if constexpr (kMaxRows[NV - 1] == 4) {
    static constexpr TileFn<T> fn[4] = {PFN_TILE(1), PFN_TILE(2), PFN_TILE(3), PFN_TILE(4)};
    return fn;
  } else if constexpr (kMaxRows[NV - 1] == 6) {
    static constexpr TileFn<T> fn[6] = {PFN_TILE(1), PFN_TILE(2), PFN_TILE(3), PFN_TILE(4), PFN_TILE(5), PFN_TILE(6)};
    return fn;
  } else if constexpr (kMaxRows[NV - 1] == 8) {
    static constexpr TileFn<T> fn[8] = {PFN_TILE(1), PFN_TILE(2), PFN_TILE(3), PFN_TILE(4),
                                        PFN_TILE(5), PFN_TILE(6), PFN_TILE(7), PFN_TILE(8)};
    return fn;
  } else {
    static_assert(kMaxRows[NV - 1] == 12, "add the table of this height");
    static constexpr TileFn<T> fn[12] = {PFN_TILE(1), PFN_TILE(2),  PFN_TILE(3),  PFN_TILE(4),
                                         PFN_TILE(5), PFN_TILE(6),  PFN_TILE(7),  PFN_TILE(8),
                                         PFN_TILE(9), PFN_TILE(10), PFN_TILE(11), PFN_TILE(12)};
    return fn;
  }
#undef PFN_TILE
}

template <class T, int NV>
static inline const TileFn<T>* tiles_of(bool k_strided, bool half) {
#if defined(PFN_ISA_AVX512)
  if (half) return k_strided ? tiles_of<T, NV, true, true>() : tiles_of<T, NV, false, true>();
#else
  (void)half;
#endif
  return k_strided ? tiles_of<T, NV, true, false>() : tiles_of<T, NV, false, false>();
}

// The table for panels of nv vectors; index it by rows - 1.
template <class T>
static inline const TileFn<T>* find_tiles(std::int64_t nv, bool k_strided, bool half) {
  switch (nv) {
    case 1:
      return tiles_of<T, 1>(k_strided, half);
#if defined(PFN_ISA_AVX512)
    case 3:
      return tiles_of<T, 3>(k_strided, half);
    case 4:
      return tiles_of<T, 4>(k_strided, half);
#endif
    default:
      return tiles_of<T, 2>(k_strided, half);
  }
}

}  // namespace pfn::PFN_ISA
