// One op on plain arrays: the checks of the functional API, and the table as Python sees it.
#include <algorithm>
#include <stdexcept>
#include <unordered_map>

#include "bind/arrays.hpp"
#include "bind/bind.hpp"
#include "core/arena.hpp"
#include "core/parallel.hpp"
#include "core/run.hpp"
#include "ops/dispatch.hpp"
#include "ops/shapes.hpp"

namespace pfn {
namespace {

// Releasing and taking back the GIL costs about as much as this many nanoseconds of work are worth waiting for.
constexpr double kReleaseCost = 20000.0;

const OpSchema& find_schema(const std::string& name) {
  static const auto* const by_name = [] {
    auto* map = new std::unordered_map<std::string, const OpSchema*>();
    for (const OpSchema& schema : op_schemas()) map->emplace(schema.name, &schema);
    return map;
  }();
  const auto found = by_name->find(name);
  return found != by_name->end() ? *found->second : op_schema(name);
}

void check_dtype(const OpSchema& schema, const ArgSchema& arg, const View& view, DType float_type,
                 const std::string& because) {
  if (arg.dtype == "any") {
    if (view.dtype == DType::i64)
      throw py::type_error(schema.name + ": '" + arg.name + "' has dtype int64, expected float32, float64 or uint8");
    return;
  }
  const DType expected = arg_dtype(arg, float_type);
  if (view.dtype != expected)
    throw py::type_error(schema.name + ": '" + arg.name + "' has dtype " + dtype_name(view.dtype) + ", expected " +
                         dtype_name(expected) + (arg.dtype == "T" ? because : std::string()));
}

// The float type of a call: that of its first float array, or the one asked for.
DType deduce_float(const OpSchema& schema, const OpCall& call, const py::object& dtype, std::string& because) {
  for (std::size_t i = 0; i < schema.inputs.size(); ++i) {
    if (schema.inputs[i].dtype != "T" || call.in[i].ndim < 0) continue;
    const DType type = call.in[i].dtype;
    if (type != DType::f32 && type != DType::f64)
      throw py::type_error(schema.name + ": '" + schema.inputs[i].name + "' has dtype " + dtype_name(type) +
                           ", expected float32 or float64");
    because = " because '" + schema.inputs[i].name + "' has dtype " + dtype_name(type);
    return type;
  }
  if (dtype.is_none()) return DType::f32;
  const auto name = dtype.cast<std::string>();
  if (name != "float32" && name != "float64")
    throw std::invalid_argument(schema.name + ": dtype is '" + name + "', expected 'float32' or 'float64'");
  return name == "float64" ? DType::f64 : DType::f32;
}

bool overlap(const View& a, const View& b) {
  const auto* a0 = static_cast<const char*>(a.data);
  const auto* b0 = static_cast<const char*>(b.data);
  return a0 < b0 + b.size() * item_size(b.dtype) && b0 < a0 + a.size() * item_size(a.dtype);
}

void check_overlap(const OpSchema& schema, const OpCall& call) {
  for (std::size_t o = 0; o < schema.outputs.size(); ++o) {
    const ArgSchema& arg = schema.outputs[o];
    for (std::size_t i = 0; i < schema.inputs.size(); ++i) {
      if (call.in[i].ndim < 0 || !overlap(call.out[o], call.in[i])) continue;
      const bool same = call.out[o].data == call.in[i].data;
      if (same && (arg.alias == static_cast<int>(i) || (schema.inplace && o == 0 && i == 0))) continue;
      throw std::invalid_argument(schema.name + ": output '" + arg.name + "' overlaps input '" + schema.inputs[i].name +
                                  "'");
    }
    for (std::size_t other = 0; other < o; ++other)
      if (overlap(call.out[o], call.out[other]))
        throw std::invalid_argument(schema.name + ": outputs '" + arg.name + "' and '" + schema.outputs[other].name +
                                    "' overlap");
  }
}

double number(const OpSchema& schema, const std::string& name, py::handle value) {
  const double result = PyFloat_AsDouble(value.ptr());
  if (result == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::type_error(schema.name + ": '" + name + "' is a " +
                         std::string(py::str(py::type::handle_of(value).attr("__name__"))) + ", expected a number");
  }
  return result;
}

py::tuple call(const std::string& name, const py::tuple& inputs, const py::object& outputs, const py::tuple& attrs,
               const py::object& hyper, const py::object& dtype) {
  const OpSchema& schema = find_schema(name);
  if (inputs.size() != schema.inputs.size())
    throw py::type_error(schema.name + ": " + std::to_string(inputs.size()) + " inputs, expected " +
                         std::to_string(schema.inputs.size()));
  OpCall op;
  for (std::size_t i = 0; i < schema.inputs.size(); ++i) {
    const py::handle input = inputs[i];
    if (input.is_none() && schema.inputs[i].optional)
      op.in[i].ndim = -1;
    else
      op.in[i] = array_view(schema.name, schema.inputs[i].name, input, false);
  }
  std::string because;
  const DType type = deduce_float(schema, op, dtype, because);
  for (std::size_t i = 0; i < schema.inputs.size(); ++i)
    if (op.in[i].ndim >= 0) check_dtype(schema, schema.inputs[i], op.in[i], type, because);
  infer_shapes(schema, op, type);
  check_values(schema, op);

  if (attrs.size() > schema.attrs.size())
    throw py::type_error(schema.name + ": " + std::to_string(attrs.size()) + " attributes, expected at most " +
                         std::to_string(schema.attrs.size()));
  for (std::size_t a = 0; a < schema.attrs.size(); ++a)
    op.attr[a] = a < attrs.size() ? number(schema, schema.attrs[a].first, attrs[a]) : schema.attrs[a].second;
  double row[kHyperFields] = {};
  if (!schema.hyper.empty()) {
    if (hyper.is_none()) throw py::type_error(schema.name + ": 'hyper' is missing");
    const auto fields = hyper.cast<py::tuple>();
    if (fields.size() != kHyperFields)
      throw py::type_error(schema.name + ": 'hyper' has " + std::to_string(fields.size()) + " fields, expected " +
                           std::to_string(static_cast<int>(kHyperFields)));
    for (std::size_t f = 0; f < kHyperFields; ++f)
      row[f] = number(schema, hyper_name(static_cast<HyperField>(f)), fields[f]);
    op.hyper = row;
  }

  py::tuple given = outputs.is_none() ? py::tuple() : outputs.cast<py::tuple>();
  if (!outputs.is_none() && given.size() != schema.outputs.size())
    throw py::type_error(schema.name + ": " + std::to_string(given.size()) + " outputs, expected " +
                         std::to_string(schema.outputs.size()));
  py::tuple result(schema.outputs.size());
  for (std::size_t o = 0; o < schema.outputs.size(); ++o) {
    const ArgSchema& arg = schema.outputs[o];
    py::object array;
    if (given.size() > 0 && !given[o].is_none()) {
      array = given[o];
      if (arg.alias >= 0 && !array.is(inputs[static_cast<std::size_t>(arg.alias)]))
        throw std::invalid_argument(schema.name + ": output '" + arg.name +
                                    "' is updated in place, expected the array given as input '" + arg.name + "'");
    } else if (arg.alias >= 0)
      array = inputs[static_cast<std::size_t>(arg.alias)];
    else
      array = new_array(op.out[o]);
    const View view = array_view(schema.name, arg.name, array, true);
    check_dtype(schema, arg, view, type, because);
    if (view.ndim != op.out[o].ndim || !std::equal(view.shape, view.shape + view.ndim, op.out[o].shape))
      throw std::invalid_argument(schema.name + ": output '" + arg.name + "' has shape " + shape_text(view) +
                                  ", expected " + shape_text(op.out[o]));
    op.out[o].data = view.data;
    result[o] = std::move(array);
  }
  check_overlap(schema, op);

  // Grow-only workspaces of the calling thread: after the first call of a size nothing is allocated.
  static thread_local Arena shared;
  static thread_local Arena local;
  const Kernel& entry = kernel(schema.id, type);
  entry.prepare(op);
  const int threads = worth_threads(op) ? num_threads() : 1;
  const std::int64_t stride = align_up(op.local_bytes);
  op.scratch = shared.reserve(op.scratch_bytes);
  char* workspace = local.reserve(stride * threads);
  double cost = 0;
  for (int p = 0; p < op.phases; ++p) cost += op.phase[p].cost;
  struct Context {
    const OpCall& op;
    const Kernel& entry;
    char* workspace;
    std::int64_t stride;
  } context{op, entry, workspace, stride};
  const auto body = [](void* c, Team& team) {
    const auto* with = static_cast<const Context*>(c);
    run_call(with->op, with->entry, team, with->workspace, with->stride);
  };
  if (cost >= kReleaseCost) {
    // Safe: `inputs` and `result` keep every array alive, and nothing below touches a Python object.
    py::gil_scoped_release release;
    with_team(threads, body, &context);
  } else {
    with_team(threads, body, &context);
  }
  return result;
}

py::dict describe_arg(const ArgSchema& arg, bool input) {
  py::dict out;
  out["name"] = arg.name;
  out["dtype"] = arg.dtype;
  py::list dims;
  for (const std::string& dim : arg.dims) dims.append(dim);
  out["dims"] = dims;
  if (input) out["optional"] = arg.optional;
  return out;
}

py::list describe_ops() {
  py::list out;
  for (const OpSchema& schema : op_schemas()) {
    py::dict op;
    op["name"] = schema.name;
    py::list inputs, outputs, hyper;
    for (const ArgSchema& arg : schema.inputs) inputs.append(describe_arg(arg, true));
    for (const ArgSchema& arg : schema.outputs) outputs.append(describe_arg(arg, false));
    for (HyperField field : schema.hyper) hyper.append(hyper_name(field));
    py::dict attrs;
    for (const auto& [name, value] : schema.attrs) attrs[py::str(name)] = value;
    op["inputs"] = inputs;
    op["outputs"] = outputs;
    op["attrs"] = attrs;
    op["hyper"] = hyper;
    op["inplace"] = schema.inplace;
    out.append(op);
  }
  return out;
}

}  // namespace

void bind_call(py::module_& m) {
  m.def("call", &call, py::arg("name"), py::arg("inputs"), py::arg("outputs") = py::none(),
        py::arg("attrs") = py::tuple(), py::arg("hyper") = py::none(), py::arg("dtype") = py::none());
  m.def("op_schemas", &describe_ops);
  m.def("hyper_fields", [] {
    py::list out;
    for (int field = 0; field < kHyperFields; ++field) out.append(hyper_name(field));
    return out;
  });
}

}  // namespace pfn
