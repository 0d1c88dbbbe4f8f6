// What the losses share: floats as doubles, partial sums of blocks, and the weights of rows.
#pragma once
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

// An input that may be left out has no dimensions then; data are not known yet when a plan prepares.
static inline bool is_given(const View& view) { return view.ndim >= 0; }

// The lanes as doubles.
static inline VecD widened(const float* p) {
  typedef float Half __attribute__((vector_size(PFN_VEC_BYTES / 2), aligned(4), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Half*>(p), VecD);
}
static inline VecD widened_sum(VecD v) { return v; }
static inline VecD widened_sum(VecF v) {
  float lane[kLanes<float>];
  store<float>(lane, v);
  return widened(lane) + widened(lane + kLanes<double>);
}

// The sum of at(0) .. at(n - 1) in an order that only n decides, in four chains.
template <class F>
static inline double sum_in_order(std::int64_t n, const F& at) {
  double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  std::int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    s0 += at(i);
    s1 += at(i + 1);
    s2 += at(i + 2);
    s3 += at(i + 3);
  }
  for (; i < n; ++i) s0 += at(i);
  return (s0 + s1) + (s2 + s3);
}

// The sum of an array in double, in an order that only n decides.
template <class T>
static inline double sum_of(const T* p, std::int64_t n) {
  constexpr std::int64_t L = kLanes<T>;
  VecD s0 = splat(0.0), s1 = s0;
  std::int64_t i = 0;
  for (; i + 2 * L <= n; i += 2 * L) {
    s0 = s0 + widened_sum(load<T>(p + i));
    s1 = s1 + widened_sum(load<T>(p + i + L));
  }
  for (; i < n; i += L) s0 = s0 + widened_sum(load_partial(p + i, n - i < L ? n - i : L));
  return reduce_add<double>(s0 + s1);
}

// The weights of rows, all 1 where none are given. A row of weight 0 takes no part, whatever it holds.
template <class T>
struct RowWeights {
  const T* weight;  // may be null
  double total;     // sum of the weights; 0: no row takes part
  double inverse;   // 1 / total, 0 where no row takes part

  RowWeights(const T* p, double sum) : weight(p), total(sum), inverse(sum == 0 ? 0 : 1 / sum) {}

  double operator[](std::int64_t row) const { return weight ? static_cast<double>(weight[row]) : 1.0; }
  bool leaves_out(std::int64_t row) const { return weight && weight[row] == T(0); }
  bool inverts() const { return inverse - inverse == 0; }
  // The part of the mean that a row has. The reciprocal of a tiny sum is infinite.
  double share(std::int64_t row) const {
    if (total == 0 || leaves_out(row)) return 0;
    return inverts() ? (*this)[row] * inverse : (*this)[row] / total;
  }
};

}  // namespace pfn::PFN_ISA
