// The gradient of a convolution's input behind a max pool of touching 2 x 2 windows (stride 1, no dilation, one group).
//
//   dx[n, 2 p + a + i - top, 2 q + b + j - left, c] += w[i, j, c, f] * dy[n, p, q, f]    over all p, q, f, i, j
//
// where (a, b) = (index / 2, index % 2) of cell [n, p, q, f] is where its maximum came from: three quarters of the
// gradient before the pool are zero, and are not multiplied. Only the low two bits of an index count.
//
//   phase 0   filters -> patches: for each filter and each column b the kernel_w + 1 pixels a cell may reach in a row,
//             with the filter at b and zeros beside it, and a row of zeros above and below: a patch is read from the
//             row that a says. Channels of whole vectors need no two copies: b, too, says from where (`shifted`).
//   phase 1   over the rows of dx: for each row of cells in turn, patches summed over the filters in registers; then
//             each row of dx that is complete is the sum of the rows of the patches that overlap there
//
//   a cell:  for each filter: patch += dy * patches[filter][index]      (kernel_h + 1) rows of vectors, in registers
//
// A patch row is `phases` pairs of pixels wide, so that every phases-th cell of a row of cells has its patch right
// behind: the patches of a phase lie side by side as a row of dx does, and adding the phases, each shifted by a pair of
// pixels, is a sum of a few arrays. Of the rows of cells the last kernel_h / 2 + 1 are kept; several are summed at once
// where the patches do not all fit the first-level cache, in blocks of filters that do.
//
// Order of a sum: for each cell a chain over the filters in order, then the rows of cells, then the phases.
// |error| <= 2 (k + 1) u sum |w| |dy| for the k terms of kernel_h * kernel_w * filters. NaN and Inf follow IEEE
// arithmetic over the terms: a row of cells with a gradient that is not finite is done by the definition.
// Source: as conv_dw_pooled.cpp.
#include "kernels/conv_dx_patches.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kAddedRows = 16;  // rows of patches added at once

// The patches of one filter.
template <class T>
static void pack_patches(const PatchPlan& p, const T* w, std::int64_t filter, T* packed) {
  const std::int64_t width = p.kernel_w * p.channels;
  for (std::int64_t v = 0; v < p.vector_groups; ++v) {
    const PatchPart t = patch_part(p, 0, v);
    const std::int64_t row = (p.shifted ? p.kernel_w + 2 : t.vectors) * p.lanes;
    T* to = packed + t.packed + filter * t.filter_step;  // the filter's first entry
    __builtin_memset(to - row - (p.shifted ? p.lanes : 0), 0, static_cast<std::size_t>(t.filter_step) * sizeof(T));
    for (std::int64_t i = 0; i < p.kernel_h; ++i, to += row) {
      const T* const from = w + i * width * p.filters + filter;
      if (p.shifted) {
        for (std::int64_t j = 0; j < p.kernel_w; ++j)
          for (std::int64_t k = 0; k < p.lanes; ++k)
            to[j * p.lanes + k] = from[(j * p.channels + t.first + k) * p.filters];
        continue;
      }
      for (std::int64_t b = 0; b < 2; ++b) {
        const std::int64_t shift = b * p.channels - t.first;  // of the filter's first entry in the row
        const std::int64_t begin = shift < 0 ? -shift : 0, end = smaller(width, row - shift);
        for (std::int64_t x = begin; x < end; ++x) to[t.place[b] + shift + x] = from[x * p.filters];
      }
    }
  }
}

template <class T>
static bool all_finite(const T* x, std::int64_t count) {
  Vec<T> sum = splat(T(0));
  std::int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) {
    const Vec<T> v = load<T>(x + i);
    sum += v - v;
  }
  const Vec<T> v = load_partial(x + i, count - i);
  return reduce_add<T>(sum + (v - v)) == 0;
}

// The patches of a row of cells by the definition. `sums`: the first cell of phase 0.
template <class T>
static void patches_exact(const PatchPlan& p, const T* dy, const std::uint8_t* index, const T* w, T* sums) {
  for (std::int64_t q = 0; q < p.cells; ++q) {
    T* const patch = sums + q % p.phases * p.line + q / p.phases * p.run;
    for (std::int64_t j = 0; j < p.patch_rows(); ++j)
      __builtin_memset(patch + j * p.phases * p.line, 0, static_cast<std::size_t>(p.run) * sizeof(T));
    for (std::int64_t f = 0; f < p.filters; ++f) {
      const std::int64_t place = index[q * p.filters + f] & 3;
      const std::int64_t width = p.kernel_w * p.channels;
      for (std::int64_t i = 0; i < p.kernel_h; ++i) {
        T* const to = patch + (i + place / 2) * p.phases * p.line + place % 2 * p.channels;
        for (std::int64_t x = 0; x < width; ++x)
          to[x] = fma(dy[q * p.filters + f], w[(i * width + x) * p.filters + f], to[x]);
      }
    }
  }
}

// The rows of cells of an image and where their patches go.
template <class T>
struct PatchRows {
  const T* dy;
  const std::uint8_t* index;
  const T* w;
  const T* packed;
  T* sums;
};

// The patches of the rows of cells [row, end).
template <class T>
static void patch_tiles(const PatchPlan& p, const PatchRows<T>& rows, std::int64_t row, std::int64_t end) {
  for (std::int64_t r = 0; r < p.row_groups; ++r)
    for (std::int64_t v = 0; v < p.vector_groups; ++v) {
      const PatchPart part = patch_part(p, r, v);
      const PatchFn<T> fn = find_patch<T>(part.rows, part.vectors, p);
      PatchTile<T> t;
      t.step = p.phases * p.filters;
      t.filter_step = part.filter_step;
      for (int k = 0; k < 4; ++k) t.place[k] = part.place[k];
      t.sums_cell = p.run, t.sums_row = p.phases * p.line, t.sums_vector = p.shifted ? p.channels : p.lanes;
      t.last_count = smaller(p.run - part.first, part.vectors * p.lanes) - (part.vectors - 1) * p.lanes;
      const std::int64_t block = 1 + (kPatchBytes - 1) / (part.filter_step * static_cast<std::int64_t>(sizeof(T)));
      for (std::int64_t f = 0; f < p.filters; f += block) {
        t.filters = smaller(block, p.filters - f);
        t.patches = rows.packed + part.packed + f * part.filter_step;
        t.add = f > 0;
        for (std::int64_t i = row; i < end; ++i)
          for (std::int64_t phase = 0; phase < smaller(p.phases, p.cells); ++phase) {
            const std::int64_t at = (i * p.cells + phase) * p.filters + f;
            t.cells = (p.cells - phase + p.phases - 1) / p.phases;
            t.dy = rows.dy + at;
            t.index = rows.index + at;
            t.sums = rows.sums + i % p.kept * p.slot() + (part.row * p.phases + phase) * p.line + p.origin + part.first;
            fn(t);
          }
      }
    }
}

// The same, whatever the gradients are.
template <class T>
static void patch_rows(const PatchPlan& p, const PatchRows<T>& rows, std::int64_t row, std::int64_t end) {
  const std::int64_t items = p.cells * p.filters;
  if (all_finite(rows.dy + row * items, (end - row) * items)) return patch_tiles(p, rows, row, end);
  for (; row < end; ++row) {
    if (all_finite(rows.dy + row * items, items))
      patch_tiles(p, rows, row, row + 1);
    else
      patches_exact(p, rows.dy + row * items, rows.index + row * items, rows.w,
                    rows.sums + row % p.kept * p.slot() + p.origin);
  }
}

// y = the sum of `count` rows, and of what y holds if `add`. known: the count, or 0.
template <class T, int known>
static void add_rows(const T* const* rows, std::int64_t count, std::int64_t items, bool add, T* y) {
  const T* first[known > 0 ? known : 1];
#pragma GCC unroll 8
  for (int k = 0; k < (known > 0 ? known : 1); ++k) first[k] = rows[k];
  for (std::int64_t x = 0; x < items; x += kLanes<T>) {
    const std::int64_t left = items - x;
    const bool whole = left >= kLanes<T>;
    Vec<T> v = load<T>(first[0] + x);
    if (known == 0 && add) v += whole ? load<T>(y + x) : load_partial(y + x, left);
#pragma GCC unroll 8
    for (int k = 1; k < known; ++k) v += load<T>(first[k] + x);
    if constexpr (known == 0)
      for (std::int64_t k = 1; k < count; ++k) v += load<T>(rows[k] + x);
    if (whole)
      store<T>(y + x, v);
    else
      store_low(y + x, v, left);
  }
}

// Row r of dx from the rows of cells [first, end), which `sums` keeps.
template <class T>
static void sum_patches(const PatchPlan& p, const T* sums, std::int64_t r, std::int64_t first, std::int64_t end, T* y) {
  const std::int64_t items = p.columns * p.channels;
  const T* rows[kAddedRows];
  std::int64_t count = 0;
  bool add = false;
  for (std::int64_t cell_row = first; cell_row < end; ++cell_row) {
    const std::int64_t j = r + p.top - 2 * cell_row;  // the row of its patches that meets row r
    const T* at = sums + cell_row % p.kept * p.slot() + j * p.phases * p.line + p.origin + p.left * p.channels;
    for (std::int64_t phase = 0; phase < p.phases; ++phase, at += p.line - 2 * p.channels) {
      rows[count++] = at;
      if (count < kAddedRows) continue;
      add_rows<T, 0>(rows, count, items, add, y);
      add = true;
      count = 0;
    }
  }
  if (count == 4 && !add)  // filters of 3 x 3
    add_rows<T, 4>(rows, count, items, add, y);
  else if (count > 0)
    add_rows<T, 0>(rows, count, items, add, y);
  else if (!add)
    __builtin_memset(y, 0, static_cast<std::size_t>(items) * sizeof(T));
}

template <class T>
static void conv2d_dx_pooled_prepare(OpCall& call) {
  constexpr std::int64_t item = static_cast<std::int64_t>(sizeof(T));
  if (call.out[0].size() == 0) {
    call.phases = 0;
    return;
  }
  const PatchPlan p = patch_plan<T>(call);
  if (p.empty()) {
    one_phase(call, p.images * p.rows, 0.02 * static_cast<double>(p.columns * p.channels), 1);
    return;
  }
  const double cells = static_cast<double>(p.images * p.cell_rows * p.cells);
  const double macs = static_cast<double>(p.filters * p.patch_rows() * p.run);
  call.phases = 2;
  call.phase[0] = Phase{p.filters, 1, 1.5 * macs};
  call.phase[1] = Phase{p.images * p.rows, p.images >= 16 ? p.rows : smaller(p.rows, 16),
                        cells * (10 + macs / (3.0 * static_cast<double>(kLanes<T>)))};
  call.scratch_bytes = p.filters * p.filter_items * item;
  call.local_bytes = p.kept * p.slot() * item;
}

template <class T>
static void conv2d_dx_pooled_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const PatchPlan p = patch_plan<T>(call);
  const std::int64_t items = p.columns * p.channels;
  T* const dx = call.out[0].as<T>();
  if (p.empty()) {
    __builtin_memset(dx + begin * items, 0, static_cast<std::size_t>((end - begin) * items) * sizeof(T));
    return;
  }
  const T* const w = call.in[2].as<const T>();
  T* const packed = static_cast<T*>(call.scratch);
  if (phase == 0) {
    for (std::int64_t f = begin; f < end; ++f) pack_patches(p, w, f, packed);
    return;
  }
  PatchRows<T> rows{nullptr, nullptr, w, packed, static_cast<T*>(local)};
  // What is beside the cells stays zero.
  __builtin_memset(rows.sums, 0, static_cast<std::size_t>(p.kept * p.slot()) * sizeof(T));
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t image = i / p.rows, above = image * p.rows - p.top;
    const std::int64_t stop = smaller(end, (image + 1) * p.rows);
    // Row r meets the rows of cells that begin in the kernel_h rows above it, or at it.
    const auto first_of = [&p, above](std::int64_t row) {
      return smaller(row - above > p.kernel_h ? (row - above - p.kernel_h + 1) / 2 : 0, p.cell_rows);
    };
    const auto end_of = [&p, above](std::int64_t row) { return smaller((row - above) / 2 + 1, p.cell_rows); };
    rows.dy = call.in[0].as<const T>() + image * p.cell_rows * p.cells * p.filters;
    rows.index = call.in[1].as<const std::uint8_t>() + image * p.cell_rows * p.cells * p.filters;
    const std::int64_t needed = end_of(stop - 1);
    for (std::int64_t done = first_of(i); i < stop; ++i) {
      const std::int64_t last = end_of(i);
      while (done < last) {
        const std::int64_t next = smaller(done + p.together, needed);
        patch_rows(p, rows, done, next);
        done = next;
      }
      sum_patches(p, rows.sums, i - image * p.rows, first_of(i), last, dx + i * items);
    }
  }
}
PFN_KERNEL(conv2d_dx_pooled, conv2d_dx_pooled_prepare, conv2d_dx_pooled_run);

}  // namespace pfn::PFN_ISA
