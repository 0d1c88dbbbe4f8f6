// Losses with their gradients. Sums over a batch are made in double over blocks that the shape decides, in order.
//
//   softmax_cross_entropy  m = max of the row, s = sum exp(x - m);  loss = mean over rows of log(s) + m - x[label];
//                          dscores = (exp(x - m) / s - onehot(label)) / n;  correct = rows whose first maximum is at the label
//   mean_squared_error     loss = mean (y_pred - y_true)^2;  dy_pred = 2 * (y_pred - y_true) / size
//   l2_penalty             penalty = 0.5 * weight_decay * sum w^2
//
// NaN: a row with a NaN or +inf, or of -inf alone, has NaN loss and gradients; its first NaN counts as its maximum, as in NumPy. A label
// outside [0, c) is never used as an index and makes the loss NaN. An empty batch has loss 0.
// Max error: softmax 6 * eps relative (exp, sum, two products), row sums of n * dscores within 4 * eps for few classes.
// Source: log-sum-exp after Blanchard, Higham and Higham, IMA J. Numer. Anal. 41 (2021) 2311.
#include "kernels/kernel.hpp"
#include "kernels/transpose.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kRowBlock = 16;   // rows whose losses are summed into one partial sum
constexpr std::int64_t kFewClasses = 16; // up to here rows stand in the lanes
constexpr std::int64_t kBlock = 4096;    // elements of one partial sum of the other losses

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

// kLanes rows of at most 16 classes, rows in the lanes: everything is vertical between two transposes.
template <class T>
static inline RowBlockSum few_classes(const T* x, const std::int64_t* label, T* dx, std::int64_t rows, std::int64_t c, T inv_n) {
  constexpr std::int64_t L = kLanes<T>;
  constexpr std::int64_t groups = (kFewClasses + L - 1) / L;
  using Int = IntOf<T>;
  Vec<T> col[groups * L];
  for (std::int64_t g = 0; g * L < c; ++g) {
    const std::int64_t count = c - g * L < L ? c - g * L : L;
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < L; ++r)
      col[g * L + r] = r < rows ? load_partial(x + r * c + g * L, count) : splat(T(0));
    transpose<T>(col + g * L);
  }
  Int lane_label[L];
  for (std::int64_t r = 0; r < L; ++r) lane_label[r] = static_cast<Int>(r < rows && label[r] >= 0 && label[r] < c ? label[r] : -1);
  const IntVec<T> labels = load<Int>(lane_label);

  Vec<T> top = splat(-kInf<T>), score = splat(kNaN<T>);
  for (std::int64_t j = 0; j < c; ++j) {
    top = vmax(top, col[j]);
    score = labels == static_cast<Int>(j) ? col[j] : score;
  }
  IntVec<T> first = labels - labels;
  Vec<T> sum = splat(T(0));
  for (std::int64_t j = c - 1; j >= 0; --j) {
    first = col[j] == top ? (first - first) + static_cast<Int>(j) : first;
    col[j] = vexp<T>(col[j] - top);
    sum = sum + col[j];
  }
  const Vec<T> scale = T(1) / sum;
  for (std::int64_t j = 0; j < c; ++j) {
    const Vec<T> hit = labels == static_cast<Int>(j) ? splat(T(1)) : splat(T(0));
    col[j] = (col[j] * scale - hit) * inv_n;
  }

  T lane_loss[L], lane_sum[L];
  Int lane_first[L];
  store<T>(lane_loss, vlog<T>(sum) + (top - score));
  store<T>(lane_sum, sum);
  store<Int>(lane_first, first);
  RowBlockSum total = {0, 0};
  for (std::int64_t r = 0; r < rows; ++r) {
    total.loss += static_cast<double>(lane_loss[r]);
    const std::int64_t best = lane_sum[r] == lane_sum[r] ? static_cast<std::int64_t>(lane_first[r]) : first_maximum(x + r * c, c);
    total.correct += best == static_cast<std::int64_t>(lane_label[r]) ? 1 : 0;
  }
  for (std::int64_t g = 0; g * L < c; ++g) {
    const std::int64_t count = c - g * L < L ? c - g * L : L;
    transpose<T>(col + g * L);
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < L; ++r)
      if (r < rows) store_partial(dx + r * c + g * L, col[g * L + r], count);
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
    const Vec<T> e0 = vexp<T>(load<T>(x + j) - top), e1 = vexp<T>(load<T>(x + j + L) - top);
    store<T>(dx + j, e0);
    store<T>(dx + j + L, e1);
    s0 = s0 + e0;
    s1 = s1 + e1;
  }
  for (; j < full; j += L) {
    const Vec<T> e0 = vexp<T>(load<T>(x + j) - top);
    store<T>(dx + j, e0);
    s0 = s0 + e0;
  }
  const Vec<T> tail_exp = vexp<T>(tail - top);
  row.sum = reduce_add<T>((s0 + s1) + tail_exp);

  const T scale = T(1) / row.sum;
  for (j = 0; j < full; j += L) store<T>(dx + j, load<T>(dx + j) * scale * inv_n);
  store_partial(dx + full, tail_exp * scale * inv_n, rest);
  row.score = kNaN<T>;
  if (label >= 0 && label < c) {
    row.score = x[label];
    // Made again, since p / n - 1 / n would lose the digits of p - 1.
    const Vec<T> p = vexp<T>(splat(row.score) - top) * scale;
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
static inline RowBlockSum row_block(const T* x, const std::int64_t* label, T* dx, std::int64_t rows, std::int64_t c, T inv_n) {
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

template <class T>
static void softmax_cross_entropy_prepare(OpCall& call) {
  const std::int64_t n = call.in[0].rows(), c = call.in[0].cols();
  const std::int64_t blocks = (n + kRowBlock - 1) / kRowBlock;
  const double each = (c <= kFewClasses ? 1.0 : 0.4) * (sizeof(T) / 4);
  one_phase(call, n, 5.0 + each * static_cast<double>(c), kRowBlock);
  call.phases = 2;
  call.phase[1] = Phase{1, 1, static_cast<double>(blocks)};
  call.scratch_bytes = blocks * static_cast<std::int64_t>(sizeof(RowBlockSum));
}

template <class T>
static void softmax_cross_entropy_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t n = call.in[0].rows(), c = call.in[0].cols();
  RowBlockSum* block_sum = static_cast<RowBlockSum*>(call.scratch);
  if (phase == 1) {
    RowBlockSum total = {0, 0};
    for (std::int64_t b = 0; b * kRowBlock < n; ++b) {
      total.loss += block_sum[b].loss;
      total.correct += block_sum[b].correct;
    }
    *call.out[0].as<double>() = n > 0 ? total.loss / static_cast<double>(n) : 0.0;
    *call.out[1].as<double>() = total.correct;
    return;
  }
  const T* x = call.in[0].as<const T>();
  const std::int64_t* label = call.in[1].as<const std::int64_t>();
  T* dx = call.out[2].as<T>();
  const T inv_n = static_cast<T>(1.0 / static_cast<double>(n));
  for (std::int64_t b = begin; b < end; b += kRowBlock) {
    const std::int64_t rows = end - b < kRowBlock ? end - b : kRowBlock;
    RowBlockSum total = {0, 0};
    if (c > kFewClasses) {
      total = row_block(x + b * c, label + b, dx + b * c, rows, c, inv_n);
    } else {
      for (std::int64_t r = 0; r < rows; r += kLanes<T>) {
        const std::int64_t here = rows - r < kLanes<T> ? rows - r : kLanes<T>;
        const RowBlockSum part = few_classes(x + (b + r) * c, label + b + r, dx + (b + r) * c, here, c, inv_n);
        total.loss += part.loss;
        total.correct += part.correct;
      }
    }
    block_sum[b / kRowBlock] = total;
  }
}
PFN_KERNEL(softmax_cross_entropy, softmax_cross_entropy_prepare, softmax_cross_entropy_run);

// Sum of the squares of a vector, in double.
static inline VecD square_into(VecD sum, VecD v) { return fma(v, v, sum); }
static inline VecD square_into(VecD sum, VecF v) {
  float lane[kLanes<float>];
  store<float>(lane, v);
  typedef float Half __attribute__((vector_size(PFN_VEC_BYTES / 2), aligned(4), may_alias));
  const VecD low = __builtin_convertvector(*reinterpret_cast<const Half*>(lane), VecD);
  const VecD high = __builtin_convertvector(*reinterpret_cast<const Half*>(lane + kLanes<double>), VecD);
  return fma(high, high, fma(low, low, sum));
}

template <class T>
static void sum_prepare(OpCall& call, std::int64_t size, double ns_each) {
  const std::int64_t blocks = (size + kBlock - 1) / kBlock;
  one_phase(call, size, ns_each, kBlock);
  call.phases = 2;
  call.phase[1] = Phase{1, 1, static_cast<double>(blocks)};
  call.scratch_bytes = blocks * static_cast<std::int64_t>(sizeof(double));
}
static inline double sum_of_blocks(const OpCall& call, std::int64_t size) {
  const double* block_sum = static_cast<const double*>(call.scratch);
  double total = 0;
  for (std::int64_t b = 0; b * kBlock < size; ++b) total += block_sum[b];
  return total;
}

template <class T>
static void mean_squared_error_prepare(OpCall& call) {
  sum_prepare<T>(call, call.in[0].size(), 0.15 * (sizeof(T) / 4));
}
template <class T>
static void mean_squared_error_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t size = call.in[0].size();
  if (phase == 1) {
    *call.out[0].as<double>() = size > 0 ? sum_of_blocks(call, size) / static_cast<double>(size) : 0.0;
    return;
  }
  const T* a = call.in[0].as<const T>();
  const T* b = call.in[1].as<const T>();
  T* d = call.out[1].as<T>();
  const Vec<T> scale = splat(static_cast<T>(2.0 / static_cast<double>(size)));
  for (std::int64_t start = begin; start < end; start += kBlock) {
    const std::int64_t stop = end - start < kBlock ? end : start + kBlock;
    VecD s0 = splat(0.0), s1 = s0;
    std::int64_t i = start;
    for (; i + 2 * L <= stop; i += 2 * L) {
      const Vec<T> d0 = load<T>(a + i) - load<T>(b + i), d1 = load<T>(a + i + L) - load<T>(b + i + L);
      store<T>(d + i, d0 * scale);
      store<T>(d + i + L, d1 * scale);
      s0 = square_into(s0, d0);
      s1 = square_into(s1, d1);
    }
    for (; i < stop; i += L) {
      const std::int64_t count = stop - i < L ? stop - i : L;
      const Vec<T> d0 = load_partial(a + i, count) - load_partial(b + i, count);
      store_partial(d + i, d0 * scale, count);
      s0 = square_into(s0, d0);
    }
    static_cast<double*>(call.scratch)[start / kBlock] = reduce_add<double>(s0 + s1);
  }
}
PFN_KERNEL(mean_squared_error, mean_squared_error_prepare, mean_squared_error_run);

template <class T>
static void l2_penalty_prepare(OpCall& call) {
  sum_prepare<T>(call, call.in[0].size(), 0.1 * (sizeof(T) / 4));
}
template <class T>
static void l2_penalty_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<T>;
  if (phase == 1) {
    *call.out[0].as<double>() = 0.5 * call.hyper[kHyper_weight_decay] * sum_of_blocks(call, call.in[0].size());
    return;
  }
  const T* w = call.in[0].as<const T>();
  for (std::int64_t start = begin; start < end; start += kBlock) {
    const std::int64_t stop = end - start < kBlock ? end : start + kBlock;
    VecD s0 = splat(0.0), s1 = s0;
    std::int64_t i = start;
    for (; i + 2 * L <= stop; i += 2 * L) {
      s0 = square_into(s0, load<T>(w + i));
      s1 = square_into(s1, load<T>(w + i + L));
    }
    for (; i < stop; i += L) s0 = square_into(s0, load_partial(w + i, stop - i < L ? stop - i : L));
    static_cast<double*>(call.scratch)[start / kBlock] = reduce_add<double>(s0 + s1);
  }
}
PFN_KERNEL(l2_penalty, l2_penalty_prepare, l2_penalty_run);

}  // namespace pfn::PFN_ISA
