// Rows of scores over a few classes with the rows in the lanes: everything is vertical between two transposes.
// And which rows are right, by NumPy's rule: the first NaN, else the first maximum, is the answer.
#pragma once
#include "kernels/kernel.hpp"
#include "kernels/transpose.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kRowBlock = 16;    // rows whose losses are summed into one partial sum
constexpr std::int64_t kFewClasses = 16;  // up to here rows stand in the lanes

// Columns of a block: as many whole squares of vectors as hold kFewClasses classes.
template <class T>
constexpr std::int64_t kColumns = (kFewClasses + kLanes<T> - 1) / kLanes<T> * kLanes<T>;

struct RowBlockSum {
  double loss;
  double correct;
};

template <class T>
static inline std::int64_t first_maximum(const T* x, std::int64_t c) {
  std::int64_t best = 0;
  for (std::int64_t j = 0; j < c; ++j) {
    if (x[j] != x[j]) return j;
    if (x[j] > x[best]) best = j;
  }
  return best;
}

// col[j] holds class j of kLanes rows; rows beyond `rows` are 0.
template <class T>
static PFN_ALWAYS_INLINE void load_columns(const T* x, std::int64_t rows, std::int64_t c, Vec<T>* col) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t size = rows * c;
#pragma GCC unroll 8
  for (std::int64_t g = 0; g * L < c; ++g) {
    const std::int64_t count = c - g * L < L ? c - g * L : L;
    // What follows a row's end is the next row, in lanes that nobody reads; only the last rows need a mask.
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < L; ++r) {
      const std::int64_t at = r * c + g * L;
      col[g * L + r] = at + L <= size ? load<T>(x + at) : r < rows ? load_partial(x + at, count) : splat(T(0));
    }
    transpose<T>(col + g * L);
  }
}

template <class T>
static PFN_ALWAYS_INLINE void store_columns(Vec<T>* col, T* dx, std::int64_t rows, std::int64_t c) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t size = rows * c;
#pragma GCC unroll 8
  for (std::int64_t g = 0; g * L < c; ++g) transpose<T>(col + g * L);
  // Rows go in order, so that what a whole vector writes past its row is overwritten by the next ones.
#pragma GCC unroll 16
  for (std::int64_t r = 0; r < L; ++r) {
#pragma GCC unroll 8
    for (std::int64_t g = 0; g * L < c; ++g) {
      const std::int64_t at = r * c + g * L;
      if (at + L <= size)
        store<T>(dx + at, col[g * L + r]);
      else if (r < rows)
        store_partial(dx + at, col[g * L + r], c - g * L < L ? c - g * L : L);
    }
  }
}

// -1 where there is no row or no such class: never equal to a column.
template <class T>
static PFN_ALWAYS_INLINE void load_labels(const std::int64_t* label, std::int64_t rows, std::int64_t c,
                                          IntOf<T>* lane_label) {
  for (std::int64_t r = 0; r < kLanes<T>; ++r)
    lane_label[r] = static_cast<IntOf<T>>(r < rows && label[r] >= 0 && label[r] < c ? label[r] : -1);
}

// Rows whose first maximum is the label. Where `odd` is NaN the comparisons behind `first` may be wrong, which is rare:
// then the rows are looked at again.
template <class T>
static PFN_ALWAYS_INLINE double count_right(IntVec<T> first, IntVec<T> labels, Vec<T> odd, const T* x,
                                            const IntOf<T>* lane_label, std::int64_t rows, std::int64_t c) {
  constexpr std::int64_t L = kLanes<T>;
  using Int = IntOf<T>;
  Int hits[L], is_odd[L];
  store<Int>(hits, (IntVec<T>)(first == labels));
  store<Int>(is_odd, (IntVec<T>)(odd != odd));
  Int hit = 0, any_odd = 0;
  for (std::int64_t r = 0; r < L; ++r) {
    hit -= hits[r];
    any_odd |= is_odd[r];
  }
  if (any_odd == 0) return static_cast<double>(hit);
  double right = 0;
  for (std::int64_t r = 0; r < rows; ++r) right += first_maximum(x + r * c, c) == lane_label[r] ? 1 : 0;
  return right;
}

}  // namespace pfn::PFN_ISA
