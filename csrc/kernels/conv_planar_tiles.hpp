// The microkernels of convolutions with pixels in the lanes: F channels by V vectors of pixels, or by R rows of one
// vector where rows are shared (conv_planar.hpp says when), kept in registers over all terms of the sum.
#pragma once
#include "kernels/conv_tile.hpp"
#include "kernels/gemm_square.hpp"

namespace pfn::PFN_ISA {

constexpr int kPlanarChannels = 6;

// Most vectors of a tile of F channels.
#if defined(PFN_ISA_AVX512)
constexpr int kPlanarVectors[kPlanarChannels] = {8, 8, 8, 6, 4, 4};
#else
constexpr int kPlanarVectors[kPlanarChannels] = {6, 6, 4, 3, 2, 2};
#endif

// Tiles that share rows: most channels F, and most rows for filters of K rows. With AVX-512 the K * F weights of a term
// stay in registers beside the sums: read for every use they would keep the load units busier than the arithmetic is.
constexpr int kSharedChannels = 3;
constexpr int shared_most(int F, int K) {
#if defined(PFN_ISA_AVX512)
  return (31 - K * F) / F < 8 ? (31 - K * F) / F : 8;
#else
  return K > 0 && F == 1 ? 8 : 4;
#endif
}

template <class T>
struct PlanarTile {
  std::int64_t terms;
  const std::int64_t* at;  // of each term, in entries from the pixel
  const T* w;              // [terms][F]
  const T* bias;
  std::int64_t out_plane;
  // Lines are fetched with each term: one of what the band will write, `lines` of the source of the next band.
  const char* fetch_out;
  const char* fetch_source;

  template <int lines>
  PFN_ALWAYS_INLINE void fetch(std::int64_t term) const {
    __builtin_prefetch(fetch_out + 64 * term, 1, 2);
#pragma GCC unroll 8
    for (int i = 0; i < lines; ++i) __builtin_prefetch(fetch_source + 64 * (lines * term + i), 0, 2);
  }
  // The same for the tile behind.
  PFN_ALWAYS_INLINE void advance(std::int64_t lines) {
    fetch_out += 64 * terms;
    fetch_source += 64 * lines * terms;
  }
};
template <class T>
using PlanarFn = void (*)(const PlanarTile<T>& t, const T* planes, const std::int64_t* offset, T* out);

// offset[v]: where vector v of pixels begins in a plane; they are stored one behind the other.
template <class T, int F, int V>
static void planar_tile(const PlanarTile<T>& t, const T* planes, const std::int64_t* offset, T* out) {
  constexpr std::int64_t lanes = kLanes<T>;
  Vec<T> acc[F][V];
#pragma GCC unroll 8
  for (int f = 0; f < F; ++f) {
    const Vec<T> b = splat(t.bias ? t.bias[f] : T(0));
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[f][v] = b;
  }
  std::int64_t off[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) off[v] = offset[v];
  const T* w = t.w;
  for (std::int64_t k = 0; k < t.terms; ++k, w += F) {
    const T* const p = planes + t.at[k];
    t.template fetch<1>(k);
    Vec<T> x[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) x[v] = load<T>(p + off[v]);
#pragma GCC unroll 8
    for (int f = 0; f < F; ++f) {
      const Vec<T> wf = splat(w[f]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[f][v] = fma(wf, x[v], acc[f][v]);
    }
  }
#pragma GCC unroll 8
  for (int f = 0; f < F; ++f) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store<T>(out + f * t.out_plane + v * lanes, acc[f][v]);
  }
}

template <class T, int F, int... V>
static const PlanarFn<T>* planar_tiles_of(LaneList<V...>) {
  static constexpr PlanarFn<T> fn[sizeof...(V)] = {planar_tile<T, F, V + 1>...};
  return fn;
}

// The tiles of 1 .. kPlanarVectors[channels - 1] vectors; index by vectors - 1.
template <class T>
static inline const PlanarFn<T>* find_planar_tiles(std::int64_t channels) {
#define PFN_PLANAR(F) \
  if (channels == (F)) return planar_tiles_of<T, (F)>(typename LanesUpTo<kPlanarVectors[(F) - 1]>::type{})
  PFN_PLANAR(2);
  PFN_PLANAR(3);
  PFN_PLANAR(4);
  PFN_PLANAR(5);
  PFN_PLANAR(6);
#undef PFN_PLANAR
  return planar_tiles_of<T, 1>(typename LanesUpTo<kPlanarVectors[0]>::type{});
}

// R rows of one vector. out_step: entries from one row of the output to the next.
template <class T, int F, int K, int R>
static void shared_tile(const PlanarTile<T>& t, const T* planes, std::int64_t ld, T* out, std::int64_t out_step) {
  Vec<T> acc[F][R];
#pragma GCC unroll 8
  for (int f = 0; f < F; ++f) {
    const Vec<T> b = splat(t.bias ? t.bias[f] : T(0));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[f][r] = b;
  }
  const T* w = t.w;
  for (std::int64_t k = 0; k < t.terms; ++k, w += K * F) {
    const T* p = planes + t.at[k];
    t.template fetch<K>(k);
#pragma GCC unroll 16
    for (int q = 0; q < R + K - 1; ++q) {
      const Vec<T> x = load<T>(p);
      advance(p, ld);
#pragma GCC unroll 8
      for (int ky = 0; ky < K; ++ky) {
        if (q - ky < 0 || q - ky >= R) continue;
#pragma GCC unroll 8
        for (int f = 0; f < F; ++f) acc[f][q - ky] = fma(splat(w[ky * F + f]), x, acc[f][q - ky]);
      }
    }
  }
#pragma GCC unroll 8
  for (int f = 0; f < F; ++f) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store<T>(out + f * t.out_plane + r * out_step, acc[f][r]);
  }
}

template <class T>
using SharedFn = void (*)(const PlanarTile<T>& t, const T* planes, std::int64_t ld, T* out, std::int64_t out_step);
template <class T, int F, int K, int... R>
static const SharedFn<T>* shared_tiles_of(LaneList<R...>) {
  static constexpr SharedFn<T> fn[sizeof...(R)] = {shared_tile<T, F, K, R + 1>...};
  return fn;
}

// All output rows of a band, in tiles of nearly the same number of rows.
template <class T, int F, int K>
static void shared_rows(PlanarTile<T> t, const T* planes, std::int64_t ld, std::int64_t rows, std::int64_t vectors,
                        T* out) {
  constexpr std::int64_t lanes = kLanes<T>;
  const SharedFn<T>* const fn = shared_tiles_of<T, F, K>(typename LanesUpTo<shared_most(F, K)>::type{});
  const std::int64_t out_step = vectors * lanes;
  const std::int64_t tiles = div_up(rows, shared_most(F, K));
  const std::int64_t low = rows / tiles, higher = rows - low * tiles;
  for (std::int64_t v = 0; v < vectors; ++v) {
    const T* p = planes + v * lanes;
    T* y = out + v * lanes;
    for (std::int64_t i = 0; i < tiles; ++i, t.advance(K)) {
      const std::int64_t count = low + (i < higher);
      fn[count - 1](t, p, ld, y, out_step);
      p += count * ld;
      y += count * out_step;
    }
  }
}
template <class T>
static void conv_shared(const PlanarTile<T>& t, std::int64_t channels, std::int64_t kernel, const T* planes,
                        std::int64_t ld, std::int64_t rows, std::int64_t vectors, T* out) {
  const auto fn = channels == 1   ? (kernel == 3 ? shared_rows<T, 1, 3> : shared_rows<T, 1, 5>)
                  : channels == 2 ? (kernel == 3 ? shared_rows<T, 2, 3> : shared_rows<T, 2, 5>)
                                  : (kernel == 3 ? shared_rows<T, 3, 3> : shared_rows<T, 3, 5>);
  fn(t, planes, ld, rows, vectors, out);
}

}  // namespace pfn::PFN_ISA
