// What stands around an update rule: the L1 penalty, the bound on the norms of weights, and their running mean.
//
//   l1_penalty   penalty = l1 * sum of |w|                        Tibshirani 1996
//   l1_gradient  y = dp + l1 * sign(p), sign(0) = 0: the gradient of a loss with that penalty
//   max_norm     each column of w with norm > max_norm is multiplied by max_norm / norm, the others stay as they are
//                                                                 Srivastava et al. 2014, section 5.1
//   ema_step     ema += (1 - ema_decay) * (p - ema)               Polyak and Juditsky 1992, with forgetting
//
// A column of w holds the weights that lead into one unit; all dimensions but the last are its rows. Sums are made in
// double over blocks that the shape decides, in order.
//
// NaN: spreads to its own element, for max_norm no further: the norm of its column is NaN, so the column stays. A
// column that holds an infinity becomes zeros and NaN, as the formula says. Max error: l1_penalty (size + 2) * 2^-53
// relative; l1_gradient and ema_step 3 * eps times the sum of the magnitudes of the terms; max_norm 3 * eps relative.
#include "kernels/block_sum.hpp"
#include "kernels/sweep.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kGrain = 4096;

template <class T>
static void l1_penalty_prepare(OpCall& call) {
  block_sum_prepare(call, call.in[0].size(), 0.1 * (sizeof(T) / 4));
}
template <class T>
static void l1_penalty_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  if (phase == 0) return make_partial<SizeTerm>(call, call.in[0].as<const T>(), begin, end);
  *call.out[0].as<double>() = call.hyper[kHyper_l1] * sum_of_partial(call, call.in[0].size());
}
PFN_KERNEL(l1_penalty, l1_penalty_prepare, l1_penalty_run);

template <class T>
static void elements_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.15 * (sizeof(T) / 4), kGrain);
}

template <class T>
static void l1_gradient_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const T* g = call.in[0].as<const T>();
  const T* p = call.in[1].as<const T>();
  T* y = call.out[0].as<T>();
  const Vec<T> l1 = splat(static_cast<T>(call.hyper[kHyper_l1])), zero = splat(T(0));
  sweep(y, begin, end, [=](std::int64_t i, auto part) {
    const Vec<T> pi = load_at(p + i, part);
    const Vec<T> slope = pi > zero ? l1 : (pi < zero ? -l1 : pi);  // of zero and NaN: themselves
    store_at(y + i, load_at(g + i, part) + slope, part);
  });
}
PFN_KERNEL(l1_gradient, elements_prepare, l1_gradient_run);

template <class T>
static void ema_step_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const T* ema = call.in[0].as<const T>();
  const T* p = call.in[1].as<const T>();
  T* out = call.out[0].as<T>();
  const Vec<T> share = splat(static_cast<T>(1.0 - call.hyper[kHyper_ema_decay]));
  sweep(out, begin, end, [=](std::int64_t i, auto part) {
    const Vec<T> mean = load_at(ema + i, part);
    store_at(out + i, fma(share, load_at(p + i, part) - mean, mean), part);
  });
}
PFN_KERNEL(ema_step, elements_prepare, ema_step_run);

// Rows that share one row of partial sums: many enough that the sums are little beside the weights.
static inline std::int64_t rows_a_block(std::int64_t cols) {
  constexpr std::int64_t elements = 32768, least = 16;
  const std::int64_t fit = cols > 0 ? elements / cols : elements;
  return fit > least ? fit : least;
}
// Scratch: a row of sums for each block, in double; then the factor of each column and, behind them, whether one is
// below 1, as T.
template <class T>
static void max_norm_prepare(OpCall& call) {
  const std::int64_t rows = call.in[0].rows(), cols = call.in[0].cols(), block = rows_a_block(cols);
  const std::int64_t blocks = (rows + block - 1) / block;
  const double elements = static_cast<double>(rows) * static_cast<double>(cols);
  call.phases = 3;
  call.phase[0] = Phase{rows, block, 0.25 * elements * (sizeof(T) / 4)};
  call.phase[1] = Phase{1, 1, static_cast<double>((blocks + 4) * cols)};
  call.phase[2] = Phase{rows, block, 0.15 * elements * (sizeof(T) / 4)};
  call.scratch_bytes =
      blocks * cols * static_cast<std::int64_t>(sizeof(double)) + (cols + 1) * static_cast<std::int64_t>(sizeof(T));
  call.note[0] = block;
  call.note[1] = blocks;
}

template <class T>
static inline void add_squares(const T* w, double* sum, std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t L = kLanes<double>;
  for (std::int64_t j = 0; j < cols; ++j) sum[j] = 0;
  for (std::int64_t r = 0; r < rows; ++r, w += cols) {
    std::int64_t j = 0;
    for (; j + L <= cols; j += L) {
      const VecD v = load_wide(w + j);
      store<double>(sum + j, fma(v, v, load<double>(sum + j)));
    }
    for (; j < cols; ++j) sum[j] = fma(static_cast<double>(w[j]), static_cast<double>(w[j]), sum[j]);
  }
}

template <class T>
static void max_norm_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t cols = call.in[0].cols(), block = call.note[0], blocks = call.note[1];
  const T* w = call.in[0].as<const T>();
  T* out = call.out[0].as<T>();
  double* sum = static_cast<double*>(call.scratch);
  T* factor = reinterpret_cast<T*>(sum + blocks * cols);
  if (phase == 0) {
    for (std::int64_t r = begin; r < end; r += block)
      add_squares(w + r * cols, sum + r / block * cols, end - r < block ? end - r : block, cols);
    return;
  }
  if (phase == 1) {
    const double bound = call.hyper[kHyper_max_norm];
    factor[cols] = 0;
    for (std::int64_t j = 0; j < cols; ++j) {
      double total = 0;
      for (std::int64_t b = 0; b < blocks; ++b) total += sum[b * cols + j];
      const double norm = __builtin_sqrt(total);
      factor[j] = norm > bound ? static_cast<T>(bound / norm) : T(1);
      if (norm > bound) factor[cols] = 1;
    }
    return;
  }
  if (factor[cols] == 0) return;
  for (std::int64_t r = begin; r < end; ++r) {
    const T* from = w + r * cols;
    T* to = out + r * cols;
    std::int64_t j = 0;
    for (; j + L <= cols; j += L) store<T>(to + j, load<T>(from + j) * load<T>(factor + j));
    if (j < cols)
      store_partial(to + j, load_partial(from + j, cols - j) * load_partial(factor + j, cols - j), cols - j);
  }
}
PFN_KERNEL(max_norm, max_norm_prepare, max_norm_run);

}  // namespace pfn::PFN_ISA
