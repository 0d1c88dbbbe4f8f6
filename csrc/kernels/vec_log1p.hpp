// log(1 + e) of a vector, for e = exp(-|x|) between 0 and 1.
//
// Up to sqrt(2) - 1 the argument is f = e itself, so that nothing is lost where e is tiny; above, f = (e - 1) / 2 and
// log 2 is added. Then as in vlog: s = f / (2 + f), log(1 + f) = 2 * s + s^3 * L(s^2).
// Max error: 1.5 ULP. NaN gives NaN.
#pragma once
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

template <class T>
static inline Vec<T> log1p_of_unit(Vec<T> e) {
  const auto high = e > T(0.41421356237309503);
  const Vec<T> k = high ? splat(T(1)) : splat(T(0));
  const Vec<T> f = high ? T(0.5) * (e - T(1)) : e;
  const Vec<T> s = f / (f + T(2));
  const Vec<T> z = s * s;
  const Vec<T> half_square = T(0.5) * f * f;
  const Vec<T> tail = s * fma(z, log_polynomial(z), half_square);
  return k * kLn2High<T> - ((half_square - fma(k, splat(kLn2Low<T>), tail)) - f);
}

}  // namespace pfn::PFN_ISA
