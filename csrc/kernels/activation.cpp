// Activations, forward and backward side by side, and the sum of two arrays.
// Elementwise over any shape; the first output may be the memory of the first input.
//
//   add         y = a + b
//   relu        y = max(x, 0)                       dx = y <= 0 ? 0 : dy
//   leaky_relu  y = x > 0 ? x : slope * x           dx = x > 0 ? dy : slope * dy
//   exp         y = exp(x)                          dx = dy * y
//   elu         y = x > 0 ? x : alpha * expm1(x)    dx = y > 0 ? dy : dy * (y + alpha)
//   sigmoid     y = 1 / (1 + exp(-x))               dx = dy * y * (1 - y)
//   tanh        y = tanh(x)                         dx = dy * (1 - y) * (1 + y)
//
// NaN: y is NaN where x is. A NaN in y leaves dy alone in relu_backward, so a diverged unit is
// never mistaken for a dead one.
// Max error of the forward ops, float32 and float64: exp 1 and 2 ULP, tanh 2 and 3 ULP, sigmoid 3 ULP, elu with
// alpha = 1 2 ULP (half a ULP more for other alpha); the others are exact or rounded once.
// Sources: relu Nair and Hinton, ICML 2010; leaky_relu Maas et al., ICML 2013; elu Clevert et al.,
// ICLR 2016; exp, expm1 and tanh in vec_math.hpp.
#include "kernels/kernel.hpp"
#include "kernels/sweep.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

// Elements per piece when a loop is cut for threads: a multiple of every vector width, so pieces
// share no vector.
constexpr std::int64_t kGrain = 4096;

template <class T>
static void cheap_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.05 * (sizeof(T) / 4), kGrain);
}
template <class T>
static void costly_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.3 * (sizeof(T) / 4), kGrain);
}

// out[0] = f(in[0]), two vectors in flight.
template <class T, class F>
static inline void map(const OpCall& call, std::int64_t begin, std::int64_t end, F f) {
  constexpr std::int64_t L = kLanes<T>;
  const T* x = call.in[0].as<const T>();
  T* y = call.out[0].as<T>();
  const std::int64_t head = until_aligned(y + begin, end - begin);
  if (head > 0) store_partial(y + begin, f(load_partial(x + begin, head)), head);
  std::int64_t i = begin + head;
  for (; i + 2 * L <= end; i += 2 * L) {
    const Vec<T> y0 = f(load<T>(x + i)), y1 = f(load<T>(x + i + L));
    store<T>(y + i, y0);
    store<T>(y + i + L, y1);
  }
  for (; i + L <= end; i += L) store<T>(y + i, f(load<T>(x + i)));
  if (i < end) store_partial(y + i, f(load_partial(x + i, end - i)), end - i);
}

// out[0] = f(in[0], in[1]).
template <class T, class F>
static inline void map2(const OpCall& call, std::int64_t begin, std::int64_t end, F f) {
  constexpr std::int64_t L = kLanes<T>;
  const T* a = call.in[0].as<const T>();
  const T* b = call.in[1].as<const T>();
  T* y = call.out[0].as<T>();
  const std::int64_t head = until_aligned(y + begin, end - begin);
  if (head > 0) store_partial(y + begin, f(load_partial(a + begin, head), load_partial(b + begin, head)), head);
  std::int64_t i = begin + head;
  for (; i + 2 * L <= end; i += 2 * L) {
    const Vec<T> y0 = f(load<T>(a + i), load<T>(b + i)), y1 = f(load<T>(a + i + L), load<T>(b + i + L));
    store<T>(y + i, y0);
    store<T>(y + i + L, y1);
  }
  for (; i + L <= end; i += L) store<T>(y + i, f(load<T>(a + i), load<T>(b + i)));
  if (i < end) store_partial(y + i, f(load_partial(a + i, end - i), load_partial(b + i, end - i)), end - i);
}

template <class T>
static void add_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> a, Vec<T> b) { return a + b; });
}
PFN_KERNEL(add, cheap_prepare, add_run);

template <class T>
static void relu_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map<T>(call, begin, end, [](Vec<T> x) { return vmax(splat(T(0)), x); });
}
PFN_KERNEL(relu_forward, cheap_prepare, relu_forward_run);

template <class T>
static void relu_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> dy, Vec<T> y) { return y <= T(0) ? splat(T(0)) : dy; });
}
PFN_KERNEL(relu_backward, cheap_prepare, relu_backward_run);

template <class T>
static void leaky_relu_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const Vec<T> slope = splat(static_cast<T>(call.attr[0]));
  map<T>(call, begin, end, [slope](Vec<T> x) { return x > T(0) ? x : slope * x; });
}
PFN_KERNEL(leaky_relu_forward, cheap_prepare, leaky_relu_forward_run);

template <class T>
static void leaky_relu_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const Vec<T> slope = splat(static_cast<T>(call.attr[0]));
  map2<T>(call, begin, end, [slope](Vec<T> dy, Vec<T> x) { return x > T(0) ? dy : slope * dy; });
}
PFN_KERNEL(leaky_relu_backward, cheap_prepare, leaky_relu_backward_run);

template <class T>
static void exp_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map<T>(call, begin, end, [](Vec<T> x) { return vexp<T>(x); });
}
PFN_KERNEL(exp_forward, costly_prepare, exp_forward_run);

template <class T>
static void exp_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> dy, Vec<T> y) { return dy * y; });
}
PFN_KERNEL(exp_backward, cheap_prepare, exp_backward_run);

template <class T>
static void elu_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const Vec<T> alpha = splat(static_cast<T>(call.attr[0]));
  map<T>(call, begin, end, [alpha](Vec<T> x) { return x > T(0) ? x : alpha * expm1_nonpositive<T>(x); });
}
PFN_KERNEL(elu_forward, costly_prepare, elu_forward_run);

template <class T>
static void elu_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const Vec<T> alpha = splat(static_cast<T>(call.attr[0]));
  map2<T>(call, begin, end, [alpha](Vec<T> dy, Vec<T> y) { return y > T(0) ? dy : dy * (y + alpha); });
}
PFN_KERNEL(elu_backward, cheap_prepare, elu_backward_run);

template <class T>
static void sigmoid_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map<T>(call, begin, end, [](Vec<T> x) { return vsigmoid<T>(x); });
}
PFN_KERNEL(sigmoid_forward, costly_prepare, sigmoid_forward_run);

template <class T>
static void sigmoid_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> dy, Vec<T> y) { return dy * (y * (T(1) - y)); });
}
PFN_KERNEL(sigmoid_backward, cheap_prepare, sigmoid_backward_run);

template <class T>
static void tanh_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map<T>(call, begin, end, [](Vec<T> x) { return vtanh(x); });
}
PFN_KERNEL(tanh_forward, costly_prepare, tanh_forward_run);

// (1 - y) * (1 + y) keeps its digits where 1 - y * y would cancel.
template <class T>
static void tanh_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> dy, Vec<T> y) { return dy * ((T(1) - y) * (T(1) + y)); });
}
PFN_KERNEL(tanh_backward, cheap_prepare, tanh_backward_run);

}  // namespace pfn::PFN_ISA
