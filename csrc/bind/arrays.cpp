#include "bind/arrays.hpp"

#include <stdexcept>

#include "ops/shapes.hpp"

namespace pfn {

static bool dtype_of(const py::dtype& dtype, DType& out) {
  switch (dtype.normalized_num()) {
    case py::detail::npy_api::NPY_FLOAT_:
      out = DType::f32;
      return true;
    case py::detail::npy_api::NPY_DOUBLE_:
      out = DType::f64;
      return true;
    case py::detail::npy_api::NPY_UBYTE_:
      out = DType::u8;
      return true;
    default:
      if (dtype.kind() != 'i' || dtype.itemsize() != 8) return false;
      out = DType::i64;
      return true;
  }
}

// The usual case without a reference taken or a string made; what it turns down is looked at again for its fault.
static bool plain_view(py::handle object, bool write, View& view) {
  using py::detail::npy_api;
  if (!npy_api::get().PyArray_Check_(object.ptr())) return false;
  const auto* const array = py::detail::array_proxy(object.ptr());
  const auto* const dtype = py::detail::array_descriptor_proxy(array->descr);
  const int wanted =
      npy_api::NPY_ARRAY_C_CONTIGUOUS_ | npy_api::NPY_ARRAY_ALIGNED_ | (write ? npy_api::NPY_ARRAY_WRITEABLE_ : 0);
  if ((array->flags & wanted) != wanted || array->nd > kMaxDims || dtype->byteorder == '>') return false;
  if (dtype->type_num == npy_api::NPY_FLOAT_)
    view.dtype = DType::f32;
  else if (dtype->type_num == npy_api::NPY_DOUBLE_)
    view.dtype = DType::f64;
  else if (dtype->type_num == npy_api::NPY_UBYTE_)
    view.dtype = DType::u8;
  else if (dtype->type_num == npy_api::NPY_LONG_ && sizeof(long) == 8)
    view.dtype = DType::i64;
  else
    return false;
  view.ndim = array->nd;
  for (int d = 0; d < array->nd; ++d) view.shape[d] = array->dimensions[d];
  view.data = array->data;
  return true;
}

bool readable_rows(py::handle object, View& view) {
  return plain_view(object, false, view) && view.dtype != DType::i64 && view.ndim >= 2;
}

bool readable_labels(py::handle object, View& view) {
  return plain_view(object, false, view) && view.dtype == DType::i64 && view.ndim == 1;
}

bool is_plain_array(py::handle object) { return Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_; }

View array_view(const std::string& who, const std::string& name, py::handle object, bool write) {
  View plain;
  if (plain_view(object, write, plain)) return plain;
  if (!py::isinstance<py::array>(object))
    throw py::type_error(who + ": '" + name + "' is a " +
                         std::string(py::str(py::type::handle_of(object).attr("__name__"))) +
                         ", expected a NumPy array");
  const auto array = py::reinterpret_borrow<py::array>(object);
  View view;
  const py::dtype dtype = array.dtype();
  if (!dtype_of(dtype, view.dtype))
    throw py::type_error(who + ": '" + name + "' has dtype " + std::string(py::str(dtype)) +
                         ", expected float32, float64, uint8 or int64");
  const char order = dtype.byteorder();
  if (order == '>')
    throw std::invalid_argument(who + ": '" + name + "' is big-endian, expected the machine's byte order");
  if (array.ndim() > kMaxDims)
    throw std::invalid_argument(who + ": '" + name + "' has " + std::to_string(array.ndim()) +
                                " dimensions, expected at most 4");
  view.ndim = static_cast<std::int32_t>(array.ndim());
  for (int d = 0; d < view.ndim; ++d) view.shape[d] = array.shape(d);
  const int flags = array.flags();
  if ((flags & py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_) == 0)
    throw std::invalid_argument(who + ": '" + name + "' is not C-contiguous; pass numpy.ascontiguousarray(" + name +
                                ")");
  if ((flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0)
    throw std::invalid_argument(who + ": '" + name + "' is not aligned to its items; pass a copy");
  if (write && (flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) == 0)
    throw std::invalid_argument(who + ": '" + name + "' is read-only, expected a writable array");
  view.data = const_cast<void*>(array.data());
  return view;
}

py::array new_array(const View& view) {
  using py::detail::npy_api;
  const auto& api = npy_api::get();
  int type = npy_api::NPY_INT64_;
  if (view.dtype == DType::f32) type = npy_api::NPY_FLOAT_;
  if (view.dtype == DType::f64) type = npy_api::NPY_DOUBLE_;
  if (view.dtype == DType::u8) type = npy_api::NPY_UBYTE_;
  Py_intptr_t shape[kMaxDims];
  for (int d = 0; d < view.ndim; ++d) shape[d] = static_cast<Py_intptr_t>(view.shape[d]);
  PyObject* const descr = api.PyArray_DescrFromType_(type);  // NewFromDescr takes it over
  PyObject* const array =
      api.PyArray_NewFromDescr_(api.PyArray_Type_, descr, view.ndim, shape, nullptr, nullptr, 0, nullptr);
  if (array == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(array);
}

}  // namespace pfn
