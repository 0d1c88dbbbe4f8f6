// Two-dimensional convolution of images, channels last, and the gradient of its input.
//
//   conv2d_forward   y[n, i, j, o]  = b[o] + sum over ky, kx, c of
//                                     x[n, i * stride_h - top + ky * dilation_h, j * stride_w - left + kx * dilation_w,
//                                     c] * w[ky, kx, c, o]
//   conv2d_dx        dx[n, h, w, c] = sum of dy[n, i, j, o] * w[ky, kx, c, o] over all i, j, ky, kx, o that meet x[n,
//   h, w, c]
//
// Channels fall into `groups` of equal size; an output channel sees the input channels of its own group. As everywhere
// in networks the filter is not flipped (a cross-correlation). Positions outside the image add nothing, even where a
// weight is not finite; otherwise NaN and Inf follow IEEE arithmetic. Each element is one chain of fused (generic:
// rounded) multiply-adds over the terms that the shape orders, so |error| <= (terms + 1) u sum |x| |w| (generic: terms
// + 2), and neither threads nor the rest of the batch change a bit.
//
// dx is a correlation of dy with the filters flipped, of each of stride_h * stride_w classes of pixels with the taps
// that meet it (conv_axis.hpp). 1 x 1 filters of stride 1 without padding are a matrix product (gemm.hpp); few output
// channels go by planes (conv_planar.hpp), the others with filters in the lanes (conv_lanes.hpp).
//
// Source: LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86 (1998) 2278.
#include "kernels/conv_planar.hpp"

namespace pfn::PFN_ISA {

enum ConvAttr : int { kStrideH, kStrideW, kTop, kBottom, kLeft, kRight, kDilationH, kDilationW, kGroups };
enum ConvNote : int { kConvPath = kMaxNotes - 1 };  // the matrix product has the first notes for itself
enum class ConvPath : std::int64_t { lanes, planar, product };

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

template <class T, bool backward>
static void conv_prepare(OpCall& call) {
  const Conv<T> c = make_conv<T>(call, backward);
  if (call.out[0].size() == 0) {
    call.phases = 0;
    return;
  }
  if (is_product(call, c)) {
    gemm_prepare(call, backward ? GemmLayout::nt : GemmLayout::nn, c.images * c.rows.out * c.columns.out,
                 c.out_channels, c.in_channels, sizeof(T));
    call.note[kConvPath] = static_cast<std::int64_t>(ConvPath::product);
    return;
  }
  const double pixels = static_cast<double>(c.images * c.rows.out * c.columns.out) /
                        (backward ? static_cast<double>(c.rows.stride * c.columns.stride) : 1);
  const double macs = pixels * static_cast<double>(c.terms()) * static_cast<double>(c.all_channels());
  const double ns = 100 + macs / conv_macs_per_ns<T>();
  if (is_planar(c)) {
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
    case ConvPath::product: {
      const Gemm<T> g{backward ? GemmLayout::nt : GemmLayout::nn,
                      c.images * c.rows.out * c.columns.out,
                      c.out_channels,
                      c.in_channels,
                      c.source,
                      c.filters,
                      c.bias,
                      c.out};
      return gemm_run(call, g, phase, begin, end, local);
    }
    case ConvPath::planar:
      return planar_run(call, c, phase, begin, end, local);
    case ConvPath::lanes:
      return lanes_run(call, c, phase, begin, end, local);
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

}  // namespace pfn::PFN_ISA
