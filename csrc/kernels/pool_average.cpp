// Averages over windows and over whole images, and their gradients. Images are NHWC.
//
//   avg_pool_forward          y = sum of the window's cells inside the image / count
//   avg_pool_backward         dx[cell] = sum of dy / count over the windows that hold the cell, in order of the windows
//   global_avg_pool_forward   y[n, c] = mean over all pixels
//   global_avg_pool_backward  dx[n, i, j, c] = dy[n, c] / pixels
//
// count is kernel_h * kernel_w, or with count_include_pad = 0 the number of cells inside the image; a window without a
// cell there gives 0. Division is a product with the rounded reciprocal. The mean of no pixels is NaN.
// Max error: k cells: (k + 2) u (sum |x|) / count; the global mean adds blocks of kMeanRows pixels in order.
// Source: LeCun et al. 1989 (subsampling); Lin, Chen and Yan, ICLR 2014 (global).
#include "kernels/pool.hpp"

namespace pfn::PFN_ISA {

template <class T>
static PFN_ALWAYS_INLINE Vec<T> share_of(const PoolShape& s, const Window& v, bool include_pad) {
  const std::int64_t count = include_pad ? s.kernel_h * s.kernel_w : v.cells();
  return splat(count > 0 ? static_cast<T>(1.0 / static_cast<double>(count)) : T(0));
}

template <class T>
static void avg_pool_forward_prepare(OpCall& call) {
  const PoolShape s = pool_shape(call, call.in[0], call.out[0]);
  const double cells = static_cast<double>(s.out_w * s.c * s.kernel_h * s.kernel_w);
  one_phase(call, s.n * s.out_h, 0.05 * cells * (sizeof(T) / 4), 1);
}

template <class T>
static void avg_pool_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const PoolShape s = pool_shape(call, call.in[0], call.out[0]);
  const bool include_pad = call.attr[8] != 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const T* const x = call.in[0].as<const T>() + row / s.out_h * s.h * s.w * s.c;
    T* y = call.out[0].as<T>() + row * s.out_w * s.c;
    for (std::int64_t q = 0; q < s.out_w; ++q, y += s.c) {
      const Window v = window_of(s, row % s.out_h, q);
      const Vec<T> share = share_of<T>(s, v, include_pad);
      for_channels<T>(s.c, [&](std::int64_t k, auto extent) {
        Vec<T> sum = splat(T(0));
        for (std::int64_t i = v.i0; i < v.i1; ++i) {
          const T* cell = x + ((v.y0 + i) * s.w + v.x0 + v.j0) * s.c + k;
          for (std::int64_t j = v.j0; j < v.j1; ++j, cell += s.c) sum += load_at(cell, extent);
        }
        store_at(y + k, sum * share, extent);
      });
    }
  }
}
PFN_KERNEL(avg_pool_forward, avg_pool_forward_prepare, avg_pool_forward_run);

template <class T>
static void avg_pool_backward_prepare(OpCall& call) {
  const PoolShape s = pool_shape(call, call.out[0], call.in[0]);
  const double cells = static_cast<double>(s.h * s.w * s.c + s.out_h * s.out_w * s.c * s.kernel_h * s.kernel_w);
  one_phase(call, s.n, 0.05 * cells * (sizeof(T) / 4), 1);
}

template <class T>
static void avg_pool_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const PoolShape s = pool_shape(call, call.out[0], call.in[0]);
  const bool include_pad = call.attr[8] != 0;
  for (std::int64_t image = begin; image < end; ++image) {
    T* const dx = call.out[0].as<T>() + image * s.h * s.w * s.c;
    const T* dy = call.in[0].as<const T>() + image * s.out_h * s.out_w * s.c;
    __builtin_memset(dx, 0, static_cast<std::size_t>(s.h * s.w * s.c) * sizeof(T));
    for (std::int64_t p = 0; p < s.out_h; ++p) {
      for (std::int64_t q = 0; q < s.out_w; ++q, dy += s.c) {
        const Window v = window_of(s, p, q);
        const Vec<T> share = share_of<T>(s, v, include_pad);
        for_channels<T>(s.c, [&](std::int64_t k, auto extent) {
          const Vec<T> g = load_at(dy + k, extent) * share;
          for (std::int64_t i = v.i0; i < v.i1; ++i) {
            T* cell = dx + ((v.y0 + i) * s.w + v.x0 + v.j0) * s.c + k;
            for (std::int64_t j = v.j0; j < v.j1; ++j, cell += s.c)
              store_at(cell, load_at(static_cast<const T*>(cell), extent) + g, extent);
          }
        });
      }
    }
  }
}
PFN_KERNEL(avg_pool_backward, avg_pool_backward_prepare, avg_pool_backward_run);

constexpr std::int64_t kMeanRows = 64;  // pixels summed before the sum joins a longer one

template <class T>
static void global_avg_pool_forward_prepare(OpCall& call) {
  const View& x = call.in[0];
  one_phase(call, x.shape[0], 0.03 * static_cast<double>(x.shape[1] * x.shape[2] * x.shape[3]) * (sizeof(T) / 4), 1);
}

template <class T>
static void global_avg_pool_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const View& x = call.in[0];
  const std::int64_t pixels = x.shape[1] * x.shape[2], c = x.shape[3];
  const Vec<T> share = splat(static_cast<T>(1.0 / static_cast<double>(pixels)));
  for (std::int64_t image = begin; image < end; ++image) {
    const T* const p = x.as<const T>() + image * pixels * c;
    T* const y = call.out[0].as<T>() + image * c;
    for_channels<T>(c, [&](std::int64_t k, auto extent) {
      Vec<T> total = splat(T(0));
      for (std::int64_t first = 0; first < pixels; first += kMeanRows) {
        const std::int64_t last = first + kMeanRows < pixels ? first + kMeanRows : pixels;
        Vec<T> even = splat(T(0)), odd = splat(T(0));
        std::int64_t i = first;
        for (; i + 2 <= last; i += 2) {
          even += load_at(p + i * c + k, extent);
          odd += load_at(p + (i + 1) * c + k, extent);
        }
        if (i < last) even += load_at(p + i * c + k, extent);
        total += even + odd;
      }
      store_at(y + k, total * share, extent);
    });
  }
}
PFN_KERNEL(global_avg_pool_forward, global_avg_pool_forward_prepare, global_avg_pool_forward_run);

template <class T>
static void global_avg_pool_backward_prepare(OpCall& call) {
  const View& dx = call.out[0];
  one_phase(call, dx.shape[0], 0.05 * static_cast<double>(dx.shape[1] * dx.shape[2] * dx.shape[3]) * (sizeof(T) / 4),
            1);
}

template <class T>
static void global_avg_pool_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const View& dx = call.out[0];
  const std::int64_t pixels = dx.shape[1] * dx.shape[2], c = dx.shape[3];
  const Vec<T> share = splat(static_cast<T>(1.0 / static_cast<double>(pixels)));
  for (std::int64_t image = begin; image < end; ++image) {
    const T* const dy = call.in[0].as<const T>() + image * c;
    T* const p = dx.as<T>() + image * pixels * c;
    for_channels<T>(c, [&](std::int64_t k, auto extent) {
      const Vec<T> g = load_at(dy + k, extent) * share;
      for (std::int64_t i = 0; i < pixels; ++i) store_at(p + i * c + k, g, extent);
    });
  }
}
PFN_KERNEL(global_avg_pool_backward, global_avg_pool_backward_prepare, global_avg_pool_backward_run);

}  // namespace pfn::PFN_ISA
