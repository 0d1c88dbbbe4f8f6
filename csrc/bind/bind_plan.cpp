// Plans as Python sees them: build from plain tuples, bind arrays by name, run without the GIL, trace, describe.
#include <cstring>
#include <limits>
#include <stdexcept>

#include "bind/arrays.hpp"
#include "bind/bind.hpp"
#include "bind/fastcall.hpp"
#include "bind/plan_args.hpp"
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
  explicit PythonPoll(PyObject* progress) : progress_(progress) {}  // null for none

  bool keep_going(std::int64_t steps_done) override {
    py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) {
      error_ = true;
      return false;
    }
    if (progress_ != nullptr) {
      PyObject* answer = PyObject_CallFunction(progress_, "L", static_cast<long long>(steps_done));
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
  PyObject* progress_;
  bool error_ = false;
};

std::string step_name(const Step& step) { return step.foreign() ? "python" : op_schema(step.op).name; }

py::dtype numpy_dtype(DType type) {
  switch (type) {
    case DType::f32:
      return py::dtype::of<float>();
    case DType::f64:
      return py::dtype::of<double>();
    case DType::u8:
      return py::dtype::of<std::uint8_t>();
    default:
      return py::dtype::of<std::int64_t>();
  }
}

// An array over memory of the plan, which `owner` keeps.
py::array borrowed_array(const View& view, const py::object& owner, bool writable) {
  std::vector<py::ssize_t> shape(view.shape, view.shape + view.ndim);
  py::array array(numpy_dtype(view.dtype), shape, view.data, owner);
  if (!writable) array.attr("setflags")(py::arg("write") = false);
  return array;
}

// Steps that are Python functions: called as f(inputs, outputs) with tuples of arrays over the plan's memory.
class PythonFunctions : public Foreign {
 public:
  PythonFunctions(const py::list& functions, py::object owner) : functions_(functions), owner_(std::move(owner)) {}

  bool call(int function, int inputs, int outputs, const OpCall& call) override {
    py::gil_scoped_acquire acquire;
    try {
      py::tuple in(inputs), out(outputs);
      for (int i = 0; i < inputs; ++i) in[static_cast<std::size_t>(i)] = borrowed_array(call.in[i], owner_, false);
      for (int o = 0; o < outputs; ++o) out[static_cast<std::size_t>(o)] = borrowed_array(call.out[o], owner_, true);
      functions_[static_cast<std::size_t>(function)](in, out);
      return true;
    } catch (py::error_already_set& error) {
      error.restore();
      raised_ = true;
      return false;
    }
  }
  // Throws what a function raised.
  void check() const {
    if (raised_) throw py::error_already_set();
  }

 private:
  const py::list& functions_;
  py::object owner_;
  bool raised_ = false;
};

class PyPlan {
 public:
  PyPlan(const py::list& values, const py::dict& lists, std::int64_t max_batch, const std::string& dtype, bool reuse,
         bool inplace, bool poison, const py::list& functions)
      : functions_(functions),
        plan_(make_values(values), make_lists(lists), make_options(max_batch, dtype, reuse, inplace, poison)),
        kept_(plan_.values().size()),
        written_(written_values(plan_)) {}

  void bind(py::handle name, py::handle array) {
    Entry entry(plan_);
    bind_one(name, array);
  }

  // Arguments of `run`, borrowed; null where one was left out.
  enum Argument {
    kName,
    kRows,
    kBatchRows,
    kArrays,
    kHyper,
    kWatch,
    kLimit,
    kLimitFactor,
    kSnapshot,
    kProgress,
    kThreads,
    kStepNs,
    kThen,
    kAlso,
    kEvery,
    kOffset,
    kArguments
  };

  py::tuple run_list(PyObject* (&args)[kArguments]) {
    for (int i = kHyper; i < kArguments; ++i)
      if (args[i] == Py_None) args[i] = nullptr;
    Entry entry(plan_);
    StepList& list = plan_.list(as_text(args[kName], "plan", "name"));
    if (args[kArrays] != nullptr) bind_all(args[kArrays]);
    const int threads = args[kThreads] == nullptr ? 0 : static_cast<int>(as_whole(args[kThreads], "plan", "threads"));
    RunRequest request = make_request(as_whole(args[kRows], "plan", "rows"),
                                      as_whole(args[kBatchRows], "plan", "batch"), args[kHyper], threads);
    if (args[kWatch] != nullptr) request.watch = watched(as_text(args[kWatch], "plan", "watch"));
    request.limit =
        args[kLimit] == nullptr ? std::numeric_limits<double>::infinity() : as_number(args[kLimit], "plan", "limit");
    if (args[kLimitFactor] != nullptr) request.limit_factor = as_number(args[kLimitFactor], "plan", "limit_factor");
    if (args[kStepNs] != nullptr) {
      const View view = array_view("plan", "step_ns", args[kStepNs], true);
      if (view.dtype != DType::i64 || view.size() != static_cast<std::int64_t>(list.steps.size()))
        throw std::invalid_argument("plan: 'step_ns' must hold one int64 for each of the " +
                                    std::to_string(list.steps.size()) + " steps");
      request.step_ns = view.as<std::int64_t>();
    }
    const bool snapshot = args[kSnapshot] != nullptr && PyObject_IsTrue(args[kSnapshot]) == 1;
    const std::string then = args[kThen] == nullptr ? std::string() : as_text(args[kThen], "plan", "then");
    StepList* const last = then.empty() ? nullptr : &plan_.list(then);
    if (args[kAlso] != nullptr) {
      request.also = &plan_.list(as_text(args[kAlso], "plan", "also"));
      if (args[kEvery] != nullptr) request.every = as_whole(args[kEvery], "plan", "every");
      if (args[kOffset] != nullptr) request.offset = as_whole(args[kOffset], "plan", "offset");
    }
    PythonPoll poll(args[kProgress]);
    request.poll = &poll;
    PythonFunctions functions(functions_, functions_.empty() ? py::object() : py::cast(this));
    if (!functions_.empty()) request.foreign = &functions;
    RunResult result;
    if (!snapshot && last == nullptr && expected_cost(plan_, list, request) < kReleaseCost) {
      result = run(plan_, list, request);
    } else {
      // Safe: every bound array is kept alive by kept_, which no one changes while `entry` stands.
      py::gil_scoped_release release;
      result = run_all(list, request, snapshot, last);
    }
    functions.check();
    if (poll.error()) {
      // Ctrl-C is an answer, not an error: the caller learns how many steps stand.
      if (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) throw py::error_already_set();
      PyErr_Clear();
    }
    return py::reinterpret_steal<py::tuple>(
        Py_BuildValue("(Ls)", static_cast<long long>(result.steps), stop_name(result.reason)));
  }

  void restore(const std::string& name) {
    Entry entry(plan_);
    restore_state(plan_, plan_.list(name));
  }

  py::list trace(const std::string& name, std::int64_t rows, const py::dict& arrays, const py::object& hyper,
                 int threads) {
    Entry entry(plan_);
    StepList& list = plan_.list(name);
    bind_all(arrays.ptr());
    RunRequest request = make_request(rows, rows, hyper.is_none() ? nullptr : hyper.ptr(), threads);
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
        out.append(py::make_tuple(step_name(steps.steps[step]), values, ns));
      }
    } hook(plan_, list);
    request.hook = &hook;
    PythonFunctions functions(functions_, functions_.empty() ? py::object() : py::cast(this));
    if (!functions_.empty()) request.foreign = &functions;
    run(plan_, list, request);  // with the GIL: the hook makes arrays
    functions.check();
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
      row["op"] = step_name(step);
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
  RunResult run_all(StepList& list, const RunRequest& request, bool snapshot, StepList* last) {
    if (snapshot) save_state(plan_, list);
    RunResult result = run(plan_, list, request);
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
    return result;
  }

  RunRequest make_request(std::int64_t rows, std::int64_t batch, PyObject* hyper, int threads) {
    RunRequest request;
    request.rows = rows;
    request.batch = batch;
    request.threads = threads > 0 ? threads : num_threads();
    if (rows < 0) throw std::invalid_argument("plan: rows is " + std::to_string(rows) + ", expected 0 or more");
    if (hyper != nullptr) {
      const View view = array_view("plan", "hyper", hyper, false);
      if (view.dtype != DType::f64 || view.ndim != 3 || view.shape[2] != kHyperFields)
        throw std::invalid_argument("plan: 'hyper' must be a float64 array of shape (steps, groups, " +
                                    std::to_string(static_cast<int>(kHyperFields)) + ")");
      request.hyper = view.as<const double>();
      request.hyper_steps = view.shape[0];
      request.hyper_groups = view.shape[1];
      hyper_ = py::reinterpret_borrow<py::object>(hyper);
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

  void bind_all(PyObject* arrays) {
    if (!PyDict_Check(arrays)) throw py::type_error("plan: 'arrays' must be a dict of arrays by name");
    PyObject *name = nullptr, *array = nullptr;
    for (Py_ssize_t at = 0; PyDict_Next(arrays, &at, &name, &array) != 0;) bind_one(name, array);
  }

  // None unbinds: the plan forgets the memory, and a run that needs it says so.
  void bind_one(py::handle name, py::handle array) {
    const int id = names_.id(plan_, name);
    const auto index = static_cast<std::size_t>(id);
    bind_array(plan_, id, array, written_[index]);
    kept_[index] = py::reinterpret_borrow<py::object>(array);
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

  py::list functions_;
  Plan plan_;
  NameCache names_;
  std::vector<py::object> kept_;
  std::vector<bool> written_;
  py::object hyper_;
};

PyObject* run_entry(PyObject* self, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
  static const char* const kNames[] = {"name",  "rows",         "batch",    "arrays",   "hyper",   "watch",
                                       "limit", "limit_factor", "snapshot", "progress", "threads", "step_ns",
                                       "then",  "also",         "every",    "offset"};
  static const Signature<PyPlan::kArguments> signature("run", kNames, 4, 3);
  return guarded([&] {
    PyObject* found[PyPlan::kArguments];
    signature.parse(args, given, keywords, found);
    return py::handle(self).cast<PyPlan&>().run_list(found);
  });
}

}  // namespace

void bind_plan(py::module_& m) {
  py::class_<PyPlan> plan(m, "Plan");
  plan.def(py::init<const py::list&, const py::dict&, std::int64_t, const std::string&, bool, bool, bool,
                    const py::list&>(),
           py::arg("values"), py::arg("lists"), py::kw_only(), py::arg("max_batch"), py::arg("dtype") = "float32",
           py::arg("reuse") = true, py::arg("inplace") = true, py::arg("poison") = false,
           py::arg("functions") = py::list())
      .def("bind", &PyPlan::bind, py::arg("name"), py::arg("array"))
      .def("restore", &PyPlan::restore, py::arg("name"))
      .def("trace", &PyPlan::trace, py::arg("name"), py::arg("rows"), py::arg("arrays") = py::dict(), py::kw_only(),
           py::arg("hyper") = py::none(), py::arg("threads") = 0)
      .def("layout", &PyPlan::layout, py::arg("name"))
      .def_property_readonly("scratch_bytes", &PyPlan::scratch_bytes);
  static PyMethodDef run = {"run", method_pointer(&run_entry), METH_FASTCALL | METH_KEYWORDS,
                            "run(name, rows, batch, arrays={}, *, hyper=None, watch=None, limit=inf, limit_factor=0, "
                            "snapshot=False, progress=None, threads=0, step_ns=None, then='', also=None, every=1, "
                            "offset=0)"};
  plan.attr("run") =
      py::reinterpret_steal<py::object>(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(plan.ptr()), &run));
}

}  // namespace pfn
