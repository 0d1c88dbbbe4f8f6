// What this machine can do at best, for benchmarks: the loops run without the GIL, so that threads can measure
// together.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "bind/arrays.hpp"
#include "bind/bind.hpp"
#include "core/cpu_info.hpp"
#include "kernels/probe.hpp"

namespace pfn::generic {
extern const Probe probe;
}
#ifdef PFN_HAVE_AVX2
namespace pfn::avx2 {
extern const Probe probe;
}
#endif
#ifdef PFN_HAVE_AVX512
namespace pfn::avx512 {
extern const Probe probe;
}
#endif

namespace py = pybind11;

namespace pfn {

static const Probe& active_probe() {
#ifdef PFN_HAVE_AVX512
  if (active_isa() == Isa::avx512) return avx512::probe;
#endif
#ifdef PFN_HAVE_AVX2
  if (active_isa() == Isa::avx2) return avx2::probe;
#endif
  return generic::probe;
}

static View floats(const char* name, const py::object& array) {
  constexpr std::int64_t kPiece = 128;  // eight vectors of 64 bytes
  const View view = array_view("probe", name, array, true);
  if (view.dtype != DType::f32 || view.size() == 0 || view.size() % kPiece != 0)
    throw py::type_error(std::string("probe: '") + name + "' must be float32 with a multiple of 128 items");
  return view;
}

static std::int64_t probe_multiply_add(std::int64_t rounds) {
  float sink = 1.0f;
  py::gil_scoped_release free;
  return active_probe().multiply_add(rounds, &sink);
}

static void probe_read(const py::object& x, std::int64_t repeats) {
  const View view = floats("x", x);
  float sink = 0.0f;
  py::gil_scoped_release free;
  for (std::int64_t k = 0; k < repeats; ++k) active_probe().read(view.as<float>(), view.size(), &sink);
}

static void probe_update(const py::object& y, const py::object& x, std::int64_t repeats) {
  const View to = floats("y", y), from = floats("x", x);
  if (to.size() != from.size()) throw std::invalid_argument("probe: 'y' and 'x' differ in size");
  py::gil_scoped_release free;
  for (std::int64_t k = 0; k < repeats; ++k) active_probe().update(to.as<float>(), from.as<float>(), to.size());
}

void bind_probe(py::module_& m) {
  m.def("probe_multiply_add", &probe_multiply_add, py::arg("rounds"));
  m.def("probe_read", &probe_read, py::arg("x"), py::arg("repeats"));
  m.def("probe_update", &probe_update, py::arg("y"), py::arg("x"), py::arg("repeats"));
}

}  // namespace pfn
