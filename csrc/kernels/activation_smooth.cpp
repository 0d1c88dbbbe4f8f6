// Activations that bend smoothly from 0 to the identity, forward and backward side by side.
// Elementwise over any shape; the first output may be the memory of the first input.
//
//   gelu       y = x * Phi(x), Phi the normal distribution      dx = dy * (Phi(x) + x * phi(x))
//   gelu_tanh  y = x * sigmoid(z(x))                            dx = dy * (sigmoid(z) + x * sigmoid'(z) * z'(x))
//              z(x) = sqrt(8 / pi) * (x + 0.044715 * x^3), which is (1 + tanh(z / 2)) / 2 instead of sigmoid(z)
//   silu       y = x * sigmoid(x)                               dx = dy * (sigmoid(x) + x * sigmoid'(x))
//   softplus   y = log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))
//                                                               dx = dy * sigmoid(x)
//
// NaN gives NaN; -inf gives 0 (-0 for silu). Max error, eps = 2^-23 or 2^-52, where no exp is subnormal:
//   gelu       x > 0 3 ULP, else 5 * eps relative, and on AVX-512 in float32 2e-12 * |x| absolute
//   gelu_tanh  x > 0 3 ULP, else (3 + 2 * |z|) * eps relative, and on AVX-512 in float32 2e-12 * |x| absolute
//   silu       3 ULP (float64: 4), and 3e-37 (4e-306) absolute, where exp overflows
//   softplus   3 ULP (float64: 4)
// The slopes: gelu 8 * eps * (tail + |x| * phi(x)) + eps / 2, gelu_tanh (8 + 2 * |z|) * eps times its terms + eps / 2,
// silu 6 * eps * sigmoid(x) * (1 + |x| * sigmoid(-x)), softplus that of sigmoid.
// Backward ops read x.
// Sources: Hendrycks and Gimpel, arXiv:1606.08415 (both gelus); Elfwing, Uchibe and Doya, Neural Networks 107 (2018)
// 3 (silu); Dugas et al., NIPS 2000 (softplus).
#include "kernels/elementwise.hpp"
#include "kernels/vec_gelu.hpp"

namespace pfn::PFN_ISA {

template <class T>
static void gelu_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map<T>(call, begin, end, [](Vec<T> x) { return gelu_of<T, Gelu<T>>(x); });
}
PFN_KERNEL(gelu_forward, costly_prepare, gelu_forward_run);

template <class T>
static void gelu_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> dy, Vec<T> x) { return dy * gelu_slope_of<T, Gelu<T>>(x); });
}
PFN_KERNEL(gelu_backward, costly_prepare, gelu_backward_run);

template <class T>
static void gelu_tanh_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map<T>(call, begin, end, [](Vec<T> x) { return gelu_of<T, GeluTanh<T>>(x); });
}
PFN_KERNEL(gelu_tanh_forward, costly_prepare, gelu_tanh_forward_run);

template <class T>
static void gelu_tanh_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> dy, Vec<T> x) { return dy * gelu_slope_of<T, GeluTanh<T>>(x); });
}
PFN_KERNEL(gelu_tanh_backward, costly_prepare, gelu_tanh_backward_run);

// Rounds less than x times sigmoid; exp(-x) is inf from -x = 88.8 (float64: 709.8) on. A largest number instead of
// infinity keeps that from being inf / inf.
template <class T>
static void silu_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  constexpr T most = sizeof(T) == 4 ? T(3e38) : T(1e308);
  map<T>(call, begin, end, [](Vec<T> x) { return vmax(splat(-most), x) / (vexp<T>(-x) + T(1)); });
}
PFN_KERNEL(silu_forward, costly_prepare, silu_forward_run);

// sigmoid is 0 below minus this number, and 1 above it: x is cut off there, so that inf does not meet a 0.
template <class T>
constexpr T kSigmoidReach = sizeof(T) == 4 ? T(110) : T(750);

template <class T>
static void silu_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> dy, Vec<T> x) {
    const SigmoidTerms<T> s = sigmoid_terms<T>(x);
    const Vec<T> inverse = T(1) / (s.e + s.one);
    const Vec<T> low = s.e * inverse, high = s.one * inverse;
    const auto negative = x < T(0);
    const Vec<T> bounded = vmin(splat(kSigmoidReach<T>), vmax(splat(-kSigmoidReach<T>), x));
    // sigmoid' / sigmoid is 1 - sigmoid, which is not made by subtraction.
    return dy * ((negative ? low : high) * fma(bounded, negative ? high : low, splat(T(1))));
  });
}
PFN_KERNEL(silu_backward, costly_prepare, silu_backward_run);

template <class T>
static void softplus_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map<T>(call, begin, end, [](Vec<T> x) {
    const Vec<T> e = exp_nonpositive<T>((Vec<T>)((IntVec<T>)x | kSignBit<T>));
    return vmax(splat(T(0)), x) + log1p_of_unit<T>(e);
  });
}
PFN_KERNEL(softplus_forward, costly_prepare, softplus_forward_run);

template <class T>
static void softplus_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  map2<T>(call, begin, end, [](Vec<T> dy, Vec<T> x) { return dy * vsigmoid<T>(x); });
}
PFN_KERNEL(softplus_backward, costly_prepare, softplus_backward_run);

}  // namespace pfn::PFN_ISA
