// The shuffle of an epoch, drawn from Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011).
#pragma once
#include <cstdint>

namespace pfn {

constexpr int kPhiloxBlocks = 16;

// Ten rounds on the counters (first + k, 0, c2, c3), k = 0..15, under the key (seed low, seed high): 64 words, those of
// counter k at word[4 * k]. The blocks go side by side so that the compiler can keep them in vectors.
inline void philox_blocks(std::uint64_t seed, std::uint32_t first, std::uint32_t c2, std::uint32_t c3,
                          std::uint32_t word[4 * kPhiloxBlocks]) {
  std::uint32_t x0[kPhiloxBlocks], x1[kPhiloxBlocks], x2[kPhiloxBlocks], x3[kPhiloxBlocks];
  for (int k = 0; k < kPhiloxBlocks; ++k) {
    x0[k] = first + static_cast<std::uint32_t>(k);
    x1[k] = 0;
    x2[k] = c2;
    x3[k] = c3;
  }
  std::uint32_t k0 = static_cast<std::uint32_t>(seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int k = 0; k < kPhiloxBlocks; ++k) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * x0[k];
      const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * x2[k];
      x0[k] = static_cast<std::uint32_t>(p1 >> 32) ^ x1[k] ^ k0;
      x2[k] = static_cast<std::uint32_t>(p0 >> 32) ^ x3[k] ^ k1;
      x1[k] = static_cast<std::uint32_t>(p1);
      x3[k] = static_cast<std::uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int k = 0; k < kPhiloxBlocks; ++k) {
    word[4 * k] = x0[k];
    word[4 * k + 1] = x1[k];
    word[4 * k + 2] = x2[k];
    word[4 * k + 3] = x3[k];
  }
}

// The third counter word of the shuffle; ops use their node number there, which is never this large.
constexpr std::uint32_t kShuffleStream = 0xFFFFFFFFu;

// Writes a permutation of 0..n-1 (n < 2**32) fixed by (seed, epoch): Fisher and Yates from the end, position i swapped
// with (word_i * (i + 1)) >> 32, whose bias is at most n / 2**32.
inline void shuffled(std::int64_t* out, std::int64_t n, std::uint64_t seed, std::uint32_t epoch) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = i;
  constexpr std::int64_t kWords = 4 * kPhiloxBlocks;
  std::uint32_t word[kWords];
  for (std::int64_t i = n - 1, drawn = 0; i > 0; --i, ++drawn) {
    if (drawn % kWords == 0) philox_blocks(seed, static_cast<std::uint32_t>(drawn / 4), kShuffleStream, epoch, word);
    const auto j =
        static_cast<std::int64_t>((std::uint64_t{word[drawn % kWords]} * static_cast<std::uint64_t>(i + 1)) >> 32);
    const std::int64_t kept = out[i];
    out[i] = out[j];
    out[j] = kept;
  }
}

}  // namespace pfn
