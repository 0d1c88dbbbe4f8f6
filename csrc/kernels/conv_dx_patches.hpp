// The patches of conv_dx_pooled.cpp: what follows from the shapes, and the tiles that sum patches over filters.
#pragma once
#include "kernels/conv_halves.hpp"
#include "kernels/gemm_plan.hpp"

namespace pfn::PFN_ISA {

#if defined(PFN_ISA_AVX512)
constexpr int kPatchSums = 24;
#else
constexpr int kPatchSums = 12;
#endif
constexpr int kPatchRows = 6, kPatchVectors = 8;  // of a tile
constexpr std::int64_t kPatchBytes = 28 << 10;    // patches of the filters a cell is summed over at once
constexpr std::int64_t kCellsTogether = 32;       // cells that use a block of filters

constexpr int patch_vectors(int rows) { return kPatchSums / rows < kPatchVectors ? kPatchSums / rows : kPatchVectors; }

// What follows from the shapes.
struct PatchPlan {
  std::int64_t images, rows, columns, channels;  // dx
  std::int64_t kernel_h, kernel_w, top, left;
  std::int64_t cell_rows, cells, filters;  // dy
  std::int64_t phases, run;                // run: entries of a row of a patch
  bool half, shifted;
  std::int64_t lanes, vectors;             // of a row of a patch; shifted: of a row of one vector of channels
  std::int64_t row_groups, vector_groups;  // tiles of a patch; shifted: vectors of channels
  std::int64_t filter_items;               // entries of all packed patches of a filter
  std::int64_t origin, line;               // where the first cell of a phase begins; entries of a phase's row
  std::int64_t together, kept;             // rows of cells summed at once, and kept

  PFN_ALWAYS_INLINE std::int64_t patch_rows() const { return kernel_h + 1; }
  PFN_ALWAYS_INLINE std::int64_t slot() const { return patch_rows() * phases * line; }
  PFN_ALWAYS_INLINE bool empty() const { return cell_rows * cells * filters == 0; }
};

template <class T>
static PatchPlan patch_plan(const OpCall& call) {
  constexpr std::int64_t lanes = kLanes<T>;
  const auto attr = [&call](int a) { return static_cast<std::int64_t>(call.attr[a]); };
  const View& dy = call.in[0];
  const View& w = call.in[2];
  const View& dx = call.out[0];
  PatchPlan p{};
  p.images = dx.shape[0], p.rows = dx.shape[1], p.columns = dx.shape[2], p.channels = dx.shape[3];
  p.kernel_h = w.shape[0], p.kernel_w = w.shape[1], p.top = attr(0), p.left = attr(2);
  p.cell_rows = dy.shape[1], p.cells = dy.shape[2], p.filters = dy.shape[3];
  p.phases = (p.kernel_w + 2) / 2;
  p.run = 2 * p.phases * p.channels;
  p.shifted = p.channels % lanes == 0 && p.kernel_w < kPatchVectors;
  if (p.shifted) {
    p.lanes = lanes;
    p.vectors = p.kernel_w + 1;
    p.row_groups = div_up(p.patch_rows(), smaller(kPatchRows, kPatchSums / p.vectors));
    p.vector_groups = p.channels / lanes;
    p.filter_items = (p.kernel_h + 2) * (p.kernel_w + 2) * p.channels;
  } else {
    const std::int64_t halves = div_up(p.run, lanes / 2);
    p.half = halves <= kHalves && halves % 2 == 1;
    p.lanes = p.half ? lanes / 2 : lanes;
    p.vectors = div_up(p.run, p.lanes);
    p.row_groups = div_up(p.patch_rows(), kPatchRows);
    p.vector_groups = div_up(p.vectors, patch_vectors(static_cast<int>(div_up(p.patch_rows(), p.row_groups))));
    p.filter_items = 2 * (p.kernel_h + 2) * p.vectors * p.lanes;
  }
  p.origin = div_up(2 * (p.phases - 1) * p.channels, lanes) * lanes;
  const std::int64_t written = div_up(p.cells, p.phases) * p.run, read = (p.left + p.columns) * p.channels;
  p.line = div_up(p.origin + (written > read ? written : read) + lanes, lanes) * lanes;
  const bool fits = p.filters * p.filter_items * static_cast<std::int64_t>(sizeof(T)) <= kPatchBytes;
  p.together = fits || p.empty() ? 1 : div_up(kCellsTogether, p.cells);
  p.kept = p.kernel_h / 2 + p.together;
  return p;
}

// A tile of a patch: `rows` rows from `row`, `vectors` vectors from entry `first` of a row.
struct PatchPart {
  std::int64_t row, rows, first, vectors;
  // Of the packed patches: where those of filter 0 begin, entries to the next filter, and to the patch of each place.
  std::int64_t packed, filter_step, place[4];
};
static inline PatchPart patch_part(const PatchPlan& p, std::int64_t row_group, std::int64_t vector_group) {
  PatchPart t;
  t.row = row_group * p.patch_rows() / p.row_groups;
  t.rows = (row_group + 1) * p.patch_rows() / p.row_groups - t.row;
  if (p.shifted) {
    const std::int64_t below = (p.kernel_w + 2) * p.lanes;
    t.first = vector_group * p.lanes;
    t.vectors = p.vectors;
    t.filter_step = (p.kernel_h + 2) * below;
    t.packed = vector_group * p.filters * t.filter_step + (t.row + 1) * below + p.lanes;
    for (std::int64_t k = 0; k < 4; ++k) t.place[k] = -(k / 2 * below + k % 2 * p.lanes);
  } else {
    const std::int64_t vector = vector_group * p.vectors / p.vector_groups;
    t.first = vector * p.lanes;
    t.vectors = (vector_group + 1) * p.vectors / p.vector_groups - vector;
    const std::int64_t below = t.vectors * p.lanes, copy = (p.kernel_h + 2) * below;
    t.filter_step = 2 * copy;
    t.packed = p.filters * 2 * (p.kernel_h + 2) * vector * p.lanes + (t.row + 1) * below;
    for (std::int64_t k = 0; k < 4; ++k) t.place[k] = k % 2 * copy - k / 2 * below;
  }
  return t;
}

// The cells of one phase.
template <class T>
struct PatchTile {
  std::int64_t cells, filters;
  std::int64_t step;  // items of dy and index from one cell to the next
  const T* dy;
  const std::uint8_t* index;
  const T* patches;
  std::int64_t filter_step, place[4];
  T* sums;
  std::int64_t sums_cell, sums_row, sums_vector;  // entries from one cell, row of the patch, and vector to the next
  std::int64_t last_count;                        // entries of the last vector that are stored
  bool add;                                       // to what is there already
};
template <class T>
using PatchFn = void (*)(const PatchTile<T>& t);

template <class T, int J, int V, bool half, bool shifted>
static void patch_tile(const PatchTile<T>& t) {
  using W = HalfVec<T, half>;
  constexpr std::int64_t below = (V + (shifted ? 1 : 0)) * W::lanes;  // entries from one row of a patch to the next
  const T* dy = t.dy;
  const std::uint8_t* index = t.index;
  T* sums = t.sums;
  const std::int64_t place[4] = {t.place[0], t.place[1], t.place[2], t.place[3]};
  const std::int64_t filter_step = t.filter_step;
  for (std::int64_t cell = t.cells; cell > 0; --cell, dy += t.step, index += t.step, sums += t.sums_cell) {
    typename W::type acc[J][V];
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[j][v] = W::all(T(0));
    if (t.add) {
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[j][v] = W::read(sums + j * t.sums_row + v * t.sums_vector);
    }
    const T* patches = t.patches;
    for (std::int64_t f = 0; f < t.filters; ++f, patches += filter_step) {
      const T* const patch = patches + place[index[f] & 3];
      const typename W::type g = W::all(dy[f]);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) acc[j][v] = W::mul_add(g, W::read(patch + j * below + v * W::lanes), acc[j][v]);
    }
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
      T* const to = sums + j * t.sums_row;
#pragma GCC unroll 8
      for (int v = 0; v + 1 < V; ++v) W::write(to + v * t.sums_vector, acc[j][v]);
      T* const last = to + (V - 1) * t.sums_vector;
      if (shifted || t.last_count == W::lanes)
        W::write(last, acc[j][V - 1]);
      else
        W::write_low(last, acc[j][V - 1], t.last_count);
    }
  }
}

template <class T, int J, bool half, bool shifted, int... V>
static const PatchFn<T>* patch_table(LaneList<V...>) {
  static constexpr PatchFn<T> fn[] = {patch_tile<T, J, V + 1, half, shifted>...};
  return fn;
}
template <class T, int J>
static PatchFn<T> patch_table(std::int64_t vectors, const PatchPlan& p) {
  using All = typename LanesUpTo<patch_vectors(J)>::type;
#if defined(PFN_ISA_AVX512)
  if (p.half) return patch_table<T, J, true, false>(typename LanesUpTo<kHalves>::type{})[vectors - 1];
#endif
  return (p.shifted ? patch_table<T, J, false, true>(All{}) : patch_table<T, J, false, false>(All{}))[vectors - 1];
}
template <class T>
static PatchFn<T> find_patch(std::int64_t rows, std::int64_t vectors, const PatchPlan& p) {
  switch (rows) {
    case 1:
      return patch_table<T, 1>(vectors, p);
    case 2:
      return patch_table<T, 2>(vectors, p);
    case 3:
      return patch_table<T, 3>(vectors, p);
    case 4:
      return patch_table<T, 4>(vectors, p);
    case 5:
      return patch_table<T, 5>(vectors, p);
    default:
      return patch_table<T, 6>(vectors, p);
  }
}

}  // namespace pfn::PFN_ISA
