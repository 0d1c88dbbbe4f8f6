// Which instruction sets were compiled, which the CPU has, and which one runs.
#pragma once
#include <string>
#include <vector>

namespace pfn {

enum class Isa { generic, avx2, avx512 };

const char* isa_name(Isa isa);
std::vector<Isa> compiled_isas();  // from the least to the best
Isa detected_isa();                // the best compiled one this CPU can run
Isa active_isa();

// Whether the active ISA multiplies bfloat16 numbers in hardware: it is avx512 and the CPU has AVX512-BF16, which
// csrc/kernels/gemm_bf16.cpp looks at too.
bool multiplies_bf16();

// Picks the ISA once, at import: the one named by `forced` (empty: the best). Throws std::invalid_argument when that
// name is unknown or cannot run here, or when the CPU lacks even the baseline.
void select_isa(const std::string& forced);

}  // namespace pfn
