// Two-dimensional convolution of images, channels last, and the gradient of its input.
//
//   conv2d_forward   y[n, i, j, o]  = b[o] + sum over ky, kx, c of
//                                     x[n, i * stride_h - top + ky * dilation_h, j * stride_w - left + kx * dilation_w,
//                                     c] * w[ky, kx, c, o]
//   conv2d_dx        dx[n, h, w, c] = sum of dy[n, i, j, o] * w[ky, kx, c, o] over all i, j, ky, kx, o that meet x[n,
//   h, w, c]
//   conv2d_max_pool_forward   y, index = max_pool_forward of conv2d_forward, windows of 2 x 2 that touch: the same
//   bits, without the array between them (conv_pooled.hpp)
//
// Channels fall into `groups` of equal size; an output channel sees the input channels of its own group. As everywhere
// in networks the filter is not flipped (a cross-correlation). Positions outside the image add nothing, even where a
// weight is not finite; otherwise NaN and Inf follow IEEE arithmetic. Each element is one chain of fused (generic:
// rounded) multiply-adds over the terms that the shape orders, so |error| <= (terms + 1) u sum |x| |w| (generic: terms
// + 2), and neither threads nor the rest of the batch change a bit.
//
// dx is a correlation of dy with the filters flipped, of each of stride_h * stride_w classes of pixels with the taps
// that meet it (conv_axis.hpp). 1 x 1 filters of stride 1 without padding are a matrix product (gemm.hpp); depthwise
// filters have channels in the lanes (conv_depth.hpp); few output channels go by planes (conv_planar.hpp), the others
// with filters in the lanes (conv_lanes.hpp).
//
// Source: LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86 (1998) 2278.
#include "kernels/conv_pooled.hpp"

namespace pfn::PFN_ISA {

enum ConvAttr : int { kStrideH, kStrideW, kTop, kBottom, kLeft, kRight, kDilationH, kDilationW, kGroups };
enum ConvNote : int { kConvStart = kMaxNotes - 2, kConvPath };  // the matrix product has the first notes for itself
enum class ConvPath : std::int64_t { lanes, planar, product, depth };

template <class T>
static Conv<T> make_conv(const OpCall& call, bool backward) {
  const auto attr = [&call](int a) { return static_cast<std::int64_t>(call.attr[a]); };
  const View& source = call.in[0];
  const View& w = call.in[1];
  const View& out = call.out[0];
  Conv<T> c;
  c.source = source.as<const T>();
  c.filters = w.as<const T>();
  c.bias = backward ? nullptr : call.in[2].as<const T>();
  c.out = out.as<T>();
  c.images = source.shape[0];
  c.rows = ConvSizes{out.shape[1], source.shape[1], w.shape[0], attr(kStrideH), attr(kTop), attr(kDilationH)};
  c.columns = ConvSizes{out.shape[2], source.shape[2], w.shape[1], attr(kStrideW), attr(kLeft), attr(kDilationW)};
  c.groups = attr(kGroups);
  c.in_channels = backward ? w.shape[3] / c.groups : w.shape[2];
  c.out_channels = backward ? w.shape[2] : w.shape[3] / c.groups;
  c.backward = backward;
  return c;
}

template <class T>
static bool is_product(const OpCall& call, const Conv<T>& c) {
  for (int a = kTop; a <= kRight; ++a)
    if (call.attr[a] != 0) return false;
  return c.rows.kernel == 1 && c.columns.kernel == 1 && c.rows.stride == 1 && c.columns.stride == 1 && c.groups == 1;
}

// Multiply-adds a nanosecond of one core, roughly: only to weigh a phase against the cost of waking threads.
template <class T>
static double conv_macs_per_ns() {
#if defined(PFN_ISA_AVX512)
  constexpr double per_lane = 3.0;
#else
  constexpr double per_lane = 4.5;
#endif
  return per_lane * static_cast<double>(kLanes<T>);
}

template <class T>
static double conv_ns(const Conv<T>& c) {
  const double pixels = static_cast<double>(c.images * c.rows.out * c.columns.out) /
                        (c.backward ? static_cast<double>(c.rows.stride * c.columns.stride) : 1);
  const double macs = pixels * static_cast<double>(c.terms()) * static_cast<double>(c.all_channels());
  return 100 + macs / conv_macs_per_ns<T>();
}

template <class T>
static void product_prepare(OpCall& call, const Conv<T>& c) {
  gemm_prepare(call, c.backward ? GemmLayout::nt : GemmLayout::nn, c.images * c.rows.out * c.columns.out,
               c.out_channels, c.in_channels, sizeof(T));
  call.note[kConvPath] = static_cast<std::int64_t>(ConvPath::product);
}
template <class T>
static void product_run(const OpCall& call, const Conv<T>& c, int phase, std::int64_t begin, std::int64_t end,
                        void* local) {
  const Gemm<T> g{c.backward ? GemmLayout::nt : GemmLayout::nn,
                  c.images * c.rows.out * c.columns.out,
                  c.out_channels,
                  c.in_channels,
                  c.source,
                  c.filters,
                  c.bias,
                  c.out};
  gemm_run(call, g, phase, begin, end, local);
}

template <class T, bool backward>
static void conv_prepare(OpCall& call) {
  const Conv<T> c = make_conv<T>(call, backward);
  if (call.out[0].size() == 0) {
    call.phases = 0;
    return;
  }
  if (is_product(call, c)) {
    product_prepare(call, c);
    return;
  }
  const double ns = conv_ns(c);
  if (is_depthwise(c)) {
    depth_prepare(call, c, ns);
    call.note[kConvPath] = static_cast<std::int64_t>(ConvPath::depth);
  } else if (is_planar(c)) {
    planar_prepare(call, c, ns);
    call.note[kConvPath] = static_cast<std::int64_t>(ConvPath::planar);
  } else {
    lanes_prepare(call, c, ns);
    call.note[kConvPath] = static_cast<std::int64_t>(ConvPath::lanes);
  }
}

template <class T, bool backward>
static void conv_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const Conv<T> c = make_conv<T>(call, backward);
  switch (static_cast<ConvPath>(call.note[kConvPath])) {
    case ConvPath::product:
      return product_run(call, c, phase, begin, end, local);
    case ConvPath::planar:
      return planar_run(call, c, phase, begin, end, local);
    case ConvPath::lanes:
      return lanes_run(call, c, phase, begin, end, local);
    case ConvPath::depth:
      return depth_run(c, begin, end);
  }
}

template <class T>
static void conv2d_forward_prepare(OpCall& call) {
  conv_prepare<T, false>(call);
}
template <class T>
static void conv2d_forward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  conv_run<T, false>(call, phase, begin, end, local);
}
PFN_KERNEL(conv2d_forward, conv2d_forward_prepare, conv2d_forward_run);

template <class T>
static void conv2d_dx_prepare(OpCall& call) {
  conv_prepare<T, true>(call);
}
template <class T>
static void conv2d_dx_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  conv_run<T, true>(call, phase, begin, end, local);
}
PFN_KERNEL(conv2d_dx, conv2d_dx_prepare, conv2d_dx_run);

template <class T>
static PooledConv<T> make_pooled_conv(const OpCall& call) {
  const auto out = [&call](const ConvSizes& s, int behind) {
    const auto padding = static_cast<std::int64_t>(call.attr[behind]);
    return (s.source + s.padding + padding - s.dilation * (s.kernel - 1) - 1) / s.stride + 1;
  };
  PooledConv<T> p{make_conv<T>(call, false), call.out[0].shape[1], call.out[0].shape[2], call.out[0].as<T>(),
                  call.out[1].as<std::uint8_t>()};
  p.conv.rows.out = out(p.conv.rows, kBottom);
  p.conv.columns.out = out(p.conv.columns, kRight);
  p.conv.out = nullptr;
  return p;
}

template <class T>
static void conv2d_max_pool_forward_prepare(OpCall& call) {
  if (call.out[0].size() == 0) {
    call.phases = 0;
    return;
  }
  const PooledConv<T> p = make_pooled_conv<T>(call);
  const Conv<T>& c = p.conv;
  const double pool_ns = 0.06 * 4 * static_cast<double>(call.out[0].size() * static_cast<std::int64_t>(sizeof(T) / 4));
  if (is_product(call, c)) {  // whole, into the scratch memory: it has its own cuts
    product_prepare(call, c);
    call.note[kConvStart] = div_up(call.scratch_bytes, 64) * 64;
    call.scratch_bytes =
        call.note[kConvStart] + c.images * c.rows.out * p.conv_row_items() * static_cast<std::int64_t>(sizeof(T));
    call.phase[call.phases++] = Phase{c.images * p.rows, 1, pool_ns};
  } else if (is_depthwise(c)) {
    pooled_depth_prepare(call, p, conv_ns(c) + pool_ns);
    call.note[kConvPath] = static_cast<std::int64_t>(ConvPath::depth);
  } else if (is_planar(c)) {
    pooled_planar_prepare(call, p, conv_ns(c) + pool_ns);
    call.note[kConvPath] = static_cast<std::int64_t>(ConvPath::planar);
  } else {
    pooled_lanes_prepare(call, p, conv_ns(c) + pool_ns);
    call.note[kConvPath] = static_cast<std::int64_t>(ConvPath::lanes);
  }
}

template <class T>
static void conv2d_max_pool_forward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end,
                                        void* local) {
  PooledConv<T> p = make_pooled_conv<T>(call);
  switch (static_cast<ConvPath>(call.note[kConvPath])) {
    case ConvPath::product: {
      p.conv.out = reinterpret_cast<T*>(static_cast<char*>(call.scratch) + call.note[kConvStart]);
      if (phase + 1 < call.phases) return product_run(call, p.conv, phase, begin, end, local);
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t row = i / p.rows * p.conv.rows.out + i % p.rows * 2;
        pool_pixels(p, p.conv.out + row * p.conv_row_items(), 1, p.y + i * p.row_items(), p.index + i * p.row_items());
      }
      return;
    }
    case ConvPath::planar:
      return pooled_planar_run(call, p, phase, begin, end, static_cast<T*>(local));
    case ConvPath::lanes:
      return pooled_lanes_run(call, p, phase, begin, end, static_cast<T*>(local));
    case ConvPath::depth:
      return pooled_depth_run(p, begin, end, static_cast<T*>(local));
  }
}
PFN_KERNEL(conv2d_max_pool_forward, conv2d_max_pool_forward_prepare, conv2d_max_pool_forward_run);

}  // namespace pfn::PFN_ISA
