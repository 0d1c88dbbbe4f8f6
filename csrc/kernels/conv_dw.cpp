// The gradient of convolution weights. Images are NHWC, weights (kernel_h, kernel_w, channels / groups, filters).
//
//   dw[i, j, c, f] = sum over n, p, q of  x[n, p * stride_h + i * dilation_h - top,
//                                              q * stride_w + j * dilation_w - left, g * C + c] * dy[n, p, q, f]
//
// where g is the group of filter f and x is 0 outside the image. No matrix of windows is built: the rows of x are read
// as they lie, or from a copy with zeros around them, block by block of images that fits the second-level cache. For
// each tap (a row of the kernel; each of its cells where dilation or groups pull them apart) the values of x under a
// pixel are one run in memory, and a tile of run by filters is kept in registers over the whole block
// (conv_dw_tiles.hpp). Lanes are filters, unless the run fills them better: then sums are kept transposed.
//
// Order of a sum: within a chunk a chain over the pixels of a block in order, then the blocks in order, then the chunks
// in order (conv_dw_shape.hpp). |error| <= (k + 2) u sum |x| |dy| for k pixels (generic: k + 3). NaN and Inf follow
// IEEE arithmetic, except that a padded cell counts as 0 or not at all: where dy is not finite there, dw may be NaN or
// not. Source: Rumelhart, Hinton and Williams 1986; LeCun et al. 1989 (convolution).
#include "kernels/conv_dw_shape.hpp"
#include "kernels/conv_dw_tiles.hpp"

namespace pfn::PFN_ISA {

template <class T>
static double dw_cost(const DwShape& s) {
  const double macs = static_cast<double>(s.n * s.out_h * s.out_w) * static_cast<double>(s.rows * s.group_f * s.groups);
  return macs / (3.0 * static_cast<double>(kLanes<T>));
}

template <class T>
static DwShape dw_shape(const OpCall& call) {
  constexpr std::int64_t lanes = kLanes<T>;
  const auto attr = [&](int a) { return static_cast<std::int64_t>(call.attr[a]); };
  DwShape s{};
  const View& x = call.in[0];
  const View& dy = call.in[1];
  s.n = x.shape[0], s.h = x.shape[1], s.w = x.shape[2], s.c = x.shape[3];
  s.out_h = dy.shape[1], s.out_w = dy.shape[2], s.f = dy.shape[3];
  s.stride_h = attr(0), s.stride_w = attr(1), s.top = attr(2), s.left = attr(4);
  s.dilation_h = attr(6), s.dilation_w = attr(7), s.groups = attr(8), s.kernel_h = attr(9), s.kernel_w = attr(10);
  s.group_c = s.c / s.groups, s.group_f = s.f / s.groups;
  s.rows = s.kernel_h * s.kernel_w * s.group_c;
  if (s.n * s.out_h * s.out_w * s.rows * s.f == 0 || s.c % s.groups != 0 || s.f % s.groups != 0) {
    s.chunks = s.parts = 1;  // no blocks: nothing is summed
    return s;
  }
  const bool merged = s.groups == 1 && (s.dilation_w == 1 || s.kernel_w == 1);
  s.taps = merged ? s.kernel_h : s.kernel_h * s.kernel_w;
  s.run = merged ? s.kernel_w * s.group_c : s.group_c;
  s.run_vectors = dw_ceil(s.run, lanes);
  s.pad_h = (s.out_h - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1;
  s.pad_w = (s.out_w - 1) * s.stride_w + (s.kernel_w - 1) * s.dilation_w + 1;
  const bool inside = s.top == 0 && s.left == 0 && s.pad_h <= s.h && s.pad_w <= s.w;
  const std::int64_t tail = s.group_f % lanes, vectors = s.group_f / lanes;

  if (s.group_c == 1 && s.group_f == 1 && s.groups > 1) {
    s.form = DwForm::depth;
    s.copy = !inside;
    s.taps = s.kernel_h * s.kernel_w, s.run = 1;
    s.tap_groups = dw_ceil(s.taps, kDwDepthTaps);
    s.panels = dw_ceil(s.f, lanes);
    s.sums = s.rows * s.f;
  } else {
    // Vector operations of a pixel. A last vector of which half the lanes are enough costs less.
    const bool half = kMasksTail && vectors == 0 && tail <= lanes / 2;
    const double by_filters = static_cast<double>(s.run) * (half ? 0.75 : static_cast<double>(vectors + (tail > 0)));
    const double by_runs = static_cast<double>(s.group_f * s.run_vectors);
    s.form = by_runs < 0.9 * by_filters ? DwForm::runs : DwForm::filters;
    s.copy = !inside || s.form == DwForm::runs;
    if (s.form == DwForm::filters) {
      s.pack = !kMasksTail && tail > 0;
      const std::int64_t wide = s.pack ? vectors : dw_ceil(s.group_f, lanes);
      s.panels = s.groups * (dw_ceil(wide, kDwVectors) + (s.pack ? 1 : 0));
      s.joint = merged ? dw_joint_taps(s.taps, dw_min(dw_max(wide, 1), kDwVectors), s.run) : 1;
      s.tap_groups = dw_ceil(s.taps, s.joint);
      s.sums = s.rows * s.f;
    } else {
      const std::int64_t most = dw_min(dw_ceil(s.group_f, dw_ceil(s.group_f, kDwRunFilters)), kDwRunFilters);
      s.joint = dw_run_vectors(static_cast<int>(most));
      s.tap_groups = dw_ceil(s.taps * s.run_vectors, s.joint);
      s.panels = s.groups * dw_ceil(s.group_f, most);
      s.sums = s.taps * s.f * s.run_vectors * lanes;
    }
  }

  dw_deal(s, sizeof(T), s.tap_groups * s.panels, dw_cost<T>(s));
  if (s.pack) s.dy_items = s.images * s.band * s.out_w * lanes;
  return s;
}

template <class T>
static void conv2d_dw_prepare(OpCall& call) {
  const DwShape s = dw_shape<T>(call);
  dw_phases<T>(call, s, dw_cost<T>(s));
}

// Copies `count` columns of the block's dy, padded with zeros to a vector.
template <class T>
static void dw_pack(const DwShape& s, const DwBlock& b, const T* dy, std::int64_t count, T* packed) {
  for (std::int64_t i = 0; i < b.images; ++i) {
    const T* p = dy + i * s.out_h * s.out_w * s.f;
    for (std::int64_t pixel = 0; pixel < (b.last - b.first) * s.out_w; ++pixel, p += s.f, packed += kLanes<T>)
      store<T>(packed, load_partial(p, count));
  }
}

// Where a block's x and dy are.
template <class T>
struct DwData {
  const T* x;  // of the block's first output row
  const T* dy;
  std::int64_t line;  // items from one row of x to the next
  DwPixels at;
};

template <class T>
static DwData<T> dw_data(const DwShape& s, const DwBlock& b, const T* x, const T* dy, const T* copy) {
  DwData<T> d;
  const std::int64_t rows = b.last - b.first;
  if (s.copy) {
    d.line = s.pad_w * s.c;
    d.at.x_image = ((rows - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1) * d.line;
    d.x = copy;
  } else {
    d.line = s.w * s.c;
    d.at.x_image = s.h * d.line;
    d.x = x + b.image * d.at.x_image + b.first * s.stride_h * d.line;
  }
  d.at.images = b.images, d.at.rows = rows, d.at.width = s.out_w;
  d.at.x_row = s.stride_h * d.line, d.at.x_pixel = s.stride_w * s.c;
  d.at.dy_pixel = s.f, d.at.dy_row = s.out_w * s.f, d.at.dy_image = s.out_h * d.at.dy_row;
  d.dy = dy + (b.image * s.out_h + b.first) * d.at.dy_row;
  return d;
}

// Rows and images that follow each other evenly are one long row: short ones cost more.
static inline void dw_join(DwPixels& at) {
  if (at.x_row != at.width * at.x_pixel || at.dy_row != at.width * at.dy_pixel) return;
  at.width *= at.rows;
  at.rows = 1;
  if (at.x_image != at.width * at.x_pixel || at.dy_image != at.width * at.dy_pixel) return;
  at.width *= at.images;
  at.images = 1;
}

static inline std::int64_t dw_tap_row(const DwShape& s, std::int64_t tap) {
  return tap / (s.taps / s.kernel_h) * s.dilation_h;
}
template <class T>
static inline std::int64_t dw_tap_offset(const DwShape& s, const DwData<T>& d, std::int64_t tap) {
  return dw_tap_row(s, tap) * d.line + tap % (s.taps / s.kernel_h) * s.dilation_w * s.c;
}

// One tap group of one panel of filters.
template <class T>
static void dw_filters(const DwShape& s, const DwBlock& b, const DwData<T>& d, std::int64_t panel, std::int64_t group,
                       T* packed, bool repack, T* sums, bool add) {
  constexpr std::int64_t lanes = kLanes<T>;
  const std::int64_t per_group = s.panels / s.groups, g = panel / per_group, k = panel % per_group;
  const std::int64_t wide_panels = per_group - (s.pack ? 1 : 0);
  const std::int64_t wide = s.pack ? s.group_f / lanes : dw_ceil(s.group_f, lanes);
  DwTile<T> t;
  t.at = d.at;
  t.dy = d.dy;
  std::int64_t nv = 1, f = wide * lanes;
  if (k < wide_panels) {
    f = k * wide / wide_panels * lanes;
    nv = (k + 1) * wide / wide_panels - f / lanes;
    t.last_count = dw_min(lanes, s.group_f - f - (nv - 1) * lanes);
    t.dy += g * s.group_f + f;
  } else {
    t.last_count = s.group_f - f;
    if (repack) dw_pack(s, b, d.dy + g * s.group_f + f, t.last_count, packed);
    t.dy = packed;
    t.at.dy_pixel = lanes, t.at.dy_row = lanes * s.out_w, t.at.dy_image = t.at.dy_row * t.at.rows;
  }
  f += g * s.group_f;
  const bool half = kMasksTail && nv == 1 && t.last_count <= lanes / 2;
  t.ld = s.f;
  t.joint_sums = s.run * s.f;
  t.joint_x = s.dilation_h * d.line;
  t.add = add;
  const std::int64_t end = dw_min(s.taps, (group + 1) * s.joint);
  const DwPixels whole = t.at;
  const T* const dy = t.dy;
  for (std::int64_t tap = group * s.joint; tap < end;) {
    const std::int64_t joint = s.joint > 1 ? dw_joint_taps(end - tap, nv, s.run) : 1;
    const T* x = d.x + dw_tap_offset(s, d, tap) + g * s.group_c;
    T* const p = sums + tap * t.joint_sums + f;
    t.at = whole, t.dy = dy;
    if (joint > 1) {
      dw_join(t.at);
      t.x = x;
      t.sums = p;
      find_dw_joint<T>(joint, nv, half, s.run)(t);
    } else {
      // Rows of the block under which this tap is inside the image; the others would add zeros.
      const std::int64_t off = dw_tap_row(s, tap) - s.top;
      const std::int64_t first = dw_max(b.first, off < 0 ? dw_ceil(-off, s.stride_h) : 0);
      const std::int64_t last = off < s.h ? dw_min(b.last, (s.h - 1 - off) / s.stride_h + 1) : first;
      t.at.rows = dw_max(0, last - first);
      x += (first - b.first) * t.at.x_row;
      t.dy += (first - b.first) * t.at.dy_row;
      dw_join(t.at);
      const std::int64_t tiles = dw_ceil(s.run, kDwRows[nv - 1]);
      for (std::int64_t k0 = 0; k0 < tiles; ++k0) {
        const std::int64_t m = k0 * s.run / tiles, rows = (k0 + 1) * s.run / tiles - m;
        t.x = x + m;
        t.sums = p + m * s.f;
        find_dw_filter<T>(nv, half, rows)(t);
      }
    }
    tap += joint;
  }
}

// A few vectors of runs for a few filters.
template <class T>
static void dw_runs(const DwShape& s, const DwData<T>& d, std::int64_t panel, std::int64_t group, T* sums, bool add) {
  const std::int64_t per_group = s.panels / s.groups, g = panel / per_group, k = panel % per_group;
  const std::int64_t f = k * s.group_f / per_group, filters = (k + 1) * s.group_f / per_group - f;
  const std::int64_t all = s.taps * s.run_vectors;
  const std::int64_t v0 = group * all / s.tap_groups, vectors = (group + 1) * all / s.tap_groups - v0;
  DwTile<T> t;
  t.at = d.at;
  t.x = d.x + g * s.group_c;
  t.dy = d.dy + g * s.group_f + f;
  t.ld = s.run_vectors * kLanes<T>;
  t.sums = sums + (g * s.group_f + f) * t.ld;
  t.add = add;
  for (std::int64_t v = 0; v < vectors; ++v) {
    const std::int64_t tap = (v0 + v) / s.run_vectors, lane = (v0 + v) % s.run_vectors * kLanes<T>;
    t.x_offset[v] = dw_tap_offset(s, d, tap) + lane;
    t.sums_offset[v] = tap * s.f * t.ld + lane;
  }
  dw_join(t.at);
  find_dw_run<T>(filters, vectors)(t);
}

// A vector of channels, each its own filter.
template <class T>
static void dw_depth(const DwShape& s, const DwData<T>& d, std::int64_t panel, std::int64_t group, T* sums, bool add) {
  const std::int64_t f = panel * kLanes<T>;
  const std::int64_t tap = group * s.taps / s.tap_groups, taps = (group + 1) * s.taps / s.tap_groups - tap;
  DwTile<T> t;
  t.at = d.at;
  t.x = d.x + f;
  t.dy = d.dy + f;
  t.ld = s.f;
  t.sums = sums + tap * s.f + f;
  t.add = add;
  t.last_count = dw_min(kLanes<T>, s.f - f);
  for (std::int64_t v = 0; v < taps; ++v) t.x_offset[v] = dw_tap_offset(s, d, tap + v);
  dw_join(t.at);
  find_dw_depth<T>(taps, t.last_count == kLanes<T>)(t);
}

template <class T>
static void dw_piece(const DwShape& s, const OpCall& call, std::int64_t chunk, std::int64_t part, T* sums, T* local) {
  T* const copy = local;
  T* const packed = local + s.x_items;
  const std::int64_t units = s.panels * s.tap_groups;
  const std::int64_t first = chunk * s.blocks / s.chunks, last = (chunk + 1) * s.blocks / s.chunks;
  for (std::int64_t block = first; block < last; ++block) {
    const DwBlock b = dw_block(s, block);
    if (s.copy) dw_copy(s, b, call.in[0].as<const T>(), copy);
    const DwData<T> d = dw_data(s, b, call.in[0].as<const T>(), call.in[1].as<const T>(), copy);
    std::int64_t before = -1;
    for (std::int64_t unit = part * units / s.parts; unit < (part + 1) * units / s.parts; ++unit) {
      const std::int64_t panel = unit / s.tap_groups, group = unit % s.tap_groups;
      const bool add = block > first;
      if (s.form == DwForm::filters)
        dw_filters(s, b, d, panel, group, packed, panel != before, sums, add);
      else if (s.form == DwForm::runs)
        dw_runs(s, d, panel, group, sums, add);
      else
        dw_depth(s, d, panel, group, sums, add);
      before = panel;
    }
  }
}

template <class T>
static void conv2d_dw_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const DwShape s = dw_shape<T>(call);
  T* const dw = call.out[0].as<T>();
  if (phase == 1) return dw_add_chunks(s, static_cast<const T*>(call.scratch), begin, end, dw);
  if (s.blocks == 0) {
    __builtin_memset(dw, 0, static_cast<std::size_t>(call.out[0].size()) * sizeof(T));
    return;
  }
  for (std::int64_t piece = begin; piece < end; ++piece) {
    const std::int64_t chunk = piece / s.parts;
    T* const sums = call.phases == 1 ? dw : static_cast<T*>(call.scratch) + chunk * s.sums;
    dw_piece(s, call, chunk, piece % s.parts, sums, static_cast<T*>(local));
  }
}
PFN_KERNEL(conv2d_dw, conv2d_dw_prepare, conv2d_dw_run);

}  // namespace pfn::PFN_ISA
