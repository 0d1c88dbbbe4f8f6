// What plans are built from and bound to, as Python hands it over.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/plan.hpp"

namespace pfn {

namespace py = pybind11;

// Tuples (name, dtype, dims, external, advance).
std::vector<Value> make_values(const py::list& values);

// By name: tuples (op, input ids, output ids, attributes, hyper group).
std::vector<StepList> make_lists(const py::dict& lists);

PlanOptions make_options(std::int64_t max_batch, const std::string& dtype, bool reuse, bool inplace, bool poison);

// Per value: whether a step of any list writes it.
std::vector<bool> written_values(const Plan& plan);

// Lets an external value be this array, or nothing for None. The caller keeps the array alive.
void bind_array(Plan& plan, int id, py::handle array, bool written);

// Ids of the names a plan is called with, found by the address of the string: callers mostly pass the same literals.
class NameCache {
 public:
  int id(const Plan& plan, py::handle name);

 private:
  static constexpr std::size_t kMost = 16;
  std::vector<std::pair<py::object, int>> known_;
};

}  // namespace pfn
