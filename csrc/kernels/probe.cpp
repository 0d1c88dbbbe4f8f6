// Small loops whose speed only the machine limits, with vectors of the instruction set being compiled.
//
//   multiply_add  acc[k] = acc[k] * a + b with twelve accumulators: more than latency times units of any processor
//                 so far, and few enough for sixteen registers; a product and a sum where there is no fused one
//   read          sums n floats into eight accumulators
//   update        y += a * x: two arrays read, one of them written, as an update of parameters does
//
// n is a multiple of 8 vectors of 64 bytes; the caller sees to that.
#include "kernels/probe.hpp"

#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

static std::int64_t probe_multiply_add(std::int64_t rounds, float* sink) {
  constexpr int kChains = 12;
  // From the sink, so that the compiler cannot know them; the sums approach 2 * b and never overflow.
  const VecF a = splat(0.5f), b = splat(*sink);
  VecF acc[kChains];
  for (int k = 0; k < kChains; ++k) acc[k] = splat(static_cast<float>(k));
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < kChains; ++k) acc[k] = fma(acc[k], a, b);
  }
  VecF sum = acc[0];
  for (int k = 1; k < kChains; ++k) sum = sum + acc[k];
  *sink = reduce_add<float>(sum);
  return 2 * kChains * kLanes<float> * rounds;
}

static void probe_read(const float* x, std::int64_t n, float* sink) {
  constexpr int kChains = 8;
  VecF acc[kChains];
  for (int k = 0; k < kChains; ++k) acc[k] = splat(0.0f);
  for (std::int64_t i = 0; i < n; i += kChains * kLanes<float>) {
#pragma GCC unroll 8
    for (int k = 0; k < kChains; ++k) acc[k] = acc[k] + load<float>(x + i + k * kLanes<float>);
  }
  VecF sum = acc[0];
  for (int k = 1; k < kChains; ++k) sum = sum + acc[k];
  *sink = reduce_add<float>(sum);
}

static void probe_update(float* y, const float* x, std::int64_t n) {
  const VecF a = splat(0.5f);
  for (std::int64_t i = 0; i < n; i += 4 * kLanes<float>) {
#pragma GCC unroll 4
    for (std::int64_t j = i; j < i + 4 * kLanes<float>; j += kLanes<float>) {
      store<float>(y + j, fma(load<float>(x + j), a, load<float>(y + j)));
    }
  }
}

extern const Probe probe;
const Probe probe = {probe_multiply_add, probe_read, probe_update};

}  // namespace pfn::PFN_ISA
