// Clipping of gradients between the backward pass and the update.
//
//   sum_of_squares  total = before + sum of x^2 (before: the total so far, 0 if left out)
//   clip_by_norm    y = dp * min(1, clip_norm / (sqrt(total) + 1e-6))    Pascanu, Mikolov and Bengio 2013
//   clip_by_value   y = min(clip_value, max(-clip_value, dp))
//
// The norm is that of all gradients together: a chain of sum_of_squares, then clip_by_norm of each. Squares are added
// in double, over blocks that the shape decides, in order.
//
// NaN: a NaN in any gradient makes the total NaN and, by clip_by_norm, every gradient NaN; an infinite one makes the
// others 0, as the formula says. clip_by_value keeps NaN and cuts infinity.
// Max error: total (size + 2) * 2^-53 relative; clip_by_norm 2 * eps relative; clip_by_value exact.
#include "kernels/block_sum.hpp"
#include "kernels/sweep.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kGrain = 4096;
// What PyTorch's clip_grad_norm_ adds to the norm.
constexpr double kNormEps = 1e-6;

template <class T>
static void sum_of_squares_prepare(OpCall& call) {
  block_sum_prepare(call, call.in[0].size(), 0.1 * (sizeof(T) / 4));
}
template <class T>
static void sum_of_squares_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  if (phase == 0) return make_partial<SquareTerm>(call, call.in[0].as<const T>(), begin, end);
  const double before = call.in[1].ndim < 0 ? 0.0 : *call.in[1].as<const double>();
  *call.out[0].as<double>() = before + sum_of_partial(call, call.in[0].size());
}
PFN_KERNEL(sum_of_squares, sum_of_squares_prepare, sum_of_squares_run);

template <class T>
static void clip_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.12 * (sizeof(T) / 4), kGrain);
}

template <class T>
static void clip_by_norm_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const T* x = call.in[0].as<const T>();
  T* y = call.out[0].as<T>();
  const double norm = __builtin_sqrt(*call.in[1].as<const double>());
  const double wanted = call.hyper[kHyper_clip_norm] / (norm + kNormEps);
  if (wanted >= 1 && y == x) return;  // in place there is nothing to do; NaN is no such number
  const Vec<T> scale = splat(static_cast<T>(wanted >= 1 ? 1.0 : wanted));
  sweep(y, begin, end, [=](std::int64_t i, auto part) { store_at(y + i, load_at(x + i, part) * scale, part); });
}
PFN_KERNEL(clip_by_norm, clip_prepare, clip_by_norm_run);

template <class T>
static void clip_by_value_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const T* x = call.in[0].as<const T>();
  T* y = call.out[0].as<T>();
  const Vec<T> high = splat(static_cast<T>(call.hyper[kHyper_clip_value])), low = -high;
  sweep(y, begin, end, [=](std::int64_t i, auto part) {
    store_at(y + i, vmax(low, vmin(high, load_at(x + i, part))), part);  // in this order NaN stays
  });
}
PFN_KERNEL(clip_by_value, clip_prepare, clip_by_value_run);

}  // namespace pfn::PFN_ISA
