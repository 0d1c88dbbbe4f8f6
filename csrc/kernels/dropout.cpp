// Inverted dropout (Srivastava et al., JMLR 15 (2014) 1929). Elementwise over any shape; the first
// output may be the memory of the first input.
//
//   forward   mask = word >= p * 2^32,  y = mask ? x * (1 / (1 - p)) : 0
//   backward  dx = mask ? dy * (1 / (1 - p)) : 0
//
// `word` of element e (flat index) is word e % 4 of Philox4x32-10 with key (seed low, seed high)
// and counter (e / 4 low, e / 4 high, node, step low).
// dropout_channels drops whole channels (the last dimension) of each sample (Tompson et al., CVPR
// 2015): its mask has an element for every sample and channel, drawn in the same way.
// The factor is made in double and rounded once. p = 0 copies. A dropped NaN gives 0, a kept one
// stays NaN. Max error: one rounding.
#include "kernels/kernel.hpp"
#include "kernels/philox.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

// A multiple of every ISA's kPhiloxWords, so that a piece starts with a whole call of the
// generator.
constexpr std::int64_t kGrain = 4096;

template <class T>
static void forward_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.25, kGrain);
}
template <class T>
static void backward_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.08 * (sizeof(T) / 4), kGrain);
}

template <class T>
static inline T kept_scale(double p) {
  return static_cast<T>(1.0 / (1.0 - p));
}

// Words up to the result are dropped: the largest whole number below p * 2^32, which fits 32 bits since 0 < p < 1.
static inline std::uint32_t last_dropped_word(double p) {
  const double threshold = p * 4294967296.0;
  const std::uint64_t below = static_cast<std::uint64_t>(threshold);
  return static_cast<std::uint32_t>(static_cast<double>(below) < threshold ? below : below - 1);
}

static inline PhiloxKey key_of(const OpCall& call) {
  const std::uint64_t seed = static_cast<std::uint64_t>(call.hyper[kHyper_seed]);
  return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
          static_cast<std::uint32_t>(static_cast<std::uint64_t>(call.attr[1])),
          static_cast<std::uint32_t>(static_cast<std::uint64_t>(call.hyper[kHyper_step]))};
}

// One vector: mask and y from the words and x. The mask leaves as bytes of 0 and 1.
template <class T>
static inline void drop(const std::uint32_t* word, std::uint32_t last_dropped, Vec<T> scale, const T* x, T* y,
                        std::uint8_t* mask) {
  typedef std::uint32_t Words __attribute__((vector_size(4 * kLanes<T>), aligned(4), may_alias));
  typedef IntOf<T> Wide __attribute__((vector_size(PFN_VEC_BYTES)));
  typedef std::uint8_t Bytes __attribute__((vector_size(kLanes<T>), aligned(1), may_alias));
  const Wide kept = __builtin_convertvector(*reinterpret_cast<const Words*>(word) > last_dropped, Wide);
  *reinterpret_cast<Bytes*>(mask) = __builtin_convertvector(kept & 1, Bytes);
  store<T>(y, (Vec<T>)((Wide)(load<T>(x) * scale) & kept));
}

template <class T>
static void dropout_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const double p = call.attr[0];
  const T* x = call.in[0].as<const T>();
  T* y = call.out[0].as<T>();
  std::uint8_t* mask = call.out[1].as<std::uint8_t>();
  if (!(p > 0)) {
    for (std::int64_t i = begin; i < end; ++i) {
      y[i] = x[i];
      mask[i] = 1;
    }
    return;
  }
  const std::uint32_t last_dropped = last_dropped_word(p);
  const PhiloxKey key = key_of(call);
  const T scale = kept_scale<T>(p);
  alignas(PFN_VEC_BYTES) std::uint32_t word[kPhiloxWords];
  std::int64_t i = begin;
  for (; i + kPhiloxWords <= end; i += kPhiloxWords) {
    philox_words(key, static_cast<std::uint64_t>(i / 4), word);
#pragma GCC unroll 16
    for (std::int64_t j = 0; j < kPhiloxWords; j += kLanes<T>)
      drop<T>(word + j, last_dropped, splat(scale), x + i + j, y + i + j, mask + i + j);
  }
  if (i < end) {
    philox_words(key, static_cast<std::uint64_t>(i / 4), word);
    for (std::int64_t j = 0; i + j < end; ++j) {
      const bool kept = word[j] > last_dropped;
      mask[i + j] = kept ? 1 : 0;
      y[i + j] = kept ? x[i + j] * scale : T(0);
    }
  }
}
PFN_KERNEL(dropout_forward, forward_prepare, dropout_forward_run);

template <class T>
static void dropout_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  const T* dy = call.in[0].as<const T>();
  const std::uint8_t* mask = call.in[1].as<const std::uint8_t>();
  T* dx = call.out[0].as<T>();
  const T scale = kept_scale<T>(call.attr[0]);
  constexpr std::int64_t block = 64;
  std::int64_t i = begin;
  for (; i + block <= end; i += block) {
    T result[block];
    for (std::int64_t j = 0; j < block; ++j) result[j] = mask[i + j] != 0 ? dy[i + j] * scale : T(0);
    __builtin_memcpy(dx + i, result, sizeof(result));
  }
  for (; i < end; ++i) dx[i] = mask[i] != 0 ? dy[i] * scale : T(0);
}
PFN_KERNEL(dropout_backward, backward_prepare, dropout_backward_run);

// x[samples, ..., channels], and how its rows of channels are laid side by side: short ones as many as a vector has
// lanes, so that whole vectors meet a whole pattern of the mask.
template <class T>
struct Channels {
  std::int64_t samples, positions, channels, together;

  explicit Channels(const View& x) : samples(x.shape[0]), positions(1), channels(x.cols()) {
    for (int d = 1; d + 1 < x.ndim; ++d) positions *= x.shape[d];
    together = channels < 64 && positions >= 4 * kLanes<T> ? kLanes<T> : 1;
  }
  std::int64_t pattern() const { return channels * together; }
};

// The phase that applies the mask; `local` holds the pattern of a sample, padded to whole vectors.
template <class T>
static Phase channels_phase(OpCall& call, const Channels<T>& s) {
  const std::int64_t rows = s.samples * s.positions;
  const std::int64_t grain = s.channels >= kGrain ? 1 : kGrain / (s.channels > 0 ? s.channels : 1);
  call.local_bytes = (s.pattern() + kLanes<T>)*static_cast<std::int64_t>(sizeof(T));
  return Phase{rows, grain, 0.08 * (sizeof(T) / 4) * static_cast<double>(rows) * static_cast<double>(s.channels)};
}

// y = mask ? x * scale : 0 for the rows [begin, end).
template <class T>
static void keep_channels(const Channels<T>& s, const T* x, const std::uint8_t* mask, T* y, T scale, std::int64_t begin,
                          std::int64_t end, void* local) {
  constexpr std::int64_t L = kLanes<T>;
  IntOf<T>* pattern = static_cast<IntOf<T>*>(local);
  for (std::int64_t r = begin; r < end;) {
    const std::int64_t sample = r / s.positions, next = (sample + 1) * s.positions, stop = next < end ? next : end;
    for (std::int64_t k = 0; k < s.pattern(); k += s.channels)
      for (std::int64_t j = 0; j < s.channels; ++j) pattern[k + j] = mask[sample * s.channels + j] != 0 ? -1 : 0;
    for (; r < stop; r += s.together) {
      const std::int64_t count = (stop - r < s.together ? stop - r : s.together) * s.channels, at = r * s.channels;
      std::int64_t i = 0;
      for (; i + L <= count; i += L)
        store<T>(y + at + i, (Vec<T>)((IntVec<T>)(load<T>(x + at + i) * scale) & load<IntOf<T>>(pattern + i)));
      if (i < count) {
        const Vec<T> scaled = load_partial(x + at + i, count - i) * scale;
        store_partial(y + at + i, (Vec<T>)((IntVec<T>)scaled & load<IntOf<T>>(pattern + i)), count - i);
      }
    }
    r = stop;
  }
}

template <class T>
static void dropout_channels_forward_prepare(OpCall& call) {
  const Channels<T> s(call.in[0]);
  one_phase(call, s.samples * s.channels, 0.25, kGrain);
  call.phases = 2;
  call.phase[1] = channels_phase<T>(call, s);
}
template <class T>
static void dropout_channels_forward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end,
                                         void* local) {
  const double p = call.attr[0];
  std::uint8_t* mask = call.out[1].as<std::uint8_t>();
  if (phase == 1)
    return keep_channels<T>(Channels<T>(call.in[0]), call.in[0].as<const T>(), mask, call.out[0].as<T>(),
                            kept_scale<T>(p), begin, end, local);
  if (!(p > 0)) {
    for (std::int64_t i = begin; i < end; ++i) mask[i] = 1;
    return;
  }
  const std::uint32_t last_dropped = last_dropped_word(p);
  const PhiloxKey key = key_of(call);
  std::uint32_t word[kPhiloxWords];
  for (std::int64_t i = begin; i < end; i += kPhiloxWords) {
    philox_words(key, static_cast<std::uint64_t>(i / 4), word);
    const std::int64_t count = end - i < kPhiloxWords ? end - i : kPhiloxWords;
    for (std::int64_t j = 0; j < count; ++j) mask[i + j] = word[j] > last_dropped ? 1 : 0;
  }
}
PFN_KERNEL(dropout_channels_forward, dropout_channels_forward_prepare, dropout_channels_forward_run);

template <class T>
static void dropout_channels_backward_prepare(OpCall& call) {
  call.phases = 1;
  call.phase[0] = channels_phase<T>(call, Channels<T>(call.in[0]));
}
template <class T>
static void dropout_channels_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void* local) {
  keep_channels<T>(Channels<T>(call.in[0]), call.in[0].as<const T>(), call.in[1].as<const std::uint8_t>(),
                   call.out[0].as<T>(), kept_scale<T>(call.attr[0]), begin, end, local);
}
PFN_KERNEL(dropout_channels_backward, dropout_channels_backward_prepare, dropout_channels_backward_run);

}  // namespace pfn::PFN_ISA
