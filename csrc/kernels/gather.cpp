// Gathering a batch from a data set that stays where it is.
//
//   gather_rows    x[i, :] = (data[index[i], :] - shift) * scale
//   gather_labels  labels[i, ...] = data[index[i], ...]
//
// data is float32, float64 or uint8 and is converted to x's type first. shift and scale may each be
// left out (null data): without both this is a convert and copy. An index outside [0, m) reads
// nothing: its row is NaN, its label -1, which makes a loss NaN. NaN in data stays NaN.
// Max error: one rounding each for conversion, difference and product.
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

// The first `count` of a vector's worth of source elements as T; reads nothing beyond them.
template <class T, class S>
static inline Vec<T> convert_partial(const S* p, std::int64_t count) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return load_partial(p, count);
  } else {
    T lane[kLanes<T>] = {};
    for (std::int64_t i = 0; i < count; ++i) lane[i] = static_cast<T>(p[i]);
    return load<T>(lane);
  }
}

template <class T, class S>
static inline Vec<T> convert(const S* p) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return load<T>(p);
  } else if constexpr (sizeof(S) == 1) {
    return load_bytes(p, T());
  } else {
    typedef S Source __attribute__((vector_size(sizeof(S) * kLanes<T>), aligned(alignof(S)), may_alias));
    return __builtin_convertvector(*reinterpret_cast<const Source*>(p), Vec<T>);
  }
}

template <class T, bool kShift, bool kScale>
static inline Vec<T> adjusted(Vec<T> x, Vec<T> shift, Vec<T> scale) {
  if (kShift) x = x - shift;
  if (kScale) x = x * scale;
  return x;
}

// `next` is the row that will be wanted soon, or null: the processor's own prefetch stops at pages
// and rows. It is fetched into the second-level cache, since a long row would empty the first.
template <class T, class S, bool kShift, bool kScale>
static inline void gather_row(const S* row, const S* next, const T* shift, const T* scale, T* x, std::int64_t cols) {
  constexpr std::int64_t L = kLanes<T>;
  constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(S));
  constexpr std::int64_t chunk = L > line ? L : line;
  const Vec<T> zero = splat(T(0));
  std::int64_t j = 0;
  for (; j + chunk <= cols; j += chunk) {
    if (next) {
      __builtin_prefetch(next + j, 0, 2);
      if (chunk > line) __builtin_prefetch(next + j + line, 0, 2);
    }
#pragma GCC unroll 16
    for (std::int64_t k = j; k < j + chunk; k += L) {
      const Vec<T> d = kShift ? load<T>(shift + k) : zero, f = kScale ? load<T>(scale + k) : zero;
      store<T>(x + k, adjusted<T, kShift, kScale>(convert<T, S>(row + k), d, f));
    }
  }
  if (next && j < cols) __builtin_prefetch(next + j, 0, 2);
  for (; j + L <= cols; j += L) {
    const Vec<T> d = kShift ? load<T>(shift + j) : zero, f = kScale ? load<T>(scale + j) : zero;
    store<T>(x + j, adjusted<T, kShift, kScale>(convert<T, S>(row + j), d, f));
  }
  if (j < cols) {
    const std::int64_t count = cols - j;
    const Vec<T> d = kShift ? load_partial(shift + j, count) : zero, f = kScale ? load_partial(scale + j, count) : zero;
    store_partial(x + j, adjusted<T, kShift, kScale>(convert_partial<T, S>(row + j, count), d, f), count);
  }
}

template <class T, class S, bool kShift, bool kScale>
static void gather_typed(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const S* data = call.in[0].as<const S>();
  const std::int64_t* index = call.in[1].as<const std::int64_t>();
  const T* shift = call.in[2].as<const T>();
  const T* scale = call.in[3].as<const T>();
  const std::int64_t rows = call.in[0].rows(), cols = call.out[0].cols();
  const auto known = [rows](std::int64_t k) { return k >= 0 && k < rows; };
  // As many rows ahead as make about 4 KiB.
  const std::int64_t row_bytes = cols * static_cast<std::int64_t>(sizeof(S)) + 1;
  const std::int64_t ahead = row_bytes >= 4096 ? 1 : 4096 / row_bytes;
  T* x = call.out[0].as<T>() + begin * cols;
  for (std::int64_t i = begin; i < end; ++i, x += cols) {
    if (!known(index[i])) {
      for (std::int64_t j = 0; j < cols; ++j) x[j] = static_cast<T>(__builtin_nan(""));
      continue;
    }
    const S* next = ahead < end - i && known(index[i + ahead]) ? data + index[i + ahead] * cols : nullptr;
    gather_row<T, S, kShift, kScale>(data + index[i] * cols, next, shift, scale, x, cols);
  }
}

template <class T, class S>
static void gather_from(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const bool shift = call.in[2].data != nullptr, scale = call.in[3].data != nullptr;
  if (shift && scale)
    gather_typed<T, S, true, true>(call, begin, end);
  else if (shift)
    gather_typed<T, S, true, false>(call, begin, end);
  else if (scale)
    gather_typed<T, S, false, true>(call, begin, end);
  else
    gather_typed<T, S, false, false>(call, begin, end);
}

template <class T>
static void gather_rows_prepare(OpCall& call) {
  const std::int64_t cols = call.out[0].cols();
  const std::int64_t grain = cols >= 4096 ? 1 : 4096 / (cols > 0 ? cols : 1);
  one_phase(call, call.out[0].rows(), 5.0 + 0.1 * (sizeof(T) / 4) * static_cast<double>(cols), grain);
}
template <class T>
static void gather_rows_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  switch (call.in[0].dtype) {
    case DType::f32:
      return gather_from<T, float>(call, begin, end);
    case DType::f64:
      return gather_from<T, double>(call, begin, end);
    default:
      return gather_from<T, std::uint8_t>(call, begin, end);
  }
}
PFN_KERNEL(gather_rows, gather_rows_prepare, gather_rows_run);

template <class T>
static void gather_labels_prepare(OpCall& call) {
  const std::int64_t items = call.out[0].size(), rows = call.in[1].size(), each = rows > 0 ? items / rows : 0;
  one_phase(call, rows, 1.0 + 0.2 * static_cast<double>(each), each >= 4096 ? 1 : 4096 / (each > 0 ? each : 1));
}
template <class T>
static void gather_labels_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t* data = call.in[0].as<const std::int64_t>();
  const std::int64_t* index = call.in[1].as<const std::int64_t>();
  std::int64_t* labels = call.out[0].as<std::int64_t>();
  const std::int64_t rows = call.in[0].shape[0];
  if (call.in[0].ndim == 1) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t k = index[i];
      labels[i] = k >= 0 && k < rows ? data[k] : -1;
    }
    return;
  }
  const std::int64_t each = call.out[0].size() / call.in[1].size();
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t k = index[i];
    const bool known = k >= 0 && k < rows;
    for (std::int64_t j = 0; j < each; ++j) labels[i * each + j] = known ? data[k * each + j] : -1;
  }
}
PFN_KERNEL(gather_labels, gather_labels_prepare, gather_labels_run);

}  // namespace pfn::PFN_ISA
