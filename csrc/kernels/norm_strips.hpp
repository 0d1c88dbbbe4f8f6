// Loops of column reductions and column-wise maps over a row-major array, for norm.cpp and group_norm.cpp.
//
// Small arrays go column strip by column strip, all passes over a strip in cache. Beyond
// kStripBytes the strips would wander over pages: there row blocks make partial sums, which are
// combined in order and applied in a second pass. The shape alone decides.
#pragma once
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kStripBytes = 1 << 20;
constexpr std::int64_t kBlockBytes = 1 << 18;
constexpr std::int64_t kWriteRows =
    8;  // rows that share one load of the column values where an array is read row by row
constexpr std::int64_t kRowGroup =
    64;  // rows summed before the sum joins a longer one: bounds the growth of rounding errors
constexpr int kStripVectors = 4;
template <class T>
constexpr std::int64_t kStrip = kStripVectors * kLanes<T>;

static inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Up to kStripVectors neighbouring vectors of a row, the last one perhaps partial.
template <class T, int NV, bool kTail>
struct Strip {
  Vec<T> v[NV];
};
template <class T, int NV, bool kTail>
static inline Strip<T, NV, kTail> load_strip(const T* p, std::int64_t tail) {
  Strip<T, NV, kTail> s;
#pragma GCC unroll 4
  for (int k = 0; k < NV; ++k)
    s.v[k] = kTail && k == NV - 1 ? load_partial(p + k * kLanes<T>, tail) : load<T>(p + k * kLanes<T>);
  return s;
}
template <class T, int NV, bool kTail>
static inline void store_strip(T* p, const Strip<T, NV, kTail>& s, std::int64_t tail) {
#pragma GCC unroll 4
  for (int k = 0; k < NV; ++k) {
    if (kTail && k == NV - 1)
      store_partial(p + k * kLanes<T>, s.v[k], tail);
    else
      store<T>(p + k * kLanes<T>, s.v[k]);
  }
}

// Calls f.strip<NV, kTail>(first column, lanes of a partial last vector) for each strip of the
// columns [begin, end).
template <class T, class F>
static inline void for_strips(std::int64_t begin, std::int64_t end, const F& f) {
  constexpr std::int64_t L = kLanes<T>;
  std::int64_t j = begin;
  for (; j + kStrip<T> <= end; j += kStrip<T>) f.template strip<4, false>(j, 0);
  const std::int64_t tail = (end - j) % L;
  switch ((end - j) / L * 2 + (tail > 0 ? 1 : 0)) {
    case 1:
      return f.template strip<1, true>(j, tail);
    case 2:
      return f.template strip<1, false>(j, tail);
    case 3:
      return f.template strip<2, true>(j, tail);
    case 4:
      return f.template strip<2, false>(j, tail);
    case 5:
      return f.template strip<3, true>(j, tail);
    case 6:
      return f.template strip<3, false>(j, tail);
    case 7:
      return f.template strip<4, true>(j, tail);
    default:
      return;
  }
}

// Two sums over the rows: term(row, a, b) adds a row to both.
template <class T, int NV, class F>
static inline void sum_rows(std::int64_t rows, Vec<T>* sum_a, Vec<T>* sum_b, F term) {
#pragma GCC unroll 4
  for (int k = 0; k < NV; ++k) sum_a[k] = sum_b[k] = splat(T(0));
  for (std::int64_t g = 0; g < rows; g += kRowGroup) {
    Vec<T> a[NV], b[NV];
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) a[k] = b[k] = splat(T(0));
    const std::int64_t end = smaller(rows, g + kRowGroup);
    for (std::int64_t r = g; r < end; ++r) term(r, a, b);
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) {
      sum_a[k] = sum_a[k] + a[k];
      sum_b[k] = sum_b[k] + b[k];
    }
  }
}

template <class T>
static inline bool in_strips(std::int64_t rows, std::int64_t cols) {
  return rows * cols * static_cast<std::int64_t>(sizeof(T)) <= kStripBytes;
}
// Rows of a block: kBlockBytes of them, at least 16.
template <class T>
static inline std::int64_t block_rows(std::int64_t cols) {
  const std::int64_t fit = kBlockBytes / static_cast<std::int64_t>(sizeof(T)) / cols;
  return fit > 16 ? fit : 16;
}

// Phases of forward and backward alike: one over columns, or row blocks, columns, row blocks with
// two partial vectors a block.
template <class T>
static inline void batch_norm_phases(OpCall& call, const View& x, double ns_each) {
  const std::int64_t rows = x.rows(), cols = x.cols();
  const double cost = static_cast<double>(rows) * static_cast<double>(cols) * ns_each * (sizeof(T) / 4);
  if (in_strips<T>(rows, cols)) {
    call.phases = 1;
    call.phase[0] = Phase{cols, kStrip<T>, cost};
    return;
  }
  const std::int64_t per_block = block_rows<T>(cols), blocks = (rows + per_block - 1) / per_block;
  call.phases = 3;
  call.phase[0] = Phase{rows, per_block, 0.6 * cost};
  call.phase[1] = Phase{cols, kStrip<T>, static_cast<double>(2 * blocks * cols)};
  call.phase[2] = Phase{rows, per_block, 0.6 * cost};
  call.scratch_bytes = (2 * blocks + 3) * cols * static_cast<std::int64_t>(sizeof(T));
}

// The first row where it is finite, else 0: inf - inf would hide that the mean is inf.
template <class T>
static inline Vec<T> finite_or_zero(Vec<T> x) {
  return x - x == T(0) ? x : splat(T(0));
}

// Mean of x - shift (delta) and sum of squared differences from it (square) over `rows` rows.
template <class T, int NV, bool kTail>
static inline void strip_statistics(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t tail,
                                    const Vec<T>* shift, Vec<T>* delta, Vec<T>* square) {
  const Vec<T> count = splat(static_cast<T>(rows));
  Vec<T> unused[NV], rest[NV];
  sum_rows<T, NV>(rows, delta, unused, [&](std::int64_t r, Vec<T>* a, Vec<T>*) {
    const auto s = load_strip<T, NV, kTail>(x + r * stride, tail);
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) a[k] = a[k] + (s.v[k] - shift[k]);
  });
#pragma GCC unroll 4
  for (int k = 0; k < NV; ++k) delta[k] = delta[k] / count;
  sum_rows<T, NV>(rows, square, rest, [&](std::int64_t r, Vec<T>* a, Vec<T>* b) {
    const auto s = load_strip<T, NV, kTail>(x + r * stride, tail);
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) {
      const Vec<T> d = (s.v[k] - shift[k]) - delta[k];
      a[k] = fma(d, d, a[k]);
      b[k] = b[k] + d;
    }
  });
#pragma GCC unroll 4
  for (int k = 0; k < NV; ++k) square[k] = square[k] - rest[k] * rest[k] / count;
}

// Mean and sum of squared differences of all rows from those of the blocks, in double, for `width`
// columns.
template <class T>
static inline void combine_blocks(const T* partial, std::int64_t rows, std::int64_t cols, std::int64_t per_block,
                                  std::int64_t width, T* delta, T* square) {
  double mean[kStrip<T>] = {}, sum[kStrip<T>] = {};
  for (std::int64_t b = 0; b * per_block < rows; ++b) {
    const double n = static_cast<double>(smaller(per_block, rows - b * per_block));
    for (std::int64_t j = 0; j < width; ++j) mean[j] += n * static_cast<double>(partial[2 * b * cols + j]);
  }
  for (std::int64_t j = 0; j < width; ++j) mean[j] /= static_cast<double>(rows);
  for (std::int64_t b = 0; b * per_block < rows; ++b) {
    const double n = static_cast<double>(smaller(per_block, rows - b * per_block));
    for (std::int64_t j = 0; j < width; ++j) {
      const double d = static_cast<double>(partial[2 * b * cols + j]) - mean[j];
      sum[j] += n * d * d + static_cast<double>(partial[(2 * b + 1) * cols + j]);
    }
  }
  for (std::int64_t j = 0; j < kStrip<T>; ++j) {
    delta[j] = static_cast<T>(mean[j]);
    square[j] = static_cast<T>(sum[j]);
  }
}

// y = (x - shift) * a + b.
template <class T, int NV, bool kTail>
static inline void scale_rows(const T* x, T* y, std::int64_t rows, std::int64_t stride, std::int64_t tail,
                              const Vec<T>* shift, const Vec<T>* a, const Vec<T>* b) {
  for (std::int64_t r = 0; r < rows; ++r) {
    auto s = load_strip<T, NV, kTail>(x + r * stride, tail);
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) s.v[k] = fma(s.v[k] - shift[k], a[k], b[k]);
    store_strip(y + r * stride, s, tail);
  }
}

// dgamma and dbeta of the columns [begin, end) from the sums of the blocks.
template <class T>
static inline void combine_gradients(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const std::int64_t rows = call.in[0].rows(), cols = call.in[0].cols(), per_block = block_rows<T>(cols);
  const T* partial = static_cast<const T*>(call.scratch);
  const T* rstd = call.in[4].as<const T>();
  for (std::int64_t j0 = begin; j0 < end; j0 += kStrip<T>) {
    const std::int64_t width = smaller(kStrip<T>, end - j0);
    double dy[kStrip<T>] = {}, product[kStrip<T>] = {};
    for (std::int64_t b = 0; b * per_block < rows; ++b) {
      const T* block = partial + 2 * b * cols + j0;
      for (std::int64_t j = 0; j < width; ++j) {
        dy[j] += static_cast<double>(block[j]);
        product[j] += static_cast<double>(block[cols + j]);
      }
    }
    for (std::int64_t j = 0; j < width; ++j) {
      call.out[1].as<T>()[j0 + j] = static_cast<T>(product[j] * static_cast<double>(rstd[j0 + j]));
      call.out[2].as<T>()[j0 + j] = static_cast<T>(dy[j]);
    }
  }
}

}  // namespace pfn::PFN_ISA
