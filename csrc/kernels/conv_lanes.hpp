// Convolutions with filters in the lanes of a vector: packing, bands of rows, and the loops around conv_tile.hpp.
//
//   phase 0   filters -> panels of 1 .. kConvVectors vectors of output channels, in the order of the terms
//   phase 1   over all output rows of all images: for each band of rows of one image, for each panel, for each row
//
// Where the filter reaches over the left or right border, the rows a band reads are copied with zero columns beside
// them (at most kBandBytes, unless a single output row reads more); else the source is read in place. Rows outside the
// image are never read. A zero column times a weight that is not finite would be NaN: phase 0 looks for such weights,
// and conv_exact then skips the border as the definition does.
#pragma once
#include "kernels/conv_axis.hpp"
#include "kernels/conv_tile.hpp"
#include "kernels/gemm_pack.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kBandBytes = 192 << 10;
constexpr std::int64_t kShortSum = 16;  // terms

// Output channels of a group in panels: pairs of vectors, and three where one would be left.
template <class T>
struct ConvPanels {
  std::int64_t channels, vectors, count;

  PFN_ALWAYS_INLINE explicit ConvPanels(std::int64_t out_channels) : channels(out_channels) {
    vectors = div_up(channels, kLanes<T>);
    count = vectors <= kConvVectors ? 1 : kConvVectors > 2 ? vectors / 2 : (vectors + 1) / 2;
  }
  PFN_ALWAYS_INLINE std::int64_t column(std::int64_t p) const { return 2 * p * kLanes<T>; }
  PFN_ALWAYS_INLINE std::int64_t nv(std::int64_t p) const { return p + 1 < count ? 2 : vectors - 2 * p; }
  PFN_ALWAYS_INLINE std::int64_t padded() const { return vectors * kLanes<T>; }
};

// Most source rows that `rows` neighbouring output rows read.
template <class T>
static inline std::int64_t band_source_rows(const Conv<T>& c, std::int64_t rows) {
  const ConvSizes& s = c.rows;
  const std::int64_t reach = (s.kernel - 1) * s.dilation;
  const std::int64_t span = c.backward ? (rows + reach) / s.stride + 2 : (rows - 1) * s.stride + reach + 1;
  return larger(0, smaller(s.source, span));
}

// Output rows of a band whose source rows, of `row_items` entries, stay within the second-level cache.
template <class T>
static inline std::int64_t band_rows(const Conv<T>& c, std::int64_t row_items) {
  std::int64_t rows = c.rows.out;
  while (rows > 1 && band_source_rows(c, rows) * row_items * static_cast<std::int64_t>(sizeof(T)) > kBandBytes)
    rows = (rows + 1) / 2;
  return rows;
}

// Weights that are not finite make a note in slot `unit` of `units`, each of which looks at its part of the filters.
template <class T>
static void note_nonfinite(const Conv<T>& c, std::int64_t unit, std::int64_t units, std::int64_t* slots) {
  const std::int64_t items = c.filter_items();
  const std::int64_t begin = items / units * unit + smaller(unit, items % units);
  const std::int64_t end = begin + items / units + (unit < items % units);
  Vec<T> sum = splat(T(0));
  std::int64_t i = begin;
  for (; i + kLanes<T> <= end; i += kLanes<T>) {
    const Vec<T> w = load<T>(c.filters + i);
    sum += w - w;
  }
  const Vec<T> w = load_partial(c.filters + i, end - i);
  slots[unit] = reduce_add<T>(sum + (w - w)) == 0 ? 0 : 1;
}
static inline bool any_noted(const std::int64_t* slots, std::int64_t units) {
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < units; ++i) found |= slots[i];
  return found != 0;
}

// Output row `row` of one image by the definition: only taps inside the source, one number at a time.
template <class T>
static void conv_exact(const Conv<T>& c, std::int64_t image, std::int64_t row) {
  const std::int64_t channels = c.source_channels();
  const std::int64_t outs = c.all_channels();
  const T* const source = c.source + image * c.rows.source * c.columns.source * channels;
  T* const y = c.out + (image * c.rows.out + row) * c.columns.out * outs;
  const std::int64_t row_classes = c.row_classes();
  const ConvAxis ay = c.row_axis(row % row_classes);
  const TapRange jy = taps_inside(ay, c.rows.source, row / row_classes);
  const std::int64_t classes = c.column_classes();
  for (std::int64_t column = 0; column < c.columns.out; ++column) {
    const ConvAxis ax = c.column_axis(column % classes);
    const TapRange jx = taps_inside(ax, c.columns.source, column / classes);
    for (std::int64_t o = 0; o < outs; ++o) {
      const std::int64_t group = o / c.out_channels;
      T sum = c.bias ? c.bias[o] : T(0);
      for (std::int64_t j = jy.first; j < jy.end; ++j)
        for (std::int64_t i = jx.first; i < jx.end; ++i) {
          const std::int64_t sy = ay.from + row / row_classes * ay.stride + j * ay.apart;
          const std::int64_t sx = ax.from + column / classes * ax.stride + i * ax.apart;
          const T* x = source + (sy * c.columns.source + sx) * channels + group * c.in_channels;
          const T* w = c.filter(ay.tap + j * ay.taps_apart, ax.tap + i * ax.taps_apart, group) +
                       (o - group * c.out_channels) * c.filter_out_step();
          for (std::int64_t k = 0; k < c.in_channels; ++k) sum = fma(x[k], w[k * c.filter_in_step()], sum);
        }
      y[column * outs + o] = sum;
    }
  }
}

// What follows from the shapes.
struct LanesPlan {
  std::int64_t panels;         // of all groups
  std::int64_t notes;          // bytes of the notes in front of the packed filters
  std::int64_t before, width;  // columns of a copied row in front of the source, and in all; width 0: read in place
  std::int64_t band;           // output rows of a band
};

template <class T>
static LanesPlan lanes_plan(const Conv<T>& c) {
  const Margins m = margins(c.columns, c.backward);
  LanesPlan plan;
  plan.panels = c.groups * ConvPanels<T>(c.out_channels).count;
  plan.notes = div_up(plan.panels * 8, 64) * 64;
  plan.before = m.before;
  plan.width = m.before > 0 || m.behind > 0 ? m.before + c.columns.source + m.behind : 0;
  plan.band = band_rows(c, (plan.width > 0 ? plan.width : c.columns.source) * c.source_channels());
  return plan;
}

// The filters of panel p of one group, terms in packed order: out[(ky, kx, k)][nv * L].
template <class T>
static void pack_filters(const Conv<T>& c, const ConvPanels<T>& panels, std::int64_t group, std::int64_t p, T* out) {
  constexpr std::int64_t lanes = kLanes<T>;
  const std::int64_t j0 = panels.column(p);
  const std::int64_t ld = panels.nv(p) * lanes;
  const std::int64_t width = smaller(c.out_channels - j0, ld);
  for (std::int64_t ky = 0; ky < c.rows.kernel; ++ky)
    for (std::int64_t kx = 0; kx < c.columns.kernel; ++kx, out += c.in_channels * ld) {
      const T* const w = c.filter(ky, kx, group) + j0 * c.filter_out_step();
      if (c.backward) {
        pack_transposed(w, c.filter_out_step(), c.in_channels, width, out, ld);
        continue;
      }
      for (std::int64_t k = 0; k < c.in_channels; ++k)
        for (std::int64_t j = 0; j < ld; j += lanes) {
          const T* const from = w + k * c.filter_in_step() + j;
          store<T>(out + k * ld + j, j + lanes <= width ? load<T>(from) : load_partial(from, width - j));
        }
    }
}

// Source rows [span.first, span.end) of an image with zero columns beside them.
template <class T>
static void copy_rows(const Conv<T>& c, const LanesPlan& plan, const T* image, RowSpan span, T* out) {
  const std::int64_t channels = c.source_channels();
  const std::int64_t items = c.columns.source * channels;
  const std::int64_t before = plan.before * channels;
  const std::int64_t behind = plan.width * channels - before - items;
  for (std::int64_t row = span.first; row < span.end; ++row) {
    for (std::int64_t i = 0; i < before; ++i) *out++ = T(0);
    const T* const from = image + row * items;
    std::int64_t i = 0;
    for (; i + kLanes<T> <= items; i += kLanes<T>) store<T>(out + i, load<T>(from + i));
    if (i < items) store_low(out + i, load_partial(from + i, items - i), items - i);
    out += items;
    for (i = 0; i < behind; ++i) *out++ = T(0);
  }
}

// The source of the next band, fetched into the second-level cache line by line while this one is worked on.
struct FetchLines {
  const char* at;
  const char* end;
  std::int64_t together;  // lines for each tile

  PFN_ALWAYS_INLINE void some() {
    for (std::int64_t i = 0; i < together && at < end; ++i, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

// Output rows [r0, r1) of one panel, pixels and rows of one class each. x: the source (or its copy) at row 0, column 0
// and y: the output of the image, both at the first channel of the panel's group; w: the panel's filters.
template <class T>
static void lanes_class(const Conv<T>& c, const ConvAxis& ay, const ConvAxis& ax, std::int64_t r0, std::int64_t r1,
                        std::int64_t nv, std::int64_t last_count, const T* x, std::int64_t row_items, const T* w,
                        const T* bias, T* y, FetchLines& ahead) {
  const std::int64_t channels = c.source_channels();
  const std::int64_t ld = nv * kLanes<T>;
  const std::int64_t kernel_row = c.columns.kernel * c.in_channels * ld;
  const bool joined = ax.apart == 1 && ax.taps_apart == 1 && c.groups == 1;
  ConvTile<T> t;
  t.pixel_step = ax.stride * channels;
  t.row_step = ay.apart * row_items;
  t.w_row = ay.taps_apart * kernel_row;
  t.runs = joined ? (ax.taps > 0 ? 1 : 0) : ax.taps;
  t.run_step = ax.apart * channels;
  t.w_run = ax.taps_apart * c.in_channels * ld;
  t.length = joined ? ax.taps * c.in_channels : c.in_channels;
  t.out_step = ax.step * c.all_channels();
  t.last_count = last_count;
  x += ax.from * channels;
  w += ax.tap * c.in_channels * ld;
  // Pixels a multiple of 2 KiB apart meet in one or two sets of the first-level cache.
  const bool same_set = t.pixel_step * static_cast<std::int64_t>(sizeof(T)) % 2048 == 0;
  // Long sums run best with a dozen of accumulators; short ones are over too soon to begin so often.
  const std::int64_t enough = same_set ? 8 : nv == 1 && ay.taps * t.runs * t.length > kShortSum ? 12 : 16;
  const std::int64_t most = smaller(smaller(kConvPixels[nv - 1], enough), ax.count);
  const std::int64_t tiles = div_up(ax.count, most);
  const std::int64_t low = ax.count / tiles;
  const std::int64_t higher = ax.count - low * tiles;  // so many tiles have one pixel more
  const ConvTileFn<T>* const fn = find_conv_tiles<T>(nv, 2 * last_count <= kLanes<T>) + low - 1;
  const std::int64_t t0 = r0 > ay.first ? (r0 - ay.first + ay.step - 1) / ay.step : 0;
  for (std::int64_t ty = t0; ty < ay.count && ay.first + ty * ay.step < r1; ++ty) {
    const TapRange jy = taps_inside(ay, c.rows.source, ty);
    t.rows = jy.end - jy.first;
    const T* tile_x = x + (ay.from + ty * ay.stride + jy.first * ay.apart) * row_items;
    const T* const tile_w = w + (ay.tap + jy.first * ay.taps_apart) * kernel_row;
    T* tile_y = y + ((ay.first + ty * ay.step) * c.columns.out + ax.first) * c.all_channels();
    for (std::int64_t i = 0; i < tiles; ++i) {
      const bool more = i < higher;
      ahead.some();
      fn[more](t, tile_x, tile_w, bias, tile_y);
      tile_x += (low + more) * t.pixel_step;
      tile_y += (low + more) * t.out_step;
    }
  }
}

// Output rows [r0, r1) of one image.
template <class T>
static void lanes_band(const Conv<T>& c, const LanesPlan& plan, std::int64_t image, std::int64_t r0, std::int64_t r1,
                       const T* packed, T* local) {
  constexpr std::int64_t lanes = kLanes<T>;
  const ConvPanels<T> panels(c.out_channels);
  const std::int64_t channels = c.source_channels();
  const T* x = c.source + image * c.rows.source * c.columns.source * channels;
  std::int64_t row_items = c.columns.source * channels;
  const RowSpan span = rows_read(c, r0, r1);
  const T* const source_end = c.source + c.images * c.rows.source * row_items;
  const std::int64_t lines = (span.end - span.first) * row_items * static_cast<std::int64_t>(sizeof(T)) / 64;
  const std::int64_t tiles = (r1 - r0) * c.groups * panels.count * div_up(c.columns.out, kConvPixels[0]);
  FetchLines ahead{reinterpret_cast<const char*>(x + span.end * row_items), reinterpret_cast<const char*>(source_end),
                   div_up(lines, tiles)};
  if (plan.width > 0) {
    copy_rows(c, plan, x, span, local);
    row_items = plan.width * channels;
    x = local - span.first * row_items + plan.before * channels;
  }
  T* const y = c.out + image * c.rows.out * c.columns.out * c.all_channels();
  for (std::int64_t group = 0; group < c.groups; ++group)
    for (std::int64_t p = 0; p < panels.count; ++p) {
      const std::int64_t nv = panels.nv(p);
      const std::int64_t column = group * c.out_channels + panels.column(p);
      const std::int64_t last_count = smaller(c.out_channels - panels.column(p), nv * lanes) - (nv - 1) * lanes;
      const T* const w = packed + (group * panels.padded() + panels.column(p)) * c.terms();
      const T* const bias = c.bias ? c.bias + column : nullptr;
      for (std::int64_t i = 0; i < c.row_classes(); ++i)
        for (std::int64_t j = 0; j < c.column_classes(); ++j)
          lanes_class(c, c.row_axis(i), c.column_axis(j), r0, r1, nv, last_count, x + group * c.in_channels, row_items,
                      w, bias, y + column, ahead);
    }
}

template <class T>
static void lanes_prepare(OpCall& call, const Conv<T>& c, double ns) {
  constexpr std::int64_t item = static_cast<std::int64_t>(sizeof(T));
  const LanesPlan plan = lanes_plan(c);
  const std::int64_t packed = c.groups * c.terms() * ConvPanels<T>(c.out_channels).padded();
  call.phases = 2;
  call.phase[0] = Phase{plan.panels, 1, 0.2 * static_cast<double>(packed)};
  call.phase[1] = Phase{c.images * c.rows.out, 1, ns};
  call.scratch_bytes = plan.notes + packed * item;
  if (plan.width > 0) call.local_bytes = band_source_rows(c, plan.band) * plan.width * c.source_channels() * item;
}

// What phase 0 leaves behind for all bands.
template <class T>
struct LanesFilters {
  std::int64_t* notes;
  T* packed;

  PFN_ALWAYS_INLINE LanesFilters(const OpCall& call, const LanesPlan& plan) {
    notes = static_cast<std::int64_t*>(call.scratch);
    packed = reinterpret_cast<T*>(static_cast<char*>(call.scratch) + plan.notes);
  }
};

// Panels [begin, end) of all groups.
template <class T>
static void lanes_pack(const Conv<T>& c, const LanesPlan& plan, std::int64_t begin, std::int64_t end,
                       const LanesFilters<T>& to) {
  const ConvPanels<T> panels(c.out_channels);
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t group = i / panels.count;
    const std::int64_t p = i - group * panels.count;
    pack_filters(c, panels, group, p, to.packed + (group * panels.padded() + panels.column(p)) * c.terms());
    note_nonfinite(c, i, plan.panels, to.notes);
  }
}

template <class T>
static void lanes_run(const OpCall& call, const Conv<T>& c, int phase, std::int64_t begin, std::int64_t end,
                      void* local) {
  const LanesPlan plan = lanes_plan(c);
  const LanesFilters<T> filters(call, plan);
  if (phase == 0) return lanes_pack(c, plan, begin, end, filters);
  const bool exact = plan.width > 0 && any_noted(filters.notes, plan.panels);
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t image = i / c.rows.out;
    const std::int64_t r0 = i - image * c.rows.out;
    const std::int64_t r1 = smaller(c.rows.out, r0 + smaller(exact ? 1 : plan.band, end - i));
    if (exact)
      conv_exact(c, image, r0);
    else
      lanes_band(c, plan, image, r0, r1, filters.packed, static_cast<T*>(local));
    i += r1 - r0;
  }
}

}  // namespace pfn::PFN_ISA
