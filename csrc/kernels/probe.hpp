// Small loops whose speed only the machine limits: what benchmarks hold everything else against.
#pragma once
#include <cstdint>

namespace pfn {

struct Probe {
  // `rounds` rounds of independent multiply-adds on registers; returns how many floating point operations that were.
  std::int64_t (*multiply_add)(std::int64_t rounds, float* sink);
  void (*read)(const float* x, std::int64_t n, float* sink);
  void (*update)(float* y, const float* x, std::int64_t n);  // y += a * x
};

}  // namespace pfn
