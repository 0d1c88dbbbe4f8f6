// The other microkernel, for tn with few columns: rows of C in the lanes. A is stored [k, m], so the lanes are
// contiguous; a panel of N = 10 columns would leave six lanes of sixteen idle.
//
//   a: NV vectors of rows, lda apart   for each k:  load NV vectors of A,
//   b: NC scalars, ldb apart           for each column j:  acc[j][v] = fma(a(k, v), b(k, j), acc[j][v])
//
// Every element is the chain of gemm_micro.hpp: the same bits. The accumulators are transposed on the way to C.
//
// Its operands are in the caches and its lanes are full, so memory is idle: each term asks for a bit of what the next
// step will gather (OpCall::ahead). A burst of requests per tile instead would wait for itself.
#pragma once
#include "kernels/gemm_deal.hpp"
#include "kernels/gemm_pack.hpp"

namespace pfn::PFN_ISA {

#if defined(PFN_ISA_AVX512)
constexpr int kMaxColumns = 12;
#elif defined(PFN_ISA_AVX2)
constexpr int kMaxColumns = 6;
#else
constexpr int kMaxColumns = 4;
#endif
constexpr int kRowVectors = 2;
constexpr int kGroups = 5;  // tiles of columns whose sums are transposed together

template <class T>
using RowsFn = void (*)(const T* a, std::int64_t lda, const T* b, std::int64_t ldb, std::int64_t kc, std::int64_t count,
                        T* acc, const char* wanted, std::int64_t stride);

// acc[j][row] of NV vectors of rows, the last with `count`, and NC columns.
template <class T, int NV, int NC>
static void rows_tile(const T* a, std::int64_t lda, const T* b, std::int64_t ldb, std::int64_t kc, std::int64_t count,
                      T* out, const char* wanted, std::int64_t stride) {
  Vec<T> acc[NC][NV];
#pragma GCC unroll 12
  for (int j = 0; j < NC; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) acc[j][v] = splat(T(0));
  for (std::int64_t k = kc; k > 0; --k) {
    Vec<T> av[NV];
#pragma GCC unroll 2
    for (int v = 0; v + 1 < NV; ++v) av[v] = load<T>(a + v * kLanes<T>);
    av[NV - 1] = load_partial(a + (NV - 1) * kLanes<T>, count);
#pragma GCC unroll 12
    for (int j = 0; j < NC; ++j) {
      const Vec<T> bv = splat(b[j]);
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) acc[j][v] = fma(av[v], bv, acc[j][v]);
    }
    a += lda;
    b += ldb;
    __builtin_prefetch(wanted, 0, 2);
    wanted += stride;
  }
#pragma GCC unroll 12
  for (int j = 0; j < NC; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) store<T>(out + (j * NV + v) * kLanes<T>, acc[j][v]);
}

// c[i][j] = acc[j][i] (+ c[i][j]): one vector of rows. acc's columns are `apart` entries from one to the next.
template <class T>
static void store_rows(const T* acc, std::int64_t apart, std::int64_t rows, std::int64_t columns, T* c,
                       std::int64_t ldc, bool add) {
  for (std::int64_t j = 0; j < columns; j += kLanes<T>) {
    const std::int64_t count = smaller(kLanes<T>, columns - j);
    Vec<T> square[kLanes<T>];
    const T* from = acc + j * apart;
#pragma GCC unroll 16
    for (std::int64_t i = 0; i < kLanes<T>; ++i) {
      square[i] = load<T>(from);
      if (i + 1 < count) advance(from, apart);  // rows past `count` become lanes that are not stored
    }
    transpose<T>(square);
    T* to = c + j;
    if (rows == kLanes<T> && !add) {
#pragma GCC unroll 16
      for (std::int64_t i = 0; i < kLanes<T>; ++i) {
        store_low(to, square[i], count);
        advance(to, ldc);
      }
      continue;
    }
    T out[kLanes<T> * kLanes<T>];
#pragma GCC unroll 16
    for (std::int64_t i = 0; i < kLanes<T>; ++i) store<T>(out + i * kLanes<T>, square[i]);
    for (std::int64_t i = 0; i < rows; ++i, to += ldc) {
      const Vec<T> v = load<T>(out + i * kLanes<T>);
      store_low(to, add ? v + load_partial(to, count) : v, count);
    }
  }
}

#if defined(PFN_ISA_AVX512)

// The same for few columns, all of C's: its rows lie one behind the other.
template <class T>
static void store_dealt(const T* acc, std::int64_t apart, std::int64_t rows, std::int64_t columns, T* c, bool add) {
  for (std::int64_t v = 0; v < columns; ++v) {
    const std::int64_t count = smaller(kLanes<T>, rows * columns - v * kLanes<T>);
    if (count <= 0) return;
    const Deal deal(T(0), v, columns);
    Vec<T> out = splat(T(0));
    for (std::int64_t j = 0; j < columns; ++j) out = deal.add_column(out, load<T>(acc + j * apart), j);
    T* const to = c + v * kLanes<T>;
    store_low(to, add ? out + load_partial(to, count) : out, count);
  }
}
#else
template <class T>
static void store_dealt(const T* acc, std::int64_t, std::int64_t rows, std::int64_t, T* c, bool add) {
  const Vec<T> v = load<T>(acc);
  store_low(c, add ? v + load_partial(c, rows) : v, rows);
}
#endif

template <class T, int NV>
static inline RowsFn<T> rows_tile_of(std::int64_t columns) {
#define PFN_ROWS(NC) rows_tile<T, NV, (NC)>
#if defined(PFN_ISA_AVX512)
  static constexpr RowsFn<T> fn[kMaxColumns] = {PFN_ROWS(1), PFN_ROWS(2),  PFN_ROWS(3),  PFN_ROWS(4),
                                                PFN_ROWS(5), PFN_ROWS(6),  PFN_ROWS(7),  PFN_ROWS(8),
                                                PFN_ROWS(9), PFN_ROWS(10), PFN_ROWS(11), PFN_ROWS(12)};
#elif defined(PFN_ISA_AVX2)
  static constexpr RowsFn<T> fn[kMaxColumns] = {PFN_ROWS(1), PFN_ROWS(2), PFN_ROWS(3),
                                                PFN_ROWS(4), PFN_ROWS(5), PFN_ROWS(6)};
#else
  static constexpr RowsFn<T> fn[kMaxColumns] = {PFN_ROWS(1), PFN_ROWS(2), PFN_ROWS(3), PFN_ROWS(4)};
#endif
#undef PFN_ROWS
  return fn[columns - 1];
}

// The rows of `ahead` as stretches, one for each tile of the product, so that who computes a tile has no say.
template <class T>
struct Stretches {
  const Ahead* ahead;
  std::int64_t per_row = 0, bytes = 0;

  Stretches(const Ahead* wanted, std::int64_t tiles) : ahead(wanted) {
    if (ahead == nullptr || ahead->data == nullptr || tiles < ahead->rows) return;
    per_row = tiles / ahead->rows;
    bytes = div_up(ahead->row_bytes, per_row);
  }
  // Bytes to go on by for each of kc terms; 0 if there is nothing to fetch.
  std::int64_t stride(std::int64_t kc) const { return div_up(bytes, kc); }
  const char* start(std::int64_t tile, const void* nothing) const {
    if (per_row == 0 || tile >= per_row * ahead->rows) return static_cast<const char*>(nothing);
    return ahead->data + ahead->index[tile / per_row] * ahead->row_bytes + tile % per_row * bytes;
  }
};

// Rows [m0, m1) of C = A.T @ B, all columns, one block of k.
template <class T>
static void multiply_rows(const Gemm<T>& g, std::int64_t k0, std::int64_t kc, std::int64_t m0, std::int64_t m1) {
  constexpr std::int64_t lanes = kLanes<T>;
  constexpr std::int64_t step = kRowVectors * lanes;
  constexpr std::int64_t most = kMaxColumns * kGroups;
  const std::int64_t chunks = g.n <= most ? 1 : div_up(g.n, most);
  alignas(64) T acc[most * step];
  const std::int64_t tiles_across = div_up(g.n, kMaxColumns);
  const Stretches<T> stretches(k0 == 0 ? g.ahead : nullptr, div_up(g.m, step) * tiles_across);
  const std::int64_t stride = stretches.stride(kc);
  for (std::int64_t i = m0; i < m1; i += step) {
    const std::int64_t rows = smaller(step, m1 - i);
    const std::int64_t nv = div_up(rows, lanes);
    const T* const a = g.a + k0 * g.m + i;
    std::int64_t tile = i / step * tiles_across;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      const std::int64_t first = g.n * chunk / chunks;
      const std::int64_t columns = g.n * (chunk + 1) / chunks - first;
      const std::int64_t groups = div_up(columns, kMaxColumns);
      const std::int64_t low = columns / groups;
      const std::int64_t higher = columns - low * groups;  // so many groups have one column more
      std::int64_t j = 0;
      for (std::int64_t group = 0; group < groups; ++group) {
        const std::int64_t nc = low + (group < higher);
        const RowsFn<T> fn = nv == 2 ? rows_tile_of<T, 2>(nc) : rows_tile_of<T, 1>(nc);
        const T* const b = g.b + k0 * g.n + first + j;
        fn(a, g.m, b, g.n, kc, rows - (nv - 1) * lanes, acc + j * nv * lanes, stretches.start(tile++, b), stride);
        j += nc;
      }
      if (g.n <= kDealtColumns<T>) {
        for (std::int64_t v = 0; v < nv; ++v)
          store_dealt(acc + v * lanes, nv * lanes, smaller(lanes, rows - v * lanes), g.n, g.c + (i + v * lanes) * g.n,
                      k0 > 0);
        continue;
      }
      for (std::int64_t v = 0; v < nv; ++v)
        store_rows(acc + v * lanes, nv * lanes, smaller(lanes, rows - v * lanes), columns,
                   g.c + (i + v * lanes) * g.n + first, g.n, k0 > 0);
    }
  }
}

}  // namespace pfn::PFN_ISA
