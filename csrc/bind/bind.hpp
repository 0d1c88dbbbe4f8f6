// What each binding file registers.
#pragma once
#include <pybind11/pybind11.h>

namespace pfn {

void bind_call(pybind11::module_& m);
void bind_plan(pybind11::module_& m);

}  // namespace pfn
