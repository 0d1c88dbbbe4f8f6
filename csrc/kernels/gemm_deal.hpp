// Lanes dealt out: the matter of a matrix with a few columns, whose rows lie one behind the other in vectors.
//
//   3 columns:   vector 0 | 00 01 02 10 11 12 ... |   vector 1 | ... |   vector 2 | ... |   16 rows in 3 vectors
#pragma once
#include "kernels/gemm_plan.hpp"

#if defined(PFN_ISA_AVX512)

namespace pfn::PFN_ISA {

// Lane i of vector v of `columns` entries to a row: its row, and the lanes of column j.
struct Deal {
  __m512i row, column;
  PFN_ALWAYS_INLINE Deal(float, std::int64_t v, std::int64_t columns) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i i = _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(16 * v)));
    const int part = static_cast<int>(65536 / columns + 1);
    row = _mm512_srli_epi32(_mm512_mullo_epi32(i, _mm512_set1_epi32(part)), 16);
    column = _mm512_sub_epi32(i, _mm512_mullo_epi32(row, _mm512_set1_epi32(static_cast<int>(columns))));
  }
  PFN_ALWAYS_INLINE Deal(double, std::int64_t v, std::int64_t columns) {
    const __m512i i = _mm512_add_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_set1_epi64(8 * v));
    row = _mm512_srli_epi64(_mm512_mullo_epi64(i, _mm512_set1_epi64(65536 / columns + 1)), 16);
    column = _mm512_sub_epi64(i, _mm512_mullo_epi64(row, _mm512_set1_epi64(columns)));
  }
  // Lane by lane, the entry of `a` that belongs to the lane's row.
  PFN_ALWAYS_INLINE VecF rows_of(VecF a) const { return (VecF)_mm512_permutexvar_ps(row, (__m512)a); }
  PFN_ALWAYS_INLINE VecD rows_of(VecD a) const { return (VecD)_mm512_permutexvar_pd(row, (__m512d)a); }
  PFN_ALWAYS_INLINE VecF add_column(VecF to, VecF from, std::int64_t j) const {
    const __mmask16 mine = _mm512_cmpeq_epi32_mask(column, _mm512_set1_epi32(static_cast<int>(j)));
    return (VecF)_mm512_mask_permutexvar_ps((__m512)to, mine, row, (__m512)from);
  }
  PFN_ALWAYS_INLINE VecD add_column(VecD to, VecD from, std::int64_t j) const {
    const __mmask8 mine = _mm512_cmpeq_epi64_mask(column, _mm512_set1_epi64(j));
    return (VecD)_mm512_mask_permutexvar_pd((__m512d)to, mine, row, (__m512d)from);
  }
};

}  // namespace pfn::PFN_ISA

#endif
