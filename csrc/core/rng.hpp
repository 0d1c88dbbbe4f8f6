// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011), the scalar form, and the shuffle made from it.
#pragma once
#include <cstdint>

namespace pfn {

struct Philox {
  std::uint32_t word[4];
};

// Ten rounds on the counter (c0, c1, c2, c3) under the key (seed low, seed high).
inline Philox philox(std::uint64_t seed, std::uint32_t c0, std::uint32_t c1, std::uint32_t c2, std::uint32_t c3) {
  std::uint32_t k0 = static_cast<std::uint32_t>(seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = 0xD2511F53ull * c0;
    const std::uint64_t p1 = 0xCD9E8D57ull * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return Philox{{c0, c1, c2, c3}};
}

// The third counter word of the shuffle; ops use their node number there, which is never this large.
constexpr std::uint32_t kShuffleStream = 0xFFFFFFFFu;

// Writes a permutation of 0..n-1 (n < 2**32) fixed by (seed, epoch): Fisher and Yates from the end, position i swapped with
// (word_i * (i + 1)) >> 32, whose bias is at most n / 2**32.
inline void shuffled(std::int64_t* out, std::int64_t n, std::uint64_t seed, std::uint32_t epoch) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = i;
  Philox block{};
  for (std::int64_t i = n - 1, drawn = 0; i > 0; --i, ++drawn) {
    if (drawn % 4 == 0) block = philox(seed, static_cast<std::uint32_t>(drawn / 4), 0, kShuffleStream, epoch);
    const std::uint64_t word = block.word[drawn % 4];
    const auto j = static_cast<std::int64_t>((word * static_cast<std::uint64_t>(i + 1)) >> 32);
    const std::int64_t kept = out[i];
    out[i] = out[j];
    out[j] = kept;
  }
}

}  // namespace pfn
