// Included first by every file in this folder: vectors of the ISA being compiled, and how a kernel is published.
//
// Rules: these files are compiled once per ISA with PFN_ISA set to its name. They may include only <cstddef>,
// <cstdint>, <cmath>'s C functions through __builtin_*, intrinsics, and headers of this folder. No std containers or
// templates (weak symbols with this ISA's code could be picked by the linker for everyone), no allocation, no throw,
// everything not published is static.
#pragma once
#include <cstdint>

#include "kernels/vec.hpp"
#include "ops/op_call.hpp"

namespace pfn::PFN_ISA {

// Publishes `name` for float32 and float64 from templates name##_prepare<T>(OpCall&) and name##_run<T>(...).
#define PFN_KERNEL(name, prepare, run) \
  extern const Kernel name[2];         \
  const Kernel name[2] = {{prepare<float>, run<float>}, {prepare<double>, run<double>}}

// One phase over `extent` independent elements or rows, in pieces of at least ~`piece_ns` nanoseconds of work.
inline void one_phase(OpCall& call, std::int64_t extent, double ns_each, std::int64_t grain) {
  call.phases = 1;
  call.phase[0] = Phase{extent, grain, static_cast<double>(extent) * ns_each};
}

}  // namespace pfn::PFN_ISA
