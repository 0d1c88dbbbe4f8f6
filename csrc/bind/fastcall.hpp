// Functions in CPython's own calling convention, for calls that a loop makes: pybind11's dispatch alone takes longer
// than a small kernel.
#pragma once
#include <pybind11/pybind11.h>

#include <cstddef>
#include <new>
#include <stdexcept>
#include <string>

namespace pfn {

namespace py = pybind11;

// Names of the arguments in order; the first `positional` of them may be given by place, the first `required` must be
// given.
template <std::size_t N>
class Signature {
 public:
  Signature(const char* who, const char* const (&names)[N], std::size_t positional, std::size_t required)
      : who_(who), positional_(positional), required_(required) {
    for (std::size_t i = 0; i < N; ++i) names_[i] = PyUnicode_InternFromString(names[i]);
  }

  // Puts borrowed references in order, null for what was left out. Throws py::type_error.
  void parse(PyObject* const* args, Py_ssize_t given, PyObject* keywords, PyObject* (&out)[N]) const {
    const auto places = static_cast<std::size_t>(given);
    if (places > positional_)
      throw py::type_error(std::string(who_) + ": " + std::to_string(places) +
                           " arguments by place, expected at most " + std::to_string(positional_));
    for (std::size_t i = 0; i < N; ++i) out[i] = i < places ? args[i] : nullptr;
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t k = 0; k < named; ++k) {
      const std::size_t at = find(PyTuple_GET_ITEM(keywords, k));
      if (out[at] != nullptr) throw py::type_error(std::string(who_) + ": '" + text(names_[at]) + "' is given twice");
      out[at] = args[given + k];
    }
    for (std::size_t i = 0; i < required_; ++i)
      if (out[i] == nullptr) throw py::type_error(std::string(who_) + ": '" + text(names_[i]) + "' is missing");
  }

 private:
  // Names in a call are interned as a rule: one comparison of pointers each.
  std::size_t find(PyObject* name) const {
    for (std::size_t i = 0; i < N; ++i)
      if (names_[i] == name) return i;
    for (std::size_t i = 0; i < N; ++i)
      if (PyUnicode_Compare(names_[i], name) == 0) return i;
    throw py::type_error(std::string(who_) + ": '" + text(name) + "' is no argument");
  }
  static std::string text(PyObject* name) { return py::str(py::handle(name)); }

  const char* who_;
  std::size_t positional_, required_;
  PyObject* names_[N];  // never given back: they live as long as the module
};

// Runs body() and returns what it releases; an exception becomes the Python one that pybind11 would make of it.
template <class Body>
PyObject* guarded(Body&& body) noexcept {
  try {
    return body().release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);

// A function pointer as PyMethodDef keeps it.
inline PyCFunction method_pointer(FastFunction function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

inline double as_number(PyObject* value, const char* who, const char* name) {
  const double result = PyFloat_AsDouble(value);
  if (result == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::type_error(std::string(who) + ": '" + name + "' is a " +
                         std::string(py::str(py::type::handle_of(value).attr("__name__"))) + ", expected a number");
  }
  return result;
}

inline long long as_whole(PyObject* value, const char* who, const char* name) {
  PyObject* const index = PyNumber_Index(value);
  const long long result = index == nullptr ? -1 : PyLong_AsLongLong(index);
  Py_XDECREF(index);
  if (result == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::type_error(std::string(who) + ": '" + name + "' is " + std::string(py::str(py::repr(py::handle(value)))) +
                         ", expected a whole number");
  }
  return result;
}

inline std::string as_text(PyObject* value, const char* who, const char* name) {
  Py_ssize_t size = 0;
  const char* const text = PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &size) : nullptr;
  if (text == nullptr) {
    PyErr_Clear();
    throw py::type_error(std::string(who) + ": '" + name + "' is a " +
                         std::string(py::str(py::type::handle_of(value).attr("__name__"))) + ", expected a string");
  }
  return std::string(text, static_cast<std::size_t>(size));
}

}  // namespace pfn
