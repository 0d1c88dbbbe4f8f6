// Activations, forward and backward side by side, and the sum of two arrays.
// Elementwise over any shape; the first output may be the memory of the first input.
//
//   add         y = a + b
//   relu        y = x <= 0 ? 0 : x                  dx = y <= 0 ? 0 : dy
//   leaky_relu  y = x > 0 ? x : slope * x           dx = x > 0 ? dy : slope * dy
//   exp         y = exp(x)                          dx = dy * y
//   elu         y = x > 0 ? x : alpha * expm1(x)    dx = y > 0 ? dy : dy * (y + alpha)
//   selu        y = x > 0 ? scale * x : scale * alpha * expm1(x)
//                                                   dx = y > 0 ? scale * dy : dy * (y + scale * alpha)
//               scale = 1.0507009873554805, alpha = 1.6732632423543772
//   sigmoid     y = 1 / (1 + exp(-x))               dx = dy * y * (1 - y)
//   tanh        y = tanh(x)                         dx = dy * (1 - y) * (1 + y)
//
// NaN: y is NaN where x is. A NaN in y leaves dy alone in relu_backward, so a diverged unit is
// never mistaken for a dead one. relu makes +0 of -0: the largest of several y then has the bits of the y of the
// largest x.
// Max error of the forward ops, float32 and float64: exp 1 and 2 ULP, tanh 2 and 3 ULP, sigmoid 3 ULP, elu with
// alpha = 1 2 ULP (half a ULP more for other alpha), selu 3 ULP; the others are exact or rounded once.
// Sources: relu Nair and Hinton, ICML 2010; leaky_relu Maas et al., ICML 2013; elu Clevert et al.,
// ICLR 2016; selu Klambauer et al., NIPS 2017; exp, expm1 and tanh in vec_math.hpp.
#include "kernels/elementwise.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

template <class T>
static void add_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> a, Vec<T> b) { return a + b; });
}
PFN_KERNEL(add, cheap_prepare, add_run);

template <class T>
static void relu_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map<T>(call, begin, end, [](Vec<T> x) { return x <= T(0) ? splat(T(0)) : x; });
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
constexpr T kSeluScale = static_cast<T>(1.0507009873554805);
template <class T>
constexpr T kSeluLowest = static_cast<T>(1.7580993408473769);  // scale * alpha

template <class T>
static void selu_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map<T>(call, begin, end,
         [](Vec<T> x) { return x > T(0) ? kSeluScale<T> * x : kSeluLowest<T> * expm1_nonpositive<T>(x); });
}
PFN_KERNEL(selu_forward, costly_prepare, selu_forward_run);

template <class T>
static void selu_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end,
          [](Vec<T> dy, Vec<T> y) { return dy * (y > T(0) ? splat(kSeluScale<T>) : y + kSeluLowest<T>); });
}
PFN_KERNEL(selu_backward, cheap_prepare, selu_backward_run);

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
