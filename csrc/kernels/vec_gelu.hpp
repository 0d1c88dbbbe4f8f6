// What gelu and its gradient need of a vector, from t = |x|:
//
//   gelu(x) = max(x, 0) - t * tail(t)          gelu'(x) = x < 0 ? slope(t) : 1 - slope(t)
//
//   exact form   tail(t) = Phi(-t) = exp(-t^2 / 2) * R(t)
//                slope(t) = Phi(-t) - t * phi(t) = exp(-t^2 / 2) * (R(t) - t / sqrt(2 pi))
//   tanh form    tail(t) = 1 / (1 + exp(z)), z = sqrt(8 / pi) * (t + 0.044715 * t^3)
//                slope(t) = tail + t * tail' = tail * (1 - t * z' * (1 - tail))
//
// R(t) = s * Q(s - 0.625) with s = 4 / (t + 4), Q a polynomial; exp takes the square in two parts, so that tails keep
// their digits. float32 on AVX-512 has tables instead, vec_gelu_avx512.hpp. Beyond kReach the tail is 0, and t is cut
// off there, so that an infinite x does not meet it.
// Max error, eps = 2^-23 or 2^-52: tail 4 * eps relative in the exact form, (3 + 2 * z) * eps in the tanh form; slope
// 8 * eps times its terms, tanh form (8 + 2 * z) * eps; a subnormal number more. On AVX-512 in float32 2e-12.
// Source: the form exp(-x^2) times a polynomial in 1 / (x + a) is that of Schonfelder, Math. Comp. 32 (1978) 1232.
#pragma once
#include "kernels/vec_math.hpp"
#if defined(PFN_ISA_AVX512)
#include "kernels/vec_gelu_avx512.hpp"
#endif

namespace pfn::PFN_ISA {

// Q, by tools/fit_gelu.py.
static inline VecF mills_polynomial(VecF d) {
  VecF p = splat(0.00983985141f);
  p = fma(p, d, splat(0.0280856881f));
  p = fma(p, d, splat(-0.0272208322f));
  p = fma(p, d, splat(-0.0917136371f));
  p = fma(p, d, splat(0.00315423729f));
  p = fma(p, d, splat(0.262841851f));
  p = fma(p, d, splat(0.500667512f));
  p = fma(p, d, splat(0.550621688f));
  p = fma(p, d, splat(0.420168579f));
  return fma(p, d, splat(0.233653024f));
}
static inline VecD mills_polynomial(VecD d) {
  VecD p = splat(0.0015247433606501977);
  p = fma(p, d, splat(0.0017363283504409589));
  p = fma(p, d, splat(-0.0022583029544503215));
  p = fma(p, d, splat(-0.0017759195006572782));
  p = fma(p, d, splat(0.0031551075638237332));
  p = fma(p, d, splat(-0.00023370315122669467));
  p = fma(p, d, splat(-0.0037238431638984926));
  p = fma(p, d, splat(0.0034524387334597096));
  p = fma(p, d, splat(0.0028151428165346915));
  p = fma(p, d, splat(-0.0073121345962706341));
  p = fma(p, d, splat(0.00022844867072647446));
  p = fma(p, d, splat(0.011866451776948166));
  p = fma(p, d, splat(-0.0059925568444666143));
  p = fma(p, d, splat(-0.018929999938510314));
  p = fma(p, d, splat(0.015649850401185585));
  p = fma(p, d, splat(0.036183114593835899));
  p = fma(p, d, splat(-0.028487408842512118));
  p = fma(p, d, splat(-0.09301833402314183));
  p = fma(p, d, splat(0.0032506345320614436));
  p = fma(p, d, splat(0.2629274298437555));
  p = fma(p, d, splat(0.50066522964762572));
  p = fma(p, d, splat(0.55061974235503341));
  p = fma(p, d, splat(0.42016858325085593));
  return fma(p, d, splat(0.23365303097670451));
}
// (1/2 - Phi(-t)) / t for t under 1/4, z = t^2: the series.
static inline VecF center_polynomial(VecF z) {
  VecF p = splat(-0.00118732822f);
  p = fma(p, z, splat(0.00997355701f));
  p = fma(p, z, splat(-0.0664903801f));
  return fma(p, z, splat(0.39894228f));
}
static inline VecD center_polynomial(VecD z) {
  VecD p = splat(-4.122667414862689e-08);
  p = fma(p, z, splat(6.6596935163166513e-07));
  p = fma(p, z, splat(-9.4446562595036147e-06));
  p = fma(p, z, splat(0.00011543468761615529));
  p = fma(p, z, splat(-0.0011873282154804543));
  p = fma(p, z, splat(0.0099735570100358169));
  p = fma(p, z, splat(-0.066490380066905441));
  return fma(p, z, splat(0.3989422804014327));
}

template <class T>
struct Gelu {
  // exp(-t^2 / 2) or its tanh counterpart is 0 from here on.
  static constexpr T reach = sizeof(T) == 4 ? T(14.5) : T(38.75);

  struct Parts {
    Vec<T> e, r;  // exp(-t^2 / 2) and R(t)
  };
  static inline Parts parts(Vec<T> t) {
    // The square of the leading half of t is exact, the rest is small.
    constexpr IntOf<T> trailing = (IntOf<T>(1) << (sizeof(T) == 4 ? 12 : 27)) - 1;
    const Vec<T> head = (Vec<T>)((IntVec<T>)t & ~trailing);
    const ExpTerms<T> e = exp_terms<T>(head * head * T(-0.5), (head - t) * (head + t) * T(0.5));
    const Vec<T> s = T(4) / (t + T(4));
    // s - 0.625 without the rounding error of s, which Q would magnify where t is small.
    const Vec<T> d = T(0.375) - t * s * T(0.25);
    return {scale_by_power<T>(exp_of<T>(e), e.n), s * mills_polynomial(d)};
  }
  static inline Vec<T> tail(Vec<T> t) {
    // The error of the tail is one of gelu where the tail is large.
    const Parts p = parts(t);
    return t < T(0.25) ? fma(-t, center_polynomial(t * t), splat(T(0.5))) : p.e * p.r;
  }
  static inline Vec<T> slope(Vec<T> t) {
    const Parts p = parts(t);
    return p.e * fma(t, splat(T(-0.3989422804014327)), p.r);
  }
};

template <class T>
struct GeluTanh {
  static constexpr T reach = sizeof(T) == 4 ? T(10.75) : T(21.75);
  static constexpr T linear = T(1.5957691216057308), cubic = T(0.07135481627260025);  // of z

  static inline Vec<T> tail(Vec<T> t) {
    const Vec<T> e = exp_nonpositive<T>(-t * fma(t * t, splat(cubic), splat(linear)));
    return e / (e + T(1));
  }
  static inline Vec<T> slope(Vec<T> t) {
    const Vec<T> square = t * t;
    const Vec<T> e = exp_nonpositive<T>(-t * fma(square, splat(cubic), splat(linear)));
    const Vec<T> rest = T(1) / (e + T(1));  // 1 - tail
    const Vec<T> steep = t * fma(square, splat(T(3) * cubic), splat(linear));
    return e * rest * fma(-steep, rest, splat(T(1)));
  }
};

#if defined(PFN_ISA_AVX512)
template <>
struct Gelu<float> {
  static constexpr float reach = kQuarterReach;
  static inline VecF tail(VecF t) { return by_quarters(kGeluTail, t); }
  static inline VecF slope(VecF t) { return by_quarters(kGeluSlope, t); }
};
template <>
struct GeluTanh<float> {
  static constexpr float reach = kQuarterReach;
  static inline VecF tail(VecF t) { return by_quarters(kGeluTanhTail, t); }
  static inline VecF slope(VecF t) { return by_quarters(kGeluTanhSlope, t); }
};
#endif

// NaN gives NaN, -inf gives 0.
template <class T, class Form>
static inline Vec<T> gelu_of(Vec<T> x) {
  const Vec<T> t = vmin(splat(Form::reach), vabs<T>(x));
  return fma(-t, Form::tail(t), vmax(splat(T(0)), x));
}
template <class T, class Form>
static inline Vec<T> gelu_slope_of(Vec<T> x) {
  const Vec<T> slope = Form::slope(vmin(splat(Form::reach), vabs<T>(x)));
  return x < T(0) ? slope : T(1) - slope;
}

}  // namespace pfn::PFN_ISA
