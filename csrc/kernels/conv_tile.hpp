// The microkernel of convolutions with filters in the lanes: MR neighbouring output pixels by NV vectors of output
// channels, kept in registers over all terms of the sum.
//
//            w: NV vectors a term       for each filter row, run of taps, term:  load NV vectors of w,
//   x: MR  +-----------+-----------+      for each pixel i:  broadcast x[i * pixel_step],
//   pixels | acc[0][0] |  last[0]  |        acc[i][j] = fma(x, w[j], acc[i][j])
//          | acc[1][0] |    ...    |
//          +-----------+-----------+    acc starts with the bias and is stored once
//
// A run is a stretch of taps and channels that lies in one piece in the source row: all taps of a filter row where they
// are neighbours, else one tap. Every element is the fused (generic: rounded) chain over filter rows, columns, channels
// in order, whatever the tile. Filters are packed and padded with zeros to whole vectors; x is read one number at a
// time, so nothing beside an array is read. The last vector of a panel may be a half one, as in gemm_micro.hpp.
#pragma once
#include "kernels/gemm_plan.hpp"
#include "kernels/transpose.hpp"

namespace pfn::PFN_ISA {

static inline std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// Widest panel in vectors, and the most pixels of a tile of nv vectors.
#if defined(PFN_ISA_AVX512)
constexpr int kConvVectors = 3;
constexpr int kConvPixels[kConvVectors] = {16, 14, 9};
#elif defined(PFN_ISA_AVX2)
constexpr int kConvVectors = 2;
constexpr int kConvPixels[kConvVectors] = {12, 6};
#else
constexpr int kConvVectors = 2;
constexpr int kConvPixels[kConvVectors] = {8, 5};
#endif

template <class T>
struct ConvTile {
  std::int64_t pixel_step;             // source entries from one output pixel to the next
  std::int64_t rows, row_step, w_row;  // filter rows: how many, how far apart in the source and in the filters
  std::int64_t runs, run_step, w_run;  // runs of a filter row, likewise
  std::int64_t length;                 // terms of a run
  std::int64_t out_step;               // output entries from one pixel to the next
  std::int64_t last_count;             // channels in the panel's last vector, 1 .. lanes
};
template <class T>
using ConvTileFn = void (*)(const ConvTile<T>& t, const T* x, const T* w, const T* bias, T* y);

template <class T, int MR, int NV, bool half>
static void conv_tile(const ConvTile<T>& t, const T* x, const T* w, const T* bias, T* y) {
  constexpr std::int64_t lanes = kLanes<T>;
  constexpr int whole = NV - 1;
  constexpr int near = MR > 8 ? 8 : MR;  // two pointers, so that all pixels are in reach of few index registers
  using Tail = Last<T, half>;
  const std::int64_t step = t.pixel_step;
  const std::int64_t out_step = t.out_step;
  const std::int64_t count = t.last_count;
  // A short sum is over before a line of y would have come, and stores wait for theirs one by one.
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) __builtin_prefetch(y + i * out_step + j * lanes, 1);
  }
  Vec<T> acc[MR][NV];  // [MR][whole] of them are used
  typename Tail::type last[MR];
  if (bias) {
#pragma GCC unroll 32
    for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < whole; ++j) acc[i][j] = load<T>(bias + j * lanes);
      last[i] = Tail::read(bias + whole * lanes, count);
    }
  } else {
#pragma GCC unroll 32
    for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < whole; ++j) acc[i][j] = splat(T(0));
      last[i] = Tail::zero();
    }
  }
  const ConvTile<T>* steps = &t;
  for (std::int64_t r = t.rows; r > 0; --r, x += steps->row_step, w += steps->w_row) {
    const T* run_x = x;
    const T* run_w = w;
    __asm__("" : "+r"(steps));  // read again where they are needed: there are not registers enough to keep them all
    for (std::int64_t s = steps->runs; s > 0; --s, run_x += steps->run_step, run_w += steps->w_run) {
      __asm__("" : "+r"(steps));
      const T* a0 = run_x;
      const T* a8 = run_x + 8 * step;
      const T* b = run_w;
      for (std::int64_t k = steps->length; k > 0; --k, ++a0, ++a8, b += NV * lanes) {
        Vec<T> bv[NV];
#pragma GCC unroll 4
        for (int j = 0; j < whole; ++j) bv[j] = load<T>(b + j * lanes);
        const typename Tail::type b_last = Tail::read_b(b + whole * lanes, half ? lanes / 2 : lanes);
#pragma GCC unroll 32
        for (int i = 0; i < MR; ++i) {
          const T one = i < near ? a0[i * step] : a8[(i - 8) * step];
          if constexpr (NV == 1) {  // a half vector alone: broadcasting to a whole one is twice the load
            last[i] = Tail::mul_add(Tail::all(one), b_last, last[i]);
            continue;
          }
          const Vec<T> av = splat(one);
#pragma GCC unroll 4
          for (int j = 0; j < whole; ++j) acc[i][j] = fma(av, bv[j], acc[i][j]);
          last[i] = Tail::mul_add(Tail::low(av), b_last, last[i]);
        }
      }
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < whole; ++j) store<T>(y + i * out_step + j * lanes, acc[i][j]);
  }
  y += whole * lanes;
  if (!half && count == lanes) {
#pragma GCC unroll 32
    for (int i = 0; i < MR; ++i) Tail::write(y + i * out_step, last[i], lanes);
  } else {
#pragma GCC unroll 32
    for (int i = 0; i < MR; ++i) Tail::write(y + i * out_step, last[i], count);
  }
}

// The tiles of 1 .. kConvPixels[NV - 1] pixels. Local tables: constant-initialised, no symbol other ISAs could share.
template <class T, int NV, bool half, int... MR>
static const ConvTileFn<T>* conv_tiles_of(LaneList<MR...>) {
  static constexpr ConvTileFn<T> fn[sizeof...(MR)] = {conv_tile<T, MR + 1, NV, half>...};
  return fn;
}
template <class T, int NV>
static inline const ConvTileFn<T>* conv_tiles_of(bool half) {
  using Pixels = typename LanesUpTo<kConvPixels[NV - 1]>::type;
#if defined(PFN_ISA_AVX512)
  if (half) return conv_tiles_of<T, NV, true>(Pixels{});
#else
  (void)half;
#endif
  return conv_tiles_of<T, NV, false>(Pixels{});
}

// The table for panels of nv vectors, of which the last has half its lanes or fewer; index it by pixels - 1.
template <class T>
static inline const ConvTileFn<T>* find_conv_tiles(std::int64_t nv, bool half) {
  switch (nv) {
    case 1:
      return conv_tiles_of<T, 1>(half);
#if defined(PFN_ISA_AVX512)
    case 3:
      return conv_tiles_of<T, 3>(half);
#endif
    default:
      return conv_tiles_of<T, 2>(half);
  }
}

}  // namespace pfn::PFN_ISA
