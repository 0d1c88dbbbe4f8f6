// exp, expm1, log, tanh and sigmoid of a vector of floats or doubles, one text for every ISA.
//
//   exp(x) = 2^n * exp(r), n = round(x / ln 2), r = x - n * ln 2 taken in two parts
//            exp(r) = 1 + r + r^2 * P(r)
//   expm1(x) = 2^n * (r + r^2 * P(r)) + (2^n - 1)
//   log(x) = k * ln 2 + log(1 + f), s = f / (2 + f), log(1 + f) = 2 * s + s^3 * L(s^2)
//
// The polynomials are interpolations at Chebyshev nodes. n comes from adding 1.5 * 2^mantissa bits:
// that rounds to an integer and leaves it in the low bits; the order of sums must be kept, as it is
// everywhere here. float32 exp and tanh for AVX-512 stand in vec_tables_avx512.hpp.
// Max error: exp 1 ULP (float64: 2), log and expm1 1.5 ULP, tanh 2 ULP (float64: 3), sigmoid 3 ULP, subnormal results
// included, log1p 2 ULP. NaN gives NaN.
// Sources: Muller, Elementary Functions, ch. 5 and 11; Tang, ACM TOMS 15 (1989) 144.
#pragma once
#include "kernels/vec.hpp"
#if defined(PFN_ISA_AVX512)
#include "kernels/vec_tables_avx512.hpp"
#endif

namespace pfn::PFN_ISA {

template <class T>
struct FloatBits;
template <>
struct FloatBits<float> {
  using Int = std::int32_t;
  static constexpr int mantissa = 23;
  static constexpr Int bias = 127;
  static constexpr float magic = 12582912.0f;
  static constexpr Int magic_bits = 0x4b400000;
};
template <>
struct FloatBits<double> {
  using Int = std::int64_t;
  static constexpr int mantissa = 52;
  static constexpr Int bias = 1023;
  static constexpr double magic = 6755399441055744.0;
  static constexpr Int magic_bits = 0x4338000000000000;
};
template <class T>
using IntOf = typename FloatBits<T>::Int;
template <class T>
using IntVec = Vec<IntOf<T>>;
template <class T>
constexpr IntOf<T> kSignBit = static_cast<IntOf<T>>(IntOf<T>(1) << (8 * sizeof(T) - 2)) * -2;

template <class T>
constexpr T kInf = static_cast<T>(__builtin_inf());
template <class T>
constexpr T kNaN = static_cast<T>(__builtin_nan(""));

// 0, 1, 2, ... in the lanes.
template <class T>
static inline IntVec<T> lane_index() {
  IntOf<T> lane[kLanes<T>];
  for (std::int64_t i = 0; i < kLanes<T>; ++i) lane[i] = static_cast<IntOf<T>>(i);
  return load<IntOf<T>>(lane);
}

template <class T>
static inline Vec<T> vabs(Vec<T> x) {
  return (Vec<T>)((IntVec<T>)x & ~kSignBit<T>);
}
// x with its sign bit set where that of s is.
template <class T>
static inline Vec<T> or_sign(Vec<T> x, Vec<T> s) {
  return (Vec<T>)((IntVec<T>)x | ((IntVec<T>)s & kSignBit<T>));
}

// a / b within 2 ULP for b >= 1e-30, inf and NaN included.
static inline VecF quotient(VecF a, VecF b) {
#if defined(PFN_ISA_AVX512)
  // The divider takes 6 cycles a vector and makes the square roots too: a Newton step on 14 bits of 1 / b runs beside
  // it. The bound keeps 0 * inf away from an infinite b.
  const VecF r = (VecF)_mm512_rcp14_ps((__m512)b);
  return a * (r * fma(-vmin(splat(1e38f), b), r, splat(2.0f)));
#else
  return a / b;
#endif
}
static inline VecD quotient(VecD a, VecD b) { return a / b; }

// 2^n for whole n in the normal range.
template <class T>
static inline Vec<T> power_of_two(IntVec<T> n) {
  return (Vec<T>)((n + FloatBits<T>::bias) << FloatBits<T>::mantissa);
}

// p * 2^n for any n down to twice the smallest exponent: rounded once into the subnormals, inf on
// overflow.
template <class T>
static inline Vec<T> scale_by_power(Vec<T> p, Vec<T> n) {
#if defined(PFN_ISA_AVX512)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_scalef_ps((__m512)p, (__m512)n);
  else
    return (Vec<T>)_mm512_scalef_pd((__m512d)p, (__m512d)n);
#else
  const Vec<T> magic = splat(FloatBits<T>::magic);
  const IntVec<T> whole = (IntVec<T>)(n + magic) - FloatBits<T>::magic_bits;
  const IntVec<T> half = (IntVec<T>)fma(n, splat(T(0.5)), magic) - FloatBits<T>::magic_bits;
  return p * power_of_two<T>(half) * power_of_two<T>(whole - half);
#endif
}

template <class T>
struct ExpTerms {
  Vec<T> r, rest;   // exp(r) = 1 + r + rest
  Vec<T> q;         // exp(r) - 1
  Vec<T> n;         // the power of two
  IntVec<T> whole;  // the same as integers
};

static inline VecF exp_polynomial(VecF r) {
  VecF p = splat(0.00139269268f);
  p = fma(p, r, splat(0.00836377405f));
  p = fma(p, r, splat(0.0416665487f));
  p = fma(p, r, splat(0.166665733f));
  return fma(p, r, splat(0.5f));
}
static inline VecD exp_polynomial(VecD r) {
  VecD p = splat(2.0915442297780116e-09);
  p = fma(p, r, splat(2.5106274733573296e-08));
  p = fma(p, r, splat(2.75572718102198e-07));
  p = fma(p, r, splat(2.7557252833516911e-06));
  p = fma(p, r, splat(2.4801587327007187e-05));
  p = fma(p, r, splat(0.00019841269876864356));
  p = fma(p, r, splat(0.0013888888888883327));
  p = fma(p, r, splat(0.0083333333333255443));
  p = fma(p, r, splat(0.041666666666666671));
  p = fma(p, r, splat(0.16666666666666671));
  return fma(p, r, splat(0.5));
}

// The high part of ln 2 has so few bits that its product with n is exact, fused or not.
template <class T>
constexpr T kLn2High = sizeof(T) == 4 ? T(0.693359375) : T(0x1.62e42p-1);
template <class T>
constexpr T kLn2Low = sizeof(T) == 4 ? T(-0.00021219444) : T(4.7493250390316726e-07);

// Of x + low, where |low| is at most 0.05. |x| must be small enough for n to fit the mantissa; NaN gives NaN.
template <class T>
static inline ExpTerms<T> exp_terms(Vec<T> x, Vec<T> low) {
  const Vec<T> magic = splat(FloatBits<T>::magic);
  const Vec<T> u = fma(x, splat(T(1.4426950408889634)), magic);
  ExpTerms<T> t;
  t.n = u - magic;
  t.whole = (IntVec<T>)u - FloatBits<T>::magic_bits;
  t.r = fma(t.n, splat(-kLn2Low<T>), fma(t.n, splat(-kLn2High<T>), x)) + low;
  const Vec<T> square = t.r * t.r, p = exp_polynomial(t.r);
  t.rest = square * p;
  t.q = fma(square, p, t.r);
  return t;
}
template <class T>
static inline ExpTerms<T> exp_terms(Vec<T> x) {
  return exp_terms<T>(x, splat(T(-0.0)));
}
// exp(r), with what 1 + r loses in rounding put back.
template <class T>
static inline Vec<T> exp_of(const ExpTerms<T>& t) {
  const Vec<T> one_and_r = t.r + T(1);
  return one_and_r + (t.rest + (t.r - (one_and_r - T(1))));
}

template <class T>
static inline Vec<T> vexp(Vec<T> x) {
#if defined(PFN_ISA_AVX512)
  if constexpr (sizeof(T) == 4) return exp_by_table(x);
#endif
  constexpr T lowest = sizeof(T) == 4 ? T(-104) : T(-746);
  constexpr T highest = sizeof(T) == 4 ? T(89) : T(710);
  const ExpTerms<T> t = exp_terms<T>(vmin(splat(highest), vmax(splat(lowest), x)));
  return scale_by_power<T>(exp_of<T>(t), t.n);
}

// exp for x <= 0.
template <class T>
static inline Vec<T> exp_nonpositive(Vec<T> x) {
#if defined(PFN_ISA_AVX512)
  if constexpr (sizeof(T) == 4) return exp_by_table_bounded(vmax(splat(-104.0f), x));
#endif
  constexpr T lowest = sizeof(T) == 4 ? T(-104) : T(-746);
  const ExpTerms<T> t = exp_terms<T>(vmax(splat(lowest), x));
  return scale_by_power<T>(exp_of<T>(t), t.n);
}

// expm1 for x <= 0; positive x give 0. Relative accuracy at 0 is kept, and so is the sign of -0.
template <class T>
static inline Vec<T> expm1_nonpositive(Vec<T> x) {
  constexpr T lowest = sizeof(T) == 4 ? T(-20) : T(-40);
  const ExpTerms<T> t = exp_terms<T>(vmax(splat(lowest), vmin(splat(T(0)), x)));
  const Vec<T> scale = power_of_two<T>(t.whole);
  return or_sign<T>(fma(scale, t.q, scale - T(1)), x);
}

static inline VecF log_polynomial(VecF z) {
  VecF p = splat(0.233368114f);
  p = fma(p, z, splat(0.285505861f));
  p = fma(p, z, splat(0.400001228f));
  return fma(p, z, splat(0.666666687f));
}
static inline VecD log_polynomial(VecD z) {
  VecD p = splat(0.1462395660821188);
  p = fma(p, z, splat(0.15331112587960169));
  p = fma(p, z, splat(0.18182907497671219));
  p = fma(p, z, splat(0.22222210881932927));
  p = fma(p, z, splat(0.28571428627528794));
  p = fma(p, z, splat(0.39999999999896069));
  return fma(p, z, splat(0.66666666666666696));
}

// L of log1p below, by tools/fit_gelu.py.
static inline VecF log1p_polynomial(VecF z) {
  VecF p = splat(0.232243299f);
  p = fma(p, z, splat(0.217065752f));
  p = fma(p, z, splat(0.28592357f));
  p = fma(p, z, splat(0.399997056f));
  return fma(p, z, splat(0.666666687f));
}
static inline VecD log1p_polynomial(VecD z) {
  VecD p = splat(0.15630577800922851);
  p = fma(p, z, splat(0.074921437955507666));
  p = fma(p, z, splat(0.10845178394880015));
  p = fma(p, z, splat(0.11734279061303197));
  p = fma(p, z, splat(0.13335178631449257));
  p = fma(p, z, splat(0.1538454396486055));
  p = fma(p, z, splat(0.18181819897962714));
  p = fma(p, z, splat(0.22222222198236771));
  p = fma(p, z, splat(0.28571428571600099));
  p = fma(p, z, splat(0.39999999999999525));
  return fma(p, z, splat(0.66666666666666663));
}

// log(1 + e) for e from 0 to 1: 2 * s + s^3 * L(s^2), s = e / (2 + e).
template <class T>
static inline Vec<T> log1p_of_unit(Vec<T> e) {
#if defined(PFN_ISA_AVX512)
  if constexpr (sizeof(T) == 4) return log1p_by_table(e);
#endif
  const Vec<T> s = e / (e + T(2));
  const Vec<T> z = s * s;
  return fma(s * z, log1p_polynomial(z), s + s);
}

// log(0) = -inf, log of a negative number is NaN.
template <class T>
static inline Vec<T> vlog(Vec<T> x) {
  using Int = IntOf<T>;
  constexpr Int one_half_root = sizeof(T) == 4 ? Int(0x3f3504f3) : static_cast<Int>(0x3fe6a09e667f3bcd);
  constexpr T smallest = sizeof(T) == 4 ? T(1.17549435e-38) : T(2.2250738585072014e-308);
  const Vec<T> lift = splat(static_cast<T>(Int(1) << FloatBits<T>::mantissa));
  const auto subnormal = x < smallest;
  const IntVec<T> bits = (IntVec<T>)(subnormal ? x * lift : x) - one_half_root;
  const IntVec<T> power = bits >> FloatBits<T>::mantissa;
  const Vec<T> m = (Vec<T>)((bits & ((Int(1) << FloatBits<T>::mantissa) - 1)) + one_half_root);
  const Vec<T> magic = splat(FloatBits<T>::magic);
  Vec<T> k = (Vec<T>)(power + FloatBits<T>::magic_bits) - magic;
  k = subnormal ? k - static_cast<T>(FloatBits<T>::mantissa) : k;
  const Vec<T> f = m - T(1);
  const Vec<T> s = f / (f + T(2));
  const Vec<T> z = s * s;
  const Vec<T> half_square = T(0.5) * f * f;
  const Vec<T> tail = s * fma(z, log_polynomial(z), half_square);
  Vec<T> y = k * kLn2High<T> - ((half_square - fma(k, splat(kLn2Low<T>), tail)) - f);
  y = x < kInf<T> ? y : x;
  y = x == T(0) ? splat(-kInf<T>) : y;
  return x < T(0) ? splat(kNaN<T>) : y;
}

// e = one * exp(-|x|): sigmoid(|x|) is one / (one + e), sigmoid(-|x|) is e / (one + e).
template <class T>
struct SigmoidTerms {
  Vec<T> e, one;
};
template <class T>
static inline SigmoidTerms<T> sigmoid_terms(Vec<T> x) {
  const Vec<T> down = (Vec<T>)((IntVec<T>)x | kSignBit<T>);
#if defined(PFN_ISA_AVX512)
  if constexpr (sizeof(T) == 4) return {sigmoid_exp_by_table(down), splat(kSigmoidFactor)};
#endif
  return {exp_nonpositive<T>(down), splat(T(1))};
}

// Nothing overflows, and tiny results keep their digits.
template <class T>
static inline Vec<T> vsigmoid(Vec<T> x) {
  const SigmoidTerms<T> s = sigmoid_terms<T>(x);
  return (x < T(0) ? s.e : s.one) / (s.e + s.one);
}

// Below 0.625 an odd polynomial, above it 1 - 2 / (exp(2 t) + 1), which is 1 from t = 9.1 on.
static inline VecF vtanh(VecF x) {
#if defined(PFN_ISA_AVX512)
  return or_sign<float>(tanh_by_table(vabs<float>(x)), x);
#else
  const VecF t = vabs<float>(x);
  const ExpTerms<float> e = exp_terms<float>(2.0f * vmin(splat(10.0f), t));
  const VecF scale = power_of_two<float>(e.whole);
  const VecF large = 1.0f - 2.0f / (fma(scale, e.q, scale) + 1.0f);
  const VecF z = t * t;
  VecF p = splat(-0.00604516501f);
  p = fma(p, z, splat(0.0209613293f));
  p = fma(p, z, splat(-0.0538432635f));
  p = fma(p, z, splat(0.133327186f));
  p = fma(p, z, splat(-0.333333284f));
  const VecF small = fma(z * t, p, t);
  return or_sign<float>(t < 0.625f ? small : large, x);
#endif
}
// -e / (2 + e) with e = expm1(-2 t).
static inline VecD vtanh(VecD x) {
  const VecD e = expm1_nonpositive<double>(-2.0 * vabs<double>(x));
  return or_sign<double>(-e / (e + 2.0), x);
}

}  // namespace pfn::PFN_ISA
