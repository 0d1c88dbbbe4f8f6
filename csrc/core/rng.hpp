// The shuffle of an epoch, drawn from Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011).
#pragma once
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace pfn {

constexpr int kPhiloxBlocks = 16;

// Ten rounds on the counters (first + k, 0, c2, c3), k = 0..15, under the key (seed low, seed high): 64 words, those of
// counter k at word[4 * k].
#if defined(__SSE2__)
inline void philox_blocks(std::uint64_t seed, std::uint32_t first, std::uint32_t c2, std::uint32_t c3,
                          std::uint32_t word[4 * kPhiloxBlocks]) {
  // Two counters in a vector, each number in the low half of a lane. The high halves hold what is left over from the
  // products: a product does not read them, and nothing else carries from one half to the other.
  constexpr int kVectors = kPhiloxBlocks / 2;
  const __m128i m0 = _mm_set1_epi64x(0xD2511F53), m1 = _mm_set1_epi64x(0xCD9E8D57);
  __m128i x0[kVectors], x1[kVectors], x2[kVectors], x3[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const auto low = first + 2 * static_cast<std::uint32_t>(v);
    x0[v] = _mm_set_epi64x(low + 1, low);
    x1[v] = _mm_setzero_si128();
    x2[v] = _mm_set1_epi64x(c2);
    x3[v] = _mm_set1_epi64x(c3);
  }
  auto k0 = static_cast<std::uint32_t>(seed);
  auto k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const __m128i key0 = _mm_set1_epi64x(k0), key1 = _mm_set1_epi64x(k1);
    for (int v = 0; v < kVectors; ++v) {
      const __m128i p0 = _mm_mul_epu32(x0[v], m0), p1 = _mm_mul_epu32(x2[v], m1);
      x0[v] = _mm_xor_si128(_mm_srli_epi64(p1, 32), _mm_xor_si128(x1[v], key0));
      x2[v] = _mm_xor_si128(_mm_srli_epi64(p0, 32), _mm_xor_si128(x3[v], key1));
      x1[v] = p1;
      x3[v] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const __m128i low = _mm_set1_epi64x(0xFFFFFFFF);
  for (int v = 0; v < kVectors; ++v) {
    const __m128i w01 = _mm_or_si128(_mm_and_si128(x0[v], low), _mm_slli_epi64(x1[v], 32));
    const __m128i w23 = _mm_or_si128(_mm_and_si128(x2[v], low), _mm_slli_epi64(x3[v], 32));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(word + 8 * v), _mm_unpacklo_epi64(w01, w23));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(word + 8 * v + 4), _mm_unpackhi_epi64(w01, w23));
  }
}
#else
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
#endif

// The third counter word of the shuffle; ops use their node number there, which is never this large.
constexpr std::uint32_t kShuffleStream = 0xFFFFFFFFu;

// Fisher and Yates from the end, position i swapped with (word_i * (i + 1)) >> 32, on numbers 0..n-1 in `out`.
template <class Number>
inline void shuffle_numbers(Number* out, std::int64_t n, std::uint64_t seed, std::uint32_t epoch) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<Number>(i);
  constexpr std::int64_t kWords = 4 * kPhiloxBlocks;
  std::uint32_t word[kWords];
  for (std::int64_t drawn = 0; drawn < n - 1; drawn += kWords) {
    philox_blocks(seed, static_cast<std::uint32_t>(drawn / 4), kShuffleStream, epoch, word);
    const std::int64_t first = n - 1 - drawn, swaps = first < kWords ? first : kWords;
    for (std::int64_t k = 0; k < swaps; ++k) {
      const std::int64_t i = first - k;
      const auto j = static_cast<std::int64_t>((std::uint64_t{word[k]} * static_cast<std::uint64_t>(i + 1)) >> 32);
      const Number kept = out[i];
      out[i] = out[j];
      out[j] = kept;
    }
  }
}

// Writes a permutation of 0..n-1 (n < 2**32) fixed by (seed, epoch), whose bias is at most n / 2**32.
inline void shuffled(std::int64_t* out, std::int64_t n, std::uint64_t seed, std::uint32_t epoch) {
  constexpr std::int64_t kSmall = std::int64_t{1} << 14;
  if (n > kSmall) {
    shuffle_numbers(out, n, seed, epoch);
    return;
  }
  // The swaps jump about: numbers of two bytes keep them in the first cache.
  std::uint16_t small[kSmall];
  shuffle_numbers(small, n, seed, epoch);
  for (std::int64_t i = 0; i < n; ++i) out[i] = small[i];
}

}  // namespace pfn
