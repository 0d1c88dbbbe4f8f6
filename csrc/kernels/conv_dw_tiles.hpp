// Register tiles of the gradient of convolution weights (conv_dw.cpp): sums over the pixels of a block of images.
//
//   filter tile   J * MR rows by NV vectors: lanes are filters. Per pixel: load NV vectors of dy, broadcast J * MR
//                 values of x. J > 1 takes several taps at once, so that short rows (one input channel) still fill the
//                 pipeline with independent sums.
//   run tile      MR filters by V vectors: lanes are a run of x (kw and channels lie side by side). Per pixel: load V
//                 vectors of x, broadcast MR values of dy. For few filters.
//   depth tile    V taps: lanes are channels; acc[v] += x[v] * dy. For depthwise convolution.
//
// Every sum is a chain of fused (generic: rounded) multiply-adds over the pixels in order, from 0, whatever the tile.
// The innermost loop is over pixels and stays rolled; accumulators stay in registers over all rows and images.
#pragma once
#include "kernels/gemm_micro.hpp"
#include "kernels/transpose.hpp"

namespace pfn::PFN_ISA {

#if defined(PFN_ISA_AVX512)
constexpr int kDwVectors = 4;                        // widest filter tile
constexpr int kDwRows[kDwVectors] = {24, 14, 8, 6};  // most rows of a filter tile of 1 .. 4 vectors
constexpr int kDwJointSums = 28, kDwRunSums = 30;    // most accumulators of joint filter tiles and run tiles
constexpr int kDwRunFilters = 8, kDwRunVectors = 8;
constexpr int kDwDepthTaps = 9;
#elif defined(PFN_ISA_AVX2)
constexpr int kDwVectors = 2;
constexpr int kDwRows[kDwVectors] = {12, 6};
constexpr int kDwJointSums = 12, kDwRunSums = 12;
constexpr int kDwRunFilters = 6, kDwRunVectors = 6;
constexpr int kDwDepthTaps = 9;
#else
constexpr int kDwVectors = 2;
constexpr int kDwRows[kDwVectors] = {8, 4};
constexpr int kDwJointSums = 8, kDwRunSums = 8;
constexpr int kDwRunFilters = 4, kDwRunVectors = 4;
constexpr int kDwDepthTaps = 9;
#endif
constexpr int kDwJointRows = 7;  // joint tiles are for runs of at most so many values

// The pixels a tile sums over: images, rows of an image, pixels of a row. Distances are in items.
struct DwPixels {
  std::int64_t images, rows, width;
  std::int64_t x_image, x_row, x_pixel;
  std::int64_t dy_image, dy_row, dy_pixel;
};

template <class T>
struct DwTile {
  DwPixels at;
  const T* x;
  const T* dy;
  T* sums;               // where the tile's sums go
  std::int64_t ld;       // distance between their rows
  std::int64_t joint_x;  // filter tile: distance in x and in sums from one tap to the next
  std::int64_t joint_sums;
  std::int64_t last_count;                 // filter tile: columns in the last vector
  bool add;                                // to what is there already
  std::int64_t x_offset[kDwDepthTaps];     // run and depth tile: of each vector of x
  std::int64_t sums_offset[kDwDepthTaps];  // run tile
};
template <class T>
using DwTileFn = void (*)(const DwTile<T>& t);

template <class T, int J, int MR, int NV, bool half>
static void dw_filter_tile(const DwTile<T>& t) {
  constexpr int whole = NV - 1;
  constexpr int rows = J * MR;
  constexpr std::int64_t lanes = kLanes<T>;
  using Tail = Last<T, half>;
  Vec<T> acc[rows][NV];  // [rows][whole] of them are used
  typename Tail::type last[rows];
#pragma GCC unroll 32
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < whole; ++j) acc[i][j] = splat(T(0));
    last[i] = Tail::zero();
  }
  const DwPixels at = t.at;
  const std::int64_t count = t.last_count;
  for (std::int64_t image = 0; image < at.images; ++image) {
    for (std::int64_t row = 0; row < at.rows; ++row) {
      const T* dy = t.dy + image * at.dy_image + row * at.dy_row;
      const T* x[J];
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) x[j] = t.x + image * at.x_image + row * at.x_row + j * t.joint_x;
      for (std::int64_t pixel = at.width; pixel > 0; --pixel) {
        Vec<T> b[NV];
#pragma GCC unroll 4
        for (int j = 0; j < whole; ++j) b[j] = load<T>(dy + j * lanes);
        const typename Tail::type b_last = Tail::read_b(dy + whole * lanes, count);
#pragma GCC unroll 8
        for (int j = 0; j < J; ++j) {
#pragma GCC unroll 32
          for (int m = 0; m < MR; ++m) {
            const int i = j * MR + m;
            if constexpr (NV == 1) {
              last[i] = Tail::mul_add(Tail::all(x[j][m]), b_last, last[i]);
            } else {
              const Vec<T> a = splat(x[j][m]);
#pragma GCC unroll 4
              for (int k = 0; k < whole; ++k) acc[i][k] = fma(a, b[k], acc[i][k]);
              last[i] = Tail::mul_add(Tail::low(a), b_last, last[i]);
            }
          }
          x[j] += at.x_pixel;
        }
        dy += at.dy_pixel;
      }
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) {
#pragma GCC unroll 32
    for (int m = 0; m < MR; ++m) {
      const int i = j * MR + m;
      T* p = t.sums + j * t.joint_sums + m * t.ld;
      if (t.add) {
#pragma GCC unroll 4
        for (int k = 0; k < whole; ++k) acc[i][k] += load<T>(p + k * lanes);
        last[i] += Tail::read(p + whole * lanes, count);
      }
#pragma GCC unroll 4
      for (int k = 0; k < whole; ++k) store<T>(p + k * lanes, acc[i][k]);
      Tail::write(p + whole * lanes, last[i], count);
    }
  }
}

template <class T, int MR, int V>
static void dw_run_tile(const DwTile<T>& t) {
  Vec<T> acc[MR][V];
#pragma GCC unroll 8
  for (int f = 0; f < MR; ++f)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[f][v] = splat(T(0));
  const DwPixels at = t.at;
  for (std::int64_t image = 0; image < at.images; ++image) {
    for (std::int64_t row = 0; row < at.rows; ++row) {
      const T* dy = t.dy + image * at.dy_image + row * at.dy_row;
      const T* x[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) x[v] = t.x + image * at.x_image + row * at.x_row + t.x_offset[v];
      for (std::int64_t pixel = at.width; pixel > 0; --pixel) {
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          const Vec<T> xv = load<T>(x[v]);
#pragma GCC unroll 8
          for (int f = 0; f < MR; ++f) acc[f][v] = fma(splat(dy[f]), xv, acc[f][v]);
          x[v] += at.x_pixel;
        }
        dy += at.dy_pixel;
      }
    }
  }
#pragma GCC unroll 8
  for (int f = 0; f < MR; ++f) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      T* p = t.sums + f * t.ld + t.sums_offset[v];
      store<T>(p, t.add ? acc[f][v] + load<T>(p) : acc[f][v]);
    }
  }
}

// `whole`: a whole vector of channels, otherwise last_count of them.
template <class T, int V, bool whole>
static void dw_depth_tile(const DwTile<T>& t) {
  Vec<T> acc[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) acc[v] = splat(T(0));
  const DwPixels at = t.at;
  const std::int64_t count = t.last_count;
  for (std::int64_t image = 0; image < at.images; ++image) {
    for (std::int64_t row = 0; row < at.rows; ++row) {
      const T* dy = t.dy + image * at.dy_image + row * at.dy_row;
      const T* x = t.x + image * at.x_image + row * at.x_row;
      for (std::int64_t pixel = at.width; pixel > 0; --pixel) {
        const Vec<T> d = whole ? load<T>(dy) : load_partial(dy, count);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) {
          const T* p = x + t.x_offset[v];
          acc[v] = fma(whole ? load<T>(p) : load_partial(p, count), d, acc[v]);
        }
        x += at.x_pixel;
        dy += at.dy_pixel;
      }
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) {
    T* p = t.sums + v * t.ld;
    if (whole) {
      store<T>(p, t.add ? acc[v] + load<T>(p) : acc[v]);
    } else {
      store_partial(p, t.add ? acc[v] + load_partial(p, count) : acc[v], count);
    }
  }
}

// Tables of all sizes; index by size - 1. They are constant-initialised.
template <class T, int NV, bool half, int... K>
static const DwTileFn<T>* dw_filter_table(LaneList<K...>) {
  static constexpr DwTileFn<T> fn[] = {dw_filter_tile<T, 1, K + 1, NV, half>...};
  return fn;
}
template <class T, int NV, bool half>
static const DwTileFn<T>* dw_filter_table() {
  return dw_filter_table<T, NV, half>(typename LanesUpTo<kDwRows[NV - 1]>::type{});
}

template <class T, int J, int NV, bool half, int... K>
static const DwTileFn<T>* dw_joint_table(LaneList<K...>) {
  static constexpr DwTileFn<T> fn[] = {dw_filter_tile<T, J, K + 1, NV, half>..., nullptr};
  return fn;
}
constexpr int dw_joint_rows(int joint, int nv) {
  return kDwJointSums / (joint * nv) < kDwJointRows ? kDwJointSums / (joint * nv) : kDwJointRows;
}
template <class T, int J>
static const DwTileFn<T>* dw_joint_table(std::int64_t nv, bool half) {
  using One = typename LanesUpTo<dw_joint_rows(J, 1)>::type;
  if (nv == 2) return dw_joint_table<T, J, 2, false>(typename LanesUpTo<dw_joint_rows(J, 2)>::type{});
#if defined(PFN_ISA_AVX512)
  if (half) return dw_joint_table<T, J, 1, true>(One{});
#else
  (void)half;
#endif
  return dw_joint_table<T, J, 1, false>(One{});
}

template <class T, int MR, int... K>
static const DwTileFn<T>* dw_run_table(LaneList<K...>) {
  static constexpr DwTileFn<T> fn[] = {dw_run_tile<T, MR, K + 1>...};
  return fn;
}
constexpr int dw_run_vectors(int filters) {
  return kDwRunSums / filters < kDwRunVectors ? kDwRunSums / filters : kDwRunVectors;
}

template <class T, bool whole, int... K>
static const DwTileFn<T>* dw_depth_table(LaneList<K...>) {
  static constexpr DwTileFn<T> fn[] = {dw_depth_tile<T, K + 1, whole>...};
  return fn;
}

template <class T>
static inline DwTileFn<T> find_dw_filter(std::int64_t nv, bool half, std::int64_t rows) {
  switch (nv) {
    case 1:
#if defined(PFN_ISA_AVX512)
      if (half) return dw_filter_table<T, 1, true>()[rows - 1];
#endif
      return dw_filter_table<T, 1, false>()[rows - 1];
#if defined(PFN_ISA_AVX512)
    case 3:
      return dw_filter_table<T, 3, false>()[rows - 1];
    case 4:
      return dw_filter_table<T, 4, false>()[rows - 1];
#endif
    default:
      (void)half;
      return dw_filter_table<T, 2, false>()[rows - 1];
  }
}

// Taps a joint tile may take: 5, 3, 2, or 1 if there is no such tile.
static inline std::int64_t dw_joint_taps(std::int64_t taps, std::int64_t nv, std::int64_t rows) {
  if (nv > 2 || rows > kDwJointRows) return 1;
  for (std::int64_t joint = 5; joint > 1; joint = joint == 5 ? 3 : joint - 1)
    if (joint <= taps && joint * nv * rows <= kDwJointSums) return joint;
  return 1;
}
template <class T>
static inline DwTileFn<T> find_dw_joint(std::int64_t joint, std::int64_t nv, bool half, std::int64_t rows) {
  const DwTileFn<T>* table = joint == 5   ? dw_joint_table<T, 5>(nv, half)
                             : joint == 3 ? dw_joint_table<T, 3>(nv, half)
                                          : dw_joint_table<T, 2>(nv, half);
  return table[rows - 1];
}

template <class T>
static inline DwTileFn<T> find_dw_run(std::int64_t filters, std::int64_t vectors) {
#define PFN_RUN_TABLE(MR) dw_run_table<T, (MR)>(typename LanesUpTo<dw_run_vectors(MR)>::type{})[vectors - 1]
  switch (filters) {
    case 1:
      return PFN_RUN_TABLE(1);
    case 2:
      return PFN_RUN_TABLE(2);
    case 3:
      return PFN_RUN_TABLE(3);
#if !defined(PFN_ISA_GENERIC)
    case 5:
      return PFN_RUN_TABLE(5);
    case 6:
      return PFN_RUN_TABLE(6);
#endif
#if defined(PFN_ISA_AVX512)
    case 7:
      return PFN_RUN_TABLE(7);
    case 8:
      return PFN_RUN_TABLE(8);
#endif
    default:
      return PFN_RUN_TABLE(4);
  }
#undef PFN_RUN_TABLE
}

template <class T>
static inline DwTileFn<T> find_dw_depth(std::int64_t taps, bool whole) {
  typename LanesUpTo<kDwDepthTaps>::type all;
  return (whole ? dw_depth_table<T, true>(all) : dw_depth_table<T, false>(all))[taps - 1];
}

}  // namespace pfn::PFN_ISA
