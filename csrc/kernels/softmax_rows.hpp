// Softmax cross entropy of up to kRowBlock rows, for loss.cpp: gradients, the losses and how many rows are right.
#pragma once
#include "kernels/class_rows.hpp"
#include "kernels/loss_sums.hpp"

namespace pfn::PFN_ISA {

// What the rows of a block leave behind for weights and label smoothing.
template <class T>
struct RowTerms {
  T top[kRowBlock];      // the largest score
  T log_sum[kRowBlock];  // log of the sum of exp(score - top)
  T loss[kRowBlock];     // log_sum + top - score of the label
};

// kLanes rows of at most 16 classes. kClasses is c where the compiler is to know it, else 0; kKeep says whether to
// fill `terms`.
template <class T, int kClasses, bool kKeep>
static inline RowBlockSum few_classes(const T* x, const std::int64_t* label, T* dx, std::int64_t rows, std::int64_t any,
                                      T inv_n, RowTerms<T>* terms, std::int64_t at) {
  constexpr std::int64_t L = kLanes<T>;
  using Int = IntOf<T>;
  const std::int64_t c = kClasses > 0 ? kClasses : any;
  Vec<T> col[kColumns<T>] = {};
  load_columns<T>(x, rows, c, col);
  Int lane_label[L];
  load_labels<T>(label, rows, c, lane_label);
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
  const Vec<T> log_sum = vlog<T>(sum);
  const Vec<T> loss = log_sum + (top - score);
  RowBlockSum total = {reduce_add<double>(widened_sum(used ? loss : splat(T(0)))), 0};
  if constexpr (kKeep) {
    store<T>(terms->top + at, top);
    store<T>(terms->log_sum + at, log_sum);
    store<T>(terms->loss + at, loss);
  }
  // The sum is NaN exactly where the largest score is not finite.
  total.correct = count_right<T>(first, labels, sum, x, lane_label, rows, c);
  store_columns<T>(col, dx, rows, c);
  return total;
}

template <class T>
struct RowOf {
  T top, sum, score;
};

// One row of many classes in three passes; the row stays in the first-level cache.
template <class T>
static inline RowOf<T> many_classes(const T* x, std::int64_t label, T* dx, std::int64_t c, T inv_n) {
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
  RowOf<T> row;
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
static inline bool is_first_maximum(const T* x, std::int64_t c, std::int64_t label, const RowOf<T>& row) {
  if (row.sum != row.sum) return first_maximum(x, c) == label;
  if (!(row.score == row.top)) return false;
  std::int64_t earlier = 0;
  for (std::int64_t j = 0; j < label; ++j) earlier += x[j] == row.top ? 1 : 0;
  return earlier == 0;
}

template <class T, bool kKeep>
static inline RowBlockSum row_block(const T* x, const std::int64_t* label, T* dx, std::int64_t rows, std::int64_t c,
                                    T inv_n, RowTerms<T>* terms) {
  constexpr std::int64_t L = kLanes<T>;
  T top[kRowBlock] = {}, sum[kRowBlock] = {}, score[kRowBlock] = {};
  RowBlockSum total = {0, 0};
  for (std::int64_t r = 0; r < rows; ++r) {
    const RowOf<T> row = many_classes(x + r * c, label[r], dx + r * c, c, inv_n);
    top[r] = row.top;
    sum[r] = row.sum;
    score[r] = row.score;
    total.correct += is_first_maximum(x + r * c, c, label[r], row) ? 1 : 0;
  }
  T loss[kRowBlock];
  for (std::int64_t r = 0; r < kRowBlock; r += L) {
    const Vec<T> log_sum = vlog<T>(load<T>(sum + r)), tops = load<T>(top + r);
    store<T>(loss + r, log_sum + (tops - load<T>(score + r)));
    if constexpr (kKeep) {
      store<T>(terms->top + r, tops);
      store<T>(terms->log_sum + r, log_sum);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    total.loss += static_cast<double>(loss[r]);
    if constexpr (kKeep) terms->loss[r] = loss[r];
  }
  return total;
}

// All rows of a block, whichever way is the faster one.
template <class T, bool kKeep>
static PFN_ALWAYS_INLINE RowBlockSum softmax_block(const T* x, const std::int64_t* label, T* dx, std::int64_t rows,
                                                   std::int64_t c, T inv_n, RowTerms<T>* terms) {
  if (c > kFewClasses) return row_block<T, kKeep>(x, label, dx, rows, c, inv_n, terms);
  RowBlockSum total = {0, 0};
  for (std::int64_t r = 0; r < rows; r += kLanes<T>) {
    const std::int64_t here = rows - r < kLanes<T> ? rows - r : kLanes<T>;
    const T* scores = x + r * c;
    T* slopes = dx + r * c;
    // Ten classes are by far the most frequent number of few.
    const RowBlockSum part = c == 10 && here == kLanes<T>
                                 ? few_classes<T, 10, kKeep>(scores, label + r, slopes, here, c, inv_n, terms, r)
                                 : few_classes<T, 0, kKeep>(scores, label + r, slopes, here, c, inv_n, terms, r);
    total.loss += part.loss;
    total.correct += part.correct;
  }
  return total;
}

}  // namespace pfn::PFN_ISA
