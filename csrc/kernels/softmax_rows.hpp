// Softmax cross entropy of up to kRowBlock rows, for loss.cpp: gradients, the sum of the losses and
// how many rows are right.
#pragma once
#include "kernels/transpose.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kRowBlock = 16;    // rows whose losses are summed into one partial sum
constexpr std::int64_t kFewClasses = 16;  // up to here rows stand in the lanes

// The lanes as doubles, both halves of a float vector added.
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

struct RowBlockSum {
  double loss;
  double correct;
};

// NumPy's rule: the first NaN, else the first maximum.
template <class T>
static inline std::int64_t first_maximum(const T* x, std::int64_t c) {
  std::int64_t best = 0;
  for (std::int64_t j = 0; j < c; ++j) {
    if (x[j] != x[j]) return j;
    if (x[j] > x[best]) best = j;
  }
  return best;
}

// kLanes rows of at most 16 classes, rows in the lanes: everything is vertical between two
// transposes. kClasses is c where the compiler is to know it, else 0.
template <class T, int kClasses>
static inline RowBlockSum few_classes(const T* x, const std::int64_t* label, T* dx, std::int64_t rows, std::int64_t any,
                                      T inv_n) {
  constexpr std::int64_t L = kLanes<T>;
  constexpr std::int64_t groups = (kFewClasses + L - 1) / L;
  using Int = IntOf<T>;
  const std::int64_t c = kClasses > 0 ? kClasses : any;
  const std::int64_t size = rows * c;
  Vec<T> col[groups * L] = {};
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
  Int lane_label[L];
  for (std::int64_t r = 0; r < L; ++r)
    lane_label[r] = static_cast<Int>(r < rows && label[r] >= 0 && label[r] < c ? label[r] : -1);
  const IntVec<T> labels = load<Int>(lane_label);

  Vec<T> top = splat(-kInf<T>), score = splat(kNaN<T>);
#pragma GCC unroll 16
  for (std::int64_t j = 0; j < c; ++j) {
    top = vmax(top, col[j]);
    score = labels == static_cast<Int>(j) ? col[j] : score;
  }
  IntVec<T> first = labels - labels;
  Vec<T> sum = splat(T(0));
#pragma GCC unroll 16
  for (std::int64_t j = c - 1; j >= 0; --j) {
    first = col[j] == top ? (first - first) + static_cast<Int>(j) : first;
    col[j] = exp_nonpositive<T>(col[j] - top);
    sum = sum + col[j];
  }
  const Vec<T> scale = T(1) / sum;
#pragma GCC unroll 16
  for (std::int64_t j = 0; j < c; ++j) {
    const Vec<T> hit = labels == static_cast<Int>(j) ? splat(T(1)) : splat(T(0));
    col[j] = (col[j] * scale - hit) * inv_n;
  }

  const auto used = lane_index<T>() < static_cast<Int>(rows);
  const Vec<T> loss = vlog<T>(sum) + (top - score);
  RowBlockSum total = {reduce_add<double>(widened_sum(used ? loss : splat(T(0)))), 0};
  // Lanes that are not rows have label -1 and never count. A NaN sum is rare: then the rows are
  // looked at again.
  Int hits[L], odd[L];
  store<Int>(hits, (IntVec<T>)(first == labels));
  store<Int>(odd, (IntVec<T>)(sum != sum));
  Int hit = 0, any_odd = 0;
  for (std::int64_t r = 0; r < L; ++r) {
    hit -= hits[r];
    any_odd |= odd[r];
  }
  total.correct = static_cast<double>(hit);
  if (any_odd != 0) {
    total.correct = 0;
    for (std::int64_t r = 0; r < rows; ++r) total.correct += first_maximum(x + r * c, c) == lane_label[r] ? 1 : 0;
  }
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
  return total;
}

template <class T>
struct RowTerms {
  T top, sum, score;
};

// One row of many classes in three passes; the row stays in the first-level cache.
template <class T>
static inline RowTerms<T> many_classes(const T* x, std::int64_t label, T* dx, std::int64_t c, T inv_n) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t full = c - c % L, rest = c - full;
  const Vec<T> lowest = splat(-kInf<T>);
  // Lanes beyond the row hold -inf: they cannot be the maximum, and their exp is 0.
  const Vec<T> tail = lane_index<T>() < static_cast<IntOf<T>>(rest) ? load_partial(x + full, rest) : lowest;
  Vec<T> m0 = tail, m1 = lowest, m2 = lowest, m3 = lowest;
  std::int64_t j = 0;
  for (; j + 4 * L <= full; j += 4 * L) {
    m0 = vmax(m0, load<T>(x + j));
    m1 = vmax(m1, load<T>(x + j + L));
    m2 = vmax(m2, load<T>(x + j + 2 * L));
    m3 = vmax(m3, load<T>(x + j + 3 * L));
  }
  for (; j < full; j += L) m0 = vmax(m0, load<T>(x + j));
  RowTerms<T> row;
  row.top = reduce_max<T>(vmax(vmax(m0, m1), vmax(m2, m3)));

  const Vec<T> top = splat(row.top);
  Vec<T> s0 = splat(T(0)), s1 = s0;
  for (j = 0; j + 2 * L <= full; j += 2 * L) {
    const Vec<T> e0 = exp_nonpositive<T>(load<T>(x + j) - top), e1 = exp_nonpositive<T>(load<T>(x + j + L) - top);
    store<T>(dx + j, e0);
    store<T>(dx + j + L, e1);
    s0 = s0 + e0;
    s1 = s1 + e1;
  }
  for (; j < full; j += L) {
    const Vec<T> e0 = exp_nonpositive<T>(load<T>(x + j) - top);
    store<T>(dx + j, e0);
    s0 = s0 + e0;
  }
  const Vec<T> tail_exp = exp_nonpositive<T>(tail - top);
  row.sum = reduce_add<T>((s0 + s1) + tail_exp);

  const T scale = T(1) / row.sum;
  for (j = 0; j < full; j += L) store<T>(dx + j, load<T>(dx + j) * scale * inv_n);
  store_partial(dx + full, tail_exp * scale * inv_n, rest);
  row.score = kNaN<T>;
  if (label >= 0 && label < c) {
    row.score = x[label];
    // Made again, since p / n - 1 / n would lose the digits of p - 1.
    const Vec<T> p = exp_nonpositive<T>(splat(row.score) - top) * scale;
    dx[label] = (p[0] - T(1)) * inv_n;
  }
  return row;
}

template <class T>
static inline bool is_first_maximum(const T* x, std::int64_t c, std::int64_t label, const RowTerms<T>& row) {
  if (row.sum != row.sum) return first_maximum(x, c) == label;
  if (!(row.score == row.top)) return false;
  std::int64_t earlier = 0;
  for (std::int64_t j = 0; j < label; ++j) earlier += x[j] == row.top ? 1 : 0;
  return earlier == 0;
}

template <class T>
static inline RowBlockSum row_block(const T* x, const std::int64_t* label, T* dx, std::int64_t rows, std::int64_t c,
                                    T inv_n) {
  constexpr std::int64_t L = kLanes<T>;
  T top[kRowBlock] = {}, sum[kRowBlock] = {}, score[kRowBlock] = {};
  RowBlockSum total = {0, 0};
  for (std::int64_t r = 0; r < rows; ++r) {
    const RowTerms<T> row = many_classes(x + r * c, label[r], dx + r * c, c, inv_n);
    top[r] = row.top;
    sum[r] = row.sum;
    score[r] = row.score;
    total.correct += is_first_maximum(x + r * c, c, label[r], row) ? 1 : 0;
  }
  T loss[kRowBlock];
  for (std::int64_t r = 0; r < kRowBlock; r += L)
    store<T>(loss + r, vlog<T>(load<T>(sum + r)) + (load<T>(top + r) - load<T>(score + r)));
  for (std::int64_t r = 0; r < rows; ++r) total.loss += static_cast<double>(loss[r]);
  return total;
}

}  // namespace pfn::PFN_ISA
