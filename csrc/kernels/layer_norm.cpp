// Layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450, 2016): every row of c elements by itself.
//
//   forward   mean, var of the row (divided by c),  rstd = 1 / sqrt(var + eps)
//             y = (x - mean) * rstd * gamma + beta
//   backward  xhat = (x - mean) * rstd,  g = dy * gamma
//             dx = rstd * (g - mean of g - xhat * mean of g * xhat)
//             dgamma = sum over rows of dy * xhat,  dbeta = sum over rows of dy
//
// No columns: mean = rstd = 0. NaN and inf spread within their row, in dgamma and dbeta within their column.
// The statistics are the corrected two-pass ones of x minus the row's first element, so a row of equal elements gives
// beta exactly and an offset costs no digits. Sums run in an order that c decides; dgamma and dbeta are summed over
// blocks of 32 rows, and those in double in order.
// Max error: a few times u * (c / 64 + 10) relative to the largest deviation of the row; the reference has the formula.
#include "kernels/kernel.hpp"
#include "kernels/sweep.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kBlockRows = 32;  // rows that share one partial sum of dgamma and dbeta
constexpr std::int64_t kTogether = 4;    // rows worked on at once; backward adds their terms before they join it
constexpr std::int64_t kColumns = 64;    // columns that are combined at once

// v with zeros in the lanes that do not exist.
template <class T>
static inline Vec<T> only(Vec<T> v, Whole) {
  return v;
}
template <class T>
static inline Vec<T> only(Vec<T> v, Part part) {
  return lane_index<T>() < static_cast<IntOf<T>>(part.count) ? v : splat(T(0));
}

// Sums over a row of `count` elements: term(i, Whole or Part, s) adds those from i on to the N sums s. Four chains run
// side by side, and a chain of 64 vectors joins a longer sum: that bounds the growth of rounding errors.
template <class T, int N, class F>
static PFN_ALWAYS_INLINE void row_sums(std::int64_t count, T* total, const F& term) {
  constexpr std::int64_t L = kLanes<T>, group = 64 * 4 * L;
  Vec<T> sum[4][N];
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k)
    for (int s = 0; s < N; ++s) sum[k][s] = splat(T(0));
  for (std::int64_t g = 0; g < count; g += group) {
    const std::int64_t end = count < g + group ? count : g + group;
    Vec<T> chain[4][N];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k)
      for (int s = 0; s < N; ++s) chain[k][s] = splat(T(0));
    std::int64_t i = g;
    for (; i + 4 * L <= end; i += 4 * L) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) term(i + k * L, Whole{}, chain[k]);
    }
    for (; i + L <= end; i += L) term(i, Whole{}, chain[0]);
    if (i < end) term(i, Part{end - i}, chain[1]);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k)
      for (int s = 0; s < N; ++s) sum[k][s] = sum[k][s] + chain[k][s];
  }
  for (int s = 0; s < N; ++s) total[s] = reduce_add<T>((sum[0][s] + sum[1][s]) + (sum[2][s] + sum[3][s]));
}

// f(i, Whole or Part) along a row.
template <class T, class F>
static PFN_ALWAYS_INLINE void along_row(std::int64_t count, const F& f) {
  constexpr std::int64_t L = kLanes<T>;
  std::int64_t i = 0;
  for (; i + L <= count; i += L) f(i, Whole{});
  if (i < count) f(i, Part{count - i});
}

template <class T>
static void layer_norm_forward_prepare(OpCall& call) {
  const std::int64_t cols = call.in[0].cols();
  const std::int64_t rows = cols >= 2048 ? 1 : 2048 / (cols > 0 ? cols : 1);
  one_phase(call, call.in[0].rows(), 30.0 + 0.2 * (sizeof(T) / 4) * static_cast<double>(cols), rows);
}
// R rows from `row` on, step by step side by side: the statistics of one row are a chain of dependent operations.
template <class T, int R>
static inline void forward_rows(const OpCall& call, std::int64_t row) {
  const std::int64_t cols = call.in[0].cols();
  const T* x = call.in[0].as<const T>() + row * cols;
  const T* gamma = call.in[1].as<const T>();
  const T* beta = call.in[2].as<const T>();
  T* y = call.out[0].as<T>() + row * cols;
  const double inverse = 1.0 / static_cast<double>(cols);
  T shift[R], delta[R], rstd[R];
  double var[R];
  for (int r = 0; r < R; ++r) {
    const T* xr = x + r * cols;
    const T first = shift[r] = xr[0] - xr[0] == 0 ? xr[0] : T(0);  // inf - inf would hide that the mean is inf
    T sum[1];
    row_sums<T, 1>(cols, sum, [=](std::int64_t i, auto part, Vec<T>* s) {
      s[0] = s[0] + only<T>(load_at(xr + i, part) - first, part);
    });
    delta[r] = static_cast<T>(static_cast<double>(sum[0]) * inverse);
  }
  for (int r = 0; r < R; ++r) {
    const T* xr = x + r * cols;
    const T first = shift[r], center = delta[r];
    T sum[2];
    row_sums<T, 2>(cols, sum, [=](std::int64_t i, auto part, Vec<T>* s) {
      const Vec<T> d = only<T>((load_at(xr + i, part) - first) - center, part);
      s[0] = s[0] + d;
      s[1] = fma(d, d, s[1]);
    });
    const double square = static_cast<double>(sum[1]), rest = static_cast<double>(sum[0]);
    var[r] = (square - rest * rest * inverse) * inverse;
  }
  for (int r = 0; r < R; ++r) {
    rstd[r] = static_cast<T>(1.0 / __builtin_sqrt((var[r] < 0 ? 0 : var[r]) + call.attr[0]));
    call.out[1].as<T>()[row + r] = shift[r] + delta[r];
    call.out[2].as<T>()[row + r] = rstd[r];
  }
  along_row<T>(cols, [&](std::int64_t i, auto part) {
    const Vec<T> scale = load_at(gamma + i, part), offset = load_at(beta + i, part);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> d = (load_at(x + r * cols + i, part) - shift[r]) - delta[r];
      store_at(y + r * cols + i, fma(d * rstd[r], scale, offset), part);
    }
  });
}

template <class T>
static void layer_norm_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  std::int64_t r = begin;
  if (call.in[0].cols() == 0) {
    for (; r < end; ++r) call.out[1].as<T>()[r] = call.out[2].as<T>()[r] = 0;
    return;
  }
  for (; r + kTogether <= end; r += kTogether) forward_rows<T, kTogether>(call, r);
  for (; r < end; ++r) forward_rows<T, 1>(call, r);
}
PFN_KERNEL(layer_norm_forward, layer_norm_forward_prepare, layer_norm_forward_run);

// Scratch: two partial sums of c elements for each block of rows.
template <class T>
static void layer_norm_backward_prepare(OpCall& call) {
  const std::int64_t rows = call.in[0].rows(), cols = call.in[0].cols(), blocks = (rows + kBlockRows - 1) / kBlockRows;
  call.phases = 2;
  call.phase[0] =
      Phase{rows, kBlockRows, static_cast<double>(rows) * (30.0 + 0.35 * (sizeof(T) / 4) * static_cast<double>(cols))};
  call.phase[1] = Phase{cols, kColumns, static_cast<double>(2 * blocks * cols) * 0.3};
  call.scratch_bytes = 2 * blocks * cols * static_cast<std::int64_t>(sizeof(T));
}

// dx of R rows from `row` on; their terms join dgamma and dbeta.
template <class T, int R>
static inline void backward_rows(const OpCall& call, std::int64_t row, T* dgamma, T* dbeta) {
  const std::int64_t cols = call.in[0].cols();
  const T* dy = call.in[0].as<const T>() + row * cols;
  const T* x = call.in[1].as<const T>() + row * cols;
  const T* gamma = call.in[2].as<const T>();
  T* dx = call.out[0].as<T>() + row * cols;
  T mean[R], rstd[R], g_mean[R], gh_mean[R];
  for (int r = 0; r < R; ++r) {
    const T center = mean[r] = call.in[3].as<const T>()[row + r];
    const T scale = rstd[r] = call.in[4].as<const T>()[row + r];
    const T* dyr = dy + r * cols;
    const T* xr = x + r * cols;
    T sum[2];
    row_sums<T, 2>(cols, sum, [=](std::int64_t i, auto part, Vec<T>* s) {
      const Vec<T> g = load_at(dyr + i, part) * load_at(gamma + i, part);
      s[0] = s[0] + g;
      s[1] = fma(g, only<T>((load_at(xr + i, part) - center) * scale, part), s[1]);
    });
    g_mean[r] = sum[0] / static_cast<T>(cols);
    gh_mean[r] = sum[1] / static_cast<T>(cols);
  }
  along_row<T>(cols, [&](std::int64_t i, auto part) {
    const Vec<T> scale = load_at(gamma + i, part);
    Vec<T> slope[R], offset[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> u = load_at(dy + r * cols + i, part), h = (load_at(x + r * cols + i, part) - mean[r]) * rstd[r];
      store_at(dx + r * cols + i, (fma(-h, splat(gh_mean[r]), u * scale) - g_mean[r]) * rstd[r], part);
      slope[r] = u * h;
      offset[r] = u;
    }
    if constexpr (R == 4) {
      slope[0] = (slope[0] + slope[1]) + (slope[2] + slope[3]);
      offset[0] = (offset[0] + offset[1]) + (offset[2] + offset[3]);
    }
    store_at(dgamma + i, load_at(dgamma + i, part) + slope[0], part);
    store_at(dbeta + i, load_at(dbeta + i, part) + offset[0], part);
  });
}

template <class T>
static void layer_norm_backward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t rows = call.in[0].rows(), cols = call.in[0].cols();
  T* scratch = static_cast<T*>(call.scratch);
  if (phase == 0) {
    for (std::int64_t first = begin; first < end; first += kBlockRows) {
      const std::int64_t last = end < first + kBlockRows ? end : first + kBlockRows;
      T* dgamma = scratch + 2 * (first / kBlockRows) * cols;
      T* dbeta = dgamma + cols;
      along_row<T>(2 * cols, [=](std::int64_t i, auto part) { store_at(dgamma + i, splat(T(0)), part); });
      std::int64_t r = first;
      for (; r + kTogether <= last; r += kTogether) backward_rows<T, kTogether>(call, r, dgamma, dbeta);
      for (; r < last; ++r) backward_rows<T, 1>(call, r, dgamma, dbeta);
    }
    return;
  }
  for (std::int64_t j0 = begin; j0 < end; j0 += kColumns) {
    const std::int64_t width = end - j0 < kColumns ? end - j0 : kColumns;
    double dgamma[kColumns] = {}, dbeta[kColumns] = {};
    for (std::int64_t b = 0; b * kBlockRows < rows; ++b) {
      const T* block = scratch + 2 * b * cols + j0;
      for (std::int64_t j = 0; j < width; ++j) {
        dgamma[j] += static_cast<double>(block[j]);
        dbeta[j] += static_cast<double>(block[cols + j]);
      }
    }
    for (std::int64_t j = 0; j < width; ++j) {
      call.out[1].as<T>()[j0 + j] = static_cast<T>(dgamma[j]);
      call.out[2].as<T>()[j0 + j] = static_cast<T>(dbeta[j]);
    }
  }
}
PFN_KERNEL(layer_norm_backward, layer_norm_backward_prepare, layer_norm_backward_run);

}  // namespace pfn::PFN_ISA
