// nt with a few rows: B is transposed in registers on its way into the sums and never stored.
//
//   columns of C in the lanes; for each 16 bytes of k: that piece of a vector's worth of rows of B, transposed
//   (gemm_square.hpp), then for each k of it and each row i:  acc[i][g] = fma(a(i, k), square[k], acc[i][g])
//
// Every element is the chain of gemm_micro.hpp: the same bits.
#pragma once
#include "kernels/gemm_micro.hpp"
#include "kernels/gemm_square.hpp"

#if !defined(PFN_ISA_GENERIC)

namespace pfn::PFN_ISA {

// Groups of columns summed side by side: one chain of fused multiply-adds alone would wait for each.
constexpr int few_groups(int rows) { return rows <= 2 ? 2 : 1; }

template <class T, int MR, int NG, bool edge, class Rows>
static PFN_ALWAYS_INLINE void few_terms(const Rows& rows, std::int64_t k, std::int64_t terms, const T* a,
                                        std::int64_t lda, Vec<T> (&acc)[MR][NG], int g) {
  constexpr int P = Rows::kPieces;
  Vec<T> x[P];
  read_columns<T, edge>(rows, k, terms, x);
#pragma GCC unroll 4
  for (int s = 0; s < P; ++s) {
    if (edge && s >= terms) break;
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) acc[i][g] = fma(splat(a[i * lda + k + s]), x[s], acc[i][g]);
  }
}

// Columns of NG whole vectors, or fewer than one (whole = false: `count` of them), one block of kc terms.
template <class T, int MR, int NG, bool whole>
static void few_tile(const T* a, std::int64_t lda, const T* b, std::int64_t ldb, std::int64_t kc, std::int64_t count,
                     T* c, std::int64_t ldc, bool add) {
  constexpr std::int64_t lanes = kLanes<T>;
  constexpr std::int64_t P = 16 / static_cast<std::int64_t>(sizeof(T));
  Vec<T> acc[MR][NG];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int g = 0; g < NG; ++g) acc[i][g] = splat(T(0));
  if constexpr (whole) {
    std::int64_t k = 0;
    for (; k + lanes <= kc; k += lanes) {  // a row's line is used up before the next group can push it out
#pragma GCC unroll 4
      for (int g = 0; g < NG; ++g) {
        const SquareRows<T> rows(b + g * lanes * ldb, ldb);
#pragma GCC unroll 4
        for (std::int64_t p = 0; p < lanes; p += P) few_terms<T, MR, NG, false>(rows, k + p, P, a, lda, acc, g);
      }
    }
    for (; k < kc; k += P) {
#pragma GCC unroll 4
      for (int g = 0; g < NG; ++g)
        few_terms<T, MR, NG, true>(SquareRows<T>(b + g * lanes * ldb, ldb), k, kc - k, a, lda, acc, g);
    }
  } else {
    const FewSquareRows<T> rows(b, ldb, count);
    std::int64_t k = 0;
    for (; k + P <= kc; k += P) few_terms<T, MR, NG, false>(rows, k, P, a, lda, acc, 0);
    if (k < kc) few_terms<T, MR, NG, true>(rows, k, kc - k, a, lda, acc, 0);
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int g = 0; g < NG; ++g) {
      T* const to = c + i * ldc + g * lanes;
      if constexpr (whole)
        store<T>(to, add ? acc[i][g] + load<T>(to) : acc[i][g]);
      else
        store_low(to, add ? acc[i][g] + load_partial(to, count) : acc[i][g], count);
    }
  }
}

// Columns [n0, n1) of C = A @ B.T, g.m = MR rows, one block of k.
template <class T, int MR>
static void few_rows(const Gemm<T>& g, std::int64_t k0, std::int64_t kc, std::int64_t n0, std::int64_t n1) {
  constexpr std::int64_t lanes = kLanes<T>;
  constexpr int NG = few_groups(MR);
  const T* const a = g.a + k0;
  std::int64_t j = n0;
  for (; j + NG * lanes <= n1; j += NG * lanes)
    few_tile<T, MR, NG, true>(a, g.k, g.b + j * g.k + k0, g.k, kc, 0, g.c + j, g.n, k0 > 0);
  if constexpr (NG > 1)
    for (; j + lanes <= n1; j += lanes)
      few_tile<T, MR, 1, true>(a, g.k, g.b + j * g.k + k0, g.k, kc, 0, g.c + j, g.n, k0 > 0);
  if (j < n1) few_tile<T, MR, 1, false>(a, g.k, g.b + j * g.k + k0, g.k, kc, n1 - j, g.c + j, g.n, k0 > 0);
}

template <class T>
static void multiply_few(const Gemm<T>& g, std::int64_t k0, std::int64_t kc, std::int64_t n0, std::int64_t n1) {
  switch (g.m) {
    case 1:
      return few_rows<T, 1>(g, k0, kc, n0, n1);
    case 2:
      return few_rows<T, 2>(g, k0, kc, n0, n1);
    case 3:
      return few_rows<T, 3>(g, k0, kc, n0, n1);
    case 4:
      return few_rows<T, 4>(g, k0, kc, n0, n1);
    case 5:
      return few_rows<T, 5>(g, k0, kc, n0, n1);
    default:
      return few_rows<T, 6>(g, k0, kc, n0, n1);
  }
}

}  // namespace pfn::PFN_ISA

#endif
