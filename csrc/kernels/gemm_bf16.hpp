// The pieces of a product of bfloat16 numbers on AVX512-BF16: pairs of k, panels, and the microkernel.
//
// A pair is one 32-bit word: the numbers of an even k (low half) and the next one. vdpbf16ps multiplies 16 pairs and
// adds both products to 16 float32 sums, at the price of one fused multiply-add.
//
//   A   rows of pairs a[m][k/2] (nn, nt), or rows of k: a[k/2][m] (tn); float32 is rounded on the way
//   B   panels as in gemm_pack.hpp, one row of nv vectors for each pair of k
//
// Rounding is to nearest even; numbers below 2^-126 become zero, on the way in as in every sum (the instruction's
// rule). An odd k is padded with zero. Only functions marked PFN_BF16 use the instructions, and nothing may call them
// unless the processor has AVX512-BF16, which AVX-512 does not imply.
#pragma once
#include "kernels/gemm_plan.hpp"
#include "kernels/transpose.hpp"

#if defined(PFN_ISA_AVX512)

#define PFN_BF16 __attribute__((target("avx512bf16")))

namespace pfn::PFN_ISA {

using Pair = std::uint32_t;
constexpr std::int64_t kPairLanes = 16;

struct Bf16Tile {
  std::int64_t row_step, pair_step;  // of A, in pairs
  std::int64_t ldc;
  std::int64_t ld_add;  // row stride of `add`: 0 for a bias, ldc to add to what C holds
  std::int64_t pairs;
  std::int64_t last_count;  // columns in the panel's last vector, 1 .. 16
};
using Bf16Fn = void (*)(const Bf16Tile& t, const Pair* a, const Pair* b, float* c, const float* add);

// c(i, j) = sum over pairs of a(i, pair) . b(pair, j) + add(i, j), for MR rows and NV vectors of columns. Sums run over
// k in order from 0 whatever the tile: all tile shapes give the same bits.
template <int MR, int NV>
PFN_BF16 static void bf16_tile(const Bf16Tile& t, const Pair* a, const Pair* b, float* c, const float* add) {
  constexpr std::int64_t lanes = kPairLanes;
  const std::int64_t row_step = t.row_step;
  const std::int64_t pair_step = t.pair_step;
  __m512 acc[MR][NV];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) acc[i][j] = _mm512_setzero_ps();
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) _mm_prefetch(reinterpret_cast<const char*>(c + i * t.ldc + j * lanes), _MM_HINT_T0);
  for (std::int64_t p = t.pairs; p > 0; --p) {
    __m512bh bv[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) bv[j] = (__m512bh)_mm512_loadu_si512(b + j * lanes);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const __m512bh av = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[i * row_step]));
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) acc[i][j] = _mm512_dpbf16_ps(acc[i][j], av, bv[j]);
    }
    a += pair_step;
    b += NV * lanes;
  }
  const std::int64_t ldc = t.ldc;
  const std::int64_t ld_add = t.ld_add;
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      const std::int64_t count = j + 1 < NV ? lanes : t.last_count;
      VecF v = (VecF)acc[i][j];
      if (add) v += load_partial(add + i * ld_add + j * lanes, count);
      store_partial(c + i * ldc + j * lanes, v, count);
    }
  }
}

constexpr std::int64_t kBf16Rows[4] = {8, 8, 8, 6};

template <int NV>
static const Bf16Fn* bf16_tiles_of() {
  constexpr int seven = NV == 4 ? 6 : 7;  // 4 vectors: at most 6 rows, see kBf16Rows
  constexpr int eight = NV == 4 ? 6 : 8;
  static constexpr Bf16Fn fn[8] = {bf16_tile<1, NV>, bf16_tile<2, NV>, bf16_tile<3, NV>,     bf16_tile<4, NV>,
                                   bf16_tile<5, NV>, bf16_tile<6, NV>, bf16_tile<seven, NV>, bf16_tile<eight, NV>};
  return fn;
}
// The tiles of panels of nv vectors; index by rows - 1.
static inline const Bf16Fn* find_bf16_tiles(std::int64_t nv) {
  return nv == 4   ? bf16_tiles_of<4>()
         : nv == 3 ? bf16_tiles_of<3>()
         : nv == 2 ? bf16_tiles_of<2>()
                   : bf16_tiles_of<1>();
}

// Row stride in pairs: an odd number of cache lines, so that rows do not meet in one set of the cache.
static inline std::int64_t odd_lines(std::int64_t pairs) { return (div_up(pairs, kPairLanes) | 1) * kPairLanes; }

// Entries from `at` on of a row with `count` entries, zero behind its end.
static PFN_ALWAYS_INLINE VecF row_part(const float* row, std::int64_t at, std::int64_t count) {
  const std::int64_t left = count - at;
  if (left >= kPairLanes) return load<float>(row + at);
  return left > 0 ? load_partial(row + at, left) : splat(0.0f);
}

// 16 pairs along one row, from `at` on.
PFN_BF16 static inline __m512i pairs_along(const float* row, std::int64_t at, std::int64_t count) {
  return (__m512i)_mm512_cvtne2ps_pbh((__m512)row_part(row, at + kPairLanes, count), (__m512)row_part(row, at, count));
}

// 16 pairs across two rows.
PFN_BF16 static inline __m512i pairs_across(VecF even, VecF odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even));
}

// Rows [r0, r1) of a[.][k] to out[row][pair], with zeros up to a whole vector.
PFN_BF16 static void round_rows(const float* a, std::int64_t k, std::int64_t r0, std::int64_t r1, Pair* out,
                                std::int64_t ld) {
  for (std::int64_t r = r0; r < r1; ++r)
    for (std::int64_t at = 0; at < k; at += 2 * kPairLanes)
      _mm512_storeu_si512(out + r * ld + at / 2, pairs_along(a + r * k, at, k));
}

// Pairs [p0, p1) of a[k][m] to out[pair][m], with zeros up to a whole vector.
PFN_BF16 static void round_columns(const float* a, std::int64_t k, std::int64_t m, std::int64_t p0, std::int64_t p1,
                                   Pair* out, std::int64_t ld) {
  for (std::int64_t p = p0; p < p1; ++p) {
    const float* const even = a + 2 * p * m;
    for (std::int64_t j = 0; j < m; j += kPairLanes)
      _mm512_storeu_si512(out + p * ld + j,
                          pairs_across(row_part(even, j, m), 2 * p + 1 < k ? row_part(even + m, j, m) : splat(0.0f)));
  }
}

// Panels [p0, p1) of kc rows of B, a few at a time: a row is read from left to right and dealt out. Panel p stands at
// out + column(p) * pairs.
PFN_BF16 static void pack_pairs(const float* b, std::int64_t ldb, std::int64_t kc, const Panels<float>& panels,
                                std::int64_t p0, std::int64_t p1, Pair* out) {
  constexpr std::int64_t together = 4;
  const std::int64_t pairs = div_up(kc, 2);
  for (std::int64_t first = p0; first < p1; first += together) {
    const std::int64_t count = smaller(together, p1 - first);
    Pair* to[together];
    std::int64_t nv[together];
    for (std::int64_t i = 0; i < count; ++i) {
      to[i] = out + panels.column(first + i) * pairs;
      nv[i] = panels.nv(first + i);
    }
    const std::int64_t left = panels.column(first);
    const float* even = b + left;
    for (std::int64_t k = 0; k < kc; k += 2, even += 2 * ldb) {
      std::int64_t j = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        for (std::int64_t v = 0; v < nv[i]; ++v, j += kPairLanes)
          _mm512_storeu_si512(to[i] + v * kPairLanes,
                              pairs_across(row_part(even, j, panels.width - left),
                                           k + 1 < kc ? row_part(even + ldb, j, panels.width - left) : splat(0.0f)));
        to[i] += nv[i] * kPairLanes;
      }
    }
  }
}

// Panels [p0, p1) of B stored [n, k]: rows b + column * ldb, kc entries each.
PFN_BF16 static void pack_pairs_transposed(const float* b, std::int64_t ldb, std::int64_t kc,
                                           const Panels<float>& panels, std::int64_t p0, std::int64_t p1, Pair* out) {
  constexpr std::int64_t lanes = kPairLanes;
  const std::int64_t pairs = div_up(kc, 2);
  for (std::int64_t p = p0; p < p1; ++p) {
    const std::int64_t ld = panels.nv(p) * lanes;
    Pair* const panel = out + panels.column(p) * pairs;
    for (std::int64_t j = 0; j < panels.columns(p); j += lanes) {
      const std::int64_t rows = smaller(lanes, panels.columns(p) - j);
      const float* const from = b + (panels.column(p) + j) * ldb;
      for (std::int64_t q = 0; q < pairs; q += lanes) {
        VecF square[lanes];
#pragma GCC unroll 16
        for (std::int64_t i = 0; i < lanes; ++i)
          square[i] = i < rows ? (VecF)pairs_along(from + i * ldb, 2 * q, kc) : splat(0.0f);
        transpose<float>(square);  // moves words, computes nothing
        const std::int64_t count = smaller(lanes, pairs - q);
#pragma GCC unroll 16
        for (std::int64_t i = 0; i < lanes; ++i)
          if (i < count) _mm512_storeu_si512(panel + (q + i) * ld + j, (__m512i)square[i]);
      }
    }
  }
}

}  // namespace pfn::PFN_ISA

#endif
