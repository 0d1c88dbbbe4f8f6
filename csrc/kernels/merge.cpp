// Arrays joined and taken apart along the last dimension, and the product of two arrays.
//
//   multiply         y = a * b, elementwise over any shape; y may be the memory of a
//   concat           y[r, :] = a[r, :], b[r, :]
//   slice            y[r, :] = x[r, start : c - after]
//   slice_backward   dx[r, :] = start zeros, dy[r, :], after zeros
//
// slice is the gradient of concat. NaN passes through. Exact but for multiply, which rounds once.
// Source: elementary.
#include "kernels/copy.hpp"
#include "kernels/kernel.hpp"
#include "kernels/sweep.hpp"

namespace pfn::PFN_ISA {

template <class T>
static void multiply_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.05 * (sizeof(T) / 4), 4096);
}
template <class T>
static void multiply_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const T* a = call.in[0].as<const T>();
  const T* b = call.in[1].as<const T>();
  T* y = call.out[0].as<T>();
  sweep<T>(y, begin, end,
           [=](std::int64_t i, auto part) { store_at(y + i, load_at(a + i, part) * load_at(b + i, part), part); });
}
PFN_KERNEL(multiply, multiply_prepare, multiply_run);

// One phase over the rows; `wide` has the longest of them.
template <class T>
static void rows_prepare(OpCall& call, const View& wide) {
  const std::int64_t cols = wide.cols();
  one_phase(call, wide.rows(), 3.0 + 0.05 * (sizeof(T) / 4) * static_cast<double>(cols), rows_per_piece(cols));
}

template <class T>
static void concat_prepare(OpCall& call) {
  rows_prepare<T>(call, call.out[0]);
}
template <class T>
static void concat_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t p = call.in[0].cols(), q = call.in[1].cols();
  const T* a = call.in[0].as<const T>() + begin * p;
  const T* b = call.in[1].as<const T>() + begin * q;
  T* y = call.out[0].as<T>() + begin * (p + q);
  for (std::int64_t r = begin; r < end; ++r, a += p, b += q, y += p + q) {
    copy_run(a, y, p);
    copy_run(b, y + p, q);
  }
}
PFN_KERNEL(concat, concat_prepare, concat_run);

template <class T>
static void slice_prepare(OpCall& call) {
  rows_prepare<T>(call, call.in[0]);
}
template <class T>
static void slice_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t cols = call.in[0].cols(), kept = call.out[0].cols();
  const T* x = call.in[0].as<const T>() + static_cast<std::int64_t>(call.attr[0]);
  T* y = call.out[0].as<T>();
  for (std::int64_t r = begin; r < end; ++r) copy_run(x + r * cols, y + r * kept, kept);
}
PFN_KERNEL(slice, slice_prepare, slice_run);

template <class T>
static void slice_backward_prepare(OpCall& call) {
  rows_prepare<T>(call, call.out[0]);
}
template <class T>
static void slice_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t cols = call.out[0].cols(), kept = call.in[0].cols();
  const std::int64_t start = static_cast<std::int64_t>(call.attr[0]);
  const T* dy = call.in[0].as<const T>() + begin * kept;
  T* dx = call.out[0].as<T>() + begin * cols;
  for (std::int64_t r = begin; r < end; ++r, dy += kept, dx += cols) {
    fill_run(dx, T(0), start);
    copy_run(dy, dx + start, kept);
    fill_run(dx + start + kept, T(0), cols - start - kept);
  }
}
PFN_KERNEL(slice_backward, slice_backward_prepare, slice_backward_run);

}  // namespace pfn::PFN_ISA
