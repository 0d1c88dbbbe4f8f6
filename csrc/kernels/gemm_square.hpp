// Squares of lanes x lanes read transposed: square[k] lane j = from[j * ldb + k].
//
// Rows are read in pieces of 16 bytes, put where the last stages of the transpose would have moved them: what is left
// happens inside pieces, with half the shuffles of a transpose in registers.
//
//   float, 16 lanes, columns 4c .. 4c+3:   x[r] = | row r | row 4+r | row 8+r | row 12+r |   then 4 x 4 in each piece
#pragma once
#include "kernels/gemm_plan.hpp"
#include "kernels/transpose.hpp"

namespace pfn::PFN_ISA {

// p += step, told to the compiler so that it does not keep one address for each row, in registers it does not have.
template <class P>
static PFN_ALWAYS_INLINE void advance(P*& p, std::int64_t step) {
  p += step;
  __asm__("" : "+r"(p));
}

#if defined(PFN_ISA_AVX512) || defined(PFN_ISA_AVX2)

// The first `count` entries of a piece of 16 bytes, 1 or more; edge = false: all of them.
template <bool edge>
static PFN_ALWAYS_INLINE __m128 read_piece(const float* p, std::int64_t count) {
  if constexpr (!edge) return _mm_loadu_ps(p);
#if defined(PFN_ISA_AVX512)
  return _mm_maskz_loadu_ps(static_cast<__mmask8>((1u << smaller(count, 4)) - 1u), p);
#else
  if (count >= 4) return _mm_loadu_ps(p);
  const float last = count > 2 ? p[2] : 0.0f;
  return _mm_setr_ps(p[0], count > 1 ? p[1] : 0.0f, last, 0.0f);
#endif
}
template <bool edge>
static PFN_ALWAYS_INLINE __m128d read_piece(const double* p, std::int64_t count) {
  if constexpr (!edge) return _mm_loadu_pd(p);
  return count >= 2 ? _mm_loadu_pd(p) : _mm_load_sd(p);
}

#if defined(PFN_ISA_AVX512)
static PFN_ALWAYS_INLINE VecF join(__m128 a, __m128 b, __m128 c, __m128 d) {
  return (VecF)_mm512_insertf32x4(_mm512_insertf32x4(_mm512_insertf32x4(_mm512_castps128_ps512(a), b, 1), c, 2), d, 3);
}
static PFN_ALWAYS_INLINE VecD join(__m128d a, __m128d b, __m128d c, __m128d d) {
  return (VecD)_mm512_insertf64x2(_mm512_insertf64x2(_mm512_insertf64x2(_mm512_castpd128_pd512(a), b, 1), c, 2), d, 3);
}
#else
static PFN_ALWAYS_INLINE VecF join(__m128 a, __m128 b) {
  return (VecF)_mm256_insertf128_ps(_mm256_castps128_ps256(a), b, 1);
}
static PFN_ALWAYS_INLINE VecD join(__m128d a, __m128d b) {
  return (VecD)_mm256_insertf128_pd(_mm256_castpd128_pd256(a), b, 1);
}
#endif

// In each piece of 16 bytes, blocks of W entries of a and b by turns: from the lower half of the piece, or the upper.
template <class T, int W, bool high, int... I>
static PFN_ALWAYS_INLINE Vec<T> zip(Vec<T> a, Vec<T> b, LaneList<I...>) {
  constexpr int P = 16 / static_cast<int>(sizeof(T));
  constexpr int lanes = static_cast<int>(kLanes<T>);
  return __builtin_shufflevector(
      a, b, ((I % P / W % 2) * lanes + I / P * P + ((high ? P / (2 * W) : 0) + I % P / W / 2) * W + I % W)...);
}

// Where the rows of a square begin. Four pointers and one stride make all addresses: sixteen would not fit registers.
template <class T>
struct SquareRows {
  static constexpr int kPieces = 16 / static_cast<int>(sizeof(T));
  static constexpr int kRows = static_cast<int>(kLanes<T>);
  const T* from[kRows / kPieces];
  std::int64_t ldb;

  PFN_ALWAYS_INLINE SquareRows(const T* first, std::int64_t stride) : ldb(stride) {
#pragma GCC unroll 4
    for (int q = 0; q < kRows / kPieces; ++q) {
      from[q] = first;
      advance(first, kPieces * stride);
    }
  }
  template <bool edge>
  PFN_ALWAYS_INLINE auto piece(int q, int r, std::int64_t column, std::int64_t cols) const {
    return read_piece<edge>(from[q] + r * ldb + column, cols);
  }
};

// The same for a square with fewer rows: the last is read again for those that are missing.
template <class T>
struct FewSquareRows {
  static constexpr int kPieces = 16 / static_cast<int>(sizeof(T));
  const T* from[kLanes<T>];

  PFN_ALWAYS_INLINE FewSquareRows(const T* first, std::int64_t stride, std::int64_t rows) {
    for (std::int64_t i = 0; i < kLanes<T>; ++i) from[i] = first + smaller(i, rows - 1) * stride;
  }
  template <bool edge>
  PFN_ALWAYS_INLINE auto piece(int q, int r, std::int64_t column, std::int64_t cols) const {
    return read_piece<edge>(from[q * kPieces + r] + column, cols);
  }
};

// Columns [column, column + 16 bytes) of the square, `cols` of them exist: x[0 .. P).
template <class T, bool edge, class Rows>
static PFN_ALWAYS_INLINE void read_columns(const Rows& rows, std::int64_t column, std::int64_t cols, Vec<T>* x) {
  constexpr int P = Rows::kPieces;
  using List = typename LanesUpTo<static_cast<int>(kLanes<T>)>::type;
#pragma GCC unroll 4
  for (int r = 0; r < P; ++r) {
#if defined(PFN_ISA_AVX512)
    x[r] = join(rows.template piece<edge>(0, r, column, cols), rows.template piece<edge>(1, r, column, cols),
                rows.template piece<edge>(2, r, column, cols), rows.template piece<edge>(3, r, column, cols));
#else
    x[r] = join(rows.template piece<edge>(0, r, column, cols), rows.template piece<edge>(1, r, column, cols));
#endif
  }
  if constexpr (P == 4) {
    const Vec<T> a = zip<T, 1, false>(x[0], x[1], List{}), b = zip<T, 1, true>(x[0], x[1], List{});
    const Vec<T> c = zip<T, 1, false>(x[2], x[3], List{}), d = zip<T, 1, true>(x[2], x[3], List{});
    x[0] = zip<T, 2, false>(a, c, List{});
    x[1] = zip<T, 2, true>(a, c, List{});
    x[2] = zip<T, 2, false>(b, d, List{});
    x[3] = zip<T, 2, true>(b, d, List{});
  } else {
    const Vec<T> a = zip<T, 1, false>(x[0], x[1], List{});
    x[1] = zip<T, 1, true>(x[0], x[1], List{});
    x[0] = a;
  }
}

template <class T, bool edge>
static PFN_ALWAYS_INLINE void read_square(const T* from, std::int64_t ldb, std::int64_t rows, std::int64_t cols,
                                          Vec<T>* square) {
  constexpr int P = 16 / static_cast<int>(sizeof(T));
  constexpr int lanes = static_cast<int>(kLanes<T>);
  if (!edge || rows == lanes) {
    const SquareRows<T> all(from, ldb);
#pragma GCC unroll 4
    for (int c = 0; c < lanes; c += P) {
      if (edge && c >= cols) {
#pragma GCC unroll 4
        for (int s = 0; s < P; ++s) square[c + s] = splat(T(0));
        continue;
      }
      read_columns<T, edge>(all, c, cols - c, square + c);
    }
  } else {
    const FewSquareRows<T> few(from, ldb, rows);
#pragma GCC unroll 4
    for (int c = 0; c < lanes; c += P) {
      if (edge && c >= cols) {
#pragma GCC unroll 4
        for (int s = 0; s < P; ++s) square[c + s] = splat(T(0));
        continue;
      }
      read_columns<T, edge>(few, c, cols - c, square + c);
    }
  }
}

#else

template <class T, bool edge>
static PFN_ALWAYS_INLINE void read_square(const T* from, std::int64_t ldb, std::int64_t rows, std::int64_t cols,
                                          Vec<T>* square) {
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < kLanes<T>; ++i) {
    square[i] = edge ? load_partial(from, cols) : load<T>(from);
    if (!edge || i + 1 < rows) advance(from, ldb);
  }
  transpose<T>(square);
}

#endif

}  // namespace pfn::PFN_ISA
