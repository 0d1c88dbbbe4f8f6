// float32 exp, sigmoid, tanh and log1p for AVX-512 by tables that live in registers; included by vec_math.hpp only.
//
// exp: x = (n + k/16) * ln 2 + r, exp(x) = 2^n * 2^(k/16) * exp(r): a table of 16 entries in two
// parts and a polynomial of degree 3 (Tang, ACM TOMS 15 (1989) 144).
// tanh: 32 intervals, eight to an octave of u = 0.8286 * t + 0.5, so that the high bits of u are
// the index, and a polynomial of degree 4 in t - centre. A centre is a float whose tanh is nearly a
// float (Gal and Bachelis, ACM TOMS 17 (1991) 26). The other coefficients are weighted least
// squares fits of the relative error, rounded one at a time from the lowest up.
// Max error: exp 1 ULP, tanh 2 ULP, sigmoid 3 ULP, log1p 2 ULP.
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

// c * exp(x) for x <= 0, for the sigmoid: e / (c + e) or c / (c + e) with e = c * exp(-|x|). The factor c makes every c
// * 2^(k/16) a float to within 0.3 * 2^-24 of its size, so that no low part is needed, and lets c + e round finely
// where e is small.
constexpr float kSigmoidFactor = 0.94021225f;
alignas(64) static constexpr float kSigmoidTable[16] = {
    0.94021225f, 0.981839001f, 1.02530873f, 1.07070303f, 1.11810708f, 1.16760993f, 1.21930444f, 1.27328765f,
    1.32966089f, 1.38853002f,  1.45000553f, 1.51420271f, 1.5812422f,  1.65124977f, 1.72435689f, 1.80070066f};

static inline VecF sigmoid_exp_by_table(VecF x) {
  const SplitExp s = split_exp(vmax(splat(-104.0f), x));
  const VecF t = (VecF)_mm512_permutexvar_ps(s.index, _mm512_load_ps(kSigmoidTable));
  return (VecF)_mm512_scalef_ps((__m512)fma(t, s.q, t), (__m512)s.n);
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

// log(1 + e) / e in 32 intervals around k / 31, a polynomial of degree 3 in 31 * e - k; tools/fit_gelu.py prints it.
// clang-format off
alignas(64) static constexpr float kLog1pQuotient[4][32] = {
    {1.0f, 0.984209657f, 0.969065547f, 0.954524279f, 0.940546632f, 0.927096725f,
     0.914142013f, 0.901652515f, 0.889600933f, 0.877962172f, 0.866713047f, 0.855832279f,
     0.845300019f, 0.835098088f, 0.825209558f, 0.815618634f, 0.806310773f, 0.797272205f,
     0.788490355f, 0.779953122f, 0.771649539f, 0.763569117f, 0.755702078f, 0.748039246f,
     0.740571916f, 0.733291984f, 0.726191759f, 0.71926409f, 0.712502062f, 0.705899239f,
     0.699449539f, 0.693147182f},
    {-0.0161290281f, -0.0154596483f, -0.0148357973f, -0.0142532f, -0.0137080885f, -0.0131971277f,
     -0.0127173597f, -0.0122661488f, -0.0118411453f, -0.0114402436f, -0.011061551f, -0.0107033653f,
     -0.0103641488f, -0.0100425109f, -0.00973719079f, -0.00944704097f, -0.00917101931f, -0.00890817028f,
     -0.00865762588f, -0.00841858611f, -0.0081903208f, -0.00797215663f, -0.00776347378f, -0.0075637023f,
     -0.00737231411f, -0.00718882168f, -0.00701277377f, -0.00684375269f, -0.00668136869f, -0.00652526133f,
     -0.00637509394f, -0.00623055408f},
    {0.00034680558f, 0.000322906271f, 0.000301212072f, 0.00028189749f, 0.000263867172f, 0.000247682416f,
     0.000232404462f, 0.000218896719f, 0.000206554832f, 0.000194932378f, 0.000184302873f, 0.000174075496f,
     0.00016513138f, 0.00015675441f, 0.000148805426f, 0.000141697921f, 0.000134625778f, 0.000128520041f,
     0.000122129408f, 0.00011698329f, 0.000111749519f, 0.000106849489f, 0.000102164791f, 9.75689691e-05f,
     9.34968848e-05f, 8.96925922e-05f, 8.63057794e-05f, 8.26961113e-05f, 7.95076412e-05f, 7.65907898e-05f,
     7.37259907e-05f, 7.09008891e-05f},
    {-8.19217621e-06f, -7.57905718e-06f, -6.86762041e-06f, -6.24666836e-06f, -5.68977657e-06f, -5.19698233e-06f,
     -4.75280285e-06f, -4.36548908e-06f, -4.01762327e-06f, -3.70088037e-06f, -3.41763644e-06f, -3.15900184e-06f,
     -2.92930395e-06f, -2.72013631e-06f, -2.52748055e-06f, -2.35616631e-06f, -2.19276876e-06f, -2.05266292e-06f,
     -1.91590743e-06f, -1.79872779e-06f, -1.6859268e-06f, -1.58149123e-06f, -1.48624144e-06f, -1.39502833e-06f,
     -1.31292882e-06f, -1.23842494e-06f, -1.17110073e-06f, -1.10421263e-06f, -1.04518961e-06f, -9.89884825e-07f,
     -9.3906965e-07f, -8.89387536e-07f},
};
// clang-format on

// log(1 + e) for e from 0 to 1.
static inline VecF log1p_by_table(VecF e) {
  const VecF magic = splat(12582912.0f);  // 1.5 * 2^23: the last bit of a sum is 1
  const VecF u = fma(e, splat(31.0f), magic);
  const __m512i index = (__m512i)u;
  const VecF d = fma(e, splat(31.0f), magic - u);
  VecF p = fma(look_up(kLog1pQuotient[3], index), d, look_up(kLog1pQuotient[2], index));
  p = fma(p, d, look_up(kLog1pQuotient[1], index));
  return e * fma(p, d, look_up(kLog1pQuotient[0], index));
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
