// The affine layer: y = x @ w + b, and its three gradients.
//
//   linear_forward   y[n,o]  = x[n,i] @ w[i,o] + b[o]     b may be left out
//   linear_dx        dx[n,i] = dy[n,o] @ w[i,o].T
//   linear_dw        dw[i,o] = x[n,i].T @ dy[n,o]         last phase: rows of dw
//   linear_db        db[o]   = sum over n of dy[n,o]      all dimensions of dy but the last count as rows
//
// The products are those of gemm.hpp: order of sums, error bound, NaN and threads stand there.
#include "kernels/gemm.hpp"
#include "kernels/transpose.hpp"

namespace pfn::PFN_ISA {

template <class T>
static void linear_forward_prepare(OpCall& call) {
  gemm_prepare(call, GemmLayout::nn, call.in[0].rows(), call.in[1].cols(), call.in[0].cols(), sizeof(T));
}
template <class T>
static void linear_forward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const View& x = call.in[0];
  const View& w = call.in[1];
  const Gemm<T> g{GemmLayout::nn,           x.rows(),           w.cols(), x.cols(), x.as<const T>(), w.as<const T>(),
                  call.in[2].as<const T>(), call.out[0].as<T>()};
  gemm_run(call, g, phase, begin, end, local);
}
PFN_KERNEL(linear_forward, linear_forward_prepare, linear_forward_run);

template <class T>
static void linear_dx_prepare(OpCall& call) {
  gemm_prepare(call, GemmLayout::nt, call.in[0].rows(), call.in[1].rows(), call.in[0].cols(), sizeof(T));
}
template <class T>
static void linear_dx_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const View& dy = call.in[0];
  const View& w = call.in[1];
  const Gemm<T> g{GemmLayout::nt,   dy.rows(),       w.rows(), dy.cols(),
                  dy.as<const T>(), w.as<const T>(), nullptr,  call.out[0].as<T>()};
  gemm_run(call, g, phase, begin, end, local);
}
PFN_KERNEL(linear_dx, linear_dx_prepare, linear_dx_run);

template <class T>
static void linear_dw_prepare(OpCall& call) {
  gemm_prepare(call, GemmLayout::tn, call.in[0].cols(), call.in[1].cols(), call.in[0].rows(), sizeof(T));
}
template <class T>
static void linear_dw_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const View& x = call.in[0];
  const View& dy = call.in[1];
  const Gemm<T> g{GemmLayout::tn,   x.cols(), dy.cols(),           x.rows(),   x.as<const T>(),
                  dy.as<const T>(), nullptr,  call.out[0].as<T>(), &call.ahead};
  gemm_run(call, g, phase, begin, end, local);
}
PFN_KERNEL(linear_dw, linear_dw_prepare, linear_dw_run);

// Order of a column sum: in blocks of kSumRows rows, each ((r0 + r1) + (r2 + r3)) of four rows at a time in T, then the
// blocks in double; columns of kTallRows rows or more (the pixels of images) in chunks of rows, which are added in
// double in order. Where a row is shorter than a vector, a tall column is summed over the flat array: so many vectors
// as a row has columns hold whole rows, and each of their lanes is a chain of kSumRows rows. So an error is at most
// about (kSumRows + 2) u sum |dy| however long the column, and no cut changes a bit.
constexpr std::int64_t kSumRows = 64;
constexpr std::int64_t kSumColumns = 1024;  // columns whose sums stay in the first-level cache
constexpr std::int64_t kFewVectors = 4;     // up to so many vectors, sums stay in registers instead
constexpr std::int64_t kTallRows = 4096;
constexpr std::int64_t kTallChunks = 16;

template <class T>
static void linear_db_prepare(OpCall& call) {
  const std::int64_t rows = call.in[0].rows(), columns = call.in[0].cols();
  const double ns_column = 0.05 * static_cast<double>(rows) * static_cast<double>(sizeof(T)) / 4;
  if (rows < kTallRows || columns == 0) return one_phase(call, columns, ns_column, kFewVectors * kLanes<T>);
  call.phases = 2;
  call.phase[0] = Phase{kTallChunks, 1, ns_column * static_cast<double>(columns)};
  call.phase[1] = Phase{columns, 64, 10.0 * static_cast<double>(columns)};
  call.scratch_bytes = kTallChunks * columns * static_cast<std::int64_t>(sizeof(double));
}

// Rows 0 .. 3 of one vector of columns; `rows` of them exist.
template <class T>
static PFN_ALWAYS_INLINE Vec<T> add_rows(const T* p, std::int64_t ld, std::int64_t rows, std::int64_t count) {
  if (rows >= 4 && count == kLanes<T>)
    return (load<T>(p) + load<T>(p + ld)) + (load<T>(p + 2 * ld) + load<T>(p + 3 * ld));
  const Vec<T> zero = splat(T(0));
  const Vec<T> r0 = load_partial(p, count);
  const Vec<T> r1 = rows > 1 ? load_partial(p + ld, count) : zero;
  const Vec<T> r2 = rows > 2 ? load_partial(p + 2 * ld, count) : zero;
  const Vec<T> r3 = rows > 3 ? load_partial(p + 3 * ld, count) : zero;
  return (r0 + r1) + (r2 + r3);
}

// At most kSumColumns columns.
template <class T>
static void sum_columns(const T* dy, std::int64_t rows, std::int64_t ld, std::int64_t columns, double* total) {
  constexpr std::int64_t lanes = kLanes<T>;
  const std::int64_t padded = (columns + lanes - 1) / lanes * lanes;
  alignas(64) T block[kSumColumns];
  for (std::int64_t j = 0; j < columns; ++j) total[j] = 0;
  for (std::int64_t r0 = 0; r0 < rows; r0 += kSumRows) {
    const std::int64_t height = rows - r0 < kSumRows ? rows - r0 : kSumRows;
    const T* const top = dy + r0 * ld;
    if (padded <= kFewVectors * lanes) {
      for (std::int64_t j = 0; j < padded; j += lanes) {
        const std::int64_t count = columns - j < lanes ? columns - j : lanes;
        Vec<T> sum = splat(T(0));
        for (std::int64_t r = 0; r < height; r += 4) sum += add_rows(top + r * ld + j, ld, height - r, count);
        store<T>(block + j, sum);
      }
    } else {
      for (std::int64_t j = 0; j < padded; j += lanes) store<T>(block + j, splat(T(0)));
      for (std::int64_t r = 0; r < height; r += 4) {
        for (std::int64_t j = 0; j < padded; j += lanes) {
          const std::int64_t count = columns - j < lanes ? columns - j : lanes;
          store<T>(block + j, load<T>(block + j) + add_rows(top + r * ld + j, ld, height - r, count));
        }
      }
    }
    for (std::int64_t j = 0; j < columns; ++j) total[j] += static_cast<double>(block[j]);
  }
}

// Fewer columns than lanes: `columns` vectors are `lanes` rows.
template <class T, int columns>
static void sum_flat(const T* dy, std::int64_t rows, double* total) {
  constexpr std::int64_t lanes = kLanes<T>;
  for (int j = 0; j < columns; ++j) total[j] = 0;
  std::int64_t r = 0;
  while (rows - r >= lanes) {
    Vec<T> sum[columns];
#pragma GCC unroll 16
    for (int v = 0; v < columns; ++v) sum[v] = splat(T(0));
    const std::int64_t end = r + (rows - r < kSumRows * lanes ? (rows - r) / lanes * lanes : kSumRows * lanes);
    for (; r < end; r += lanes) {
#pragma GCC unroll 16
      for (int v = 0; v < columns; ++v) sum[v] += load<T>(dy + r * columns + v * lanes);
    }
    T flat[columns * lanes];
#pragma GCC unroll 16
    for (int v = 0; v < columns; ++v) store<T>(flat + v * lanes, sum[v]);
    for (std::int64_t i = 0; i < lanes; ++i)
      for (int j = 0; j < columns; ++j) total[j] += static_cast<double>(flat[i * columns + j]);
  }
  for (; r < rows; ++r)
    for (int j = 0; j < columns; ++j) total[j] += static_cast<double>(dy[r * columns + j]);
}

template <class T, int... K>
static void sum_flat(const T* dy, std::int64_t rows, std::int64_t columns, double* total, LaneList<K...>) {
  static constexpr void (*fn[])(const T*, std::int64_t, double*) = {sum_flat<T, K + 1>...};
  fn[columns - 1](dy, rows, total);
}

template <class T>
static void linear_db_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  const View& dy = call.in[0];
  const std::int64_t columns = dy.cols(), rows = dy.rows();
  T* const db = call.out[0].as<T>();
  double* const sums = static_cast<double*>(call.scratch);
  if (phase == 1) {
    for (std::int64_t j = begin; j < end; ++j) {
      double total = 0;
      for (std::int64_t chunk = 0; chunk < kTallChunks; ++chunk) total += sums[chunk * columns + j];
      db[j] = static_cast<T>(total);
    }
    return;
  }
  if (call.phases == 2) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      const std::int64_t first = chunk * rows / kTallChunks, height = (chunk + 1) * rows / kTallChunks - first;
      const T* const p = dy.as<const T>() + first * columns;
      double* const total = sums + chunk * columns;
      if (columns < kLanes<T>) {
        sum_flat(p, height, columns, total, typename LanesUpTo<static_cast<int>(kLanes<T>) - 1>::type{});
        continue;
      }
      for (std::int64_t j = 0; j < columns; j += kSumColumns)
        sum_columns(p + j, height, columns, columns - j < kSumColumns ? columns - j : kSumColumns, total + j);
    }
    return;
  }
  for (std::int64_t j = begin; j < end; j += kSumColumns) {
    double total[kSumColumns];
    const std::int64_t count = end - j < kSumColumns ? end - j : kSumColumns;
    sum_columns(dy.as<const T>() + j, rows, columns, count, total);
    for (std::int64_t k = 0; k < count; ++k) db[j + k] = static_cast<T>(total[k]);
  }
}
PFN_KERNEL(linear_db, linear_db_prepare, linear_db_run);

}  // namespace pfn::PFN_ISA
