// The affine layer: y = x @ w + b, and its three gradients.
//
//   linear_forward   y[n,o]  = x[n,i] @ w[i,o] + b[o]     b may be left out
//   linear_dx        dx[n,i] = dy[n,o] @ w[i,o].T
//   linear_dw        dw[i,o] = x[n,i].T @ dy[n,o]         last phase: rows of dw
//   linear_db        db[o]   = sum over n of dy[n,o]
//
// The products are those of gemm.hpp: order of sums, error bound, NaN and threads stand there.
#include "kernels/gemm.hpp"

namespace pfn::PFN_ISA {

template <class T>
static void linear_forward_prepare(OpCall& call) {
  gemm_prepare(call, GemmLayout::nn, call.in[0].rows(), call.in[1].cols(), call.in[0].cols(), sizeof(T));
}
template <class T>
static void linear_forward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const View& x = call.in[0];
  const View& w = call.in[1];
  const Gemm<T> g{GemmLayout::nn,  x.rows(), w.cols(), x.cols(), x.as<const T>(), w.as<const T>(),
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
  const Gemm<T> g{GemmLayout::nt, dy.rows(), w.rows(), dy.cols(), dy.as<const T>(), w.as<const T>(),
                  nullptr,        call.out[0].as<T>()};
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
  const Gemm<T> g{GemmLayout::tn, x.cols(), dy.cols(), x.rows(), x.as<const T>(), dy.as<const T>(),
                  nullptr,        call.out[0].as<T>()};
  gemm_run(call, g, phase, begin, end, local);
}
PFN_KERNEL(linear_dw, linear_dw_prepare, linear_dw_run);

// Columns summed at once, and rows whose sum is kept in T before it goes to a double.
constexpr std::int64_t kSumVectors = 4;
constexpr std::int64_t kSumRows = 64;

template <class T>
static void linear_db_prepare(OpCall& call) {
  const double ns_column = 0.04 * static_cast<double>(call.in[0].rows()) * static_cast<double>(sizeof(T)) / 4;
  one_phase(call, call.in[0].cols(), ns_column, kSumVectors * kLanes<T>);
}

// Row r of a block of kSumRows goes to partial sum r % 4; (s0 + s1) + (s2 + s3) goes to the total, a double. So an error
// is at most about 18 u sum |dy| however long the column, and the order does not depend on how many columns go together.
template <class T>
static void sum_columns(const T* dy, std::int64_t rows, std::int64_t ld, std::int64_t columns, T* db) {
  constexpr std::int64_t lanes = kLanes<T>;
  const std::int64_t vectors = (columns + lanes - 1) / lanes;
  double total[kSumVectors * kLanes<T>] = {};
  T block[kSumVectors * kLanes<T>];
  for (std::int64_t r0 = 0; r0 < rows; r0 += kSumRows) {
    const std::int64_t r1 = r0 + kSumRows < rows ? r0 + kSumRows : rows;
    for (std::int64_t v = 0; v < vectors; ++v) {
      const std::int64_t count = columns - v * lanes < lanes ? columns - v * lanes : lanes;
      const T* p = dy + r0 * ld + v * lanes;
      Vec<T> s0 = splat(T(0)), s1 = s0, s2 = s0, s3 = s0;
      std::int64_t r = r0;
      if (count == lanes) {
        for (; r + 4 <= r1; r += 4, p += 4 * ld) {
          s0 += load<T>(p);
          s1 += load<T>(p + ld);
          s2 += load<T>(p + 2 * ld);
          s3 += load<T>(p + 3 * ld);
        }
      } else {
        for (; r + 4 <= r1; r += 4, p += 4 * ld) {
          s0 += load_partial(p, count);
          s1 += load_partial(p + ld, count);
          s2 += load_partial(p + 2 * ld, count);
          s3 += load_partial(p + 3 * ld, count);
        }
      }
      if (r < r1) s0 += load_partial(p, count);
      if (r + 1 < r1) s1 += load_partial(p + ld, count);
      if (r + 2 < r1) s2 += load_partial(p + 2 * ld, count);
      store<T>(block + v * lanes, (s0 + s1) + (s2 + s3));
    }
    for (std::int64_t j = 0; j < vectors * lanes; ++j) total[j] += static_cast<double>(block[j]);
  }
  for (std::int64_t j = 0; j < columns; ++j) db[j] = static_cast<T>(total[j]);
}

template <class T>
static void linear_db_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const View& dy = call.in[0];
  constexpr std::int64_t step = kSumVectors * kLanes<T>;
  for (std::int64_t j = begin; j < end; j += step)
    sum_columns(dy.as<const T>() + j, dy.rows(), dy.cols(), end - j < step ? end - j : step, call.out[0].as<T>() + j);
}
PFN_KERNEL(linear_db, linear_db_prepare, linear_db_run);

}  // namespace pfn::PFN_ISA
