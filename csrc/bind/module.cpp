// The extension module: chooses the instruction set at import, then registers calls and plans.
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <stdexcept>

#include "bind/arrays.hpp"
#include "bind/bind.hpp"
#include "core/cpu_info.hpp"
#include "core/parallel.hpp"
#include "core/rng.hpp"
#include "core/run.hpp"

#ifndef PFN_VERSION
#define PFN_VERSION "0"
#endif

namespace py = pybind11;
using namespace pfn;

static void set_threads(int n) {
  if (n < 0)
    throw std::invalid_argument("set_num_threads: n is " + std::to_string(n) + ", expected 1 or more (0: the default)");
  set_num_threads(n);
}

static void permutation(const py::object& out, std::uint64_t seed, std::uint32_t epoch) {
  const View view = array_view("permutation", "out", out, true);
  if (view.dtype != DType::i64 || view.ndim != 1)
    throw py::type_error("permutation: 'out' must be a one-dimensional int64 array");
  if (view.size() >= (std::int64_t{1} << 32)) throw std::invalid_argument("permutation: 'out' has 2**32 rows or more");
  shuffled(view.as<std::int64_t>(), view.size(), seed, epoch);
}

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native core of pyfastnn: the op table, one-op calls, and plans.";
  const char* forced = std::getenv("PYFASTNN_ISA");
  try {
    select_isa(forced != nullptr ? forced : "");
  } catch (const std::invalid_argument& error) {
    throw py::import_error(error.what());
  }
  m.attr("__version__") = PFN_VERSION;
  m.def("active_isa", [] { return isa_name(active_isa()); });
  m.def("detected_isa", [] { return isa_name(detected_isa()); });
  m.def("multiplies_bf16", &multiplies_bf16);
  m.def("compiled_isas", [] {
    py::list out;
    for (Isa isa : compiled_isas()) out.append(isa_name(isa));
    return out;
  });
  m.def("compiler", [] {
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "g++ " __VERSION__;
#endif
  });
  m.def("openmp_runtime", &openmp_runtime);
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_threads, py::arg("n"));
  m.def("parallel_cost", &parallel_cost);
  m.def("set_parallel_cost", &set_parallel_cost, py::arg("ns"));
  m.def("permutation", &permutation, py::arg("out"), py::arg("seed"), py::arg("epoch"));
  bind_call(m);
  bind_plan(m);
  bind_predictor(m);
  bind_probe(m);
}
