// Losses with their gradients. Sums over a batch are made in double over blocks that the shape
// decides, in order.
//
//   softmax_cross_entropy  m = max of the row, s = sum of exp(x - m)
//                          loss = mean over rows of log(s) + m - x[label]
//                          dscores = (exp(x - m) / s - onehot(label)) / n
//                          correct = rows whose first maximum is at the label
//   mean_squared_error     loss = mean of (y_pred - y_true)^2
//                          dy_pred = 2 * (y_pred - y_true) / size
//   l2_penalty             penalty = 0.5 * weight_decay * sum of w^2
//
// NaN: a row with a NaN or +inf, or of -inf alone, has NaN loss and gradients; its first NaN counts
// as its maximum, as in NumPy. A label outside [0, c) is never used as an index and makes the loss
// NaN. An empty batch has loss 0.
// Max error: loss 2 * eps * (1 + its mean magnitude); softmax (4 + |x - m| / 2) * eps relative.
// Source: log-sum-exp after Blanchard, Higham and Higham, IMA J. Numer. Anal. 41 (2021) 2311.
#include "kernels/kernel.hpp"
#include "kernels/softmax_rows.hpp"

namespace pfn::PFN_ISA {

// Elements of one partial sum of mean_squared_error and l2_penalty.
constexpr std::int64_t kBlock = 4096;

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
        const T* scores = x + (b + r) * c;
        T* slopes = dx + (b + r) * c;
        // Ten classes are by far the most frequent number of few.
        const RowBlockSum part = c == 10 && here == kLanes<T>
                                     ? few_classes<T, 10>(scores, label + b + r, slopes, here, c, inv_n)
                                     : few_classes<T, 0>(scores, label + b + r, slopes, here, c, inv_n);
        total.loss += part.loss;
        total.correct += part.correct;
      }
    }
    block_sum[b / kRowBlock] = total;
  }
}
PFN_KERNEL(softmax_cross_entropy, softmax_cross_entropy_prepare, softmax_cross_entropy_run);

// The squares of the lanes added to a sum, in double.
static inline VecD square_into(VecD sum, VecD v) { return fma(v, v, sum); }
static inline VecD square_into(VecD sum, VecF v) {
  float lane[kLanes<float>];
  store<float>(lane, v);
  const VecD low = widened(lane), high = widened(lane + kLanes<double>);
  return fma(high, high, fma(low, low, sum));
}
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
  sum_prepare(call, call.in[0].size(), 0.15 * (sizeof(T) / 4));
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
  sum_prepare(call, call.in[0].size(), 0.1 * (sizeof(T) / 4));
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
