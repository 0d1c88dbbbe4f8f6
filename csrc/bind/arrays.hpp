// NumPy arrays at the border: every check is written out here, nothing is ever converted or copied.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "ops/schema.hpp"

namespace pfn {

namespace py = pybind11;

// The view of an array that a kernel may read (or write). `who` starts every message ("linear_forward").
// Throws py::type_error when it is no ndarray or its dtype is none of ours, std::invalid_argument when it is not
// C-contiguous, aligned, in native byte order, of at most 4 dimensions, or (write) writable.
View array_view(const std::string& who, const std::string& name, py::handle object, bool write);

// Whether rows can be read as they lie: a C-contiguous array of float32, float64 or uint8 of at least two dimensions.
bool readable_rows(py::handle object, View& view);

// Whether labels can be: a C-contiguous int64 array of one dimension.
bool readable_labels(py::handle object, View& view);

// Whether it is an ndarray and of no subclass, which may mean something else by its items.
bool is_plain_array(py::handle object);

py::array new_array(const View& view);

}  // namespace pfn
