// Inverted dropout (Srivastava et al., JMLR 15 (2014) 1929). Elementwise over any shape; the first
// output may be the memory of the first input.
//
//   forward   mask = word >= p * 2^32,  y = mask ? x * (1 / (1 - p)) : 0
//   backward  dx = mask ? dy * (1 / (1 - p)) : 0
//
// `word` of element e (flat index) is word e % 4 of Philox4x32-10 with key (seed low, seed high)
// and counter (e / 4 low, e / 4 high, node, step low).
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
  const double threshold = p * 4294967296.0;
  if (!(threshold > 0)) {
    for (std::int64_t i = begin; i < end; ++i) {
      y[i] = x[i];
      mask[i] = 1;
    }
    return;
  }
  // The largest whole number below the threshold: words up to it are dropped. It fits 32 bits since
  // p < 1.
  const std::uint64_t below = static_cast<std::uint64_t>(threshold);
  const std::uint32_t last_dropped =
      static_cast<std::uint32_t>(static_cast<double>(below) < threshold ? below : below - 1);
  const std::uint64_t seed = static_cast<std::uint64_t>(call.hyper[kHyper_seed]);
  const PhiloxKey key = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                         static_cast<std::uint32_t>(static_cast<std::uint64_t>(call.attr[1])),
                         static_cast<std::uint32_t>(static_cast<std::uint64_t>(call.hyper[kHyper_step]))};
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

}  // namespace pfn::PFN_ISA
