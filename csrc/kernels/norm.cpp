// Batch normalisation over the last dimension (Ioffe and Szegedy, ICML 2015). The rows are all the
// other dimensions together, R of them.
//
//   forward   mean, var of the batch (divided by R),  rstd = 1 / sqrt(var + eps)
//             y = (x - mean) * rstd * gamma + beta
//             running = (1 - momentum) * running + momentum * that of the batch (var over R - 1)
//   predict   y = (x - running_mean) * gamma / sqrt(running_var + eps) + beta
//   backward  xhat = (x - mean) * rstd,  dgamma = sum of dy * xhat,  dbeta = sum of dy
//             dx = gamma * rstd * (dy - (dbeta + xhat * dgamma) / R)
//
// One row: y = beta, mean = x, rstd = 0, the running statistics stay, and so dx = 0.
// No rows: mean = rstd = dgamma = dbeta = 0. NaN and inf spread within their column.
// Max error: var 1e-5 relative in float32 for any mean, since the statistics are the corrected
// two-pass ones of x minus the first row; y 8 * eps * (|y| + |beta| + |gamma|).
// Source: Chan, Golub and LeVeque, The American Statistician 37 (1983) 242; its eq. 2.1 combines
// the statistics of row blocks.
#include "kernels/kernel.hpp"
#include "kernels/norm_strips.hpp"

namespace pfn::PFN_ISA {

// What forward does with the statistics of a strip: stores them, and makes y = (x - shift) * a + b.
template <class T, int NV, bool kTail>
static inline void finish_statistics(const OpCall& call, std::int64_t j, std::int64_t tail, const Vec<T>* shift,
                                     const Vec<T>* delta, const Vec<T>* square, Vec<T>* a, Vec<T>* b) {
  const std::int64_t rows = call.in[0].rows();
  const T momentum = static_cast<T>(call.attr[0]), keep = static_cast<T>(1.0 - call.attr[0]),
          eps = static_cast<T>(call.attr[1]);
  const auto gamma = load_strip<T, NV, kTail>(call.in[1].as<const T>() + j, tail);
  const auto beta = load_strip<T, NV, kTail>(call.in[2].as<const T>() + j, tail);
  auto running_mean = load_strip<T, NV, kTail>(call.in[3].as<const T>() + j, tail);
  auto running_var = load_strip<T, NV, kTail>(call.in[4].as<const T>() + j, tail);
  Strip<T, NV, kTail> mean, rstd;
#pragma GCC unroll 4
  for (int k = 0; k < NV; ++k) {
    mean.v[k] = rows > 0 ? shift[k] + delta[k] : splat(T(0));
    rstd.v[k] = rows > 1 ? T(1) / vsqrt(square[k] / static_cast<T>(rows) + eps) : splat(T(0));
    a[k] = gamma.v[k] * rstd.v[k];
    b[k] = fma(-delta[k], a[k], beta.v[k]);
    if (rows > 1) {
      running_mean.v[k] = fma(splat(momentum), mean.v[k], keep * running_mean.v[k]);
      running_var.v[k] = fma(splat(momentum), square[k] / static_cast<T>(rows - 1), keep * running_var.v[k]);
    }
  }
  store_strip(call.out[1].as<T>() + j, mean, tail);
  store_strip(call.out[2].as<T>() + j, rstd, tail);
  store_strip(call.out[3].as<T>() + j, running_mean, tail);
  store_strip(call.out[4].as<T>() + j, running_var, tail);
}

template <class T>
static void batch_norm_forward_prepare(OpCall& call) {
  batch_norm_phases<T>(call, call.in[0], 0.25);
}

namespace {
template <class T>
struct ForwardStrips {  // all of it, strip by strip
  const OpCall& call;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const std::int64_t rows = call.in[0].rows(), cols = call.in[0].cols();
    const T* x = call.in[0].as<const T>() + j;
    Vec<T> shift[NV], delta[NV], square[NV], a[NV], b[NV];
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) shift[k] = delta[k] = square[k] = splat(T(0));
    if (rows > 0) {
      const auto first = load_strip<T, NV, kTail>(x, tail);
#pragma GCC unroll 4
      for (int k = 0; k < NV; ++k) shift[k] = finite_or_zero<T>(first.v[k]);
      strip_statistics<T, NV, kTail>(x, rows, cols, tail, shift, delta, square);
    }
    finish_statistics<T, NV, kTail>(call, j, tail, shift, delta, square, a, b);
    scale_rows<T, NV, kTail>(x, call.out[0].as<T>() + j, rows, cols, tail, shift, a, b);
  }
};

// Scratch of the large path: shift, a, b (one row each), then delta and square of each block.
template <class T>
struct ForwardBlock {  // partial statistics of one block
  const OpCall& call;
  std::int64_t first_row, rows, block;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const std::int64_t cols = call.in[0].cols();
    const T* x = call.in[0].as<const T>() + j;
    T* partial = static_cast<T*>(call.scratch) + (3 + 2 * block) * cols + j;
    Vec<T> shift[NV];
    Strip<T, NV, kTail> delta, square;
    const auto first = load_strip<T, NV, kTail>(x, tail);
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) shift[k] = finite_or_zero<T>(first.v[k]);
    strip_statistics<T, NV, kTail>(x + first_row * cols, rows, cols, tail, shift, delta.v, square.v);
    store_strip(partial, delta, tail);
    store_strip(partial + cols, square, tail);
  }
};

template <class T>
struct ForwardCombine {
  const OpCall& call;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    constexpr std::int64_t L = kLanes<T>;
    const std::int64_t rows = call.in[0].rows(), cols = call.in[0].cols();
    T* scratch = static_cast<T*>(call.scratch) + j;
    T delta_lane[kStrip<T>], square_lane[kStrip<T>];
    combine_blocks(scratch + 3 * cols, rows, cols, block_rows<T>(cols), kTail ? (NV - 1) * L + tail : NV * L,
                   delta_lane, square_lane);
    Vec<T> delta[NV], square[NV];
    Strip<T, NV, kTail> shift = load_strip<T, NV, kTail>(call.in[0].as<const T>() + j, tail), a, b;
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) {
      shift.v[k] = finite_or_zero<T>(shift.v[k]);
      delta[k] = load<T>(delta_lane + k * L);
      square[k] = load<T>(square_lane + k * L);
    }
    finish_statistics<T, NV, kTail>(call, j, tail, shift.v, delta, square, a.v, b.v);
    store_strip(scratch, shift, tail);
    store_strip(scratch + cols, a, tail);
    store_strip(scratch + 2 * cols, b, tail);
  }
};

template <class T>
struct ForwardWrite {
  const OpCall& call;
  std::int64_t row, rows;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const std::int64_t cols = call.in[0].cols();
    const T* scratch = static_cast<const T*>(call.scratch) + j;
    const auto shift = load_strip<T, NV, kTail>(scratch, tail);
    const auto a = load_strip<T, NV, kTail>(scratch + cols, tail),
               b = load_strip<T, NV, kTail>(scratch + 2 * cols, tail);
    scale_rows<T, NV, kTail>(call.in[0].as<const T>() + row * cols + j, call.out[0].as<T>() + row * cols + j, rows,
                             cols, tail, shift.v, a.v, b.v);
  }
};
}  // namespace

template <class T>
static void batch_norm_forward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t rows = call.in[0].rows(), cols = call.in[0].cols();
  if (in_strips<T>(rows, cols)) return for_strips<T>(begin, end, ForwardStrips<T>{call});
  if (phase == 1) return for_strips<T>(begin, end, ForwardCombine<T>{call});
  if (phase == 2) {
    for (std::int64_t r = begin; r < end; r += kWriteRows)
      for_strips<T>(0, cols, ForwardWrite<T>{call, r, smaller(kWriteRows, end - r)});
    return;
  }
  const std::int64_t per_block = block_rows<T>(cols);
  for (std::int64_t r = begin; r < end; r += per_block)
    for_strips<T>(0, cols, ForwardBlock<T>{call, r, smaller(per_block, end - r), r / per_block});
}
PFN_KERNEL(batch_norm_forward, batch_norm_forward_prepare, batch_norm_forward_run);

namespace {
template <class T>
struct PredictRows {
  const OpCall& call;
  std::int64_t row, rows;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const std::int64_t cols = call.in[0].cols();
    const T eps = static_cast<T>(call.attr[0]);
    auto a = load_strip<T, NV, kTail>(call.in[1].as<const T>() + j, tail);
    const auto b = load_strip<T, NV, kTail>(call.in[2].as<const T>() + j, tail);
    const auto mean = load_strip<T, NV, kTail>(call.in[3].as<const T>() + j, tail);
    const auto var = load_strip<T, NV, kTail>(call.in[4].as<const T>() + j, tail);
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) a.v[k] = a.v[k] / vsqrt(var.v[k] + eps);
    scale_rows<T, NV, kTail>(call.in[0].as<const T>() + row * cols + j, call.out[0].as<T>() + row * cols + j, rows,
                             cols, tail, mean.v, a.v, b.v);
  }
};
}  // namespace

template <class T>
static void batch_norm_predict_prepare(OpCall& call) {
  one_phase(call, call.in[0].rows(), 0.1 * (sizeof(T) / 4) * static_cast<double>(call.in[0].cols()), kWriteRows);
}
template <class T>
static void batch_norm_predict_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  for (std::int64_t r = begin; r < end; r += kWriteRows)
    for_strips<T>(0, call.in[0].cols(), PredictRows<T>{call, r, smaller(kWriteRows, end - r)});
}
PFN_KERNEL(batch_norm_predict, batch_norm_predict_prepare, batch_norm_predict_run);

namespace {
template <class T>
struct BackwardSums {  // sum dy and sum dy * (x - mean) of some rows
  const OpCall& call;
  std::int64_t first_row, rows;
  template <int NV, bool kTail>
  void sums(std::int64_t j, std::int64_t tail, Vec<T>* sum_dy, Vec<T>* sum_product) const {
    const std::int64_t cols = call.in[0].cols();
    const T* dy = call.in[0].as<const T>() + first_row * cols + j;
    const T* x = call.in[1].as<const T>() + first_row * cols + j;
    const auto mean = load_strip<T, NV, kTail>(call.in[3].as<const T>() + j, tail);
    sum_rows<T, NV>(rows, sum_dy, sum_product, [&](std::int64_t r, Vec<T>* a, Vec<T>* b) {
      const auto g = load_strip<T, NV, kTail>(dy + r * cols, tail), s = load_strip<T, NV, kTail>(x + r * cols, tail);
#pragma GCC unroll 4
      for (int k = 0; k < NV; ++k) {
        a[k] = a[k] + g.v[k];
        b[k] = fma(g.v[k], s.v[k] - mean.v[k], b[k]);
      }
    });
  }
  // Scratch of the large path: both sums of each block.
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const std::int64_t cols = call.in[0].cols();
    T* partial = static_cast<T*>(call.scratch) + 2 * (first_row / block_rows<T>(cols)) * cols + j;
    Strip<T, NV, kTail> sum_dy, sum_product;
    sums<NV, kTail>(j, tail, sum_dy.v, sum_product.v);
    store_strip(partial, sum_dy, tail);
    store_strip(partial + cols, sum_product, tail);
  }
};

// dx of some rows from dgamma and dbeta.
template <class T>
struct BackwardWrite {
  const OpCall& call;
  std::int64_t first_row, rows;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const std::int64_t cols = call.in[0].cols();
    const T count = static_cast<T>(call.in[0].rows());
    const T* dy = call.in[0].as<const T>() + first_row * cols + j;
    const T* x = call.in[1].as<const T>() + first_row * cols + j;
    T* dx = call.out[0].as<T>() + first_row * cols + j;
    const auto mean = load_strip<T, NV, kTail>(call.in[3].as<const T>() + j, tail);
    const auto rstd = load_strip<T, NV, kTail>(call.in[4].as<const T>() + j, tail);
    auto a = load_strip<T, NV, kTail>(call.in[2].as<const T>() + j, tail);
    auto slope = load_strip<T, NV, kTail>(call.out[1].as<const T>() + j, tail);
    auto offset = load_strip<T, NV, kTail>(call.out[2].as<const T>() + j, tail);
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) {
      a.v[k] = a.v[k] * rstd.v[k];
      slope.v[k] = -(a.v[k] * rstd.v[k] * (slope.v[k] / count));
      offset.v[k] = -(a.v[k] * (offset.v[k] / count));
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto s = load_strip<T, NV, kTail>(x + r * cols, tail);
      auto g = load_strip<T, NV, kTail>(dy + r * cols, tail);
#pragma GCC unroll 4
      for (int k = 0; k < NV; ++k) g.v[k] = fma(g.v[k], a.v[k], fma(s.v[k] - mean.v[k], slope.v[k], offset.v[k]));
      store_strip(dx + r * cols, g, tail);
    }
  }
};

template <class T>
struct BackwardStrips {  // all of it, strip by strip
  const OpCall& call;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const std::int64_t rows = call.in[0].rows();
    const auto rstd = load_strip<T, NV, kTail>(call.in[4].as<const T>() + j, tail);
    Strip<T, NV, kTail> dbeta, dgamma;
    BackwardSums<T>{call, 0, rows}.template sums<NV, kTail>(j, tail, dbeta.v, dgamma.v);
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) dgamma.v[k] = dgamma.v[k] * rstd.v[k];
    store_strip(call.out[1].as<T>() + j, dgamma, tail);
    store_strip(call.out[2].as<T>() + j, dbeta, tail);
    BackwardWrite<T>{call, 0, rows}.template strip<NV, kTail>(j, tail);
  }
};
}  // namespace

template <class T>
static void batch_norm_backward_prepare(OpCall& call) {
  batch_norm_phases<T>(call, call.in[0], 0.35);
}
template <class T>
static void batch_norm_backward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t rows = call.in[0].rows(), cols = call.in[0].cols();
  if (in_strips<T>(rows, cols)) return for_strips<T>(begin, end, BackwardStrips<T>{call});
  if (phase == 1) return combine_gradients<T>(call, begin, end);
  const std::int64_t step = phase == 0 ? block_rows<T>(cols) : kWriteRows;
  for (std::int64_t r = begin; r < end; r += step) {
    const std::int64_t here = smaller(step, end - r);
    if (phase == 0)
      for_strips<T>(0, cols, BackwardSums<T>{call, r, here});
    else
      for_strips<T>(0, cols, BackwardWrite<T>{call, r, here});
  }
}
PFN_KERNEL(batch_norm_backward, batch_norm_backward_prepare, batch_norm_backward_run);

}  // namespace pfn::PFN_ISA
