#include "bind/plan_args.hpp"

#include <stdexcept>

#include "bind/arrays.hpp"
#include "bind/fastcall.hpp"
#include "ops/shapes.hpp"

namespace pfn {

std::vector<Value> make_values(const py::list& values) {
  std::vector<Value> out;
  for (const auto& item : values) {
    const auto row = item.cast<py::tuple>();  // name, dtype, dims, external, advance, view_of
    Value value;
    value.name = row[0].cast<std::string>();
    value.dtype = row[1].cast<std::string>();
    for (const auto& dim : row[2].cast<py::tuple>()) value.dims.push_back(dim.cast<std::int64_t>());
    value.external = row[3].cast<bool>();
    const auto advance = row[4].cast<std::string>();
    value.advance = advance == "row"      ? Advance::row
                    : advance == "step"   ? Advance::step
                    : advance == "record" ? Advance::record
                                          : Advance::none;
    value.view_of = row.size() > 5 ? row[5].cast<int>() : -1;
    out.push_back(std::move(value));
  }
  return out;
}

std::vector<StepList> make_lists(const py::dict& lists) {
  std::vector<StepList> out;
  for (const auto& item : lists) {
    StepList list;
    list.name = item.first.cast<std::string>();
    for (const auto& entry : item.second.cast<py::list>()) {
      const auto row = entry.cast<py::tuple>();  // op, inputs, outputs, attrs, group
      Step step;
      const auto op = row[0].cast<std::string>();
      if (op == "python")  // its one attribute says which function
        step.function = static_cast<int>(row[3].cast<py::tuple>()[0].cast<double>());
      else
        step.op = op_schema(op).id;
      for (const auto& id : row[1].cast<py::tuple>()) step.inputs.push_back(id.cast<int>());
      for (const auto& id : row[2].cast<py::tuple>()) step.outputs.push_back(id.cast<int>());
      for (const auto& attr : row[3].cast<py::tuple>()) step.attrs.push_back(attr.cast<double>());
      step.group = row[4].cast<int>();
      list.steps.push_back(std::move(step));
    }
    out.push_back(std::move(list));
  }
  return out;
}

PlanOptions make_options(std::int64_t max_batch, const std::string& dtype, bool reuse, bool inplace, bool poison) {
  if (dtype != "float32" && dtype != "float64")
    throw std::invalid_argument("plan: dtype is '" + dtype + "', expected 'float32' or 'float64'");
  PlanOptions options;
  options.max_batch = max_batch;
  options.float_type = dtype == "float64" ? DType::f64 : DType::f32;
  options.reuse = reuse;
  options.inplace = inplace;
  options.poison = poison;
  return options;
}

std::vector<bool> written_values(const Plan& plan) {
  std::vector<bool> written(plan.values().size(), false);
  for (const StepList& list : plan.lists())
    for (const PointerSlot& slot : list.slots)
      if (slot.output) written[static_cast<std::size_t>(slot.value)] = true;
  return written;
}

void bind_array(Plan& plan, int id, py::handle array, bool written) {
  Value& value = plan.value(id);
  const std::string& name = value.name;
  if (!value.external)
    throw std::invalid_argument("plan: '" + name + "' lives in the plan's own memory and cannot be bound");
  if (array.is_none()) {
    plan.bind(id, nullptr, value.bound_dtype, value.bound_rows, value.bound_items);
    return;
  }
  const View view = array_view("plan", name, array, written);
  const DType expected = plan.dtype(id);
  if (value.dtype == "any" ? view.dtype == DType::i64 : view.dtype != expected)
    throw py::type_error("plan: '" + name + "' has dtype " + dtype_name(view.dtype) + ", expected " +
                         (value.dtype == "any" ? "float32, float64 or uint8" : dtype_name(expected)));
  const bool records = value.advance == Advance::record;
  const bool free_rows = records || (!value.dims.empty() && (value.dims[0] < 0 || value.advance == Advance::step));
  std::int64_t per_row = 1;
  for (std::size_t d = free_rows && !records ? 1 : 0; d < value.dims.size(); ++d) per_row *= value.dims[d];
  const std::int64_t rows = free_rows ? (view.ndim > 0 ? view.shape[0] : 0) : 1;
  if (view.ndim == 0 || view.size() != rows * per_row)
    throw std::invalid_argument("plan: '" + name + "' has shape " + shape_text(view) + ", expected " +
                                std::to_string(per_row) + (free_rows ? " items in each row" : " items"));
  plan.bind(id, view.data, view.dtype, rows, view.size());
}

int NameCache::id(const Plan& plan, py::handle name) {
  for (const auto& [known, id] : known_)
    if (known.ptr() == name.ptr()) return id;
  const int id = plan.value_id(as_text(name.ptr(), "plan", "name"));
  if (known_.size() < kMost) known_.emplace_back(py::reinterpret_borrow<py::object>(name), id);
  return id;
}

}  // namespace pfn
