#include "bind/arrays.hpp"

#include <stdexcept>
#include <vector>

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

View array_view(const std::string& who, const std::string& name, py::handle object, bool write) {
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
  const std::vector<py::ssize_t> shape(view.shape, view.shape + view.ndim);
  switch (view.dtype) {
    case DType::f32:
      return py::array_t<float>(shape);
    case DType::f64:
      return py::array_t<double>(shape);
    case DType::u8:
      return py::array_t<std::uint8_t>(shape);
    default:
      return py::array_t<std::int64_t>(shape);
  }
}

}  // namespace pfn
