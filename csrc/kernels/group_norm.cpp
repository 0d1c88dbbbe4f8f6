// Group normalisation (Wu and He, ECCV 2018) of x[n, ..., c]: the c channels of each sample in groups of neighbours, a
// group normalised over its channels and all positions, M elements. One channel a group is instance normalisation.
//
//   forward   mean, var of the group (divided by M),  rstd = 1 / sqrt(var + eps)
//             y = (x - mean) * rstd * gamma + beta
//   backward  xhat = (x - mean) * rstd,  g = dy * gamma
//             dx = rstd * (g - mean of g - xhat * mean of g * xhat)
//             dgamma = sum over samples and positions of dy * xhat,  dbeta = sum of dy
//
// No elements: mean = rstd = 0. NaN and inf spread within their group, in dgamma and dbeta within their channel.
// Every channel has statistics of its own first, the corrected two-pass ones of x minus its first position; those of a
// group are combined in double (Chan, Golub and LeVeque 1983, eq. 2.1). A sample needs no other sample, so its row has
// the same bits in every batch. Sums run in an order that the shape decides.
// Max error: a few times u * (M + 8) relative to the largest deviation of the group; the reference has the formula.
#include "kernels/kernel.hpp"
#include "kernels/norm_strips.hpp"

namespace pfn::PFN_ISA {

namespace {
// The call's numbers, and some whole groups of one sample: columns [begin, end).
struct Groups {
  std::int64_t samples, positions, channels, groups, width;

  explicit Groups(const OpCall& call)
      : samples(call.in[0].shape[0]),
        positions(1),
        channels(call.in[0].cols()),
        groups(static_cast<std::int64_t>(call.attr[0])),
        width(channels / groups) {
    for (int d = 1; d + 1 < call.in[0].ndim; ++d) positions *= call.in[0].shape[d];
  }
};
}  // namespace

// One piece has groups enough for a whole strip.
template <class T>
static inline void groups_prepare(OpCall& call, double ns_each) {
  const Groups s(call);
  const double elements = static_cast<double>(s.positions) * static_cast<double>(s.width);
  const std::int64_t strip = s.width > 0 ? (kStrip<T> + s.width - 1) / s.width : 1;
  one_phase(call, s.samples * s.groups, 30.0 + ns_each * (sizeof(T) / 4) * elements,
            strip < s.groups ? strip : s.groups);
  call.local_bytes = 5 * s.channels * static_cast<std::int64_t>(sizeof(T));
}

// f(sample, first group, end of the groups) for the units [begin, end), a unit being one group of one sample.
template <class F>
static inline void by_sample(const Groups& s, std::int64_t begin, std::int64_t end, const F& f) {
  for (std::int64_t u = begin; u < end;) {
    const std::int64_t sample = u / s.groups, first = u % s.groups;
    const std::int64_t count = smaller(s.groups - first, end - u);
    f(sample, first, first + count);
    u += count;
  }
}

namespace {
template <class T>
struct ChannelStatistics {  // shift, delta and square of each channel, in the first three local arrays
  const T* x;
  T* local;
  std::int64_t positions, channels;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    Strip<T, NV, kTail> shift = load_strip<T, NV, kTail>(x + j, tail), delta, square;
#pragma GCC unroll 4
    for (int k = 0; k < NV; ++k) shift.v[k] = finite_or_zero<T>(shift.v[k]);
    strip_statistics<T, NV, kTail>(x + j, positions, channels, tail, shift.v, delta.v, square.v);
    store_strip(local + j, shift, tail);
    store_strip(local + channels + j, delta, tail);
    store_strip(local + 2 * channels + j, square, tail);
  }
};

template <class T>
struct WriteNormalized {  // y = (x - shift) * a + b with a and b in the last two local arrays
  const T* x;
  T* y;
  const T* local;
  std::int64_t positions, channels;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const auto shift = load_strip<T, NV, kTail>(local + j, tail),
               a = load_strip<T, NV, kTail>(local + 3 * channels + j, tail),
               b = load_strip<T, NV, kTail>(local + 4 * channels + j, tail);
    scale_rows<T, NV, kTail>(x + j, y + j, positions, channels, tail, shift.v, a.v, b.v);
  }
};
}  // namespace

template <class T>
static void group_norm_forward_prepare(OpCall& call) {
  groups_prepare<T>(call, 0.25);
}
template <class T>
static void group_norm_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void* workspace) {
  const Groups s(call);
  const double eps = call.attr[1];
  const T* gamma = call.in[1].as<const T>();
  const T* beta = call.in[2].as<const T>();
  T* local = static_cast<T*>(workspace);
  const T* shift = local;
  const T* delta = local + s.channels;
  const T* square = local + 2 * s.channels;
  T* a = local + 3 * s.channels;
  T* b = local + 4 * s.channels;
  const double positions = static_cast<double>(s.positions), size = positions * static_cast<double>(s.width);
  by_sample(s, begin, end, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
    T* mean = call.out[1].as<T>() + i * s.groups;
    T* rstd = call.out[2].as<T>() + i * s.groups;
    if (s.positions * s.width == 0) {
      for (std::int64_t g = first; g < last; ++g) mean[g] = rstd[g] = 0;
      return;
    }
    const T* x = call.in[0].as<const T>() + i * s.positions * s.channels;
    T* y = call.out[0].as<T>() + i * s.positions * s.channels;
    for_strips<T>(first * s.width, last * s.width, ChannelStatistics<T>{x, local, s.positions, s.channels});
    for (std::int64_t g = first; g < last; ++g) {
      // Relative to the first channel's shift: sums of means would round at the size of the offset.
      const double base = static_cast<double>(shift[g * s.width]);
      double sum = 0, squares = 0;
      for (std::int64_t j = g * s.width; j < (g + 1) * s.width; ++j)
        sum += (static_cast<double>(shift[j]) - base) + static_cast<double>(delta[j]);
      const double center = sum / static_cast<double>(s.width);
      for (std::int64_t j = g * s.width; j < (g + 1) * s.width; ++j) {
        const double d = ((static_cast<double>(shift[j]) - base) - center) + static_cast<double>(delta[j]);
        squares += static_cast<double>(square[j]) + positions * d * d;
      }
      const double var = squares / size, factor = 1.0 / __builtin_sqrt((var < 0 ? 0 : var) + eps);
      mean[g] = static_cast<T>(base + center);
      rstd[g] = static_cast<T>(factor);
      for (std::int64_t j = g * s.width; j < (g + 1) * s.width; ++j) {
        const double scale = static_cast<double>(gamma[j]) * factor;
        a[j] = static_cast<T>(scale);
        b[j] = static_cast<T>(static_cast<double>(beta[j]) + ((static_cast<double>(shift[j]) - base) - center) * scale);
      }
    }
    for_strips<T>(first * s.width, last * s.width, WriteNormalized<T>{x, y, local, s.positions, s.channels});
  });
}
PFN_KERNEL(group_norm_forward, group_norm_forward_prepare, group_norm_forward_run);

// Scratch: sum dy and sum dy * (x - mean) of each channel of each sample. Local: mean, a, slope, offset of each
// channel.
template <class T>
static void group_norm_backward_prepare(OpCall& call) {
  groups_prepare<T>(call, 0.35);
  const Groups s(call);
  call.phases = 2;
  call.phase[1] = Phase{s.channels, kStrip<T>, static_cast<double>(2 * s.samples * s.channels) * 0.3};
  call.scratch_bytes = 2 * s.samples * s.channels * static_cast<std::int64_t>(sizeof(T));
}

namespace {
template <class T>
struct ChannelSums {
  const T* dy;
  const T* x;
  const T* local;
  T* sums;
  std::int64_t positions, channels;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const auto mean = load_strip<T, NV, kTail>(local + j, tail);
    Strip<T, NV, kTail> sum_dy, sum_product;
    sum_rows<T, NV>(positions, sum_dy.v, sum_product.v, [&](std::int64_t r, Vec<T>* a, Vec<T>* b) {
      const auto u = load_strip<T, NV, kTail>(dy + r * channels + j, tail),
                 v = load_strip<T, NV, kTail>(x + r * channels + j, tail);
#pragma GCC unroll 4
      for (int k = 0; k < NV; ++k) {
        a[k] = a[k] + u.v[k];
        b[k] = fma(u.v[k], v.v[k] - mean.v[k], b[k]);
      }
    });
    store_strip(sums + j, sum_dy, tail);
    store_strip(sums + channels + j, sum_product, tail);
  }
};

template <class T>
struct WriteGradient {  // dx = dy * a + (x - mean) * slope + offset
  const T* dy;
  const T* x;
  T* dx;
  const T* local;
  std::int64_t positions, channels;
  template <int NV, bool kTail>
  void strip(std::int64_t j, std::int64_t tail) const {
    const auto mean = load_strip<T, NV, kTail>(local + j, tail),
               a = load_strip<T, NV, kTail>(local + channels + j, tail),
               slope = load_strip<T, NV, kTail>(local + 2 * channels + j, tail),
               offset = load_strip<T, NV, kTail>(local + 3 * channels + j, tail);
    for (std::int64_t r = 0; r < positions; ++r) {
      auto u = load_strip<T, NV, kTail>(dy + r * channels + j, tail);
      const auto v = load_strip<T, NV, kTail>(x + r * channels + j, tail);
#pragma GCC unroll 4
      for (int k = 0; k < NV; ++k) u.v[k] = fma(u.v[k], a.v[k], fma(v.v[k] - mean.v[k], slope.v[k], offset.v[k]));
      store_strip(dx + r * channels + j, u, tail);
    }
  }
};
}  // namespace

template <class T>
static void group_norm_backward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end,
                                    void* workspace) {
  const Groups s(call);
  const T* mean = call.in[3].as<const T>();
  const T* rstd = call.in[4].as<const T>();
  T* scratch = static_cast<T*>(call.scratch);
  if (phase == 1) {
    for (std::int64_t j = begin; j < end; ++j) {
      double dgamma = 0, dbeta = 0;
      for (std::int64_t i = 0; i < s.samples; ++i) {
        const T* sums = scratch + 2 * i * s.channels;
        dbeta += static_cast<double>(sums[j]);
        dgamma += static_cast<double>(sums[s.channels + j]) * static_cast<double>(rstd[i * s.groups + j / s.width]);
      }
      call.out[1].as<T>()[j] = static_cast<T>(dgamma);
      call.out[2].as<T>()[j] = static_cast<T>(dbeta);
    }
    return;
  }
  const T* gamma = call.in[2].as<const T>();
  T* local = static_cast<T*>(workspace);
  T* a = local + s.channels;
  T* slope = local + 2 * s.channels;
  T* offset = local + 3 * s.channels;
  const double size = static_cast<double>(s.positions) * static_cast<double>(s.width);
  by_sample(s, begin, end, [&](std::int64_t i, std::int64_t first, std::int64_t last) {
    const std::int64_t at = i * s.positions * s.channels, from = first * s.width, to = last * s.width;
    const T* dy = call.in[0].as<const T>() + at;
    const T* x = call.in[1].as<const T>() + at;
    T* sums = scratch + 2 * i * s.channels;
    for (std::int64_t j = from; j < to; ++j) local[j] = mean[i * s.groups + j / s.width];
    for_strips<T>(from, to, ChannelSums<T>{dy, x, local, sums, s.positions, s.channels});
    for (std::int64_t g = first; g < last; ++g) {
      const double scale = static_cast<double>(rstd[i * s.groups + g]);
      double g_sum = 0, gd_sum = 0;
      for (std::int64_t j = g * s.width; j < (g + 1) * s.width; ++j) {
        g_sum += static_cast<double>(gamma[j]) * static_cast<double>(sums[j]);
        gd_sum += static_cast<double>(gamma[j]) * static_cast<double>(sums[s.channels + j]);
      }
      for (std::int64_t j = g * s.width; j < (g + 1) * s.width; ++j) {
        a[j] = static_cast<T>(static_cast<double>(gamma[j]) * scale);
        slope[j] = static_cast<T>(-(scale * scale * scale) * (gd_sum / size));
        offset[j] = static_cast<T>(-scale * (g_sum / size));
      }
    }
    for_strips<T>(from, to, WriteGradient<T>{dy, x, call.out[0].as<T>() + at, local, s.positions, s.channels});
  });
}
PFN_KERNEL(group_norm_backward, group_norm_backward_prepare, group_norm_backward_run);

}  // namespace pfn::PFN_ISA
