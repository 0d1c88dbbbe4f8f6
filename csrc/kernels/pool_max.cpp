// The largest value of each window, and the gradient back to it. Images are NHWC.
//
//   max_pool_forward   y[n, p, q, c] = largest x[n, p * stride_h + i - top, q * stride_w + j - left, c] over the cells
//                      (i, j) of the window inside the image;  index = i * kernel_w + j of that cell
//   max_pool_backward  dx[cell] = sum of the dy of all windows whose index is the cell, in order of the windows
//
// Of equal values the first counts. NaN is larger than any number, and of several NaN the last counts (as in PyTorch).
// A window without a cell in the image gives -inf and index 255. Exact, but for the sums where windows overlap.
// Source: Zhou and Chellappa, ICNN 1988; Jarrett et al., ICCV 2009.
#include "kernels/pool_best.hpp"

namespace pfn::PFN_ISA {

template <class T>
static PFN_ALWAYS_INLINE Codes<T> load_codes(const std::uint8_t* p, Whole) {
  return __builtin_convertvector(*reinterpret_cast<const typename ByteTypes<T>::unaligned*>(p), Codes<T>);
}
template <class T>
static PFN_ALWAYS_INLINE Codes<T> load_codes(const std::uint8_t* p, Part part) {
  Bytes<T> bytes = {};
#if defined(PFN_ISA_AVX512)
  const __m128i low = _mm_maskz_loadu_epi8(low_mask_f(part.count), p);
  __builtin_memcpy(&bytes, &low, sizeof(bytes));
#else
  for (std::int64_t k = 0; k < part.count; ++k) bytes[k] = p[k];
#endif
  return __builtin_convertvector(bytes, Codes<T>);
}

static inline bool is_halving(const PoolShape& s) {
  return s.kernel_h == 2 && s.kernel_w == 2 && s.stride_h == 2 && s.stride_w == 2 && s.top == 0 && s.left == 0 &&
         2 * s.out_h <= s.h && 2 * s.out_w <= s.w;
}

template <class T>
static void max_pool_forward_prepare(OpCall& call) {
  const PoolShape s = pool_shape(call, call.in[0], call.out[0]);
  const double cells = static_cast<double>(s.out_w * s.c * s.kernel_h * s.kernel_w);
  one_phase(call, s.n * s.out_h, 0.06 * cells * (sizeof(T) / 4), 1);
}

template <class T>
static void max_pool_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const PoolShape s = pool_shape(call, call.in[0], call.out[0]);
  const bool halving = is_halving(s);
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t p = row % s.out_h;
    const T* const x = call.in[0].as<const T>() + row / s.out_h * s.h * s.w * s.c;
    T* y = call.out[0].as<T>() + row * s.out_w * s.c;
    std::uint8_t* index = call.out[1].as<std::uint8_t>() + row * s.out_w * s.c;
    if (halving) {
      halve_row(s, x + 2 * p * s.w * s.c, y, index);
      continue;
    }
    for (std::int64_t q = 0; q < s.out_w; ++q, y += s.c, index += s.c) {
      const Window v = window_of(s, p, q);
      const auto first = static_cast<Code<T>>(v.i0 * s.kernel_w + v.j0), below = static_cast<Code<T>>(s.kernel_w);
      for_channels<T>(s.c, [&](std::int64_t k, auto extent) {
        Best<T> best{splat(-static_cast<T>(__builtin_inf())), Codes<T>{} + (v.empty() ? 255 : first)};
        Codes<T> line = Codes<T>{} + first;
        for (std::int64_t i = v.i0; i < v.i1; ++i, line += below) {
          const T* cell = x + ((v.y0 + i) * s.w + v.x0 + v.j0) * s.c + k;
          Codes<T> code = line;
          for (std::int64_t j = v.j0; j < v.j1; ++j, cell += s.c, code += 1) take(best, load_at(cell, extent), code);
        }
        store_at(y + k, best.value, extent);
        store_codes<T>(index + k, best.code, extent);
      });
    }
  }
}
PFN_KERNEL(max_pool_forward, max_pool_forward_prepare, max_pool_forward_run);

template <class T>
static void max_pool_backward_prepare(OpCall& call) {
  const PoolShape s = pool_shape(call, call.out[0], call.in[0]);
  const double cells = static_cast<double>(s.h * s.w * s.c + s.out_h * s.out_w * s.c * s.kernel_h * s.kernel_w);
  one_phase(call, s.n, 0.05 * cells * (sizeof(T) / 4), 1);
}

// The rows of dx under one row of windows that touch: every cell is written, in the columns beyond the windows 0.
template <class T>
static void widen_row(const PoolShape& s, const T* dy, const std::uint8_t* index, T* dx) {
  const std::int64_t c = s.c, below = s.w * s.c;
  T* const start = dx;
  const auto widen = [&](std::int64_t k, auto extent) {
    const Vec<T> g = load_at(dy + k, extent), zero = splat(T(0));
    const Codes<T> code = load_codes<T>(index + k, extent);
    store_at(dx + k, code == 0 ? g : zero, extent);
    store_at(dx + k + c, code == 1 ? g : zero, extent);
    store_at(dx + k + below, code == 2 ? g : zero, extent);
    store_at(dx + k + below + c, code == 3 ? g : zero, extent);
  };
  std::int64_t q = 0;
  if (c < kLanes<T>) {
    // Whole vectors are faster than partial ones: what is too much in them the pixels behind overwrite, so the last few
    // pixels of a row must not do it.
    const std::int64_t last = s.out_w - (kLanes<T> + c - 1) / c;
    for (; q < last; ++q, dx += 2 * c, dy += c, index += c) widen(0, Whole{});
  }
  for (; q < s.out_w; ++q, dx += 2 * c, dy += c, index += c) for_channels<T>(c, widen);
  const std::size_t rest = static_cast<std::size_t>(start + below - dx) * sizeof(T);
  __builtin_memset(dx, 0, rest);
  __builtin_memset(dx + below, 0, rest);
}

template <class T>
static void max_pool_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const PoolShape s = pool_shape(call, call.out[0], call.in[0]);
  const bool halving = is_halving(s);
  for (std::int64_t image = begin; image < end; ++image) {
    T* const dx = call.out[0].as<T>() + image * s.h * s.w * s.c;
    const T* dy = call.in[0].as<const T>() + image * s.out_h * s.out_w * s.c;
    const std::uint8_t* index = call.in[1].as<const std::uint8_t>() + image * s.out_h * s.out_w * s.c;
    const std::int64_t covered = halving ? 2 * s.out_h : 0;
    __builtin_memset(dx + covered * s.w * s.c, 0, static_cast<std::size_t>((s.h - covered) * s.w * s.c) * sizeof(T));
    for (std::int64_t p = 0; p < s.out_h; ++p) {
      if (halving) {
        widen_row(s, dy + p * s.out_w * s.c, index + p * s.out_w * s.c, dx + 2 * p * s.w * s.c);
        continue;
      }
      for (std::int64_t q = 0; q < s.out_w; ++q) {
        const Window v = window_of(s, p, q);
        const std::int64_t at = (p * s.out_w + q) * s.c;
        for_channels<T>(s.c, [&](std::int64_t k, auto extent) {
          const Vec<T> g = load_at(dy + at + k, extent);
          const Codes<T> code = load_codes<T>(index + at + k, extent);
          for (std::int64_t i = v.i0; i < v.i1; ++i) {
            T* cell = dx + ((v.y0 + i) * s.w + v.x0 + v.j0) * s.c + k;
            for (std::int64_t j = v.j0; j < v.j1; ++j, cell += s.c) {
              const Vec<T> old = load_at(static_cast<const T*>(cell), extent);
              const Codes<T> here = Codes<T>{} + static_cast<Code<T>>(i * s.kernel_w + j);
              store_at(cell, code == here ? old + g : old, extent);
            }
          }
        });
      }
    }
  }
}
PFN_KERNEL(max_pool_backward, max_pool_backward_prepare, max_pool_backward_run);

}  // namespace pfn::PFN_ISA
