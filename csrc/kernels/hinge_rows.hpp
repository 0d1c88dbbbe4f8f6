// Multiclass hinge loss of up to kRowBlock rows, for loss.cpp.
//
// The rows' gradients are multiplied by `share`; a row whose share is 0 has gradient 0 whatever it holds.
#pragma once
#include "kernels/class_rows.hpp"
#include "kernels/loss_sums.hpp"

namespace pfn::PFN_ISA {

// 1 where m > 0, 0 where m <= 0, NaN where m is NaN.
template <class T>
static inline Vec<T> step_of(Vec<T> m) {
  const Vec<T> step = m > T(0) ? splat(T(1)) : splat(T(0));
  return m == m ? step : m;
}

// kLanes rows of at most 16 classes, rows in the lanes. kClasses is c where the compiler is to know it, else 0. Returns
// the rows that are right.
template <class T, int kClasses>
static inline double hinge_few(const T* x, const std::int64_t* label, T* dx, std::int64_t rows, std::int64_t any,
                               T margin, const T* share, T* loss) {
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
  const Vec<T> zero = splat(T(0)), part = load<T>(share);
  Vec<T> sum = zero, active = zero;
#pragma GCC unroll 16
  for (std::int64_t j = c - 1; j >= 0; --j) {
    first = col[j] == top ? (first - first) + static_cast<Int>(j) : first;
    const Vec<T> m = labels == static_cast<Int>(j) ? zero : (col[j] - score) + margin;
    const Vec<T> step = step_of<T>(m);
    sum = sum + vmax(zero, m);
    active = active + step;
    col[j] = part == T(0) ? zero : step * part;
  }
  const Vec<T> pull = part == T(0) ? zero : -(active * part);
#pragma GCC unroll 16
  for (std::int64_t j = 0; j < c; ++j) col[j] = labels == static_cast<Int>(j) ? pull : col[j];
  store<T>(loss, sum);
  const Vec<T> odd = labels < Int(0) ? zero : sum + (score - score);
  const double right = count_right<T>(first, labels, odd, x, lane_label, rows, c);
  store_columns<T>(col, dx, rows, c);
  return right;
}

template <class T>
struct HingeSweep {
  Vec<T> loss, active, top;
};

// The classes [begin, end) of a row, none of which is the label.
template <class T>
static inline void hinge_sweep(const T* x, T* dx, std::int64_t begin, std::int64_t end, T score, T margin, T share,
                               HingeSweep<T>& sums) {
  constexpr std::int64_t L = kLanes<T>;
  const Vec<T> zero = splat(T(0)), own = splat(score);
  std::int64_t j = begin;
  for (; j + L <= end; j += L) {
    const Vec<T> s = load<T>(x + j), m = (s - own) + margin, step = step_of<T>(m);
    sums.loss = sums.loss + vmax(zero, m);
    sums.active = sums.active + step;
    sums.top = vmax(sums.top, s);
    store<T>(dx + j, step * share);
  }
  if (j == end) return;
  const auto used = lane_index<T>() < static_cast<IntOf<T>>(end - j);
  const Vec<T> s = load_partial(x + j, end - j), m = used ? (s - own) + margin : zero, step = step_of<T>(m);
  sums.loss = sums.loss + vmax(zero, m);
  sums.active = sums.active + step;
  sums.top = vmax(sums.top, used ? s : splat(-kInf<T>));
  store_partial(dx + j, step * share, end - j);
}

// One row of many classes. Returns whether it is right.
template <class T>
static inline bool hinge_many(const T* x, std::int64_t label, T* dx, std::int64_t c, T margin, T share, T* loss) {
  const bool valid = label >= 0 && label < c;
  const T score = valid ? x[label] : kNaN<T>;
  const std::int64_t before = valid ? label : c;
  const Vec<T> zero = splat(T(0)), lowest = splat(-kInf<T>);
  HingeSweep<T> sums = {zero, zero, lowest};
  hinge_sweep<T>(x, dx, 0, before, score, margin, share, sums);
  const T top_before = reduce_max<T>(sums.top);
  sums.top = lowest;
  if (valid) hinge_sweep<T>(x, dx, label + 1, c, score, margin, share, sums);
  *loss = reduce_add<T>(sums.loss);
  if (valid) dx[label] = -(reduce_add<T>(sums.active) * share);
  if (share == T(0))
    for (std::int64_t j = 0; j < c; ++j) dx[j] = T(0);
  const T odd = *loss + (score - score);
  if (odd != odd) return first_maximum(x, c) == label;
  return top_before < score && !(reduce_max<T>(sums.top) > score);
}

// Writes the loss of every row and the gradients; returns the rows that are right.
template <class T>
static inline double hinge_block(const T* x, const std::int64_t* label, T* dx, std::int64_t rows, std::int64_t c,
                                 T margin, const T* share, T* loss) {
  double right = 0;
  if (c > kFewClasses) {
    for (std::int64_t r = 0; r < rows; ++r)
      right += hinge_many<T>(x + r * c, label[r], dx + r * c, c, margin, share[r], loss + r) ? 1 : 0;
    return right;
  }
  for (std::int64_t r = 0; r < rows; r += kLanes<T>) {
    const std::int64_t here = rows - r < kLanes<T> ? rows - r : kLanes<T>;
    const T* scores = x + r * c;
    T* slopes = dx + r * c;
    right += c == 10 && here == kLanes<T>
                 ? hinge_few<T, 10>(scores, label + r, slopes, here, c, margin, share + r, loss + r)
                 : hinge_few<T, 0>(scores, label + r, slopes, here, c, margin, share + r, loss + r);
  }
  return right;
}

}  // namespace pfn::PFN_ISA
