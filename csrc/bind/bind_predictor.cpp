// Prediction of a few rows at a time: a plan of its own, entered with one array and left with one.
#include <limits>
#include <stdexcept>

#include "bind/arrays.hpp"
#include "bind/bind.hpp"
#include "bind/fastcall.hpp"
#include "bind/plan_args.hpp"
#include "core/executor.hpp"
#include "core/parallel.hpp"
#include "ops/shapes.hpp"

namespace pfn {
namespace {

class PyPredictor {
 public:
  // The values `rows` and `scores` are bound at each call, all others by `arrays` once and for all.
  PyPredictor(const py::list& values, const py::dict& lists, const py::dict& arrays, std::int64_t max_batch,
              const std::string& dtype, int threads)
      : plan_(make_values(values), make_lists(lists), make_options(max_batch, dtype, true, true, false)),
        list_(plan_.list("predict")),
        rows_(plan_.value_id("X")),
        scores_(plan_.value_id("scores")),
        threads_(threads),
        kept_(arrays) {
    const std::vector<bool> written = written_values(plan_);
    for (const auto& item : arrays) {
      const int id = plan_.value_id(item.first.cast<std::string>());
      bind_array(plan_, id, item.second, written[static_cast<std::size_t>(id)]);
    }
    features_ = plan_.value(rows_).dims.at(1);
    // The largest workspace of any number of rows, so that no call allocates.
    std::int64_t shared = 0, local = 0;
    for (std::int64_t rows = 1; rows <= max_batch; ++rows) {
      plan_.prepare(list_, list_.full, rows);
      shared = std::max(shared, list_.full.shared_bytes);
      local = std::max(local, list_.full.local_bytes);
    }
    plan_.shared.reserve(shared);
    plan_.local.reserve(local * threads_);
  }

  // Scores of the rows of x, or NotImplemented where x must be converted first.
  py::object apply(py::handle x, py::handle out) {
    View rows;
    if (!readable_rows(x, rows) || rows.shape[0] < 1) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    const std::int64_t count = rows.shape[0];
    if (rows.size() != count * features_) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    if (count > plan_.options().max_batch)
      throw std::invalid_argument("predictor: 'x' has " + std::to_string(count) +
                                  " rows, expected at most max_batch = " + std::to_string(plan_.options().max_batch));
    const View wanted = plan_.view(scores_, count);
    const py::object result = out.is_none() ? py::object(new_array(wanted)) : py::reinterpret_borrow<py::object>(out);
    const View scores = array_view("predictor", "out", result, true);
    if (scores.dtype != wanted.dtype)
      throw py::type_error("predictor: 'out' has dtype " + std::string(dtype_name(scores.dtype)) + ", expected " +
                           dtype_name(wanted.dtype));
    if (other_shape(scores, wanted))
      throw std::invalid_argument("predictor: 'out' has shape " + shape_text(scores) + ", expected " +
                                  shape_text(wanted));
    const Turn turn(plan_);
    plan_.bind(rows_, rows.data, rows.dtype, count, rows.size());
    plan_.bind(scores_, scores.data, scores.dtype, count, scores.size());
    RunRequest request;
    request.rows = request.batch = count;
    request.limit = std::numeric_limits<double>::infinity();
    request.threads = threads_;
    if (expected_cost(plan_, list_, request) < kReleaseCost) {
      run(plan_, list_, request);
    } else {
      // Safe: the caller holds x, `result` holds the scores, kept_ the rest.
      py::gil_scoped_release release;
      run(plan_, list_, request);
    }
    return result;
  }

 private:
  // One call at a time; a second thread gets an error at once.
  class Turn {
   public:
    explicit Turn(Plan& plan) : plan_(plan) {
      if (plan_.running.exchange(true))
        throw std::runtime_error("predictor: already predicting in another thread; give each thread its own");
    }
    ~Turn() { plan_.running.store(false); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Plan& plan_;
  };

  static bool other_shape(const View& a, const View& b) {
    if (a.ndim != b.ndim) return true;
    for (int d = 0; d < a.ndim; ++d)
      if (a.shape[d] != b.shape[d]) return true;
    return false;
  }

  Plan plan_;
  StepList& list_;
  int rows_, scores_;
  int threads_;
  py::dict kept_;
  std::int64_t features_ = 0;
};

PyObject* apply_entry(PyObject* self, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
  static const char* const kNames[] = {"x", "out"};
  static const Signature<2> signature("predictor", kNames, 2, 1);
  return guarded([&] {
    PyObject* found[2];
    signature.parse(args, given, keywords, found);
    return py::handle(self).cast<PyPredictor&>().apply(found[0], found[1] == nullptr ? Py_None : found[1]);
  });
}

// Whether X and y are a batch of so many rows that a step can take as it is: rows readable in place with so many items
// each, and int64 labels from 0 to limit - 1.
PyObject* batch_fits_entry(PyObject*, PyObject* const* args, Py_ssize_t given, PyObject* keywords) {
  static const char* const kNames[] = {"X", "y", "rows", "items", "limit"};
  static const Signature<5> signature("batch_fits", kNames, 5, 5);
  return guarded([&]() -> py::object {
    PyObject* found[5];
    signature.parse(args, given, keywords, found);
    const std::int64_t rows = as_whole(found[2], "batch_fits", "rows");
    const std::int64_t items = as_whole(found[3], "batch_fits", "items");
    const std::int64_t limit = as_whole(found[4], "batch_fits", "limit");
    View X, y;
    const bool plain = is_plain_array(found[0]) && is_plain_array(found[1]) && readable_rows(found[0], X) &&
                       readable_labels(found[1], y);
    if (!plain || X.shape[0] != rows || X.size() != rows * items || y.shape[0] != rows) return py::bool_(false);
    const auto* const labels = y.as<const std::int64_t>();
    std::int64_t outside = 0;
    for (std::int64_t i = 0; i < rows; ++i) outside += labels[i] < 0 || labels[i] >= limit ? 1 : 0;
    return py::bool_(outside == 0);
  });
}

}  // namespace

void bind_predictor(py::module_& m) {
  py::class_<PyPredictor> predictor(m, "Predictor");
  predictor.def(py::init<const py::list&, const py::dict&, const py::dict&, std::int64_t, const std::string&, int>(),
                py::arg("values"), py::arg("lists"), py::arg("arrays"), py::kw_only(), py::arg("max_batch"),
                py::arg("dtype"), py::arg("threads"));
  static PyMethodDef apply = {"apply", method_pointer(&apply_entry), METH_FASTCALL | METH_KEYWORDS,
                              "apply(x, out=None)"};
  predictor.attr("apply") =
      py::reinterpret_steal<py::object>(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(predictor.ptr()), &apply));
  static PyMethodDef fits = {"batch_fits", method_pointer(&batch_fits_entry), METH_FASTCALL | METH_KEYWORDS,
                             "batch_fits(X, y, rows, items, limit)"};
  m.attr("batch_fits") =
      py::reinterpret_steal<py::object>(PyCFunction_NewEx(&fits, nullptr, py::str("pyfastnn._core").release().ptr()));
}

}  // namespace pfn
