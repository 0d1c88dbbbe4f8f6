// The geometry of a two-dimensional correlation along one axis, in one form for the convolution and its input gradient.
//
// Output positions of a class lie at first + t * step, t = 0 .. count - 1; tap j of the filter meets there the source
// position  from + t * stride + j * apart,  and has the filter row (or column)  tap + j * taps_apart  of the packed
// filters. Positions outside the source add nothing.
//
//   forward   one class: t is the output position, stride that of the convolution, from = -padding, apart = dilation
//   dx        `stride` classes of neighbouring positions of dx: each meets only every (stride / gcd)-th tap, from last
//             to first, at neighbouring positions of dy. Filters are packed flipped, so taps ascend here too.
#pragma once
#include "kernels/conv_tile.hpp"

namespace pfn::PFN_ISA {

struct ConvAxis {
  std::int64_t count;            // output positions
  std::int64_t first, step;      // where they lie
  std::int64_t from, stride;     // the source under the first tap
  std::int64_t taps, apart;      // taps met, and how far apart they lie in the source
  std::int64_t tap, taps_apart;  // their rows in the packed filters
};

// The sizes of one axis of the op.
struct ConvSizes {
  std::int64_t out, source, kernel, stride, padding, dilation;
};

static inline ConvAxis forward_axis(const ConvSizes& s) {
  return ConvAxis{s.out, 0, 1, -s.padding, s.stride, s.kernel, s.dilation, 0, 1};
}

// Positions of dx with remainder r: y[t'] reads x[t' * stride - padding + k * dilation].
static inline ConvAxis backward_axis(const ConvSizes& s, std::int64_t r) {
  ConvAxis a{r < s.out ? (s.out - r + s.stride - 1) / s.stride : 0, r, s.stride, 0, 1, 0, 1, 0, 1};
  const std::int64_t shifted = r + s.padding;
  std::int64_t k0 = 0;
  const std::int64_t tried = smaller(s.kernel, s.stride);
  while (k0 < tried && (shifted - k0 * s.dilation) % s.stride != 0) ++k0;
  if (k0 >= tried) return a;
  std::int64_t gcd = s.stride, rest = s.dilation % s.stride;
  while (rest != 0) {
    const std::int64_t next = gcd % rest;
    gcd = rest;
    rest = next;
  }
  const std::int64_t every = s.stride / gcd;
  a.taps = (s.kernel - 1 - k0) / every + 1;
  const std::int64_t last = k0 + (a.taps - 1) * every;
  a.from = (shifted - last * s.dilation) / s.stride;
  a.apart = every * s.dilation / s.stride;
  a.tap = s.kernel - 1 - last;
  a.taps_apart = every;
  return a;
}

// Taps [first, end) of an axis that lie inside the source for output position t.
struct TapRange {
  std::int64_t first, end;
};
static inline TapRange taps_inside(const ConvAxis& a, std::int64_t source, std::int64_t t) {
  const std::int64_t at = a.from + t * a.stride;
  if (at >= 0 && at + (a.taps - 1) * a.apart < source) return TapRange{0, a.taps};
  const std::int64_t first = at >= 0 ? 0 : (-at + a.apart - 1) / a.apart;
  const std::int64_t end = at >= source ? 0 : smaller(a.taps, (source - 1 - at) / a.apart + 1);
  return first < end ? TapRange{first, end} : TapRange{0, 0};
}

// A whole call: two axes, channels in groups, arrays.
template <class T>
struct Conv {
  const T* source;   // [images, rows.source, columns.source, groups * in]
  const T* filters;  // [rows.kernel, columns.kernel, in_features of the op / groups, out_features of the op]
  const T* bias;     // groups * out entries or null
  T* out;            // [images, rows.out, columns.out, groups * out]
  std::int64_t images;
  ConvSizes rows, columns;
  std::int64_t groups, in_channels, out_channels;  // channels of one group
  bool backward;

  PFN_ALWAYS_INLINE std::int64_t source_channels() const { return groups * in_channels; }
  PFN_ALWAYS_INLINE std::int64_t all_channels() const { return groups * out_channels; }
  PFN_ALWAYS_INLINE std::int64_t terms() const { return rows.kernel * columns.kernel * in_channels; }
  PFN_ALWAYS_INLINE std::int64_t row_classes() const { return backward ? smaller(rows.stride, rows.out) : 1; }
  PFN_ALWAYS_INLINE std::int64_t column_classes() const { return backward ? smaller(columns.stride, columns.out) : 1; }
  PFN_ALWAYS_INLINE ConvAxis row_axis(std::int64_t r) const {
    return backward ? backward_axis(rows, r) : forward_axis(rows);
  }
  PFN_ALWAYS_INLINE ConvAxis column_axis(std::int64_t r) const {
    return backward ? backward_axis(columns, r) : forward_axis(columns);
  }
  PFN_ALWAYS_INLINE std::int64_t filter_items() const {
    return rows.kernel * columns.kernel * in_channels * out_channels * groups;
  }
  // Filter entries of source channel 0 and output channel 0 of a group for a tap counted in packed order, and how far
  // apart the next source and output channels lie.
  PFN_ALWAYS_INLINE const T* filter(std::int64_t ky, std::int64_t kx, std::int64_t group) const {
    if (backward) {
      const std::int64_t tap = (rows.kernel - 1 - ky) * columns.kernel + columns.kernel - 1 - kx;
      return filters + tap * out_channels * source_channels() + group * in_channels;
    }
    return filters + (ky * columns.kernel + kx) * in_channels * all_channels() + group * out_channels;
  }
  PFN_ALWAYS_INLINE std::int64_t filter_in_step() const { return backward ? 1 : all_channels(); }
  PFN_ALWAYS_INLINE std::int64_t filter_out_step() const { return backward ? source_channels() : 1; }
};

// Source positions that the classes of an axis may read before and behind the source.
struct Margins {
  std::int64_t before, behind;
};
static inline Margins margins(const ConvSizes& s, bool backward) {
  Margins m{0, 0};
  const std::int64_t classes = backward ? smaller(s.stride, s.out) : 1;
  for (std::int64_t r = 0; r < classes; ++r) {
    const ConvAxis a = backward ? backward_axis(s, r) : forward_axis(s);
    if (a.count == 0 || a.taps == 0) continue;
    const std::int64_t last = a.from + (a.count - 1) * a.stride + (a.taps - 1) * a.apart;
    m.before = larger(m.before, -a.from);
    m.behind = larger(m.behind, last + 1 - s.source);
  }
  return m;
}

// Source rows [first, end), inside the image, that output rows [r0, r1) read.
struct RowSpan {
  std::int64_t first, end;
};
template <class T>
static inline RowSpan rows_read(const Conv<T>& c, std::int64_t r0, std::int64_t r1) {
  RowSpan span{c.rows.source, 0};
  const std::int64_t classes = c.row_classes();
  for (std::int64_t r = 0; r < classes; ++r) {
    const ConvAxis a = c.row_axis(r);
    const std::int64_t t0 = larger(0, (r0 - a.first + a.step - 1) / a.step);
    const std::int64_t t1 = smaller(a.count, r1 - a.first > 0 ? (r1 - a.first - 1) / a.step + 1 : 0);
    if (t0 >= t1 || a.taps == 0) continue;
    span.first = smaller(span.first, larger(0, a.from + t0 * a.stride));
    span.end = larger(span.end, smaller(c.rows.source, a.from + (t1 - 1) * a.stride + (a.taps - 1) * a.apart + 1));
  }
  return span.first < span.end ? span : RowSpan{0, 0};
}

}  // namespace pfn::PFN_ISA
