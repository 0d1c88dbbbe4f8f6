// Softmax and its logarithm over the last dimension; the first output may be the memory of the first input.
//
//   softmax      m = max of the row, s = sum of exp(x - m)
//                y = exp(x - m) / s                       dx = y * (dy - sum of dy * y)
//   log_softmax  y = (x - m) - log(s)                     dx = dy - exp(y) * sum of dy
//
// A row with a NaN or +inf, or of -inf alone, is NaN; -inf beside finite numbers gives 0 (softmax) or -inf.
// Sums are made in the order that the width of a row decides, so a row has the same bits in every batch.
// Max error: softmax (8 + |x - m| + c) * eps / 2 relative and the mean of |x - m| * eps / 2 more, c the width of the
// row; log_softmax as much absolute, and eps / 2 relative. Source: Blanchard, Higham and Higham, IMA J. Numer. Anal. 41
// (2021) 2311.
#include "kernels/columns.hpp"
#include "kernels/fold.hpp"
#include "kernels/kernel.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kRows = 16;  // rows of the smallest piece: a multiple of every vector width

template <class T>
static void softmax_prepare(OpCall& call) {
  const std::int64_t c = call.in[0].cols();
  const double each = (c <= kFewColumns ? 0.8 : 0.35) * (sizeof(T) / 4);
  one_phase(call, call.in[0].rows(), 2.0 + each * static_cast<double>(c), kRows);
}

// Calls few(first row, rows) for up to kLanes rows at a time, or many(row) for one, and `ten` instead of few for whole
// groups of ten columns, by far the most frequent number of few.
template <class T, class Few, class Ten, class Many>
static PFN_ALWAYS_INLINE void over_rows(std::int64_t begin, std::int64_t end, std::int64_t c, Few few, Ten ten,
                                        Many many) {
  constexpr std::int64_t L = kLanes<T>;
  if (c > kFewColumns) {
    for (std::int64_t r = begin; r < end; ++r) many(r);
    return;
  }
  for (std::int64_t r = begin; r < end; r += L) {
    if (c == 10 && r + L <= end)
      ten(r);
    else
      few(r, end - r < L ? end - r : L);
  }
}

// Rows in the lanes; kColumns is c where the compiler is to know it, else 0.
template <class T, bool kLog, int kColumns>
static inline void softmax_few(const T* x, T* y, std::int64_t rows, std::int64_t any) {
  const std::int64_t c = kColumns > 0 ? kColumns : any;
  Vec<T> col[kColumnVectors<T>] = {};
  load_columns(x, rows, c, col);
  Vec<T> top = col[0];
#pragma GCC unroll 16
  for (std::int64_t j = 1; j < c; ++j) top = vmax(top, col[j]);
  Vec<T> sum = splat(T(0));
#pragma GCC unroll 16
  for (std::int64_t j = 0; j < c; ++j) {
    col[j] = col[j] - top;
    const Vec<T> e = exp_nonpositive<T>(col[j]);
    if constexpr (!kLog) col[j] = e;
    sum = sum + e;
  }
  const Vec<T> last = kLog ? vlog<T>(sum) : T(1) / sum;
#pragma GCC unroll 16
  for (std::int64_t j = 0; j < c; ++j) col[j] = kLog ? col[j] - last : col[j] * last;
  store_columns(y, rows, c, col);
}

// One row in three passes; it stays in the first-level cache.
template <class T, bool kLog>
static inline void softmax_many(const T* x, T* y, std::int64_t c) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t full = c - c % L, rest = c - full;
  const Vec<T> lowest = splat(-kInf<T>);
  // Lanes beyond the row hold -inf: they cannot be the maximum, and their exp is 0.
  const Vec<T> tail = lane_index<T>() < static_cast<IntOf<T>>(rest) ? load_partial(x + full, rest) : lowest;
  Vec<T> m0 = tail, m1 = lowest, m2 = lowest, m3 = lowest;
  std::int64_t j = 0;
  for (; j + 4 * L <= full; j += 4 * L) {
    m0 = vmax(m0, load<T>(x + j));
    m1 = vmax(m1, load<T>(x + j + L));
    m2 = vmax(m2, load<T>(x + j + 2 * L));
    m3 = vmax(m3, load<T>(x + j + 3 * L));
  }
  for (; j < full; j += L) m0 = vmax(m0, load<T>(x + j));
  const Vec<T> top = splat(fold_max<T>(vmax(vmax(m0, m1), vmax(m2, m3))));

  Vec<T> s0 = splat(T(0)), s1 = s0;
  for (j = 0; j + 2 * L <= full; j += 2 * L) {
    const Vec<T> e0 = exp_nonpositive<T>(load<T>(x + j) - top), e1 = exp_nonpositive<T>(load<T>(x + j + L) - top);
    if constexpr (!kLog) {
      store<T>(y + j, e0);
      store<T>(y + j + L, e1);
    }
    s0 = s0 + e0;
    s1 = s1 + e1;
  }
  for (; j < full; j += L) {
    const Vec<T> e0 = exp_nonpositive<T>(load<T>(x + j) - top);
    if constexpr (!kLog) store<T>(y + j, e0);
    s0 = s0 + e0;
  }
  const Vec<T> tail_exp = rest > 0 ? exp_nonpositive<T>(tail - top) : splat(T(0));
  const Vec<T> sum = splat(fold_add<T>((s0 + s1) + tail_exp));

  if constexpr (kLog) {
    const Vec<T> log_sum = vlog<T>(sum);
    for (j = 0; j < full; j += L) store<T>(y + j, (load<T>(x + j) - top) - log_sum);
    store_partial(y + full, (tail - top) - log_sum, rest);
  } else {
    const Vec<T> scale = T(1) / sum;
    for (j = 0; j < full; j += L) store<T>(y + j, load<T>(y + j) * scale);
    store_partial(y + full, tail_exp * scale, rest);
  }
}

template <class T, bool kLog>
static inline void softmax_rows(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const std::int64_t c = call.in[0].cols();
  const T* x = call.in[0].as<const T>();
  T* y = call.out[0].as<T>();
  over_rows<T>(
      begin, end, c, [=](std::int64_t r, std::int64_t rows) { softmax_few<T, kLog, 0>(x + r * c, y + r * c, rows, c); },
      [=](std::int64_t r) { softmax_few<T, kLog, 10>(x + r * c, y + r * c, kLanes<T>, c); },
      [=](std::int64_t r) { softmax_many<T, kLog>(x + r * c, y + r * c, c); });
}

template <class T>
static void softmax_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  softmax_rows<T, false>(call, begin, end);
}
PFN_KERNEL(softmax_forward, softmax_prepare, softmax_forward_run);

template <class T>
static void log_softmax_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  softmax_rows<T, true>(call, begin, end);
}
PFN_KERNEL(log_softmax_forward, softmax_prepare, log_softmax_forward_run);

// A vector of dx, and what dy and y of it add to the sum over the row.
template <class T, bool kLog>
static PFN_ALWAYS_INLINE Vec<T> slope_of(Vec<T> dy, Vec<T> y, Vec<T> sum) {
  if constexpr (kLog) return fma(-vexp<T>(y), sum, dy);
  return y * (dy - sum);
}
template <class T, bool kLog>
static PFN_ALWAYS_INLINE Vec<T> summed(Vec<T> dy, Vec<T> y, Vec<T> sum) {
  if constexpr (kLog) return dy + sum;
  return fma(dy, y, sum);
}

template <class T, bool kLog, int kColumns>
static inline void softmax_backward_few(const T* dy, const T* y, T* dx, std::int64_t rows, std::int64_t any) {
  const std::int64_t c = kColumns > 0 ? kColumns : any;
  Vec<T> slope[kColumnVectors<T>] = {}, out[kColumnVectors<T>] = {};
  load_columns(dy, rows, c, slope);
  load_columns(y, rows, c, out);
  Vec<T> sum = splat(T(0));
#pragma GCC unroll 16
  for (std::int64_t j = 0; j < c; ++j) sum = summed<T, kLog>(slope[j], out[j], sum);
#pragma GCC unroll 16
  for (std::int64_t j = 0; j < c; ++j) slope[j] = slope_of<T, kLog>(slope[j], out[j], sum);
  store_columns(dx, rows, c, slope);
}

template <class T, bool kLog>
static inline void softmax_backward_many(const T* dy, const T* y, T* dx, std::int64_t c) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t full = c - c % L, rest = c - full;
  const Vec<T> tail_dy = load_partial(dy + full, rest), tail_y = load_partial(y + full, rest);
  Vec<T> s0 = summed<T, kLog>(tail_dy, tail_y, splat(T(0))), s1 = splat(T(0)), s2 = s1, s3 = s1;
  std::int64_t j = 0;
  for (; j + 4 * L <= full; j += 4 * L) {
    s0 = summed<T, kLog>(load<T>(dy + j), load<T>(y + j), s0);
    s1 = summed<T, kLog>(load<T>(dy + j + L), load<T>(y + j + L), s1);
    s2 = summed<T, kLog>(load<T>(dy + j + 2 * L), load<T>(y + j + 2 * L), s2);
    s3 = summed<T, kLog>(load<T>(dy + j + 3 * L), load<T>(y + j + 3 * L), s3);
  }
  for (; j < full; j += L) s0 = summed<T, kLog>(load<T>(dy + j), load<T>(y + j), s0);
  const Vec<T> sum = splat(fold_add<T>((s0 + s1) + (s2 + s3)));
  for (j = 0; j < full; j += L) store<T>(dx + j, slope_of<T, kLog>(load<T>(dy + j), load<T>(y + j), sum));
  store_partial(dx + full, slope_of<T, kLog>(tail_dy, tail_y, sum), rest);
}

template <class T, bool kLog>
static inline void softmax_backward_rows(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const std::int64_t c = call.in[0].cols();
  const T* dy = call.in[0].as<const T>();
  const T* y = call.in[1].as<const T>();
  T* dx = call.out[0].as<T>();
  over_rows<T>(
      begin, end, c,
      [=](std::int64_t r, std::int64_t rows) {
        softmax_backward_few<T, kLog, 0>(dy + r * c, y + r * c, dx + r * c, rows, c);
      },
      [=](std::int64_t r) { softmax_backward_few<T, kLog, 10>(dy + r * c, y + r * c, dx + r * c, kLanes<T>, c); },
      [=](std::int64_t r) { softmax_backward_many<T, kLog>(dy + r * c, y + r * c, dx + r * c, c); });
}

template <class T>
static void softmax_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  softmax_backward_rows<T, false>(call, begin, end);
}
PFN_KERNEL(softmax_backward, softmax_prepare, softmax_backward_run);

template <class T>
static void log_softmax_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  softmax_backward_rows<T, true>(call, begin, end);
}
PFN_KERNEL(log_softmax_backward, softmax_prepare, log_softmax_backward_run);

}  // namespace pfn::PFN_ISA
