// Rectifier with a learned slope for each channel, the last dimension (He et al., ICCV 2015). One slope for all is the
// same op over an array read with a last dimension of one.
//
//   forward   y = x > 0 ? x : slope * x
//   backward  dx = x > 0 ? dy : slope * dy        dslope = sum of dy * x over the rows where x <= 0
//
// The first output may be the memory of the first input. NaN in x gives NaN in y and dslope, as -inf does in dslope
// where dy is 0. dslope is summed over blocks of rows that the shape decides, then over the blocks in order; no rows
// give 0.
// Max error: y and dx rounded once; dslope eps / 2 * (rows in a chain) times the sum of |dy * x|.
#include "kernels/kernel.hpp"
#include "kernels/sweep.hpp"

namespace pfn::PFN_ISA {

// Elements of the smallest piece of forward, and about as many of a block of backward.
constexpr std::int64_t kPiece = 4096, kBlockElements = 16384, kMostBlocks = 64;

// The slopes of consecutive elements of all rows: c numbers again and again.
template <class T>
class Cyclic {
 public:
  // `first` is the number of the first element.
  PFN_ALWAYS_INLINE Cyclic(const T* slope, std::int64_t c, std::int64_t first)
      : slope_(slope), c_(c), base_(c > L ? c - L : 0), step_(L % c), at_(first % c) {
    for (std::int64_t k = 0; k < 2 * L; ++k) edge_[k] = slope[(base_ + k) % c];
  }
  // The slopes of a vector of elements, of which the next vector begins `count` elements later.
  PFN_ALWAYS_INLINE Vec<T> next(Whole) {
    const Vec<T> found = here();
    at_ += step_;
    if (at_ >= c_) at_ -= c_;
    return found;
  }
  PFN_ALWAYS_INLINE Vec<T> next(Part part) {
    const Vec<T> found = here();
    at_ = (at_ + part.count) % c_;
    return found;
  }
  // Whether all vectors have the same slopes; how many vectors have theirs side by side, from slopes() on.
  PFN_ALWAYS_INLINE bool constant() const { return step_ == 0 && c_ <= L; }
  PFN_ALWAYS_INLINE std::int64_t straight() const { return (c_ - at_) / L; }
  PFN_ALWAYS_INLINE const T* slopes() const { return slope_ + at_; }
  PFN_ALWAYS_INLINE void skip(std::int64_t vectors) {
    at_ += vectors * L;
    if (at_ >= c_) at_ -= c_;
  }

 private:
  static constexpr std::int64_t L = kLanes<T>;
  PFN_ALWAYS_INLINE Vec<T> here() const { return load<T>(at_ + L <= c_ ? slope_ + at_ : edge_ + (at_ - base_)); }

  const T* slope_;
  std::int64_t c_, base_, step_, at_;
  T edge_[2 * L];  // the last slopes, then the first ones
};

template <class T>
static void prelu_forward_prepare(OpCall& call) {
  one_phase(call, call.in[0].size(), 0.06 * (sizeof(T) / 4), kPiece);
}
template <class T>
static void prelu_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<T>;
  if (begin >= end) return;
  const T* x = call.in[0].as<const T>();
  T* y = call.out[0].as<T>();
  Cyclic<T> slopes(call.in[1].as<const T>(), call.in[0].cols(), begin);
  const auto step = [&](std::int64_t i, auto part, Vec<T> slope) {
    const Vec<T> v = load_at(x + i, part);
    store_at(y + i, v > T(0) ? v : slope * v, part);
  };
  const std::int64_t head = until_aligned(y + begin, end - begin);
  if (head > 0) step(begin, Part{head}, slopes.next(Part{head}));
  std::int64_t i = begin + head;
  if (slopes.constant()) {
    const Vec<T> slope = slopes.next(Whole{});
    for (; i + L <= end; i += L) step(i, Whole{}, slope);
  }
  while (i + L <= end) {
    const std::int64_t room = (end - i) / L, straight = slopes.straight(), count = straight < room ? straight : room;
    const T* const slope = slopes.slopes();
    for (std::int64_t k = 0; k < count; ++k) step(i + k * L, Whole{}, load<T>(slope + k * L));
    slopes.skip(count);
    i += count * L;
    if (i + L > end) break;
    step(i, Whole{}, slopes.next(Whole{}));
    i += L;
  }
  if (i < end) step(i, Part{end - i}, slopes.next(Part{end - i}));
}
PFN_KERNEL(prelu_forward, prelu_forward_prepare, prelu_forward_run);

// How the sums of the slopes are made. Narrow rows are taken `merged` at a time, so that a sum has whole vectors.
struct SlopeSums {
  std::int64_t merged, width, block_rows, blocks;
};
template <class T>
static inline SlopeSums slope_sums(std::int64_t rows, std::int64_t c) {
  constexpr std::int64_t L = kLanes<T>;
  SlopeSums s = {};
  if (c == 0) return {1, 0, 1, 0};
  s.merged = c >= 4 * L ? 1 : L * ((3 + c) / c);
  s.width = s.merged * c;
  s.block_rows = (kBlockElements + c - 1) / c;
  if (s.block_rows * kMostBlocks < rows) s.block_rows = (rows + kMostBlocks - 1) / kMostBlocks;
  s.block_rows = (s.block_rows + s.merged - 1) / s.merged * s.merged;
  s.blocks = (rows + s.block_rows - 1) / s.block_rows;
  return s;
}

template <class T>
static void prelu_backward_prepare(OpCall& call) {
  const std::int64_t rows = call.in[0].rows(), c = call.in[0].cols();
  const SlopeSums s = slope_sums<T>(rows, c);
  one_phase(call, rows, 0.15 * (sizeof(T) / 4) * static_cast<double>(c), s.block_rows);
  call.phases = 2;
  const double each = 0.1 * static_cast<double>(s.blocks * s.merged);
  call.phase[1] = Phase{c, 16 * kLanes<T>, each * static_cast<double>(c)};
  call.scratch_bytes = s.blocks * s.width * static_cast<std::int64_t>(sizeof(T));
}

template <class T>
static void prelu_backward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t rows = call.in[0].rows(), c = call.in[0].cols();
  const SlopeSums sums = slope_sums<T>(rows, c);
  T* const all = static_cast<T*>(call.scratch);
  if (phase == 1) {
    T* dslope = call.out[1].as<T>();
    for (std::int64_t j = begin; j < end; j += L) {
      const std::int64_t count = end - j < L ? end - j : L;
      Vec<T> total = splat(T(0));
      for (std::int64_t k = 0; k < sums.blocks * sums.merged; ++k) total = total + load_partial(all + k * c + j, count);
      store_partial(dslope + j, total, count);
    }
    return;
  }
  if (begin >= end || c == 0) return;
  const T* dy = call.in[0].as<const T>();
  const T* x = call.in[1].as<const T>();
  T* dx = call.out[0].as<T>();
  Cyclic<T> slopes(call.in[2].as<const T>(), c, 0);
  for (std::int64_t first = begin; first < end; first += sums.block_rows) {
    T* const sum = all + first / sums.block_rows * sums.width;
    for (std::int64_t k = 0; k < sums.width; ++k) sum[k] = T(0);
    const std::int64_t stop = (first + sums.block_rows < end ? first + sums.block_rows : end) * c;
    for (std::int64_t i = first * c; i < stop; i += sums.width) {
      const auto step = [&](std::int64_t k, auto part) {
        const Vec<T> slope = slopes.next(part), g = load_at(dy + i + k, part), v = load_at(x + i + k, part);
        const Vec<T> before = load_at(sum + k, part);
        store_at(dx + i + k, v > T(0) ? g : slope * g, part);
        store_at(sum + k, v > T(0) ? before : fma(g, v, before), part);
      };
      const std::int64_t count = stop - i < sums.width ? stop - i : sums.width;
      std::int64_t k = 0;
      for (; k + L <= count; k += L) step(k, Whole{});
      if (k < count) step(k, Part{count - k});
    }
  }
}
PFN_KERNEL(prelu_backward, prelu_backward_prepare, prelu_backward_run);

}  // namespace pfn::PFN_ISA
