// Depthwise convolutions: each output channel sees one channel of the source, and a vector is neighbouring channels.
//
//   for each tile of P output pixels, vector of channels, tap inside the image: load w, for each pixel:
//     acc[p] = fma(x[p], w, acc[p])
//
// Where neighbouring taps meet neighbouring pixels, each x is loaded once for all taps of a filter row (`shared`), and
// a tile may lie across the edge of the image: small tiles there took as long as the rest of a row of 16 pixels.
// Filters lie as they are needed, and taps outside the image are left out, so nothing is packed or copied. An element
// is the fused (generic: rounded) chain over filter rows, then columns, from the bias, whatever the tile.
#pragma once
#include "kernels/conv_axis.hpp"
#include "kernels/pool.hpp"

namespace pfn::PFN_ISA {

constexpr int kDepthPixels = 8;  // most of a tile, a power of two

template <class T>
static bool is_depthwise(const Conv<T>& c) {
  return c.groups > 1 && c.in_channels == 1 && c.out_channels == 1;
}

// Taps and neighbouring pixels of a tile; distances in entries.
struct DepthTile {
  std::int64_t rows, x_row, w_row;
  std::int64_t taps, x_tap, w_tap;
  std::int64_t x_pixel, y_pixel;
  std::int64_t low, high;  // which of the pixels that a row of taps meets are inside
};

// shared: the taps, or 0 where pixels are loaded for each. edge: whether some of the pixels are outside; x is the first
// one inside.
template <class T, int P, int shared, bool edge>
static void depth_tile(const DepthTile& t, std::int64_t channels, const T* x, const T* w, const T* bias, T* y) {
  for_channels<T>(channels, [&](std::int64_t k, auto extent) {
    Vec<T> acc[P];
    const Vec<T> start = bias ? load_at(bias + k, extent) : splat(T(0));
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) acc[p] = start;
    for (std::int64_t r = 0; r < t.rows; ++r) {
      const T* at = x + r * t.x_row + k;
      const T* filter = w + r * t.w_row + k;
      if constexpr (shared > 0) {
        Vec<T> wv[shared];
#pragma GCC unroll 8
        for (int i = 0; i < shared; ++i, filter += t.w_tap) wv[i] = load_at(filter, extent);
#pragma GCC unroll 16
        for (int q = 0; q < P + shared - 1; ++q) {
          if (edge && (q < t.low || q >= t.high)) continue;
          const Vec<T> xv = load_at(at, extent);
          at += t.x_tap;
#pragma GCC unroll 8
          for (int i = 0; i < shared; ++i)
            if (q >= i && q - i < P) acc[q - i] = fma(xv, wv[i], acc[q - i]);
        }
        continue;
      }
      for (std::int64_t i = 0; i < t.taps; ++i, at += t.x_tap, filter += t.w_tap) {
        const Vec<T> wv = load_at(filter, extent);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) acc[p] = fma(load_at(at + p * t.x_pixel, extent), wv, acc[p]);
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) store_at(y + p * t.y_pixel + k, acc[p], extent);
  });
}

template <class T>
using DepthFn = void (*)(const DepthTile& t, std::int64_t channels, const T* x, const T* w, const T* bias, T* y);
// For 1, 2, 4 and 8 pixels, then those at an edge.
template <class T, int shared>
static const DepthFn<T>* depth_tiles() {
  static constexpr bool edge = shared > 0;
  static constexpr DepthFn<T> fn[] = {depth_tile<T, 1, shared, false>, depth_tile<T, 2, shared, false>,
                                      depth_tile<T, 4, shared, false>, depth_tile<T, 8, shared, false>,
                                      depth_tile<T, 1, shared, edge>,  depth_tile<T, 2, shared, edge>,
                                      depth_tile<T, 4, shared, edge>,  depth_tile<T, 8, shared, edge>};
  return fn;
}

// Output row `row` of one image.
template <class T>
static void depth_row(const Conv<T>& c, std::int64_t image, std::int64_t row) {
  const std::int64_t channels = c.groups, sign = c.backward ? -1 : 1;
  const std::int64_t row_classes = c.row_classes(), classes = c.column_classes();
  const ConvAxis ay = c.row_axis(row % row_classes);
  const std::int64_t ty = row / row_classes;
  const TapRange jy = taps_inside(ay, c.rows.source, ty);
  const T* const source =
      c.source + (image * c.rows.source + ay.from + ty * ay.stride + jy.first * ay.apart) * c.columns.source * channels;
  T* const y = c.out + (image * c.rows.out + row) * c.columns.out * channels;
  DepthTile t;
  t.rows = jy.end - jy.first;
  t.x_row = ay.apart * c.columns.source * channels;
  t.w_row = sign * ay.taps_apart * c.columns.kernel * channels;
  for (std::int64_t j = 0; j < classes; ++j) {
    const ConvAxis ax = c.column_axis(j);
    t.x_tap = ax.apart * channels;
    t.w_tap = sign * ax.taps_apart * channels;
    t.x_pixel = ax.stride * channels;
    t.y_pixel = ax.step * channels;
    const bool shared = ax.stride == 1 && ax.apart == 1 && (ax.taps == 3 || ax.taps == 5);
    const DepthFn<T>* const fn = !shared        ? depth_tiles<T, 0>()
                                 : ax.taps == 3 ? depth_tiles<T, 3>()
                                                : depth_tiles<T, 5>();
    // From the first position that meets all taps up to `inside` all do.
    const std::int64_t room = c.columns.source - 1 - ax.from - (ax.taps - 1) * ax.apart;
    const std::int64_t inside = ax.taps == 0 || room < 0 ? 0 : smaller(ax.count, room / ax.stride + 1);
    for (std::int64_t tx = 0; tx < ax.count;) {
      int size = 0;
      std::int64_t first = 0;  // tap that is inside for all of the tile, where taps are met one by one
      std::int64_t at = ax.from + tx * ax.stride;
      bool edge = false;
      if (shared) {
        while ((2 << size) <= kDepthPixels && tx + (2 << size) <= ax.count) ++size;
        const std::int64_t met = (std::int64_t{1} << size) + ax.taps - 1;
        t.taps = ax.taps;
        t.low = at < 0 ? smaller(-at, met) : 0;
        t.high = smaller(met, larger(c.columns.source - at, t.low));
        edge = t.high - t.low < met;
        at = t.high > t.low ? at + t.low : 0;
      } else {
        const TapRange jx = taps_inside(ax, c.columns.source, tx);
        const bool whole = jx.end - jx.first == ax.taps;
        while (whole && (2 << size) <= kDepthPixels && tx + (2 << size) <= inside) ++size;
        t.taps = jx.end - jx.first;
        first = jx.first;
        at += first * ax.apart;
      }
      // Without a tap nothing is read, and its place might lie beside the filters.
      const T* const w = t.rows * t.taps == 0
                             ? c.filters
                             : c.filter(ay.tap + jy.first * ay.taps_apart, ax.tap + first * ax.taps_apart, 0);
      fn[size + 4 * edge](t, channels, source + at * channels, w, c.bias, y + (ax.first + tx * ax.step) * channels);
      tx += std::int64_t{1} << size;
    }
  }
}

template <class T>
static void depth_prepare(OpCall& call, const Conv<T>& c, double ns) {
  call.phases = 1;
  call.phase[0] = Phase{c.images * c.rows.out, 1, ns};
}
template <class T>
static void depth_run(const Conv<T>& c, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) depth_row(c, i / c.rows.out, i % c.rows.out);
}

}  // namespace pfn::PFN_ISA
