// What the pools share: the window of an output pixel, clipped to the image. Images are NHWC; a vector is neighbouring
// channels of one pixel.
#pragma once
#include "kernels/kernel.hpp"
#include "kernels/sweep.hpp"

namespace pfn::PFN_ISA {

struct PoolShape {
  std::int64_t n, h, w, c, out_h, out_w;
  std::int64_t kernel_h, kernel_w, stride_h, stride_w, top, left;
};

// `x` is the image side, `y` the pooled side; the attributes begin as in ops.def.
static inline PoolShape pool_shape(const OpCall& call, const View& x, const View& y) {
  const auto attr = [&](int a) { return static_cast<std::int64_t>(call.attr[a]); };
  return {x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2],
          attr(0),    attr(1),    attr(2),    attr(3),    attr(4),    attr(6)};
}

// Cells [i0, i1) x [j0, j1) of the window lie inside the image; cell (0, 0) would be at row y0, column x0 of it.
struct Window {
  std::int64_t y0, x0, i0, i1, j0, j1;
  bool empty() const { return i0 >= i1 || j0 >= j1; }
  std::int64_t cells() const { return empty() ? 0 : (i1 - i0) * (j1 - j0); }
};
static inline Window window_of(const PoolShape& s, std::int64_t p, std::int64_t q) {
  const auto clip = [](std::int64_t at, std::int64_t limit) { return at < 0 ? 0 : at < limit ? at : limit; };
  const std::int64_t y0 = p * s.stride_h - s.top, x0 = q * s.stride_w - s.left;
  return {y0, x0, clip(-y0, s.kernel_h), clip(s.h - y0, s.kernel_h), clip(-x0, s.kernel_w), clip(s.w - x0, s.kernel_w)};
}

// f(first channel, Whole or Part) over the channels of a pixel.
template <class T, class F>
static PFN_ALWAYS_INLINE void for_channels(std::int64_t c, const F& f) {
  std::int64_t j = 0;
  for (; j + kLanes<T> <= c; j += kLanes<T>) f(j, Whole{});
  if (j < c) f(j, Part{c - j});
}

}  // namespace pfn::PFN_ISA
