#include "core/cpu_info.hpp"

#include <stdexcept>

namespace pfn {

static Isa g_active = Isa::generic;

const char* isa_name(Isa isa) { return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "generic"; }

std::vector<Isa> compiled_isas() {
  return {
      Isa::generic,
#ifdef PFN_HAVE_AVX2
      Isa::avx2,
#endif
#ifdef PFN_HAVE_AVX512
      Isa::avx512,
#endif
  };
}

static bool runs_here(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == Isa::avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("ssse3");
#else
  return isa == Isa::generic;
#endif
}

Isa detected_isa() {
  Isa best = Isa::generic;
  for (Isa isa : compiled_isas())
    if (runs_here(isa)) best = isa;
  return best;
}

Isa active_isa() { return g_active; }

bool multiplies_bf16() {
#if defined(__x86_64__)
  return g_active == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

void select_isa(const std::string& forced) {
  if (!runs_here(Isa::generic))
    throw std::invalid_argument(
        "this build of pyfastnn needs an x86-64-v2 processor (SSE4.2, POPCNT); this one lacks it");
  if (forced.empty()) {
    g_active = detected_isa();
    return;
  }
  std::string names;
  for (Isa isa : compiled_isas()) {
    names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
    if (forced != isa_name(isa)) continue;
    if (!runs_here(isa))
      throw std::invalid_argument("PYFASTNN_ISA=" + forced + " but this processor cannot run it (its best is " +
                                  isa_name(detected_isa()) + ")");
    g_active = isa;
    return;
  }
  throw std::invalid_argument("PYFASTNN_ISA=" + forced + " is not one of the compiled instruction sets: " + names);
}

}  // namespace pfn
