// float32 exp, sigmoid and tanh for AVX-512 by tables that live in registers; included by vec_math.hpp only.
//
// exp: x = (n + k/16) * ln 2 + r, exp(x) = 2^n * 2^(k/16) * exp(r): a table of 16 entries in two
// parts and a polynomial of degree 3 (Tang, ACM TOMS 15 (1989) 144).
// tanh: 32 intervals, eight to an octave of u = 0.8286 * t + 0.5, so that the high bits of u are
// the index, and a polynomial of degree 4 in t - centre. A centre is a float whose tanh is nearly a
// float (Gal and Bachelis, ACM TOMS 17 (1991) 26). The other coefficients are weighted least
// squares fits of the relative error, rounded one at a time from the lowest up.
// Max error: exp 1 ULP, tanh 2 ULP, sigmoid 3 ULP.
#pragma once
#include "kernels/vec.hpp"

namespace pfn::PFN_ISA {

alignas(64) static constexpr float kExpTable[16] = {
    1.0f,        1.04427373f, 1.09050775f, 1.13878858f, 1.18920708f, 1.24185777f, 1.29683959f, 1.35425556f,
    1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f, 1.68179286f, 1.75625217f, 1.8340081f,  1.91520655f};

// What the table lost in rounding.
alignas(64) static constexpr float kExpTableLow[16] = {0.0f,
                                                       4.83347016e-08f,
                                                       -1.30775399e-08f,
                                                       5.38622231e-08f,
                                                       3.79763527e-08f,
                                                       4.4968381e-08f,
                                                       -4.01899953e-08f,
                                                       -1.01233493e-08f,
                                                       2.4203235e-08f,
                                                       -4.50089885e-08f,
                                                       8.07090483e-09f,
                                                       9.83621717e-09f,
                                                       -2.47553267e-08f,
                                                       -9.23577037e-09f,
                                                       -1.1239278e-08f,
                                                       9.84532811e-09f};

// exp(x) = 2^floor(n) * 2^(index/16) * (1 + q), for |x| < 2^15.
struct SplitExp {
  VecF q, n;
  __m512i index;
};
static inline SplitExp split_exp(VecF x) {
  const VecF magic = splat(786432.0f);  // 1.5 * 2^19: the last bit of a sum is 1/16
  const VecF u = fma(x, splat(1.44269504f), magic);
  const VecF n = u - magic;
  const VecF r = fma(n, splat(0.00021219444f), fma(n, splat(-0.693359375f), x));
  return {fma(r * r, fma(r, splat(0.166669652f), splat(0.500009954f)), r), n, (__m512i)u};
}
static inline VecF exp_by_table_bounded(VecF x) {
  const SplitExp e = split_exp(x);
  const VecF t = (VecF)_mm512_permutexvar_ps(e.index, _mm512_load_ps(kExpTable));
  const VecF low = (VecF)_mm512_permutexvar_ps(e.index, _mm512_load_ps(kExpTableLow));
  // scalef rounds n down to a whole number.
  return (VecF)_mm512_scalef_ps((__m512)(fma(t, e.q, low) + t), (__m512)e.n);
}
static inline VecF exp_by_table(VecF x) { return exp_by_table_bounded(vmin(splat(89.0f), vmax(splat(-104.0f), x))); }

// sigmoid of x: e / (c + e) or c / (c + e) with e = c * exp(-|x|). The factor c makes every c * 2^(k/16) a float to
// within 0.3 * 2^-24 of its size, so that no low part is needed, and lets c + e round finely where e is small.
constexpr float kSigmoidFactor = 0.94021225f;
alignas(64) static constexpr float kSigmoidTable[16] = {
    0.94021225f, 0.981839001f, 1.02530873f, 1.07070303f, 1.11810708f, 1.16760993f, 1.21930444f, 1.27328765f,
    1.32966089f, 1.38853002f,  1.45000553f, 1.51420271f, 1.5812422f,  1.65124977f, 1.72435689f, 1.80070066f};

static inline VecF sigmoid_by_table(VecF x) {
  const VecF down = (VecF)_mm512_or_ps((__m512)x, _mm512_set1_ps(-0.0f));
  const SplitExp s = split_exp(vmax(splat(-104.0f), down));
  const VecF t = (VecF)_mm512_permutexvar_ps(s.index, _mm512_load_ps(kSigmoidTable));
  const VecF e = (VecF)_mm512_scalef_ps((__m512)fma(t, s.q, t), (__m512)s.n);
  return (x < 0.0f ? e : splat(kSigmoidFactor)) / (e + kSigmoidFactor);
}

alignas(64) static constexpr float kTanhCentre[32] = {
    1.96139407f,  2.26332545f,  2.56464624f,  2.86628199f,  3.16859412f,  3.46972728f,  3.77189207f,  4.07451248f,
    4.52595663f,  5.13023615f,  5.73394156f,  6.337358f,    6.94084644f,  7.54427385f,  8.14627171f,  8.74399281f,
    0.0f,         0.11314863f,  0.188602298f, 0.264061421f, 0.339448959f, 0.414903551f, 0.490302861f, 0.565742493f,
    0.678974152f, 0.829762161f, 0.980573952f, 1.13144469f,  1.28231275f,  1.43343174f,  1.58431637f,  1.7348758f};
alignas(64) static constexpr float kTanh0[32] = {
    0.961196065f, 0.97859782f,  0.988228202f, 0.993543386f, 0.99646771f,  0.99806428f,  0.998941779f, 0.999422133f,
    0.999765694f, 0.999930024f, 0.999979079f, 0.999993742f, 0.999998152f, 0.999999464f, 0.999999821f, 0.99999994f,
    0.0f,         0.112668224f, 0.186397418f, 0.258090377f, 0.326985359f, 0.392628282f, 0.454456776f, 0.512225688f,
    0.590852082f, 0.680348277f, 0.753314257f, 0.811513126f, 0.857099891f, 0.892367721f, 0.919273317f, 0.939629495f};
alignas(64) static constexpr float kTanh1[32] = {0.0761013553f,
                                                 0.0423456766f,
                                                 0.0234046057f,
                                                 0.0128712887f,
                                                 0.00705196103f,
                                                 0.00386761315f,
                                                 0.00211527757f,
                                                 0.00115537609f,
                                                 0.000468398473f,
                                                 0.000139899756f,
                                                 4.18278833e-05f,
                                                 1.25127208e-05f,
                                                 3.74239175e-06f,
                                                 1.11860788e-06f,
                                                 3.35920276e-07f,
                                                 1.01640609e-07f,
                                                 1.0f,
                                                 0.98730582f,
                                                 0.965255976f,
                                                 0.933389306f,
                                                 0.893080533f,
                                                 0.845843017f,
                                                 0.793469071f,
                                                 0.737624884f,
                                                 0.650894403f,
                                                 0.537126839f,
                                                 0.432518125f,
                                                 0.341446757f,
                                                 0.265379936f,
                                                 0.203679904f,
                                                 0.154936567f,
                                                 0.117096379f};
alignas(64) static constexpr float kTanh2[32] = {
    -0.0731489435f,   -0.0414396264f,   -0.0231292602f,   -0.0127882827f,  -0.00702706398f,  -0.00386015349f,
    -0.00211304449f,  -0.00115470181f,  -0.000468330283f, -0.00013989814f, -4.18287673e-05f, -1.25132174e-05f,
    -5.80085589e-06f, -3.12731595e-06f, 5.93480763e-07f,  6.80978019e-07f, 1.04316923e-05f,  -0.111237086f,
    -0.179920703f,    -0.240898982f,    -0.292024434f,    -0.332101882f,   -0.360597372f,    -0.377830297f,
    -0.384582609f,    -0.365433604f,    -0.325822115f,    -0.277088791f,   -0.227457345f,    -0.181757554f,
    -0.142429143f,    -0.110027283f};
alignas(64) static constexpr float kTanh3[32] = {
    0.0450790226f,   0.0265491568f,   0.0151290139f,   0.00845953636f,  0.0046769781f,   0.00257775513f,
    0.00141361845f,  0.000773248204f, 0.000319239742f, 9.53964773e-05f, 2.85272072e-05f, 8.53410711e-06f,
    2.59014791e-06f, 8.15356032e-07f, 2.28096809e-07f, 6.89643045e-08f, -0.334173501f,   -0.316377312f,
    -0.288072884f,   -0.248826191f,   -0.202121645f,   -0.15153788f,    -0.100676864f,   -0.0524330027f,
    0.00983907562f,  0.0691412762f,   0.10092815f,     0.110823967f,    0.106378473f,    0.0942604765f,
    0.0792878643f,   0.0643769726f};
alignas(64) static constexpr float kTanh4[32] = {
    -0.018822737f,   -0.0120949941f,   -0.00719490228f,  -0.00411521504f,  -0.00230569183f,  -0.00127782812f,
    -0.00070387841f, -0.000386417407f, -0.000159129981f, -4.76574787e-05f, -1.42632189e-05f, -4.26683118e-06f,
    2.11180268e-05f, 2.14999109e-05f,  -1.02655358e-05f, -8.91561558e-06f, 0.0192489065f,    0.0719236061f,
    0.113167033f,    0.144687921f,     0.163499281f,     0.170110494f,     0.165830523f,     0.152617127f,
    0.122202694f,    0.0746689066f,    0.0325003453f,    0.00244971528f,   -0.0153088998f,   -0.0234699175f,
    -0.0253654364f,  -0.0237725154f};

static inline VecF look_up(const float* table, __m512i index) {
  return (VecF)_mm512_permutex2var_ps(_mm512_load_ps(table), index, _mm512_load_ps(table + 16));
}

// tanh of t >= 0; NaN stays NaN.
static inline VecF tanh_by_table(VecF t) {
  const VecF bounded = vmin(splat(9.04f), t);
  const __m512i index = _mm512_srli_epi32((__m512i)fma(bounded, splat(0.8286f), splat(0.5f)), 20);
  const VecF d = bounded - look_up(kTanhCentre, index);
  VecF p = fma(look_up(kTanh4, index), d, look_up(kTanh3, index));
  p = fma(p, d, look_up(kTanh2, index));
  p = fma(p, d, look_up(kTanh1, index));
  return fma(p, d, look_up(kTanh0, index));
}

}  // namespace pfn::PFN_ISA
