// Plans as Python sees them: build from plain tuples, bind arrays by name, run without the GIL, trace, describe.
#include <cstring>
#include <limits>
#include <stdexcept>

#include "bind/arrays.hpp"
#include "bind/bind.hpp"
#include "core/executor.hpp"
#include "core/parallel.hpp"
#include "core/snapshot.hpp"
#include "ops/dispatch.hpp"
#include "ops/shapes.hpp"

namespace pfn {
namespace {

// Marks the plan as running for one call; the second caller gets an error at once.
class Entry {
 public:
  explicit Entry(Plan& plan) : plan_(plan) {
    if (plan_.running.exchange(true)) throw std::runtime_error("plan: already running in another thread");
  }
  ~Entry() { plan_.running.store(false); }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

 private:
  Plan& plan_;
};

// Between steps: handles signals, and asks the progress callback; its true answer stops the run.
class PythonPoll : public Poll {
 public:
  explicit PythonPoll(const py::object& progress) : progress_(progress) {}

  bool keep_going(std::int64_t steps_done) override {
    py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) {
      error_ = true;
      return false;
    }
    if (!progress_.is_none()) {
      PyObject* answer = PyObject_CallFunction(progress_.ptr(), "L", static_cast<long long>(steps_done));
      if (answer == nullptr) {
        error_ = true;
        return false;
      }
      const bool stop = PyObject_IsTrue(answer) == 1;
      Py_DECREF(answer);
      if (stop) return false;
    }
    return true;
  }
  bool error() const { return error_; }

 private:
  const py::object& progress_;
  bool error_ = false;
};

class PyPlan {
 public:
  PyPlan(const py::list& values, const py::dict& lists, std::int64_t max_batch, const std::string& dtype, bool reuse,
         bool inplace, bool poison)
      : plan_(make_values(values), make_lists(lists), make_options(max_batch, dtype, reuse, inplace, poison)),
        kept_(plan_.values().size()),
        written_(plan_.values().size(), false) {
    for (const StepList& list : plan_.lists())
      for (const PointerSlot& slot : list.slots)
        if (slot.output) written_[static_cast<std::size_t>(slot.value)] = true;
  }

  void bind(const std::string& name, const py::object& array) {
    Entry entry(plan_);
    bind_one(name, array);
  }

  py::tuple run_list(const std::string& name, std::int64_t rows, std::int64_t batch, const py::dict& arrays,
                     const py::object& hyper, const py::object& watch, double limit, double limit_factor, bool snapshot,
                     const py::object& progress, int threads, const py::object& step_ns, const std::string& then) {
    Entry entry(plan_);
    StepList& list = plan_.list(name);
    for (const auto& item : arrays)
      bind_one(item.first.cast<std::string>(), py::reinterpret_borrow<py::object>(item.second));
    RunRequest request = make_request(rows, batch, hyper, threads);
    if (!watch.is_none()) request.watch = watched(watch.cast<std::string>());
    request.limit = limit;
    request.limit_factor = limit_factor;
    if (!step_ns.is_none()) {
      const View view = array_view("plan", "step_ns", step_ns, true);
      if (view.dtype != DType::i64 || view.size() != static_cast<std::int64_t>(list.steps.size()))
        throw std::invalid_argument("plan: 'step_ns' must hold one int64 for each of the " +
                                    std::to_string(list.steps.size()) + " steps");
      request.step_ns = view.as<std::int64_t>();
    }
    PythonPoll poll(progress);
    request.poll = &poll;
    StepList* const last = then.empty() ? nullptr : &plan_.list(then);
    RunResult result;
    {
      // Safe: every bound array is kept alive by kept_, which no one changes while `entry` stands.
      py::gil_scoped_release release;
      if (snapshot) save_state(plan_, list);
      result = run(plan_, list, request);
      // The last loss may be fine and its update not: the next snapshot must not keep the damage.
      if (snapshot && result.reason != StopReason::limit && !state_is_finite(plan_, list))
        result.reason = StopReason::nonfinite;
      if (last != nullptr) {
        RunRequest once;
        once.rows = once.batch = 1;
        once.hyper = request.hyper;
        once.hyper_steps = request.hyper == nullptr ? 0 : 1;
        once.hyper_groups = request.hyper_groups;
        once.threads = request.threads;
        run(plan_, *last, once);
      }
    }
    if (poll.error()) {
      // Ctrl-C is an answer, not an error: the caller learns how many steps stand.
      if (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) throw py::error_already_set();
      PyErr_Clear();
    }
    return py::make_tuple(result.steps, stop_name(result.reason));
  }

  void restore(const std::string& name) {
    Entry entry(plan_);
    restore_state(plan_, plan_.list(name));
  }

  py::list trace(const std::string& name, std::int64_t rows, const py::dict& arrays, const py::object& hyper,
                 int threads) {
    Entry entry(plan_);
    StepList& list = plan_.list(name);
    for (const auto& item : arrays)
      bind_one(item.first.cast<std::string>(), py::reinterpret_borrow<py::object>(item.second));
    RunRequest request = make_request(rows, rows, hyper, threads);
    struct Hook : StepHook {
      const Plan& plan;
      const StepList& steps;
      py::list out;
      Hook(const Plan& p, const StepList& s) : plan(p), steps(s) {}
      void after(std::size_t step, const OpCall& call, std::int64_t ns) override {
        py::dict values;
        for (std::size_t o = 0; o < steps.steps[step].outputs.size(); ++o) {
          py::array copy = new_array(call.out[o]);
          std::memcpy(copy.mutable_data(), call.out[o].data,
                      static_cast<std::size_t>(call.out[o].size() * item_size(call.out[o].dtype)));
          values[py::str(plan.values()[static_cast<std::size_t>(steps.steps[step].outputs[o])].name)] = copy;
        }
        out.append(py::make_tuple(op_schema(steps.steps[step].op).name, values, ns));
      }
    } hook(plan_, list);
    request.hook = &hook;
    run(plan_, list, request);  // with the GIL: the hook makes arrays
    return hook.out;
  }

  py::list layout(const std::string& name) {
    Entry entry(plan_);
    StepList& list = plan_.list(name);
    Prepared prepared;
    plan_.prepare(list, prepared, plan_.options().max_batch);
    py::list out;
    for (std::size_t s = 0; s < list.steps.size(); ++s) {
      const Step& step = list.steps[s];
      py::dict row;
      row["op"] = op_schema(step.op).name;
      row["inputs"] = ids_to_names(step.inputs);
      row["outputs"] = ids_to_names(step.outputs);
      py::list places;
      for (std::size_t o = 0; o < step.outputs.size(); ++o) {
        const View& view = prepared.calls[s].out[o];
        py::list shape;
        for (int d = 0; d < view.ndim; ++d) shape.append(view.shape[d]);
        places.append(py::make_tuple(shape, view.size() * item_size(view.dtype),
                                     list.offset[static_cast<std::size_t>(step.outputs[o])]));
      }
      row["places"] = places;
      row["phases"] = prepared.calls[s].phases;
      row["scratch_bytes"] = prepared.calls[s].scratch_bytes;
      row["local_bytes"] = prepared.calls[s].local_bytes;
      out.append(row);
    }
    return out;
  }

  std::int64_t scratch_bytes() { return plan_.scratch().bytes(); }

 private:
  static std::vector<Value> make_values(const py::list& values) {
    std::vector<Value> out;
    for (const auto& item : values) {
      const auto row = item.cast<py::tuple>();  // name, dtype, dims, external, advance
      Value value;
      value.name = row[0].cast<std::string>();
      value.dtype = row[1].cast<std::string>();
      for (const auto& dim : row[2].cast<py::tuple>()) value.dims.push_back(dim.cast<std::int64_t>());
      value.external = row[3].cast<bool>();
      const auto advance = row[4].cast<std::string>();
      value.advance = advance == "row" ? Advance::row : advance == "step" ? Advance::step : Advance::none;
      out.push_back(std::move(value));
    }
    return out;
  }

  static std::vector<StepList> make_lists(const py::dict& lists) {
    std::vector<StepList> out;
    for (const auto& item : lists) {
      StepList list;
      list.name = item.first.cast<std::string>();
      for (const auto& entry : item.second.cast<py::list>()) {
        const auto row = entry.cast<py::tuple>();  // op, inputs, outputs, attrs, group
        Step step;
        step.op = op_schema(row[0].cast<std::string>()).id;
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

  static PlanOptions make_options(std::int64_t max_batch, const std::string& dtype, bool reuse, bool inplace,
                                  bool poison) {
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

  RunRequest make_request(std::int64_t rows, std::int64_t batch, const py::object& hyper, int threads) {
    RunRequest request;
    request.rows = rows;
    request.batch = batch;
    request.threads = threads > 0 ? threads : num_threads();
    if (rows < 0) throw std::invalid_argument("plan: rows is " + std::to_string(rows) + ", expected 0 or more");
    if (!hyper.is_none()) {
      const View view = array_view("plan", "hyper", hyper, false);
      if (view.dtype != DType::f64 || view.ndim != 3 || view.shape[2] != kHyperFields)
        throw std::invalid_argument("plan: 'hyper' must be a float64 array of shape (steps, groups, " +
                                    std::to_string(static_cast<int>(kHyperFields)) + ")");
      request.hyper = view.as<const double>();
      request.hyper_steps = view.shape[0];
      request.hyper_groups = view.shape[1];
      hyper_ = hyper;
    }
    return request;
  }

  int watched(const std::string& name) {
    const int id = plan_.value_id(name);
    const Value& value = plan_.value(id);
    if (!value.external || value.advance != Advance::step || value.dtype != "f64")
      throw std::invalid_argument("plan: '" + name +
                                  "' cannot be watched: it is not a float64 result that advances by step");
    return id;
  }

  // None unbinds: the plan forgets the memory, and a run that needs it says so.
  void bind_one(const std::string& name, const py::object& array) {
    const int id = plan_.value_id(name);
    const auto index = static_cast<std::size_t>(id);
    Value& value = plan_.value(id);
    if (!value.external)
      throw std::invalid_argument("plan: '" + name + "' lives in the plan's own memory and cannot be bound");
    if (array.is_none()) {
      plan_.bind(id, nullptr, value.bound_dtype, value.bound_rows, value.bound_items);
      kept_[index] = py::none();
      return;
    }
    const View view = array_view("plan", name, array, written_[index]);
    if (value.dtype == "any" ? view.dtype == DType::i64 : view.dtype != plan_.view(id, 1).dtype)
      throw py::type_error("plan: '" + name + "' has dtype " + dtype_name(view.dtype) + ", expected " +
                           (value.dtype == "any" ? "float32, float64 or uint8" : dtype_name(plan_.view(id, 1).dtype)));
    const bool free_rows = !value.dims.empty() && (value.dims[0] < 0 || value.advance == Advance::step);
    std::int64_t per_row = 1;
    for (std::size_t d = free_rows ? 1 : 0; d < value.dims.size(); ++d) per_row *= value.dims[d];
    const std::int64_t rows = free_rows ? (view.ndim > 0 ? view.shape[0] : 0) : 1;
    if (view.ndim == 0 || view.size() != rows * per_row)
      throw std::invalid_argument("plan: '" + name + "' has shape " + shape_text(view) + ", expected " +
                                  std::to_string(per_row) + (free_rows ? " items in each row" : " items"));
    plan_.bind(id, view.data, view.dtype, rows, view.size());
    kept_[index] = array;
  }

  py::list ids_to_names(const std::vector<int>& ids) {
    py::list out;
    for (int id : ids) {
      if (id < 0)
        out.append(py::none());
      else
        out.append(plan_.values()[static_cast<std::size_t>(id)].name);
    }
    return out;
  }

  Plan plan_;
  std::vector<py::object> kept_;
  std::vector<bool> written_;
  py::object hyper_;
};

}  // namespace

void bind_plan(py::module_& m) {
  py::class_<PyPlan>(m, "Plan")
      .def(py::init<const py::list&, const py::dict&, std::int64_t, const std::string&, bool, bool, bool>(),
           py::arg("values"), py::arg("lists"), py::kw_only(), py::arg("max_batch"), py::arg("dtype") = "float32",
           py::arg("reuse") = true, py::arg("inplace") = true, py::arg("poison") = false)
      .def("bind", &PyPlan::bind, py::arg("name"), py::arg("array"))
      .def("run", &PyPlan::run_list, py::arg("name"), py::arg("rows"), py::arg("batch"), py::arg("arrays") = py::dict(),
           py::kw_only(), py::arg("hyper") = py::none(), py::arg("watch") = py::none(),
           py::arg("limit") = std::numeric_limits<double>::infinity(), py::arg("limit_factor") = 0.0,
           py::arg("snapshot") = false, py::arg("progress") = py::none(), py::arg("threads") = 0,
           py::arg("step_ns") = py::none(), py::arg("then") = "")
      .def("restore", &PyPlan::restore, py::arg("name"))
      .def("trace", &PyPlan::trace, py::arg("name"), py::arg("rows"), py::arg("arrays") = py::dict(), py::kw_only(),
           py::arg("hyper") = py::none(), py::arg("threads") = 0)
      .def("layout", &PyPlan::layout, py::arg("name"))
      .def_property_readonly("scratch_bytes", &PyPlan::scratch_bytes);
}

}  // namespace pfn
