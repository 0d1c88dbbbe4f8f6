// The kernel of nn and nt with few columns: k in the lanes. Both operands are read along k, so B is transposed first;
// nt has it so already.
//
//   bt (scratch): n rows, ld = k rounded up to lanes, and one vector more
//   a: MR rows, NC rows of bt:   for each vector of k:  acc[i][j] = fma(a(i), bt(j), acc[i][j])
//
// Lane l of an element sums the terms k = l, l + lanes, ... in order; then neighbouring lanes are added, pairs, fours,
// and so on. A product with a few rows gets the same bits without the transposed copy: multiply_dot_few keeps one
// accumulator for each lane and has columns in its own lanes. |error| <= (k / lanes + 6) u sum |a| |b|.
#pragma once
#include "kernels/gemm_deal.hpp"
#include "kernels/gemm_plan.hpp"
#include "kernels/transpose.hpp"

namespace pfn::PFN_ISA {

#if defined(PFN_ISA_AVX512)
constexpr int kDotColumns = 5;
template <class T>
constexpr std::int64_t kFlatColumns = kLanes<T> / 2;
#else
constexpr int kDotColumns = 2;
#endif
constexpr int kDotRows = 4;  // 8 for a single column, whose tile is short

// Lane i of the result is the sum of the lanes of v[i].
template <class T, int dist = 1>
static PFN_ALWAYS_INLINE Vec<T> add_lanes(Vec<T>* v) {
  constexpr int lanes = static_cast<int>(kLanes<T>);
#pragma GCC unroll 16
  for (int i = 0; i < lanes; i += 2 * dist) {
    swap_blocks<T, dist>(v[i], v[i + dist], typename LanesUpTo<lanes>::type{});
    v[i] += v[i + dist];
  }
  if constexpr (2 * dist < lanes) return add_lanes<T, 2 * dist>(v);
  return v[0];
}

// Lanes first, first + 1, ... of `a` followed by `b`.
template <int first, class V, int... I>
static PFN_ALWAYS_INLINE V lanes_from(V a, V b, LaneList<I...>) {
  return __builtin_shufflevector(a, b, (first + I)...);
}

// Row i of C is entries i * NC .. of the sums, in registers: a load across two stores would wait for the cache.
template <class T, int MR, int NC, int i = 0>
static PFN_ALWAYS_INLINE void store_sums(const Vec<T>* sums, Vec<T> bias, T* c, std::int64_t ldc) {
  constexpr int lanes = static_cast<int>(kLanes<T>);
  constexpr int at = i * NC / lanes;
  const Vec<T> row = lanes_from<i * NC % lanes>(sums[at], sums[at + 1], typename LanesUpTo<lanes>::type{});
  store_low(c, row + bias, NC);
  if constexpr (i + 1 < MR) store_sums<T, MR, NC, i + 1>(sums, bias, c + ldc, ldc);
}

// Told to the compiler so that it does not load the vector again for every use: loads are the limit here.
template <class V>
static PFN_ALWAYS_INLINE void keep_loaded(V& v) {
#if defined(PFN_ISA_AVX512)
  __asm__("" : "+v"(v));
#elif defined(__x86_64__)
  __asm__("" : "+x"(v));
#else
  (void)v;
#endif
}

template <class T>
using DotFn = void (*)(const T* a, std::int64_t lda, const T* bt, std::int64_t ldb, std::int64_t k, const T* bias, T* c,
                       std::int64_t ldc);

// c(i, j) = a(i) . bt(j) + bias(j) for MR rows and NC columns.
template <class T, int MR, int NC>
static void dot_tile(const T* a, std::int64_t lda, const T* bt, std::int64_t ldb, std::int64_t k, const T* bias, T* c,
                     std::int64_t ldc) {
  constexpr int lanes = static_cast<int>(kLanes<T>);
  constexpr int count = MR * NC;
  Vec<T> acc[count];
#pragma GCC unroll 32
  for (int i = 0; i < count; ++i) acc[i] = splat(T(0));
  for (; k >= lanes; k -= lanes, a += lanes, bt += lanes) {
    Vec<T> bv[NC];
#pragma GCC unroll 8
    for (int j = 0; j < NC; ++j) bv[j] = load<T>(bt + j * ldb);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      Vec<T> av = load<T>(a + i * lda);
      if constexpr (NC > 1) keep_loaded(av);
#pragma GCC unroll 8
      for (int j = 0; j < NC; ++j) acc[i * NC + j] = fma(av, bv[j], acc[i * NC + j]);
    }
  }
  if (k > 0) {
    Vec<T> bv[NC];
#pragma GCC unroll 8
    for (int j = 0; j < NC; ++j) bv[j] = load_partial(bt + j * ldb, k);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const Vec<T> av = load_partial(a + i * lda, k);
#pragma GCC unroll 8
      for (int j = 0; j < NC; ++j) acc[i * NC + j] = fma(av, bv[j], acc[i * NC + j]);
    }
  }
  Vec<T> sums[(count + lanes - 1) / lanes + 1];
#pragma GCC unroll 32
  for (int first = 0; first < count; first += lanes) {
    Vec<T> v[kLanes<T>];
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) v[i] = first + i < count ? acc[first + i < count ? first + i : 0] : splat(T(0));
    sums[first / lanes] = add_lanes<T>(v);
  }
  sums[(count + lanes - 1) / lanes] = splat(T(0));
  store_sums<T, MR, NC>(sums, load_partial(bias, NC), c, ldc);
}

template <class T, int MR>
static inline DotFn<T> dot_tile_of(std::int64_t columns) {
#if defined(PFN_ISA_AVX512)
  static constexpr DotFn<T> fn[kDotColumns] = {dot_tile<T, MR, 1>, dot_tile<T, MR, 2>, dot_tile<T, MR, 3>,
                                               dot_tile<T, MR, 4>, dot_tile<T, MR, 5>};
#else
  static constexpr DotFn<T> fn[kDotColumns] = {dot_tile<T, MR, 1>, dot_tile<T, MR, 2>};
#endif
  return fn[columns - 1];
}
template <class T>
static inline DotFn<T> find_dot_tile(std::int64_t rows, std::int64_t columns) {
  return rows == 8   ? dot_tile<T, 8, 1>
         : rows == 4 ? dot_tile_of<T, 4>(columns)
         : rows == 3 ? dot_tile_of<T, 3>(columns)
         : rows == 2 ? dot_tile_of<T, 2>(columns)
                     : dot_tile_of<T, 1>(columns);
}

template <class T>
static inline std::int64_t dot_ld(std::int64_t k) {
  return copied_lda<T>(k);
}

// Rows [m0, m1) of C = A @ B (+ bias). bt: the columns of B, ld apart: a transposed copy, or B itself.
template <class T>
static void multiply_dot(const Gemm<T>& g, const T* bt, std::int64_t ld, std::int64_t m0, std::int64_t m1) {
  const std::int64_t groups = div_up(g.n, kDotColumns);
  const std::int64_t low = g.n / groups;
  const std::int64_t higher = g.n - low * groups;  // so many groups have one column more
  const T no_bias[kDotColumns] = {};
  std::int64_t rows;
  for (std::int64_t i = m0; i < m1; i += rows) {
    rows = g.n == 1 && m1 - i >= 8 ? 8 : smaller(kDotRows, m1 - i);
    std::int64_t j = 0;
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t columns = low + (group < higher);
      find_dot_tile<T>(rows, columns)(g.a + i * g.k, g.k, bt + j * ld, ld, g.k, g.bias ? g.bias + j : no_bias,
                                      g.c + i * g.n + j, g.n);
      j += columns;
    }
  }
}

#if defined(PFN_ISA_AVX512)
// The same bits for up to half a vector of columns: B lies there as n vectors for each vector of k, lanes l * n + j.
template <class T>
static void multiply_dot_flat(const Gemm<T>& g, std::int64_t m0, std::int64_t m1) {
  constexpr std::int64_t lanes = kLanes<T>;
  const std::int64_t n = g.n;
  for (std::int64_t i = m0; i < m1; ++i) {
    alignas(64) T sums[lanes * (kFlatColumns<T> + 1)];
    for (std::int64_t v = 0; v < n; ++v) {
      const Deal deal(T(0), v, n);
      const T* a = g.a + i * g.k;
      const T* b = g.b + v * lanes;
      Vec<T> acc = splat(T(0));
      std::int64_t k = g.k;
      for (; k >= lanes; k -= lanes, a += lanes, b += n * lanes) acc = fma(deal.rows_of(load<T>(a)), load<T>(b), acc);
      if (k > 0) {
        const std::int64_t count = k * n - v * lanes;
        const Vec<T> last = load_partial(b, count < 0 ? 0 : smaller(count, lanes));
        acc = fma(deal.rows_of(load_partial(a, k)), last, acc);
      }
      store<T>(sums + v * lanes, acc);
    }
    Vec<T> acc[kLanes<T>];
#pragma GCC unroll 16
    for (std::int64_t l = 0; l < lanes; ++l) acc[l] = load<T>(sums + l * n);
#pragma GCC unroll 4
    for (std::int64_t dist = 1; dist < lanes; dist *= 2) {
#pragma GCC unroll 16
      for (std::int64_t l = 0; l < lanes; l += 2 * dist) acc[l] += acc[l + dist];
    }
    const Vec<T> bias = g.bias ? load_partial(g.bias, n) : splat(T(0));
    store_low(g.c + i * n, acc[0] + bias, n);
  }
}
#endif

// The same bits, columns in the lanes: nothing to transpose, but an accumulator for every lane of the sum.
template <class T>
static void multiply_dot_few(const Gemm<T>& g, std::int64_t m0, std::int64_t m1) {
  constexpr std::int64_t lanes = kLanes<T>;
#if defined(PFN_ISA_AVX512)
  if (g.n <= kFlatColumns<T>) return multiply_dot_flat(g, m0, m1);
#endif
  for (std::int64_t i = m0; i < m1; ++i) {
    for (std::int64_t j = 0; j < g.n; j += lanes) {
      const std::int64_t count = smaller(lanes, g.n - j);
      const T* a = g.a + i * g.k;
      const T* b = g.b + j;
      Vec<T> acc[kLanes<T>];
#pragma GCC unroll 16
      for (std::int64_t l = 0; l < lanes; ++l) acc[l] = splat(T(0));
      std::int64_t k = g.k;
      for (; k >= lanes; k -= lanes, a += lanes) {
#pragma GCC unroll 16
        for (std::int64_t l = 0; l < lanes; ++l, b += g.n) acc[l] = fma(splat(a[l]), load_partial(b, count), acc[l]);
      }
      if (k > 0) {
#pragma GCC unroll 16
        for (std::int64_t l = 0; l < lanes; ++l) {
          if (l < k)
            acc[l] = fma(splat(a[l]), load_partial(b + l * g.n, count), acc[l]);
          else
            acc[l] += splat(T(0));  // as dot_tile, which adds 0 * 0 there
        }
      }
#pragma GCC unroll 4
      for (std::int64_t dist = 1; dist < lanes; dist *= 2) {
#pragma GCC unroll 16
        for (std::int64_t l = 0; l < lanes; l += 2 * dist) acc[l] += acc[l + dist];
      }
      const Vec<T> bias = g.bias ? load_partial(g.bias + j, count) : splat(T(0));
      store_low(g.c + i * g.n + j, acc[0] + bias, count);
    }
  }
}

}  // namespace pfn::PFN_ISA
