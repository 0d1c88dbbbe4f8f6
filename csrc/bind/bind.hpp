// What each binding file registers.
#pragma once
#include <pybind11/pybind11.h>

namespace pfn {

// Calls of less work than so many nanoseconds keep the GIL: to release it and take it back costs little alone, but
// among threads it is a change of threads at every call.
constexpr double kReleaseCost = 20000.0;

void bind_call(pybind11::module_& m);
void bind_plan(pybind11::module_& m);
void bind_predictor(pybind11::module_& m);
void bind_probe(pybind11::module_& m);

}  // namespace pfn
