// Sums over all elements of an array in double: partial sums of blocks that the shape decides, then their sum in order.
#pragma once
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

// Elements of one partial sum.
constexpr std::int64_t kSumBlock = 4096;

static inline std::int64_t sum_blocks(std::int64_t size) { return (size + kSumBlock - 1) / kSumBlock; }

// Phase 0 makes the partial sums in scratch, phase 1 is one call that adds them up.
static inline void block_sum_prepare(OpCall& call, std::int64_t size, double ns_each) {
  one_phase(call, size, ns_each, kSumBlock);
  call.phases = 2;
  call.phase[1] = Phase{1, 1, static_cast<double>(sum_blocks(size))};
  call.scratch_bytes = sum_blocks(size) * static_cast<std::int64_t>(sizeof(double));
}

static inline double sum_of_partial(const OpCall& call, std::int64_t size) {
  const double* partial = static_cast<const double*>(call.scratch);
  double total = 0;
  for (std::int64_t b = 0; b < sum_blocks(size); ++b) total += partial[b];
  return total;
}

// As many elements as a vector of doubles has lanes, as doubles.
static inline VecD load_wide(const float* p) {
  typedef float Half __attribute__((vector_size(PFN_VEC_BYTES / 2), aligned(4), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Half*>(p), VecD);
}
static inline VecD load_wide(const double* p) { return load<double>(p); }
// Fewer of them; the other lanes are zeros.
template <class T>
static inline VecD load_wide_partial(const T* p, std::int64_t count) {
  double lane[kLanes<double>] = {};
  for (std::int64_t i = 0; i < count; ++i) lane[i] = static_cast<double>(p[i]);
  return load<double>(lane);
}

// What an element adds to a sum; a zero adds nothing.
struct SquareTerm {
  static inline VecD add(VecD sum, VecD v) { return fma(v, v, sum); }
};
struct SizeTerm {
  static inline VecD add(VecD sum, VecD v) { return sum + vmax(-v, v); }
};

// The partial sums of the blocks in [begin, end).
template <class Term, class T>
static inline void make_partial(const OpCall& call, const T* x, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t L = kLanes<double>;
  for (std::int64_t start = begin; start < end; start += kSumBlock) {
    const std::int64_t stop = end - start < kSumBlock ? end : start + kSumBlock;
    VecD s0 = splat(0.0), s1 = s0, s2 = s0, s3 = s0;
    std::int64_t i = start;
    for (; i + 4 * L <= stop; i += 4 * L) {
      s0 = Term::add(s0, load_wide(x + i));
      s1 = Term::add(s1, load_wide(x + i + L));
      s2 = Term::add(s2, load_wide(x + i + 2 * L));
      s3 = Term::add(s3, load_wide(x + i + 3 * L));
    }
    for (; i + L <= stop; i += L) s0 = Term::add(s0, load_wide(x + i));
    if (i < stop) s0 = Term::add(s0, load_wide_partial(x + i, stop - i));
    static_cast<double*>(call.scratch)[start / kSumBlock] = reduce_add<double>((s0 + s1) + (s2 + s3));
  }
}

}  // namespace pfn::PFN_ISA
