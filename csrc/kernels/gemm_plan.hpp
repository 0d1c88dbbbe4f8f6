// How a product is cut: which path, blocks of k, panels of n. Everything follows from the shape.
//
// Only k_block() and dot_in_lanes() may change bits, and they look at n, k and the dtype. The rest is about speed; its
// numbers were measured on Zen 4 (512-bit fma every cycle, 32 KiB and 1 MiB of first- and second-level cache a core).
#pragma once
#include "kernels/gemm.hpp"
#include "kernels/gemm_micro.hpp"

namespace pfn::PFN_ISA {

// Up to so many terms C is most of the work, and is best written along its rows.
constexpr std::int64_t kShortTerms = 24;
// tn: up to so many columns are dealt out in registers.
#if defined(PFN_ISA_AVX512)
template <class T>
constexpr std::int64_t kDealtColumns = sizeof(T) == 4 ? 6 : 4;
#else
template <class T>
constexpr std::int64_t kDealtColumns = 1;
#endif
constexpr int kFewRows = 6;  // nt: up to so many rows go the way of gemm_few.hpp

enum class GemmPath : std::int32_t {
  direct,   // B read where it lies
  one,      // the same in a single tile
  local,    // each thread packs the panels it needs, a few at a time
  dot,      // nn with few columns: gemm_dot.hpp, phase 0 transposes B into the call's scratch
  dot_few,  // the same bits for a product with few rows, nothing is transposed
  rows,     // tn with few columns: gemm_rows.hpp, nothing is packed
  few,      // nt with few rows: gemm_few.hpp, nothing is packed
  shared,   // phase 0 packs all of B into the call's scratch
};

struct GemmPlan {
  GemmPath path;
  bool copy_a;          // tn: A is transposed into the thread's workspace, a block of rows at a time
  bool over_columns;    // the last phase runs over columns, else over rows
  std::int64_t kc;      // terms of a block of k; the last may be shorter
  std::int64_t blocks;  // blocks of k, at least 1
  std::int64_t nc;      // columns a thread packs at a time
  std::int64_t grain;
};

static inline std::int64_t div_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
static inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Up to 4 KiB of a row are one block: C is then written once. More is cut into equal blocks of about 2 KiB.
template <class T>
static inline std::int64_t k_block(std::int64_t k) {
  constexpr std::int64_t whole = 4096 / static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t about = whole / 2;
  if (k <= whole) return k > 0 ? k : 1;
  const std::int64_t blocks = (k + about / 2) / about;
  return div_up(div_up(k, blocks), 16) * 16;
}

// Columns [n0, n0 + width) as `count` panels of nearly equal numbers of vectors.
//
//   vectors = 5, kMaxVectors = 4:   | v0 v1 | v2 v3 v4 |     not 4 + 1: a narrow tile wastes loads
template <class T>
struct Panels {
  std::int64_t n0, width, count;
  std::int64_t low, higher;  // `higher` panels have low + 1 vectors, the others low

  PFN_ALWAYS_INLINE Panels(std::int64_t first, std::int64_t columns) : n0(first), width(columns) {
    const std::int64_t vectors = div_up(columns, kLanes<T>);
    count = vectors <= kMaxVectors ? 1 : div_up(vectors, kMaxVectors);
    low = vectors;
    higher = 0;
    if (count == 1) return;
    low = vectors / count;
    higher = vectors - low * count;
  }
  // First vector of panel p.
  PFN_ALWAYS_INLINE std::int64_t start(std::int64_t p) const { return p * low + smaller(p, higher); }
  PFN_ALWAYS_INLINE std::int64_t nv(std::int64_t p) const { return low + (p < higher); }
  PFN_ALWAYS_INLINE std::int64_t column(std::int64_t p) const { return start(p) * kLanes<T>; }
  PFN_ALWAYS_INLINE std::int64_t columns(std::int64_t p) const { return smaller(width - column(p), nv(p) * kLanes<T>); }
  PFN_ALWAYS_INLINE std::int64_t padded() const { return start(count) * kLanes<T>; }
};

// Rows of A worked on together: about 240 KiB of them.
template <class T>
static inline std::int64_t rows_together(std::int64_t kc) {
  return 8 + (240 << 10) / (static_cast<std::int64_t>(sizeof(T)) * (kc + 2 * kLanes<T>));
}

template <class T>
static inline std::int64_t copied_rows(std::int64_t kc, std::int64_t m) {
  return div_up(smaller(m, rows_together<T>(kc)), kLanes<T>) * kLanes<T>;
}

// Row stride of a transposed copy of a block of A: whole vectors, and never a multiple of the page.
template <class T>
static inline std::int64_t copied_lda(std::int64_t kc) {
  return div_up(kc, kLanes<T>) * kLanes<T> + kLanes<T>;
}

// Multiply-adds for one term of n columns in panels, in whole vectors.
template <class T>
static inline double vectors_of(std::int64_t n) {
  const std::int64_t rest = n % kLanes<T>;
  const double last = rest == 0 ? 0 : kMasksTail && 2 * rest <= kLanes<T> ? 0.5 : 1;
  return static_cast<double>(n / kLanes<T>) + last;
}

// Whether tn should have rows in the lanes: compares the cycles of a vector of rows, idle lanes included, and of its
// store: lanes are dealt out for few columns (gemm_rows.hpp), else a square is transposed.
template <class T>
static inline bool rows_in_lanes(std::int64_t m, std::int64_t n, std::int64_t k) {
#if defined(PFN_ISA_GENERIC)
  return false;  // it has no masked load for the last rows
#endif
  // Every tile of columns reads A's lines again, often a page apart: too much for short tiles.
  if (!kMasksTail && n > 12) return false;
  constexpr std::int64_t lanes = kLanes<T>;
  const std::int64_t vectors = div_up(m, lanes);
  const std::int64_t squares = div_up(n, lanes) * (4 * lanes + 16);
  const std::int64_t store = n <= kDealtColumns<T> ? n * n + 4 : squares;
  const double rows = static_cast<double>(vectors * ((n > 2 ? n : 2) * k + store));
  const double narrow = n < lanes && 2 * n <= lanes ? 0.1 : 0;  // a half vector alone is limited by its loads
  return rows * 1.05 < static_cast<double>(m) * (static_cast<double>(k) * (vectors_of<T>(n) + narrow) + 3);
}

// Whether nn sums along k in the lanes. It changes bits, so m has no say. Worth it if a panel would leave lanes idle
// and the sum is long enough to pay for adding up the lanes.
template <class T>
static inline bool dot_in_lanes(GemmLayout layout, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t lanes = kLanes<T>;
  if (2 * n > (kMasksTail ? 3 * lanes : lanes)) return false;
  // nt has both operands along k as they are, where a panel would have to be transposed.
  if (layout == GemmLayout::nt && n <= lanes) return k * (lanes - n) > 2 * lanes * n;
  const double idle = 1 - static_cast<double>(n) / (static_cast<double>(lanes) * vectors_of<T>(n));
  return (idle > 0.15 && k >= 16 * lanes) || (idle > 0.3 && k >= 8 * lanes) || (idle > 0.6 && k >= 2 * lanes);
}

template <class T>
static GemmPlan make_plan(GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t lanes = kLanes<T>;
  constexpr std::int64_t item = static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t tile_rows = kMaxRows[kMaxVectors - 1];
  constexpr std::int64_t tile_columns = kMaxVectors * lanes;
  GemmPlan plan;
  plan.kc = k_block<T>(k);
  plan.blocks = k > 0 ? div_up(k, plan.kc) : 1;
  plan.nc = div_up(smaller(n, (512 << 10) / (item * plan.kc)), tile_columns) * tile_columns;
  const bool fits_scratch = k * n * item <= 16 << 20;
#if defined(PFN_ISA_AVX512)
  // Rows of B a multiple of the page apart meet in few sets of the caches; so do those of A, read along its columns.
  const bool pack = (layout == GemmLayout::nt && k > 0) || (m >= 192 && (k * n >= 1 << 20 || n * item % 4096 == 0)) ||
                    (m >= 64 && item == 8 && k * n >= 1 << 20);
  const bool copy_a = m * item % 4096 == 0 && k >= 256 && n >= 256;
#else
  const bool pack = k > 0 && (layout == GemmLayout::nt || m > 2 * tile_rows);
  const bool copy_a = m * k * item > 32 << 10 && n > 12;  // a small A stays in the first-level cache as it is
#endif
  plan.copy_a = false;
  if (layout != GemmLayout::tn && dot_in_lanes<T>(layout, n, k)) {
    plan.path = layout == GemmLayout::nn && m < 4 && n > 1 ? GemmPath::dot_few : GemmPath::dot;
    plan.over_columns = false;
    plan.grain = 4;
    return plan;
  }
  if (layout == GemmLayout::tn) {
    if (rows_in_lanes<T>(m, n, k)) {
      plan.path = GemmPath::rows;
      plan.over_columns = false;
      plan.grain = 2 * lanes;
      return plan;
    }
    plan.copy_a = copy_a;
    plan.path = pack && fits_scratch ? GemmPath::shared : GemmPath::direct;
    plan.over_columns = false;
    plan.grain = tile_rows;
#if !defined(PFN_ISA_GENERIC)
  } else if (layout == GemmLayout::nt && m <= kFewRows) {
    plan.path = GemmPath::few;
    plan.over_columns = true;
    plan.grain = 4 * lanes;
#endif
  } else if (pack) {
    plan.over_columns = n >= 4 * tile_columns;
    plan.path = plan.over_columns || !fits_scratch ? GemmPath::local : GemmPath::shared;
    plan.grain = plan.over_columns ? tile_columns : 2;
  } else {
    plan.path = GemmPath::direct;
    plan.over_columns = m < 96 && n >= 2 * tile_columns;
    plan.grain = plan.over_columns ? tile_columns : 2;
  }
  if (kMasksTail && plan.path == GemmPath::direct && !plan.over_columns && !plan.copy_a && plan.blocks == 1 &&
      n <= tile_columns && m <= tile_rows) {
    plan.path = GemmPath::one;
    plan.grain = tile_rows;
  }
  return plan;
}

}  // namespace pfn::PFN_ISA
