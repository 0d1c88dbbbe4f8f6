// Convolutions with few output channels and pixels in the lanes of a vector; stride 1, one group.
//
//   phase 0   filters -> one row of F numbers a term; where each term lies in the planes
//   phase 1   over all output rows of all images: for each band of rows of one image: source rows -> planes with zeros
//             around them; tiles of F channels by V vectors of pixels; planes of y -> channels last
//
//   for each term: load V vectors of pixels, for each channel f: broadcast w[f], acc[f][v] = fma(w[f], pixel[v], acc)
//
// Up to three channels have too little to do for a load. With filters of 3 or 5 rows their tiles are R rows of one
// vector, and each row loaded serves all rows of the filter (conv_shared):
//
//   for each channel, filter column, row q: load pixels; for each filter row ky, f: acc[f][q - ky] += w[f] * pixel
//
// A plane's rows have ld entries. Either the vectors of pixels are those of each row (`whole_rows`), or they run on
// over the rows' borders, and what falls between the rows is not stored: whichever wastes fewer lanes. Where a row of
// the source is whole vectors, only those are written, and the zeros beside them once for all images. An element is
// the fused (generic: rounded) chain over channels, filter rows, columns (shared: channels, columns, rows) in order,
// from the bias, whatever the tile. Zeros around the image times weights that are not finite would be NaN: conv_exact
// does such calls.
#pragma once
#include "kernels/conv_interleave.hpp"
#include "kernels/conv_lanes.hpp"
#include "kernels/conv_planar_tiles.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kPlanarBytes = 384 << 10;

struct PlanarPlan {
  ConvAxis ay, ax;
  bool shared;
  bool whole_rows;
  std::int64_t vectors;  // of a row, where rows are whole
  std::int64_t ld;       // entries of a row of a plane
  std::int64_t shift;    // entries in front of it, so that pixels begin at a whole vector
  bool clean;            // whole vectors of pixels: what is beside them stays zero
  std::int64_t band;     // output rows of a band
  std::int64_t plane;    // entries of a plane
  std::int64_t out_plane;
  std::int64_t notes;  // bytes

  PFN_ALWAYS_INLINE std::int64_t out_row(std::int64_t lanes) const { return whole_rows ? vectors * lanes : ld; }
};

template <class T>
static void size_band(PlanarPlan& plan, std::int64_t rows) {
  constexpr std::int64_t lanes = kLanes<T>;
  const std::int64_t reach = larger(0, plan.ax.taps - 1) * plan.ax.apart;
  const std::int64_t plane_rows = rows + larger(0, plan.ay.taps - 1) * plan.ay.apart;
  plan.band = rows;
  plan.plane = div_up(plane_rows * plan.ld + plan.shift + reach + 2 * lanes, lanes) * lanes + lanes;
  plan.out_plane = plan.whole_rows ? rows * plan.vectors * lanes : div_up(rows * plan.ld, lanes) * lanes;
  plan.out_plane += lanes;
}

// Where the source has whole vectors of pixels, each row begins at a vector: a vector of zeros between two rows serves
// both, and stays when other rows come.
template <class T>
static void share_zeros(const Conv<T>& c, PlanarPlan& plan) {
  constexpr std::int64_t lanes = kLanes<T>;
  const std::int64_t reach = larger(0, plan.ax.taps - 1) * plan.ax.apart, before = -plan.ax.from;
  const std::int64_t behind = c.columns.out + reach - before - c.columns.source;
  if (c.columns.source % lanes != 0 || before < 0 || larger(before, behind) > lanes) return;
  plan.shift = lanes - before;
  plan.ld = lanes + c.columns.source;
  plan.clean = true;
}

template <class T>
static std::int64_t planar_bytes(const Conv<T>& c, const PlanarPlan& plan) {
  return (c.in_channels * plan.plane + c.out_channels * plan.out_plane) * static_cast<std::int64_t>(sizeof(T));
}

template <class T>
static PlanarPlan planar_plan(const Conv<T>& c) {
  constexpr std::int64_t lanes = kLanes<T>;
  PlanarPlan plan;
  plan.ay = c.row_axis(0);
  plan.ax = c.column_axis(0);
  plan.notes = 64;
  plan.shift = 0;
  plan.clean = false;
  const std::int64_t reach = larger(0, plan.ax.taps - 1) * plan.ax.apart;
  plan.vectors = div_up(c.columns.out, lanes);
  plan.shared = c.out_channels <= kSharedChannels && plan.ay.apart == 1 && (plan.ay.taps == 3 || plan.ay.taps == 5) &&
                c.rows.out >= 4;
  plan.whole_rows = plan.shared || plan.vectors * lanes <= c.columns.out + reach;
  plan.ld = (plan.whole_rows ? plan.vectors * lanes : c.columns.out) + reach;
  if (plan.whole_rows) share_zeros(c, plan);
  std::int64_t rows = c.rows.out;
  size_band<T>(plan, rows);
  while (rows > 1 && planar_bytes(c, plan) > kPlanarBytes) size_band<T>(plan, rows = (rows + 1) / 2);
  return plan;
}

// Whether a call goes this way: by shape, whatever the number of images. Compares the multiply-adds of both ways in
// vectors for each useful one: here all taps of all rows, there only taps inside the image, but lanes without a
// channel.
template <class T>
static bool is_planar(const Conv<T>& c) {
  if (c.groups != 1 || c.rows.stride != 1 || c.columns.stride != 1 || c.out_channels > kPlanarChannels) return false;
  if (c.terms() == 0 || c.columns.out == 0 || c.rows.out == 0) return false;
  const PlanarPlan plan = planar_plan(c);
  if (planar_bytes(c, plan) > 2 * kPlanarBytes || plan.band < smaller(4, c.rows.out)) return false;
  const std::int64_t least = kMasksTail && 2 * c.out_channels <= kLanes<T> ? kLanes<T> / 2 : kLanes<T>;
  const std::int64_t lanes = div_up(c.out_channels, least) * least;
  std::int64_t inside = 0;
  for (std::int64_t t = 0; t < c.rows.out; ++t) {
    const TapRange jy = taps_inside(plan.ay, c.rows.source, t);
    inside += jy.end - jy.first;
  }
  const double there = static_cast<double>(inside * lanes * c.columns.out);
  const std::int64_t columns = plan.whole_rows ? plan.vectors * kLanes<T> : plan.ld;
  return static_cast<double>(c.rows.out * plan.ay.taps * c.out_channels * columns) <= there;
}

// All channels, in pieces of the power of two that fits them best, at most kPiece.
constexpr int kPiece = 16;

template <class T>
static void pixels_to_planes(const T* x, std::int64_t channels, std::int64_t pixels, const T* end, T* planes,
                             std::int64_t plane) {
  constexpr int lanes = static_cast<int>(kLanes<T>);
  constexpr int most = lanes < kPiece ? lanes : kPiece;
  if (channels == 1) return to_planes<T, 1>(x, 1, 1, pixels, end, planes, plane);
#if defined(PFN_ISA_AVX512)
  if (channels == 3) {
    const std::int64_t whole = pixels / lanes * lanes;
    three_to_planes(x, whole, planes, plane);
    if (whole == pixels) return;
    x += 3 * whole;
    pixels -= whole;
    planes += whole;
  }
#endif
  if (channels > most && pixels > lanes) {  // whole lines of x at a time
    for (std::int64_t p = 0; p < pixels; p += lanes)
      pixels_to_planes(x + p * channels, channels, smaller(lanes, pixels - p), end, planes + p, plane);
    return;
  }
  for (std::int64_t k = 0; k < channels; k += most) {
    const std::int64_t count = smaller(most, channels - k);
    if constexpr (most > 8)
      if (count > 8) {
        to_planes<T, 16>(x + k, channels, count, pixels, end, planes + k * plane, plane);
        continue;
      }
    if constexpr (most > 4)
      if (count > 4) {
        to_planes<T, 8>(x + k, channels, count, pixels, end, planes + k * plane, plane);
        continue;
      }
    if constexpr (most > 2)
      if (count > 2) {
        to_planes<T, 4>(x + k, channels, count, pixels, end, planes + k * plane, plane);
        continue;
      }
    to_planes<T, 2>(x + k, channels, count, pixels, end, planes + k * plane, plane);
  }
}
template <class T>
static void planes_to_pixels(const T* planes, std::int64_t plane, std::int64_t channels, std::int64_t pixels, T* y,
                             bool followed) {
  constexpr int lanes = static_cast<int>(kLanes<T>);
  if (channels == 1) return from_planes<T, 1>(planes, plane, 1, pixels, y, 1, followed);
#if defined(PFN_ISA_AVX512)
  if (channels == 3 || channels == 6) {
    const std::int64_t whole = pixels / lanes * lanes;
    if (channels == 3)
      three_to_pixels(planes, plane, whole, y);
    else
      six_to_pixels(planes, plane, whole, y);
    if (whole == pixels) return;
    planes += whole;
    pixels -= whole;
    y += whole * channels;
  }
#endif
  for (std::int64_t k = 0; k < channels; k += lanes) {
    const std::int64_t count = smaller(lanes, channels - k);
    if constexpr (lanes > 4)
      if (count > 4) {
        from_planes<T, 8>(planes + k * plane, plane, count, pixels, y + k, channels, followed);
        continue;
      }
    if constexpr (lanes > 2)
      if (count > 2) {
        from_planes<T, 4>(planes + k * plane, plane, count, pixels, y + k, channels, followed);
        continue;
      }
    from_planes<T, 2>(planes + k * plane, plane, count, pixels, y + k, channels, followed);
  }
}

// Zeros in [begin, end) of a plane, and behind it in what is written later.
template <class T>
static PFN_ALWAYS_INLINE void zero_plane(T* plane, std::int64_t begin, std::int64_t end, std::int64_t size) {
  for (std::int64_t i = begin; i < end; i += kLanes<T>) store<T>(plane + smaller(i, size - kLanes<T>), splat(T(0)));
}

// The zeros that stay.
template <class T>
static void clear_planes(const Conv<T>& c, const PlanarPlan& plan, T* planes) {
  if (!plan.clean) return;
  const std::int64_t plane_rows = plan.band + (plan.ay.taps - 1) * plan.ay.apart;
  for (std::int64_t k = 0; k < c.in_channels; ++k)
    for (std::int64_t q = 0; q <= plane_rows; ++q) store<T>(planes + k * plan.plane + q * plan.ld, splat(T(0)));
}

// The source rows under output rows [r0, r0 + rows) as planes with zeros where the filter reaches over the border.
template <class T>
static void fill_planes(const Conv<T>& c, const PlanarPlan& plan, std::int64_t image, std::int64_t r0,
                        std::int64_t rows, T* planes) {
  const std::int64_t channels = c.in_channels;
  const std::int64_t plane_rows = rows + (plan.ay.taps - 1) * plan.ay.apart;
  const std::int64_t before = smaller(plan.ld, larger(0, -plan.ax.from));
  const std::int64_t x0 = smaller(c.columns.source, larger(0, plan.ax.from));
  const std::int64_t pixels = larger(0, smaller(c.columns.source - x0, plan.ld - before));
  const T* const end = c.source + c.images * c.rows.source * c.columns.source * channels;
  if (!plan.clean)
    for (std::int64_t k = 0; k < channels; ++k) zero_plane(planes + k * plan.plane, 0, before, plan.plane);
  for (std::int64_t q = 0; q < plane_rows; ++q) {
    const std::int64_t row = r0 + plan.ay.from + q;
    const bool inside = row >= 0 && row < c.rows.source && pixels > 0;
    const std::int64_t begin = q * plan.ld + plan.shift + before;
    if (inside)
      pixels_to_planes(c.source + ((image * c.rows.source + row) * c.columns.source + x0) * channels, channels, pixels,
                       end, planes + begin, plan.plane);
    if (inside && plan.clean) continue;
    // Up to where the next row has its pixels.
    const std::int64_t next = plan.clean ? begin + pixels : q + 1 == plane_rows ? plan.plane : begin + plan.ld;
    for (std::int64_t k = 0; k < channels; ++k)
      zero_plane(planes + k * plan.plane, inside ? begin + pixels : begin, next, plan.plane);
  }
}

// All output rows of a band, tile by tile.
template <class T>
static void planar_tiles(const Conv<T>& c, const PlanarPlan& plan, PlanarTile<T> tile, std::int64_t rows,
                         const T* planes, T* out) {
  constexpr std::int64_t lanes = kLanes<T>;
  const PlanarFn<T>* const fn = find_planar_tiles<T>(c.out_channels);
  const std::int64_t most = kPlanarVectors[c.out_channels - 1];
  const std::int64_t all = plan.whole_rows ? rows * plan.vectors : div_up((rows - 1) * plan.ld + c.columns.out, lanes);
  const std::int64_t tiles = div_up(all, most);
  const std::int64_t low = all / tiles;
  const std::int64_t higher = all - low * tiles;
  std::int64_t row = 0, at = 0;  // of the next vector: its row, and its place there
  std::int64_t done = 0;
  for (std::int64_t i = 0; i < tiles; ++i) {
    const std::int64_t count = low + (i < higher);
    std::int64_t offset[8];
    for (std::int64_t v = 0; v < count; ++v) {
      offset[v] = row * plan.ld + at * lanes;
      if (++at == plan.vectors && plan.whole_rows) {
        at = 0;
        ++row;
      }
    }
    fn[count - 1](tile, planes, offset, out + done * lanes);
    tile.advance(1);
    done += count;
  }
}

// The source of output rows [r0, r0 + rows) of an image as planes; the tile will fetch `y`, which is written from them,
// and the source behind.
template <class T>
static void planar_source(const Conv<T>& c, const PlanarPlan& plan, PlanarTile<T>& tile, std::int64_t image,
                          std::int64_t r0, std::int64_t rows, T* planes, const T* y) {
  fill_planes(c, plan, image, r0, rows, planes);
  const std::int64_t read = smaller(c.rows.source, r0 + rows + plan.ay.from + (plan.ay.taps - 1) * plan.ay.apart);
  tile.fetch_out = reinterpret_cast<const char*>(y);
  tile.fetch_source = reinterpret_cast<const char*>(c.source + (image * c.rows.source + larger(0, read)) *
                                                                   c.columns.source * c.in_channels);
}

// Output rows [r0, r0 + rows) of an image, at most a band, as planes behind those of the source. `y`: what will be
// written from them.
template <class T>
static const T* planar_rows(const Conv<T>& c, const PlanarPlan& plan, PlanarTile<T> tile, std::int64_t image,
                            std::int64_t r0, std::int64_t rows, T* planes, const T* y) {
  planar_source(c, plan, tile, image, r0, rows, planes, y);
  T* const out = planes + c.in_channels * plan.plane;
  if (plan.shared)
    conv_shared(tile, c.out_channels, plan.ay.taps, planes, plan.ld, rows, plan.vectors, out);
  else
    planar_tiles(c, plan, tile, rows, planes, out);
  return out;
}

template <class T>
static void planar_band(const Conv<T>& c, const PlanarPlan& plan, PlanarTile<T> tile, std::int64_t image,
                        std::int64_t r0, std::int64_t rows, T* planes) {
  T* const y = c.out + (image * c.rows.out + r0) * c.columns.out * c.out_channels;
  const T* const out = planar_rows(c, plan, tile, image, r0, rows, planes, y);
  for (std::int64_t r = 0; r < rows; ++r)
    planes_to_pixels(out + r * plan.out_row(kLanes<T>), plan.out_plane, c.out_channels, c.columns.out,
                     y + r * c.columns.out * c.out_channels, r + 1 < rows);
}

template <class T>
static void planar_prepare(OpCall& call, const Conv<T>& c, double ns) {
  const PlanarPlan plan = planar_plan(c);
  const std::int64_t terms = c.terms();
  call.phases = 2;
  call.phase[0] = Phase{1, 1, 1.5 * static_cast<double>(terms * c.out_channels)};
  call.phase[1] = Phase{c.images * c.rows.out, smaller(plan.band, 16), ns};
  call.scratch_bytes = plan.notes + terms * 8 + terms * c.out_channels * static_cast<std::int64_t>(sizeof(T));
  call.local_bytes = planar_bytes(c, plan);
}

// What phase 0 leaves behind for all bands.
template <class T>
struct PlanarFilters {
  std::int64_t* notes;
  std::int64_t* at;
  T* w;

  PFN_ALWAYS_INLINE PlanarFilters(const OpCall& call, const Conv<T>& c, const PlanarPlan& plan) {
    notes = static_cast<std::int64_t*>(call.scratch);
    at = reinterpret_cast<std::int64_t*>(static_cast<char*>(call.scratch) + plan.notes);
    w = reinterpret_cast<T*>(at + c.terms());
  }
  PFN_ALWAYS_INLINE PlanarTile<T> tile(const Conv<T>& c, const PlanarPlan& plan) const {
    const std::int64_t terms = plan.shared ? c.in_channels * c.columns.kernel : c.terms();
    return PlanarTile<T>{terms, at, w, c.bias, plan.out_plane, nullptr, nullptr};
  }
};

template <class T>
static void planar_pack(const Conv<T>& c, const PlanarPlan& plan, const PlanarFilters<T>& to) {
  const std::int64_t kh = c.rows.kernel;
  const std::int64_t kw = c.columns.kernel;
  for (std::int64_t k = 0; k < c.in_channels; ++k)
    for (std::int64_t ky = 0; ky < kh; ++ky)
      for (std::int64_t kx = 0; kx < kw; ++kx) {
        const std::int64_t term = plan.shared ? (k * kw + kx) * kh + ky : (k * kh + ky) * kw + kx;
        if (!plan.shared) to.at[term] = k * plan.plane + plan.shift + ky * plan.ay.apart * plan.ld + kx * plan.ax.apart;
        if (plan.shared && ky == 0) to.at[k * kw + kx] = k * plan.plane + plan.shift + kx * plan.ax.apart;
        const T* const from = c.filter(ky, kx, 0) + k * c.filter_in_step();
        for (std::int64_t f = 0; f < c.out_channels; ++f)
          to.w[term * c.out_channels + f] = from[f * c.filter_out_step()];
      }
  note_nonfinite(c, 0, 1, to.notes);
}

template <class T>
static void planar_run(const OpCall& call, const Conv<T>& c, int phase, std::int64_t begin, std::int64_t end,
                       void* local) {
  const PlanarPlan plan = planar_plan(c);
  const PlanarFilters<T> filters(call, c, plan);
  if (phase == 0) return planar_pack(c, plan, filters);
  const bool exact = any_noted(filters.notes, 1);
  const PlanarTile<T> tile = filters.tile(c, plan);
  if (!exact) clear_planes(c, plan, static_cast<T*>(local));
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t image = i / c.rows.out;
    const std::int64_t r0 = i - image * c.rows.out;
    const std::int64_t rows = smaller(c.rows.out - r0, smaller(exact ? 1 : plan.band, end - i));
    if (exact)
      conv_exact(c, image, r0);
    else
      planar_band(c, plan, tile, image, r0, rows, static_cast<T*>(local));
    i += rows;
  }
}

}  // namespace pfn::PFN_ISA
