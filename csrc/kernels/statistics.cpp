// What is looked at while a network trains: how far an update moved, and how the units of a layer answered.
//
//   sum_of_squared_differences  total = sum of (a - b)^2
//   activation_summary          30 numbers about x, whose last dimension is its units:
//     0, 1   mean and standard deviation sqrt(sum of (x - mean)^2 / size)
//     2, 3   least and largest item; NaN is left out, infinity and -infinity stand if nothing is left
//     4      dead: the share of units all of whose items are zero
//     5      saturated: the share of items x <= low or x >= high; 0 unless low < high
//     6 ...  histogram: items in 24 bins of equal width from the least to the largest, which is in the last one; all in
//            the first if they are equal, and zeros if they are infinite or lie further apart than a double can hold
//
// Sums are made in double over blocks that the shape decides, in order. NaN makes mean and deviation NaN and is in no
// bin; an array without items has NaN for mean and deviation, zeros for the rest.
// Max error: total and mean (size + 4) * 2^-53 times the sum of the magnitudes; bins as exact as their borders.
#include "kernels/block_sum.hpp"
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

template <class T>
static void sum_of_squared_differences_prepare(OpCall& call) {
  block_sum_prepare(call, call.in[0].size(), 0.2 * (sizeof(T) / 4));
}
template <class T>
static void sum_of_squared_differences_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<double>;
  if (phase == 1) {
    *call.out[0].as<double>() = sum_of_partial(call, call.in[0].size());
    return;
  }
  const T* a = call.in[0].as<const T>();
  const T* b = call.in[1].as<const T>();
  for (std::int64_t start = begin; start < end; start += kSumBlock) {
    const std::int64_t stop = end - start < kSumBlock ? end : start + kSumBlock;
    VecD s0 = splat(0.0), s1 = s0;
    std::int64_t i = start;
    for (; i + 2 * L <= stop; i += 2 * L) {
      s0 = SquareTerm::add(s0, load_wide(a + i) - load_wide(b + i));
      s1 = SquareTerm::add(s1, load_wide(a + i + L) - load_wide(b + i + L));
    }
    for (; i < stop; i += L) {
      const std::int64_t count = stop - i < L ? stop - i : L;
      s0 = SquareTerm::add(s0, load_wide_partial(a + i, count) - load_wide_partial(b + i, count));
    }
    static_cast<double*>(call.scratch)[start / kSumBlock] = reduce_add<double>(s0 + s1);
  }
}
PFN_KERNEL(sum_of_squared_differences, sum_of_squared_differences_prepare, sum_of_squared_differences_run);

constexpr int kBins = 24;
constexpr std::int64_t kItems = 4096;  // of a block, about: it stays in the first-level cache
// Where things stand in the summary.
enum Place : int { kMean, kDeviation, kLeast, kLargest, kDead, kSaturated, kHistogram };
// One block's part, in double: its sum, and what else is like in the summary; then whether each unit lives, as bytes.
constexpr std::int64_t kPart = 32;

static inline std::int64_t block_rows(std::int64_t cols) { return cols > 0 && cols < kItems ? kItems / cols : 1; }

template <class T>
static void activation_summary_prepare(OpCall& call) {
  const std::int64_t rows = call.in[0].rows(), cols = call.in[0].cols(), block = block_rows(cols);
  const std::int64_t blocks = (rows + block - 1) / block;
  const double items = static_cast<double>(rows) * static_cast<double>(cols);
  call.phases = 4;
  call.phase[0] = Phase{rows, block, 0.6 * items};
  call.phase[1] = Phase{1, 1, static_cast<double>(blocks * (4 + cols))};
  call.phase[2] = Phase{rows, block, 1.5 * items};
  call.phase[3] = Phase{1, 1, static_cast<double>(blocks * kBins)};
  call.scratch_bytes = blocks * (kPart * static_cast<std::int64_t>(sizeof(double)) + cols);
  call.note[0] = block;
  call.note[1] = blocks;
}

// Sum of the items, or of the squares of their distances from a mean.
template <bool kSquares, class T>
static inline double sum_items(const T* x, std::int64_t items, double mean) {
  constexpr std::int64_t L = kLanes<double>;
  const VecD center = splat(mean);
  VecD s0 = splat(0.0), s1 = s0;
  std::int64_t i = 0;
  const auto add = [&](VecD sum, VecD v) {
    if constexpr (kSquares) return SquareTerm::add(sum, v - center);
    return sum + v;
  };
  for (; i + 2 * L <= items; i += 2 * L) {
    s0 = add(s0, load_wide(x + i));
    s1 = add(s1, load_wide(x + i + L));
  }
  for (; i + L <= items; i += L) s0 = add(s0, load_wide(x + i));
  double total = reduce_add<double>(s0 + s1);
  for (; i < items; ++i) {
    const double v = static_cast<double>(x[i]);
    total += kSquares ? (v - mean) * (v - mean) : v;
  }
  return total;
}

template <class T>
static inline void least_and_largest(const T* x, std::int64_t items, double* part) {
  constexpr std::int64_t L = kLanes<T>;
  const T infinity = static_cast<T>(__builtin_inf());
  Vec<T> low = splat(infinity), high = splat(-infinity);
  std::int64_t i = 0;
  for (; i + L <= items; i += L) {
    const Vec<T> v = load<T>(x + i);
    low = vmin(v, low);  // in this order NaN is left out
    high = vmax(v, high);
  }
  T lows[L], highs[L];
  store<T>(lows, low);
  store<T>(highs, high);
  T least = infinity, largest = -infinity;
  for (std::int64_t k = 0; k < L; ++k) {
    least = lows[k] < least ? lows[k] : least;
    largest = highs[k] > largest ? highs[k] : largest;
  }
  for (; i < items; ++i) {
    least = x[i] < least ? x[i] : least;
    largest = x[i] > largest ? x[i] : largest;
  }
  part[kLeast] = static_cast<double>(least);
  part[kLargest] = static_cast<double>(largest);
}

template <class T>
static inline double beyond(const T* x, std::int64_t items, double low, double high) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < items; ++i) {
    const double v = static_cast<double>(x[i]);
    count += (v <= low) | (v >= high);
  }
  return static_cast<double>(count);
}

template <class T>
static inline void mark_living(const T* x, std::int64_t rows, std::int64_t cols, std::uint8_t* lives) {
  __builtin_memset(lives, 0, static_cast<std::size_t>(cols));
  for (std::int64_t r = 0; r < rows; ++r, x += cols)
    for (std::int64_t j = 0; j < cols; ++j) lives[j] |= static_cast<std::uint8_t>(!(x[j] == 0));
}

template <class T>
static inline void count_bins(const T* x, std::int64_t items, double least, double range, double* counts) {
  constexpr std::int64_t kRun = 64;
  // Four tables, so that a count does not wait for the one before it; the last place is for NaN.
  std::int64_t table[4][kBins + 1] = {};
  std::int32_t bin[kRun];
  for (std::int64_t start = 0; start < items; start += kRun) {
    const std::int64_t run = items - start < kRun ? items - start : kRun;
    for (std::int64_t i = 0; i < run; ++i) {
      const double at = (static_cast<double>(x[start + i]) - least) / range * kBins;
      bin[i] = at < kBins - 1 ? static_cast<std::int32_t>(at) : at >= kBins - 1 ? kBins - 1 : kBins;
    }
    for (std::int64_t i = 0; i < run; ++i) ++table[i & 3][bin[i]];
  }
  for (int b = 0; b < kBins; ++b)
    counts[b] = static_cast<double>(table[0][b] + table[1][b] + table[2][b] + table[3][b]);
}

template <class T>
static void activation_summary_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t cols = call.in[0].cols(), block = call.note[0], blocks = call.note[1];
  const double items = static_cast<double>(call.in[0].size());
  double* parts = static_cast<double*>(call.scratch);
  std::uint8_t* lives = reinterpret_cast<std::uint8_t*>(parts + blocks * kPart);
  double* summary = call.out[0].as<double>();
  if (phase == 0 || phase == 2) {
    const double low = call.attr[0], high = call.attr[1];
    const double range = summary[kLargest] - summary[kLeast];
    const bool counted = range - range == 0;  // finite
    for (std::int64_t r = begin; r < end; r += block) {
      const std::int64_t rows = end - r < block ? end - r : block, size = rows * cols;
      const T* x = call.in[0].as<const T>() + r * cols;
      double* part = parts + r / block * kPart;
      if (phase == 0) {
        part[kMean] = sum_items<false>(x, size, 0.0);
        least_and_largest(x, size, part);
        part[kSaturated] = low < high ? beyond(x, size, low, high) : 0;
        mark_living(x, rows, cols, lives + r / block * cols);
      } else {
        part[kDeviation] = sum_items<true>(x, size, summary[kMean]);
        if (counted) count_bins(x, size, summary[kLeast], range > 0 ? range : 1.0, part + kHistogram);
      }
    }
    return;
  }
  if (phase == 1) {
    double sum = 0, saturated = 0, least = __builtin_inf(), largest = -__builtin_inf();
    for (std::int64_t b = 0; b < blocks; ++b) {
      const double* part = parts + b * kPart;
      sum += part[kMean];
      saturated += part[kSaturated];
      least = part[kLeast] < least ? part[kLeast] : least;
      largest = part[kLargest] > largest ? part[kLargest] : largest;
    }
    std::int64_t dead = 0;
    for (std::int64_t j = 0; j < cols; ++j) {
      std::uint8_t found = 0;
      for (std::int64_t b = 0; b < blocks; ++b) found |= lives[b * cols + j];
      dead += found == 0;
    }
    summary[kMean] = sum / items;
    summary[kLeast] = least;
    summary[kLargest] = largest;
    summary[kDead] = items > 0 ? static_cast<double>(dead) / static_cast<double>(cols) : 0;
    summary[kSaturated] = items > 0 ? saturated / items : 0;
    return;
  }
  double squares = 0;
  for (std::int64_t b = 0; b < blocks; ++b) squares += parts[b * kPart + kDeviation];
  summary[kDeviation] = __builtin_sqrt(squares / items);
  const double range = summary[kLargest] - summary[kLeast];
  for (int k = 0; k < kBins; ++k) {
    double count = 0;
    if (range - range == 0)
      for (std::int64_t b = 0; b < blocks; ++b) count += parts[b * kPart + kHistogram + k];
    summary[kHistogram + k] = count;
  }
}
PFN_KERNEL(activation_summary, activation_summary_prepare, activation_summary_run);

}  // namespace pfn::PFN_ISA
