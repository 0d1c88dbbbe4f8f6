// Rows of few numbers with the rows in the lanes: vector j holds number j of every row, and what goes over a row is
// plain arithmetic on vectors. kLanes rows at a time; the last ones may be fewer.
#pragma once
#include "kernels/transpose.hpp"
#include "ops/op_call.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kFewColumns = 16;  // up to here rows stand in the lanes

// The vectors that `c` columns need room for: a square of lanes for each vector of a row.
template <class T>
constexpr std::int64_t kColumnVectors = (kFewColumns + kLanes<T> - 1) / kLanes<T> * kLanes<T>;

// Lanes of rows that are not there hold what nobody may look at; nothing is read past the last row.
template <class T>
static PFN_ALWAYS_INLINE void load_columns(const T* x, std::int64_t rows, std::int64_t c, Vec<T>* col) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t size = rows * c;
#pragma GCC unroll 8
  for (std::int64_t g = 0; g * L < c; ++g) {
    const std::int64_t count = c - g * L < L ? c - g * L : L;
    // What follows a row's end is the next row, in vectors that nobody reads; only the last rows need a mask.
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < L; ++r) {
      const std::int64_t at = r * c + g * L;
      col[g * L + r] = at + L <= size ? load<T>(x + at) : r < rows ? load_partial(x + at, count) : splat(T(0));
    }
    transpose<T>(col + g * L);
  }
}

// Rows go in order, so that what a whole vector writes past its row is overwritten by the next ones.
template <class T>
static PFN_ALWAYS_INLINE void store_columns(T* y, std::int64_t rows, std::int64_t c, Vec<T>* col) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t size = rows * c;
#pragma GCC unroll 8
  for (std::int64_t g = 0; g * L < c; ++g) transpose<T>(col + g * L);
#pragma GCC unroll 16
  for (std::int64_t r = 0; r < L; ++r) {
#pragma GCC unroll 8
    for (std::int64_t g = 0; g * L < c; ++g) {
      const std::int64_t at = r * c + g * L;
      if (at + L <= size)
        store<T>(y + at, col[g * L + r]);
      else if (r < rows)
        store_partial(y + at, col[g * L + r], c - g * L < L ? c - g * L : L);
    }
  }
}

}  // namespace pfn::PFN_ISA
