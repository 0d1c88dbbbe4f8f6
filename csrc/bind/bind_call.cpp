// One op on plain arrays: the checks of the functional API, and the table as Python sees it.
#include <algorithm>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

#include "bind/arrays.hpp"
#include "bind/bind.hpp"
#include "bind/fastcall.hpp"
#include "core/arena.hpp"
#include "core/parallel.hpp"
#include "core/run.hpp"
#include "ops/dispatch.hpp"
#include "ops/shapes.hpp"

namespace pfn {
namespace {

const OpSchema& find_schema(py::handle name) {
  static const auto* const by_name = [] {
    auto* map = new std::unordered_map<std::string_view, const OpSchema*>();
    for (const OpSchema& schema : op_schemas()) map->emplace(schema.name, &schema);
    return map;
  }();
  Py_ssize_t size = 0;
  const char* const text = PyUnicode_Check(name.ptr()) ? PyUnicode_AsUTF8AndSize(name.ptr(), &size) : nullptr;
  if (text != nullptr) {
    const auto found = by_name->find(std::string_view(text, static_cast<std::size_t>(size)));
    if (found != by_name->end()) return *found->second;
  }
  return op_schema(as_text(name.ptr(), "call", "name"));
}

// `first` is the input that decided the float type, or null.
void check_dtype(const OpSchema& schema, const ArgSchema& arg, const View& view, DType float_type,
                 const ArgSchema* first) {
  if (arg.dtype == "any") {
    if (view.dtype == DType::i64)
      throw py::type_error(schema.name + ": '" + arg.name + "' has dtype int64, expected float32, float64 or uint8");
    return;
  }
  const DType expected = arg_dtype(arg, float_type);
  if (view.dtype == expected) return;
  std::string because;
  if (first != nullptr && arg.dtype == "T")
    because = " because '" + first->name + "' has dtype " + dtype_name(float_type);
  throw py::type_error(schema.name + ": '" + arg.name + "' has dtype " + dtype_name(view.dtype) + ", expected " +
                       dtype_name(expected) + because);
}

// The float type of a call: that of its first float array, or the one asked for.
DType deduce_float(const OpSchema& schema, const OpCall& call, py::handle dtype, const ArgSchema*& first) {
  for (std::size_t i = 0; i < schema.inputs.size(); ++i) {
    if (schema.inputs[i].dtype != "T" || call.in[i].ndim < 0) continue;
    const DType type = call.in[i].dtype;
    if (type != DType::f32 && type != DType::f64)
      throw py::type_error(schema.name + ": '" + schema.inputs[i].name + "' has dtype " + dtype_name(type) +
                           ", expected float32 or float64");
    first = &schema.inputs[i];
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

// Borrowed references to the arguments; None where one was left out.
struct CallArgs {
  py::handle name, inputs, outputs, attrs, hyper, dtype;
};

py::tuple tuple_of(py::handle object, const char* what) {
  if (!PyTuple_Check(object.ptr())) throw py::type_error(std::string("call: '") + what + "' must be a tuple");
  return py::reinterpret_borrow<py::tuple>(object);
}

py::tuple call(const CallArgs& args) {
  const OpSchema& schema = find_schema(args.name);
  const py::tuple inputs = tuple_of(args.inputs, "inputs");
  const py::handle outputs = args.outputs, hyper = args.hyper, dtype = args.dtype;
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
  const ArgSchema* first = nullptr;
  const DType type = deduce_float(schema, op, dtype, first);
  for (std::size_t i = 0; i < schema.inputs.size(); ++i)
    if (op.in[i].ndim >= 0) check_dtype(schema, schema.inputs[i], op.in[i], type, first);
  const std::size_t given_attrs = args.attrs.is_none() ? 0 : tuple_of(args.attrs, "attrs").size();
  if (given_attrs > schema.attrs.size())
    throw py::type_error(schema.name + ": " + std::to_string(given_attrs) + " attributes, expected at most " +
                         std::to_string(schema.attrs.size()));
  for (std::size_t a = 0; a < schema.attrs.size(); ++a)
    op.attr[a] = a < given_attrs ? number(schema, schema.attrs[a].first,
                                          PyTuple_GET_ITEM(args.attrs.ptr(), static_cast<Py_ssize_t>(a)))
                                 : schema.attrs[a].second;
  check_attrs(schema, op);
  infer_shapes(schema, op, type);
  check_values(schema, op);

  double row[kHyperFields] = {};
  if (!schema.hyper.empty()) {
    if (hyper.is_none()) throw py::type_error(schema.name + ": 'hyper' is missing");
    const py::tuple fields = tuple_of(hyper, "hyper");
    if (fields.size() != kHyperFields)
      throw py::type_error(schema.name + ": 'hyper' has " + std::to_string(fields.size()) + " fields, expected " +
                           std::to_string(static_cast<int>(kHyperFields)));
    for (std::size_t f = 0; f < kHyperFields; ++f)
      row[f] = number(schema, hyper_name(static_cast<HyperField>(f)), fields[f]);
    op.hyper = row;
  }

  const py::object given = outputs.is_none() ? py::object() : tuple_of(outputs, "outputs");
  if (given && static_cast<std::size_t>(PyTuple_GET_SIZE(given.ptr())) != schema.outputs.size())
    throw py::type_error(schema.name + ": " + std::to_string(PyTuple_GET_SIZE(given.ptr())) + " outputs, expected " +
                         std::to_string(schema.outputs.size()));
  py::tuple result(schema.outputs.size());
  for (std::size_t o = 0; o < schema.outputs.size(); ++o) {
    const ArgSchema& arg = schema.outputs[o];
    py::object array;
    const py::handle wanted =
        given ? py::handle(PyTuple_GET_ITEM(given.ptr(), static_cast<Py_ssize_t>(o))) : py::handle(Py_None);
    if (!wanted.is_none()) {
      array = py::reinterpret_borrow<py::object>(wanted);
      if (arg.alias >= 0 && !array.is(inputs[static_cast<std::size_t>(arg.alias)]))
        throw std::invalid_argument(schema.name + ": output '" + arg.name +
                                    "' is updated in place, expected the array given as input '" + arg.name + "'");
    } else if (arg.alias >= 0)
      array = inputs[static_cast<std::size_t>(arg.alias)];
    else
      array = new_array(op.out[o]);
    const View view = array_view(schema.name, arg.name, array, true);
    check_dtype(schema, arg, view, type, first);
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
  } else if (threads > 1) {
    with_team(threads, body, &context);
  } else {
    run_call(op, entry, workspace);
  }
  return result;
}

PyObject* call_entry(PyObject*, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
  static const char* const kNames[] = {"name", "inputs", "outputs", "attrs", "hyper", "dtype"};
  static const Signature<6> signature("call", kNames, 6, 2);
  return guarded([&] {
    PyObject* found[6];
    signature.parse(args, given, keywords, found);
    const auto or_none = [](PyObject* object) { return py::handle(object == nullptr ? Py_None : object); };
    return call(
        CallArgs{found[0], found[1], or_none(found[2]), or_none(found[3]), or_none(found[4]), or_none(found[5])});
  });
}

// Postfix: whole numbers, "@attribute", letters, and the four operators.
py::list describe_rule(const DimRule& rule) {
  py::list out;
  for (const DimToken& token : rule) {
    switch (token.kind) {
      case DimToken::number:
        out.append(token.value);
        break;
      case DimToken::letter:
        out.append(token.name);
        break;
      case DimToken::attr:
        out.append("@" + token.name);
        break;
      default:
        out.append(std::string(1, static_cast<char>(token.kind)));
    }
  }
  return out;
}

py::dict describe_arg(const ArgSchema& arg, bool input) {
  py::dict out;
  out["name"] = arg.name;
  out["dtype"] = arg.dtype;
  py::list dims, rules;
  for (const std::string& dim : arg.dims) dims.append(dim);
  for (const DimRule& rule : arg.rules) rules.append(describe_rule(rule));
  out["dims"] = dims;
  out["rules"] = rules;
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
  static PyMethodDef entry = {"call", method_pointer(&call_entry), METH_FASTCALL | METH_KEYWORDS,
                              "call(name, inputs, outputs=None, attrs=(), hyper=None, dtype=None)"};
  m.attr("call") =
      py::reinterpret_steal<py::object>(PyCFunction_NewEx(&entry, nullptr, py::str("pyfastnn._core").release().ptr()));
  m.def("op_schemas", &describe_ops);
  m.def("hyper_fields", [] {
    py::list out;
    for (int field = 0; field < kHyperFields; ++field) out.append(hyper_name(field));
    return out;
  });
}

}  // namespace pfn
