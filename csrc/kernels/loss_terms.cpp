// Terms of a total loss: the L2 penalty, the weighted sum of two losses, and the factor of a gradient.
//
//   l2_penalty  penalty = 0.5 * weight_decay * sum of w^2
//   add_losses  total = a_weight * a + b_weight * b
//   scale       y = factor * x; y may be the memory of x
//
// NaN goes through all three.
// Max error: l2_penalty is summed in double; add_losses rounds three times in double; scale rounds the factor to the
// float type, then the product.
#include "kernels/loss_sums.hpp"
#include "kernels/sweep.hpp"

namespace pfn::PFN_ISA {

// Elements of one partial sum.
constexpr std::int64_t kBlock = 4096;

static inline VecD square_into(VecD sum, VecD v) { return fma(v, v, sum); }
static inline VecD square_into(VecD sum, VecF v) {
  float lane[kLanes<float>];
  store<float>(lane, v);
  const VecD low = widened(lane), high = widened(lane + kLanes<double>);
  return fma(high, high, fma(low, low, sum));
}

template <class T>
static void l2_penalty_prepare(OpCall& call) {
  const std::int64_t size = call.in[0].size(), blocks = (size + kBlock - 1) / kBlock;
  one_phase(call, size, 0.1 * (sizeof(T) / 4), kBlock);
  call.phases = 2;
  call.phase[1] = Phase{1, 1, static_cast<double>(blocks)};
  call.scratch_bytes = blocks * static_cast<std::int64_t>(sizeof(double));
}
template <class T>
static void l2_penalty_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<T>;
  double* block_sum = static_cast<double*>(call.scratch);
  if (phase == 1) {
    const std::int64_t blocks = (call.in[0].size() + kBlock - 1) / kBlock;
    double total = 0;
    for (std::int64_t b = 0; b < blocks; ++b) total += block_sum[b];
    *call.out[0].as<double>() = 0.5 * call.hyper[kHyper_weight_decay] * total;
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
    block_sum[start / kBlock] = reduce_add<double>(s0 + s1);
  }
}
PFN_KERNEL(l2_penalty, l2_penalty_prepare, l2_penalty_run);

template <class T>
static void add_losses_prepare(OpCall& call) {
  one_phase(call, 1, 1.0, 1);
}
template <class T>
static void add_losses_run(const OpCall& call, int, std::int64_t, std::int64_t, void*) {
  *call.out[0].as<double>() =
      call.attr[0] * *call.in[0].as<const double>() + call.attr[1] * *call.in[1].as<const double>();
}
PFN_KERNEL(add_losses, add_losses_prepare, add_losses_run);

template <class T>
static void scale_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.05 * (sizeof(T) / 4), kBlock);
}
template <class T>
static void scale_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const T* x = call.in[0].as<const T>();
  T* y = call.out[0].as<T>();
  const Vec<T> factor = splat(static_cast<T>(call.attr[0]));
  sweep<T>(y, begin, end,
           [&](std::int64_t i, auto part) { store_at<T>(y + i, factor * load_at<T>(x + i, part), part); });
}
PFN_KERNEL(scale, scale_prepare, scale_run);

}  // namespace pfn::PFN_ISA
