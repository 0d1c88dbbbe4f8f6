// A convolution and the max pool of touching 2 x 2 windows behind it, band by band of rows: what the convolution gives
// stays in the workspace of the thread, only the largest values and their cells are written.
//
// Bands are cut and computed as in conv_planar.hpp and conv_lanes.hpp, which never changes a bit; a row without a
// window is not computed. Planes are pooled as they are, pixels in the lanes (AVX-512: tile by tile, in registers), and
// a quarter of the work is left to bring them to channels last. The cells of kTogether rows of windows travel in the
// bytes of one number.
#pragma once
#include "kernels/conv_depth.hpp"
#include "kernels/conv_planar.hpp"
#include "kernels/pool_best.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kPooledBandBytes = 16 << 10;  // of the convolution's output, where it is channels last
constexpr std::int64_t kTogether = 4;                // rows of windows whose cells share a number

template <class T>
struct PooledConv {
  Conv<T> conv;                // conv.out is set where it is needed
  std::int64_t rows, columns;  // of windows
  T* y;
  std::uint8_t* index;

  PFN_ALWAYS_INLINE std::int64_t row_items() const { return columns * conv.all_channels(); }
  PFN_ALWAYS_INLINE std::int64_t conv_row_items() const { return conv.columns.out * conv.all_channels(); }
  // The convolution such that its row r0 of the image lies at `band`.
  PFN_ALWAYS_INLINE Conv<T> into(T* band, std::int64_t image, std::int64_t r0) const {
    Conv<T> c = conv;
    c.out = band - (image * c.rows.out + r0) * conv_row_items();
    return c;
  }
};

// Rows of windows from the rows of the convolution, channels last.
template <class T>
static void pool_pixels(const PooledConv<T>& p, const T* band, std::int64_t rows, T* y, std::uint8_t* index) {
  PoolShape s{};
  s.w = p.conv.columns.out, s.c = p.conv.all_channels(), s.out_w = p.columns;
  for (std::int64_t r = 0; r < rows; ++r)
    halve_row(s, band + 2 * r * p.conv_row_items(), y + r * p.row_items(), index + r * p.row_items());
}

// Row r of windows of an image where weights are not finite.
template <class T>
static void pooled_exact(const PooledConv<T>& p, std::int64_t image, std::int64_t r, T* band, T* y,
                         std::uint8_t* index) {
  const Conv<T> c = p.into(band, image, 2 * r);
  conv_exact(c, image, 2 * r);
  conv_exact(c, image, 2 * r + 1);
  pool_pixels(p, band, 1, y, index);
}

template <class T, int... I>
static PFN_ALWAYS_INLINE Vec<T> even_lanes(Vec<T> a, Vec<T> b, LaneList<I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...);
}
template <class T, int... I>
static PFN_ALWAYS_INLINE Vec<T> odd_lanes(Vec<T> a, Vec<T> b, LaneList<I...>) {
  return __builtin_shufflevector(a, b, (2 * I + 1)...);
}

// A vector of windows: their upper pixels in a and b, the lower in c and d.
template <class T>
static PFN_ALWAYS_INLINE Best<T> pool_pair(Vec<T> a, Vec<T> b, Vec<T> c, Vec<T> d) {
  const typename LanesUpTo<static_cast<int>(kLanes<T>)>::type all{};
  const Codes<T> zero = {};
  Best<T> best{even_lanes<T>(a, b, all), zero}, low{even_lanes<T>(c, d, all), zero + 2};
  take(best, odd_lanes<T>(a, b, all), zero + 1);
  take(low, odd_lanes<T>(c, d, all), zero + 3);
  take(best, low.value, low.code);
  return best;
}

// Sizes of the workspace of pool_planes, in entries.
template <class T>
struct PoolPlanes {
  std::int64_t wide;                // entries of a row of windows in a plane
  std::int64_t values, codes, row;  // planes of values and of cells, cells of one row channels last

  PFN_ALWAYS_INLINE explicit PoolPlanes(const PooledConv<T>& p) {
    constexpr std::int64_t lanes = kLanes<T>;
    wide = div_up(p.columns, lanes) * lanes;
    values = p.conv.out_channels * kTogether * wide;
    codes = p.conv.out_channels * wide;
    row = div_up(p.row_items(), lanes) * lanes;
  }
  PFN_ALWAYS_INLINE std::int64_t items() const { return values + codes + row; }
};

// Rows [first, first + count) of windows, count <= kTogether, from planes of values and of cells.
template <class T>
static void windows_to_pixels(const PooledConv<T>& p, const PoolPlanes<T>& sizes, std::int64_t first,
                              std::int64_t count, std::int64_t rows, T* values, T* y, std::uint8_t* index) {
  const std::int64_t channels = p.conv.out_channels, items = p.row_items();
  T* const codes = values + sizes.values;
  T* const code_row = codes + sizes.codes;
  for (std::int64_t i = 0; i < count; ++i)
    planes_to_pixels(values + i * sizes.wide, kTogether * sizes.wide, channels, p.columns, y + (first + i) * items,
                     first + i + 1 < rows);
  planes_to_pixels(codes, sizes.wide, channels, p.columns, code_row, false);
  for_channels<T>(items, [&](std::int64_t j, auto extent) {
    const auto packed = (Codes<T>)load<T>(code_row + j);
    for (std::int64_t i = 0; i < count; ++i)
      store_codes<T>(index + (first + i) * items + j, packed >> static_cast<Code<T>>(8 * i), extent);
  });
}

// Rows of windows from planes of the convolution, whose rows are out_row entries apart.
template <class T>
static void pool_planes(const PooledConv<T>& p, const T* out, std::int64_t out_plane, std::int64_t out_row,
                        std::int64_t rows, T* values, T* y, std::uint8_t* index) {
  constexpr std::int64_t lanes = kLanes<T>;
  const PoolPlanes<T> sizes(p);
  T* const codes = values + sizes.values;
  for (std::int64_t first = 0; first < rows; first += kTogether) {
    const std::int64_t count = smaller(kTogether, rows - first);
    for (std::int64_t k = 0; k < p.conv.out_channels; ++k)
      for (std::int64_t q = 0; q < sizes.wide; q += lanes) {
        const T* const top = out + k * out_plane + 2 * first * out_row + 2 * q;
        Codes<T> packed = {};
        for (std::int64_t i = 0; i < count; ++i) {
          const T* const at = top + 2 * i * out_row;
          const Best<T> best =
              pool_pair<T>(load<T>(at), load<T>(at + lanes), load<T>(at + out_row), load<T>(at + out_row + lanes));
          store<T>(values + (k * kTogether + i) * sizes.wide + q, best.value);
          packed |= best.code << static_cast<Code<T>>(8 * i);
        }
        store<T>(codes + k * sizes.wide + q, (Vec<T>)packed);
      }
    windows_to_pixels(p, sizes, first, count, rows, values, y, index);
  }
}

#if defined(PFN_ISA_AVX512)
// Tiles of two rows by two vectors of pixels that pool in registers.
constexpr bool kPoolsInTiles = true;
template <class T>
using PoolTileFn = void (*)(const PlanarTile<T>& t, const T* planes, std::int64_t ld, T* values, std::int64_t plane,
                            T* codes, std::int64_t wide, std::int64_t i);

// Row i of kTogether rows of windows: their values, planes apart, and their cells, which join those of the rows before.
template <class T, int F>
static void pool_tile(const PlanarTile<T>& t, const T* planes, std::int64_t ld, T* values, std::int64_t plane, T* codes,
                      std::int64_t wide, std::int64_t i) {
  constexpr std::int64_t lanes = kLanes<T>;
  Vec<T> acc[F][4];
#pragma GCC unroll 8
  for (int f = 0; f < F; ++f) {
    const Vec<T> b = splat(t.bias ? t.bias[f] : T(0));
#pragma GCC unroll 8
    for (int v = 0; v < 4; ++v) acc[f][v] = b;
  }
  const T* w = t.w;
  for (std::int64_t k = 0; k < t.terms; ++k, w += F) {
    const T* const p = planes + t.at[k];
    t.template fetch<1>(k);
    const Vec<T> x[4] = {load<T>(p), load<T>(p + lanes), load<T>(p + ld), load<T>(p + ld + lanes)};
#pragma GCC unroll 8
    for (int f = 0; f < F; ++f) {
      const Vec<T> wf = splat(w[f]);
#pragma GCC unroll 8
      for (int v = 0; v < 4; ++v) acc[f][v] = fma(wf, x[v], acc[f][v]);
    }
  }
  const auto shift = static_cast<Code<T>>(8 * i);
#pragma GCC unroll 8
  for (int f = 0; f < F; ++f) {
    const Best<T> best = pool_pair<T>(acc[f][0], acc[f][1], acc[f][2], acc[f][3]);
    store<T>(values + f * plane, best.value);
    Codes<T> joined = best.code << shift;
    if (i > 0) joined |= (Codes<T>)load<T>(codes + f * wide);
    store<T>(codes + f * wide, (Vec<T>)joined);
  }
}

template <class T, int... F>
static PoolTileFn<T> find_pool_tile(std::int64_t channels, LaneList<F...>) {
  static constexpr PoolTileFn<T> fn[] = {pool_tile<T, F + 1>...};
  return fn[channels - 1];
}

// Rows of windows from planes of the source: what the convolution gives stays in registers.
template <class T>
static void pool_tiles(const PooledConv<T>& p, const PlanarPlan& plan, PlanarTile<T> tile, const T* planes,
                       std::int64_t rows, T* values, T* y, std::uint8_t* index) {
  constexpr std::int64_t lanes = kLanes<T>;
  const PoolPlanes<T> sizes(p);
  const PoolTileFn<T> fn = find_pool_tile<T>(p.conv.out_channels, typename LanesUpTo<kPlanarChannels>::type{});
  for (std::int64_t first = 0; first < rows; first += kTogether) {
    const std::int64_t count = smaller(kTogether, rows - first);
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t q = 0; q < sizes.wide; q += lanes) {
        fn(tile, planes + 2 * (first + i) * plan.ld + 2 * q, plan.ld, values + i * sizes.wide + q,
           kTogether * sizes.wide, values + sizes.values + q, sizes.wide, i);
        tile.advance(1);
      }
    windows_to_pixels(p, sizes, first, count, rows, values, y, index);
  }
}
#else
constexpr bool kPoolsInTiles = false;
template <class T>
static void pool_tiles(const PooledConv<T>&, const PlanarPlan&, PlanarTile<T>, const T*, std::int64_t, T*, T*,
                       std::uint8_t*) {}
#endif

// Whether tiles pool: two rows of two vectors give a vector of windows.
static inline bool pools_in_tiles(const PlanarPlan& plan) {
  return kPoolsInTiles && plan.whole_rows && !plan.shared && plan.vectors % 2 == 0;
}

// As planar_plan, with bands of whole windows and planes that can be read two vectors at a time.
template <class T>
static PlanarPlan pooled_planar_plan(const PooledConv<T>& p) {
  constexpr std::int64_t lanes = kLanes<T>;
  PlanarPlan plan = planar_plan(p.conv);
  const bool in_tiles = pools_in_tiles(plan);
  size_band<T>(plan, larger(2, plan.band / 2 * 2));
  const std::int64_t read = (plan.band - 1) * plan.out_row(lanes) + 2 * PoolPlanes<T>(p).wide;
  plan.out_plane = in_tiles ? 0 : larger(plan.out_plane, div_up(read, lanes) * lanes);
  return plan;
}

template <class T>
static void pooled_planar_prepare(OpCall& call, const PooledConv<T>& p, double ns) {
  constexpr std::int64_t item = static_cast<std::int64_t>(sizeof(T));
  const PlanarPlan plan = pooled_planar_plan(p);
  planar_prepare(call, p.conv, ns);
  call.phase[1] = Phase{p.conv.images * p.rows, smaller(plan.band, 16) / 2, ns};
  const std::int64_t planes = planar_bytes(p.conv, plan) + PoolPlanes<T>(p).items() * item;
  call.local_bytes = larger(planes, 2 * p.conv_row_items() * item);
}

template <class T>
static void pooled_planar_run(const OpCall& call, const PooledConv<T>& p, int phase, std::int64_t begin,
                              std::int64_t end, T* local) {
  const Conv<T>& c = p.conv;
  const PlanarPlan plan = pooled_planar_plan(p);
  const PlanarFilters<T> filters(call, c, plan);
  if (phase == 0) return planar_pack(c, plan, filters);
  const bool exact = any_noted(filters.notes, 1);
  const PlanarTile<T> tile = filters.tile(c, plan);
  T* const work = local + planar_bytes(c, plan) / static_cast<std::int64_t>(sizeof(T));
  if (!exact) clear_planes(c, plan, local);
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t image = i / p.rows;
    const std::int64_t r = i - image * p.rows;
    const std::int64_t rows = smaller(p.rows - r, smaller(exact ? 1 : plan.band / 2, end - i));
    T* const y = p.y + i * p.row_items();
    std::uint8_t* const index = p.index + i * p.row_items();
    if (exact) {
      pooled_exact(p, image, r, local, y, index);
    } else if (pools_in_tiles(plan)) {
      PlanarTile<T> first = tile;
      planar_source(c, plan, first, image, 2 * r, 2 * rows, local, y);
      pool_tiles(p, plan, first, local, rows, work, y, index);
    } else {
      const T* const out = planar_rows(c, plan, tile, image, 2 * r, 2 * rows, local, y);
      pool_planes(p, out, plan.out_plane, plan.out_row(kLanes<T>), rows, work, y, index);
    }
    i += rows;
  }
}

// As lanes_plan, with bands of whole windows whose output stays in the first-level cache.
template <class T>
static LanesPlan pooled_lanes_plan(const PooledConv<T>& p) {
  LanesPlan plan = lanes_plan(p.conv);
  const std::int64_t pair = 2 * p.conv_row_items() * static_cast<std::int64_t>(sizeof(T));
  plan.band = 2 * larger(1, smaller(plan.band / 2, kPooledBandBytes / larger(1, pair)));
  return plan;
}

// Entries of the rows of the source a band copies.
template <class T>
static std::int64_t copied_items(const Conv<T>& c, const LanesPlan& plan) {
  if (plan.width == 0) return 0;
  return div_up(band_source_rows(c, plan.band) * plan.width * c.source_channels(), kLanes<T>) * kLanes<T>;
}

template <class T>
static void pooled_lanes_prepare(OpCall& call, const PooledConv<T>& p, double ns) {
  const LanesPlan plan = pooled_lanes_plan(p);
  lanes_prepare(call, p.conv, ns);
  call.phase[1] = Phase{p.conv.images * p.rows, 1, ns};
  const std::int64_t items = copied_items(p.conv, plan) + plan.band * p.conv_row_items();
  call.local_bytes = items * static_cast<std::int64_t>(sizeof(T));
}

template <class T>
static void pooled_lanes_run(const OpCall& call, const PooledConv<T>& p, int phase, std::int64_t begin,
                             std::int64_t end, T* local) {
  const LanesPlan plan = pooled_lanes_plan(p);
  const LanesFilters<T> filters(call, plan);
  if (phase == 0) return lanes_pack(p.conv, plan, begin, end, filters);
  const bool exact = plan.width > 0 && any_noted(filters.notes, plan.panels);
  T* const band = local + copied_items(p.conv, plan);
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t image = i / p.rows;
    const std::int64_t r = i - image * p.rows;
    const std::int64_t rows = smaller(p.rows - r, smaller(exact ? 1 : plan.band / 2, end - i));
    T* const y = p.y + i * p.row_items();
    std::uint8_t* const index = p.index + i * p.row_items();
    if (exact) {
      pooled_exact(p, image, r, band, y, index);
    } else {
      lanes_band(p.into(band, image, 2 * r), plan, image, 2 * r, 2 * (r + rows), filters.packed, local);
      pool_pixels(p, band, rows, y, index);
    }
    i += rows;
  }
}

template <class T>
static void pooled_depth_prepare(OpCall& call, const PooledConv<T>& p, double ns) {
  call.phases = 1;
  call.phase[0] = Phase{p.conv.images * p.rows, 1, ns};
  call.local_bytes = 2 * p.conv_row_items() * static_cast<std::int64_t>(sizeof(T));
}
template <class T>
static void pooled_depth_run(const PooledConv<T>& p, std::int64_t begin, std::int64_t end, T* local) {
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t image = i / p.rows, row = i % p.rows * 2;
    const Conv<T> c = p.into(local, image, row);
    depth_row(c, image, row);
    depth_row(c, image, row + 1);
    pool_pixels(p, local, 1, p.y + i * p.row_items(), p.index + i * p.row_items());
  }
}

}  // namespace pfn::PFN_ISA
