// The gradient of convolution weights behind a max pool of touching 2 x 2 windows (stride 1, no dilation, no groups).
//
//   dw[i, j, c, f] = sum over n, p, q of  x[n, 2 p + a + i - top, 2 q + b + j - left, c] * dy[n, p, q, f]
//
// where (a, b) = (index / 2, index % 2) of cell [n, p, q, f] is where its maximum came from: three quarters of the
// gradient before the pool are zero, and are not multiplied. Only the low two bits of an index count.
//
// For each filter and pooled pixel one window of x is added, times the gradient: lanes are a run of x (kernel_w and
// channels lie side by side), and a tile of kernel rows by vectors is kept in registers over some rows of pixels, so
// few that their x stays in the first-level cache while all filters pass over it.
//
// Order of a sum: within a group of rows a chain over the pixels in order, then the groups, then as in
// conv_dw_shape.hpp. |error| <= (k + 2) u sum |x| |dy| for k pooled pixels (generic: k + 3). NaN and Inf follow IEEE
// arithmetic over the windows that count; padded cells count as 0.
// Source: the sparsity is that of LeCun et al. 1989 with the pool of Zhou and Chellappa 1988.
#include "kernels/conv_dw_shape.hpp"
#include "kernels/conv_halves.hpp"

namespace pfn::PFN_ISA {

#if defined(PFN_ISA_AVX512)
constexpr int kPooledSums = 24;
#else
constexpr int kPooledSums = 12;
#endif
constexpr int kPooledRows = 5, kPooledVectors = 8;  // of the kernel in one tile; vectors of a run in one tile
constexpr std::int64_t kPooledBytes = 24 << 10;     // x under one group of rows

constexpr int pooled_vectors(int rows) {
  return kPooledSums / rows < kPooledVectors ? kPooledSums / rows : kPooledVectors;
}

// The pooled pixels of one filter a tile sums over.
template <class T>
struct PooledTile {
  std::int64_t images, rows, width;
  std::int64_t x_image, line, pixel;        // items from image to image, row to row, pixel to pixel of x
  std::int64_t dy_image, dy_row, dy_pixel;  // of dy and index
  const T* x;                               // first window, at the tile's first kernel row and vector
  const T* dy;
  const std::uint8_t* index;
  T* sums;
  std::int64_t sums_filter;  // items from one filter to the next
  std::int64_t sums_row;     // items from one kernel row to the next
  bool add;
};
template <class T>
using PooledFn = void (*)(const PooledTile<T>& t);

// N neighbouring filters, J kernel rows, V vectors.
template <class T, int N, int J, int V, bool half>
static void pooled_tile(const PooledTile<T>& t) {
  using W = HalfVec<T, half>;
  typename W::type acc[N][J][V];
#pragma GCC unroll 2
  for (int f = 0; f < N; ++f)
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[f][j][v] = W::all(T(0));
  const std::int64_t line = t.line, pixel = t.pixel, step = t.dy_pixel;
  const std::int64_t to[4] = {0, pixel, line, line + pixel};
  for (std::int64_t image = 0; image < t.images; ++image) {
    for (std::int64_t row = 0; row < t.rows; ++row) {
      const T* x = t.x + image * t.x_image + 2 * row * line;
      const std::int64_t at = image * t.dy_image + row * t.dy_row;
      const T* dy = t.dy + at;
      const std::uint8_t* index = t.index + at;
      for (std::int64_t q = t.width; q > 0; --q) {
#pragma GCC unroll 2
        for (int f = 0; f < N; ++f) {
          const T* window = x + to[index[f] & 3];
          const typename W::type g = W::all(dy[f]);
#pragma GCC unroll 8
          for (int j = 0; j < J; ++j)
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v)
              acc[f][j][v] = W::mul_add(g, W::read(window + j * line + v * W::lanes), acc[f][j][v]);
        }
        x += 2 * pixel;
        dy += step;
        index += step;
      }
    }
  }
#pragma GCC unroll 2
  for (int f = 0; f < N; ++f) {
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        T* p = t.sums + f * t.sums_filter + j * t.sums_row + v * W::lanes;
        W::write(p, t.add ? acc[f][j][v] + W::read(p) : acc[f][j][v]);
      }
    }
  }
}

template <class T, int N, int J, bool half, int... K>
static const PooledFn<T>* pooled_table(LaneList<K...>) {
  static constexpr PooledFn<T> fn[] = {pooled_tile<T, N, J, K + 1, half>...};
  return fn;
}
template <class T, int J>
static PooledFn<T> pooled_table(std::int64_t filters, std::int64_t vectors, bool half) {
  constexpr int pair = pooled_vectors(2 * J);  // vectors of a tile of two filters
#if defined(PFN_ISA_AVX512)
  if (half && filters == 2)
    return pooled_table<T, 2, J, true>(typename LanesUpTo<(pair < kHalves ? pair : kHalves)>::type{})[vectors - 1];
  if (half) return pooled_table<T, 1, J, true>(typename LanesUpTo<kHalves>::type{})[vectors - 1];
#else
  (void)half;
#endif
  if (filters == 2) return pooled_table<T, 2, J, false>(typename LanesUpTo<pair>::type{})[vectors - 1];
  return pooled_table<T, 1, J, false>(typename LanesUpTo<pooled_vectors(J)>::type{})[vectors - 1];
}
template <class T>
static PooledFn<T> find_pooled(std::int64_t filters, std::int64_t rows, std::int64_t vectors, bool half) {
  switch (rows) {
    case 1:
      return pooled_table<T, 1>(filters, vectors, half);
    case 2:
      return pooled_table<T, 2>(filters, vectors, half);
    case 3:
      return pooled_table<T, 3>(filters, vectors, half);
    case 4:
      return pooled_table<T, 4>(filters, vectors, half);
    default:
      return pooled_table<T, 5>(filters, vectors, half);
  }
}

// Twice the speed of the dense sums, roughly: a vector of x is loaded for every product.
template <class T>
static double pooled_cost(const DwShape& s) {
  const double cells = static_cast<double>(s.n * (s.out_h / 2) * (s.out_w / 2) * s.f);
  return cells * (1.0 + 0.4 * static_cast<double>(s.taps * s.run_vectors));
}

template <class T>
static DwShape pooled_shape(const OpCall& call) {
  const auto attr = [&](int a) { return static_cast<std::int64_t>(call.attr[a]); };
  DwShape s{};
  const View& x = call.in[0];
  const View& dy = call.in[1];
  s.n = x.shape[0], s.h = x.shape[1], s.w = x.shape[2], s.c = x.shape[3];
  s.out_h = 2 * dy.shape[1], s.out_w = 2 * dy.shape[2], s.f = dy.shape[3];
  s.top = attr(0), s.left = attr(2), s.kernel_h = attr(4), s.kernel_w = attr(5);
  s.stride_h = s.stride_w = s.dilation_h = s.dilation_w = s.groups = 1;
  s.group_c = s.c, s.group_f = s.f;
  s.rows = s.kernel_h * s.kernel_w * s.c;
  s.form = DwForm::runs;
  if (s.n * s.out_h * s.out_w * s.rows * s.f == 0) {
    s.chunks = s.parts = 1;  // no blocks: nothing is summed
    return s;
  }
  s.taps = s.kernel_h, s.run = s.kernel_w * s.c;
  s.run_vectors = dw_ceil(s.run, kLanes<T>);
  s.pad_h = s.out_h + s.kernel_h - 1, s.pad_w = s.out_w + s.kernel_w - 1;
  s.sums = s.taps * s.f * s.run_vectors * kLanes<T>;
  s.copy = true;
  dw_deal(s, sizeof(T), s.f, pooled_cost<T>(s));
  return s;
}

template <class T>
static void conv2d_dw_pooled_prepare(OpCall& call) {
  const DwShape s = pooled_shape<T>(call);
  dw_phases<T>(call, s, pooled_cost<T>(s));
}

// All tiles of filters [f, end) over the pooled rows [first, last) of some images; `t` says where x, dy and index
// begin.
template <class T>
static void pooled_filters(const DwShape& s, PooledTile<T> t, std::int64_t f, std::int64_t end, T* sums) {
  const T* const x = t.x;
  const std::int64_t row_groups = dw_ceil(s.taps, kPooledRows), ld = s.run_vectors * kLanes<T>;
  const bool half = s.run <= kHalves * kLanes<T> / 2;
  const std::int64_t lanes = half ? kLanes<T> / 2 : kLanes<T>, all = dw_ceil(s.run, lanes);
  const std::int64_t most = half ? all : pooled_vectors(static_cast<int>(dw_ceil(s.taps, row_groups)));
  const std::int64_t vector_groups = dw_ceil(all, most);
  t.sums_filter = ld;
  t.sums_row = s.f * ld;
  const std::int64_t widest = dw_ceil(all, vector_groups), deepest = dw_ceil(s.taps, row_groups);
  const std::int64_t pair = widest <= pooled_vectors(static_cast<int>(2 * deepest)) ? 2 : 1;
  while (f < end) {
    const std::int64_t filters = dw_min(pair, end - f);
    for (std::int64_t i = 0; i < row_groups; ++i) {
      const std::int64_t tap = i * s.taps / row_groups, taps = (i + 1) * s.taps / row_groups - tap;
      for (std::int64_t k = 0; k < vector_groups; ++k) {
        const std::int64_t v = k * all / vector_groups;
        PooledTile<T> one = t;
        one.x = x + tap * t.line + v * lanes;
        one.dy += f;
        one.index += f;
        one.sums = sums + (tap * s.f + f) * ld + v * lanes;
        find_pooled<T>(filters, taps, (k + 1) * all / vector_groups - v, half)(one);
      }
    }
    f += filters;
  }
}

template <class T>
static void pooled_piece(const DwShape& s, const OpCall& call, std::int64_t chunk, std::int64_t part, T* sums,
                         T* copy) {
  const std::int64_t f = part * s.f / s.parts, end = (part + 1) * s.f / s.parts;
  const std::int64_t first = chunk * s.blocks / s.chunks, last = (chunk + 1) * s.blocks / s.chunks;
  PooledTile<T> t;
  t.line = s.pad_w * s.c, t.pixel = s.c, t.width = s.out_w / 2;
  t.dy_pixel = s.f, t.dy_row = t.width * s.f, t.dy_image = s.out_h / 2 * t.dy_row;
  const std::int64_t row_bytes = 2 * t.line * static_cast<std::int64_t>(sizeof(T));
  t.add = false;
  for (std::int64_t block = first; block < last; ++block) {
    const DwBlock b = dw_block(s, block);
    dw_copy(s, b, call.in[0].as<const T>(), copy);
    const std::int64_t rows = (b.last - b.first) / 2;
    t.x_image = (2 * rows + s.kernel_h - 1) * t.line;
    // Whole images while several fit, otherwise some rows of one.
    const std::int64_t fit = kPooledBytes / row_bytes;
    const std::int64_t step = dw_max(1, dw_min(rows, fit));
    const std::int64_t images = step == rows ? dw_max(1, fit / rows) : 1;
    for (std::int64_t i = 0; i < b.images; i += images) {
      for (std::int64_t r = 0; r < rows; r += step) {
        const std::int64_t at = (b.image + i) * t.dy_image + (b.first / 2 + r) * t.dy_row;
        t.images = dw_min(images, b.images - i);
        t.rows = dw_min(step, rows - r);
        t.x = copy + i * t.x_image + 2 * r * t.line;
        t.dy = call.in[1].as<const T>() + at;
        t.index = call.in[2].as<const std::uint8_t>() + at;
        pooled_filters(s, t, f, end, sums);
        t.add = true;
      }
    }
  }
}

template <class T>
static void conv2d_dw_pooled_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const DwShape s = pooled_shape<T>(call);
  T* const dw = call.out[0].as<T>();
  if (phase == 1) return dw_add_chunks(s, static_cast<const T*>(call.scratch), begin, end, dw);
  if (s.blocks == 0) {
    __builtin_memset(dw, 0, static_cast<std::size_t>(call.out[0].size()) * sizeof(T));
    return;
  }
  for (std::int64_t piece = begin; piece < end; ++piece) {
    const std::int64_t chunk = piece / s.parts;
    T* const sums = static_cast<T*>(call.scratch) + chunk * s.sums;
    pooled_piece(s, call, chunk, piece % s.parts, sums, static_cast<T*>(local));
  }
}
PFN_KERNEL(conv2d_dw_pooled, conv2d_dw_pooled_prepare, conv2d_dw_pooled_run);

}  // namespace pfn::PFN_ISA
