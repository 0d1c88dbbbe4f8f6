// Philox4x32-10, the counter-based random generator of Salmon, Moraes, Dror and Shaw, "Parallel
// random numbers: as easy as 1, 2, 3" (SC 2011): ten rounds on a counter of four 32-bit words under
// a key of two. Integers only, so every ISA, thread count and the reference make the same words.
#pragma once
#include "kernels/transpose.hpp"

namespace pfn::PFN_ISA {

// Each 64-bit lane runs one counter; a state word is the low half of its lane, the high halves may
// hold anything.
using VecU64 = Vec<std::uint64_t>;

// Product of the low 32 bits of each lane.
static inline VecU64 multiply_low_halves(VecU64 a, VecU64 b) {
#if defined(PFN_ISA_AVX512)
  return (VecU64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(PFN_ISA_AVX2)
  return (VecU64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

alignas(PFN_VEC_BYTES) constexpr std::uint64_t kLaneNumber[8] = {0, 1, 2, 3, 4, 5, 6, 7};

struct PhiloxKey {
  std::uint32_t seed_low, seed_high, node, step;
};

// Words of one call: four for each of the lanes' counters.
constexpr std::int64_t kPhiloxWords = 4 * kLanes<std::uint64_t>;

// a[0], b[0], a[1], b[1] ... as 32-bit words, low half first.
template <int... K>
static inline void store_interleaved(std::uint32_t* word, VecU64 a, VecU64 b, LaneList<K...>) {
  constexpr int L = static_cast<int>(kLanes<std::uint64_t>);
  std::uint64_t* pair = reinterpret_cast<std::uint64_t*>(word);
  store<std::uint64_t>(pair, __builtin_shufflevector(a, b, (K % 2 * L + K / 2)...));
  store<std::uint64_t>(pair + L, __builtin_shufflevector(a, b, (K % 2 * L + (K + L) / 2)...));
}

// word[4 * b + w] = word w of the counter (block + b, block's high half, node, step).
static inline void philox_words(const PhiloxKey& key, std::uint64_t block, std::uint32_t* word) {
  const VecU64 zero = {};
  const VecU64 multiplier0 = zero + 0xD2511F53u, multiplier1 = zero + 0xCD9E8D57u;
  VecU64 c0 = load<std::uint64_t>(kLaneNumber) + block;
  VecU64 c1 = c0 >> 32, c2 = zero + key.node, c3 = zero + key.step;
  std::uint32_t k0 = key.seed_low, k1 = key.seed_high;
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const VecU64 product0 = multiply_low_halves(c0, multiplier0);
    const VecU64 product1 = multiply_low_halves(c2, multiplier1);
    c0 = (product1 >> 32) ^ c1 ^ k0;
    c2 = (product0 >> 32) ^ c3 ^ k1;
    c1 = product1;
    c3 = product0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const VecU64 low = zero + 0xffffffffu;
  store_interleaved(word, (c0 & low) | (c1 << 32), (c2 & low) | (c3 << 32),
                    LanesUpTo<static_cast<int>(kLanes<std::uint64_t>)>::type{});
}

}  // namespace pfn::PFN_ISA
