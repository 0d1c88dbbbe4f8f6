// Which kernel runs: a pointer table [ISA][op][float type], one row of it active from import on.
#pragma once
#include "core/cpu_info.hpp"
#include "ops/schema.hpp"

namespace pfn {

const Kernel& kernel(Isa isa, OpId op, DType float_type);
const Kernel& kernel(OpId op, DType float_type);  // of the active ISA

}  // namespace pfn
