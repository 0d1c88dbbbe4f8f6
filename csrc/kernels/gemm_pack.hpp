// Copies of a block of B into panels: what the microkernel reads row by row, padded to whole vectors.
//
//   panel of nv vectors, L lanes each           one row per k, the next row ld = nv * L entries on
//   k = 0   | b[0][j0 .. j0+L) | ... | b[0][.. j0+width) x x |
//   k = 1   | b[1][j0 .. j0+L) | ... | b[1][.. j0+width) x x |   x: never stored into C
//
// B is read inside its bounds only. Values are moved, never computed: NaN and Inf pass.
#pragma once
#include "kernels/gemm_plan.hpp"
#include "kernels/gemm_square.hpp"

namespace pfn::PFN_ISA {

// `count` neighbouring panels of nv whole vectors each, `apart` entries from one to the next. A row of B is read once
// from left to right and dealt out: B's stride would otherwise cost a page for each panel.
template <class T, int nv>
static void deal_rows(const T* b, std::int64_t ldb, std::int64_t kc, std::int64_t count, std::int64_t apart, T* out) {
  for (std::int64_t k = 0; k < kc; ++k, b += ldb, out += nv * kLanes<T>) {
    const T* from = b;
    T* to = out;
    for (std::int64_t i = 0; i < count; ++i, from += nv * kLanes<T>, to += apart) {
#pragma GCC unroll 4
      for (int v = 0; v < nv; ++v) store<T>(to + v * kLanes<T>, load<T>(from + v * kLanes<T>));
    }
  }
}

// Panels [p0, p1) of kc rows of B, panel p at out + column(p) * kc:
// panel[k][j] = b[k * ldb + column(p) + j].
template <class T>
static void pack_rows(const T* b, std::int64_t ldb, std::int64_t kc, const Panels<T>& panels, std::int64_t p0,
                      std::int64_t p1, T* out) {
  constexpr std::int64_t lanes = kLanes<T>;
  // More would fall into one set of the cache: kc is often a power of two.
  constexpr std::int64_t together = 16 / kMaxVectors;
  for (std::int64_t p = p0; p < p1;) {
    const std::int64_t nv = panels.nv(p);
    std::int64_t count = 0;
    while (count < together && p + count < p1 && panels.nv(p + count) == nv && panels.columns(p + count) == nv * lanes)
      ++count;
    const T* const from = b + panels.column(p);
    T* const to = out + panels.column(p) * kc;
    const std::int64_t ld = nv * lanes;
    if (count > 0 && nv == kMaxVectors) {
      deal_rows<T, kMaxVectors>(from, ldb, kc, count, ld * kc, to);
      p += count;
    } else if (count > 0 && nv == kMaxVectors - 1) {
      deal_rows<T, kMaxVectors - 1>(from, ldb, kc, count, ld * kc, to);
      p += count;
    } else {
      const std::int64_t width = panels.columns(p);
      for (std::int64_t k = 0; k < kc; ++k)
        for (std::int64_t j = 0; j < ld; j += lanes)
          store<T>(to + k * ld + j,
                   j + lanes <= width ? load<T>(from + k * ldb + j) : load_partial(from + k * ldb + j, width - j));
      ++p;
    }
  }
}

// A square of lanes x lanes: to[k * ld + j] = from[j * ldb + k].
template <class T>
static PFN_ALWAYS_INLINE void pack_square(const T* from, std::int64_t ldb, T* to, std::int64_t ld) {
  Vec<T> square[kLanes<T>];
  read_square<T, false>(from, ldb, kLanes<T>, kLanes<T>, square);
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < kLanes<T>; ++i) {
    store<T>(to, square[i]);
    advance(to, ld);
  }
}

// The same with only `rows` rows and `cols` columns of B; what a missing row would give is arbitrary.
template <class T>
static void pack_edge_square(const T* from, std::int64_t ldb, std::int64_t rows, std::int64_t cols, T* to,
                             std::int64_t ld) {
  Vec<T> square[kLanes<T>];
  read_square<T, true>(from, ldb, rows, cols, square);
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < kLanes<T>; ++i) {
    if (i < cols) store<T>(to, square[i]);
    advance(to, ld);
  }
}

// panel[k * ld + j] = b[j * ldb + k], j < width; ld >= width rounded up to lanes.
template <class T>
static void pack_transposed(const T* b, std::int64_t ldb, std::int64_t kc, std::int64_t width, T* panel,
                            std::int64_t ld) {
  constexpr std::int64_t lanes = kLanes<T>;
  for (std::int64_t j = 0; j < width; j += lanes) {
    const std::int64_t rows = smaller(lanes, width - j);
    const T* const from = b + j * ldb;
    T* const to = panel + j;
    std::int64_t k = 0;
    if (rows == lanes)
      for (; k + lanes <= kc; k += lanes) pack_square(from + k, ldb, to + k * ld, ld);
    for (; k < kc; k += lanes) pack_edge_square(from + k, ldb, rows, smaller(lanes, kc - k), to + k * ld, ld);
  }
}

}  // namespace pfn::PFN_ISA
