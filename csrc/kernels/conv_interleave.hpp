// Between channels last and planes: a plane holds one channel, its pixels side by side.
//
//   x: | p0c0 p0c1 p0c2 | p1c0 p1c1 p1c2 | ...  <->  plane 0: | p0 p1 p2 ... |  plane 1: | p0 p1 p2 ... |
//
// A pixel's channels are read and written in pieces of P = 1, 2, 4 .. lanes entries; P vectors of lanes / P pieces hold
// `lanes` pixels, vector i in piece k pixel k * P + i, and transposing P x P squares within pieces gives the planes.
#pragma once
#include "kernels/conv_tile.hpp"
#include "kernels/gemm_plan.hpp"
#include "kernels/transpose.hpp"

namespace pfn::PFN_ISA {

// A piece of P entries.
template <class T, int P>
struct Piece {
  typedef T type __attribute__((vector_size(P * sizeof(T))));
};
template <class T>
struct Piece<T, 1> {
  using type = T;
};

template <class T, int P, int... I>
static PFN_ALWAYS_INLINE typename Piece<T, 2 * P>::type join_pieces(typename Piece<T, P>::type a,
                                                                    typename Piece<T, P>::type b, LaneList<I...>) {
  return __builtin_shufflevector(a, b, I...);
}

// Piece k of the result is what read(k) gives, k = first .. first + Q / P - 1.
template <class T, int P, int Q, class Read>
static PFN_ALWAYS_INLINE typename Piece<T, Q>::type gather_pieces(const Read& read, int first) {
  if constexpr (P == Q) {
    return read(first);
  } else {
    return join_pieces<T, Q / 2>(gather_pieces<T, P, Q / 2>(read, first),
                                 gather_pieces<T, P, Q / 2>(read, first + Q / 2 / P), typename LanesUpTo<Q>::type{});
  }
}

template <class T, int P, int... I>
static PFN_ALWAYS_INLINE typename Piece<T, P>::type take_half(typename Piece<T, 2 * P>::type v, bool high,
                                                              LaneList<I...>) {
  return high ? __builtin_shufflevector(v, v, (P + I)...) : __builtin_shufflevector(v, v, I...);
}

// write(k, piece k) for the pieces of v, in order.
template <class T, int P, int Q, class Write>
static PFN_ALWAYS_INLINE void deal_pieces(typename Piece<T, Q>::type v, const Write& write, int first) {
  if constexpr (P == Q) {
    write(first, v);
  } else {
    deal_pieces<T, P, Q / 2>(take_half<T, Q / 2>(v, false, typename LanesUpTo<Q / 2>::type{}), write, first);
    deal_pieces<T, P, Q / 2>(take_half<T, Q / 2>(v, true, typename LanesUpTo<Q / 2>::type{}), write, first + Q / 2 / P);
  }
}

// The P x P squares of P vectors.
template <class T, int P, int kHalf = 1>
static PFN_ALWAYS_INLINE void transpose_squares(Vec<T>* v) {
  if constexpr (kHalf < P) {
#pragma GCC unroll 16
    for (int i = 0; i < P; ++i)
      if ((i & kHalf) == 0) swap_blocks<T, kHalf>(v[i], v[i + kHalf], typename LanesUpTo<kLanes<T>>::type{});
    transpose_squares<T, P, 2 * kHalf>(v);
  }
}

template <class T, int P>
static void to_planes_in_pieces(const T* x, std::int64_t channels, std::int64_t count, std::int64_t pixels,
                                const T* end, T* planes, std::int64_t plane) {
  constexpr std::int64_t lanes = kLanes<T>;
  T edge[lanes * P];
  for (std::int64_t p = 0; p < pixels; p += lanes) {
    const T* from = x + p * channels;
    std::int64_t step = channels;
    if (from + (lanes - 1) * channels + P > end) {
      const std::int64_t rest = smaller(lanes, pixels - p);
      for (std::int64_t i = 0; i < lanes; ++i)
        for (std::int64_t k = 0; k < P; ++k) edge[i * P + k] = i < rest && k < count ? from[i * channels + k] : T(0);
      from = edge;
      step = P;
    }
    Vec<T> v[P];
#pragma GCC unroll 16
    for (int i = 0; i < P; ++i) {
      const T* const first = from + i * step;
      v[i] = gather_pieces<T, P, static_cast<int>(lanes)>(
          [first, step](int k) {
            typename Piece<T, P>::type piece;
            __builtin_memcpy(&piece, first + k * P * step, sizeof(piece));
            return piece;
          },
          0);
    }
    transpose_squares<T, P>(v);
#pragma GCC unroll 16
    for (int k = 0; k < P; ++k)
      if (k < count) store<T>(planes + k * plane + p, v[k]);
  }
}

#if defined(PFN_ISA_AVX512)
// Entry `first` + 3 i, i = 0 .. lanes - 1, of three vectors that lie side by side.
template <class T, int first, int... I>
static PFN_ALWAYS_INLINE Vec<T> every_third(Vec<T> a, Vec<T> b, Vec<T> c, LaneList<I...>) {
  constexpr int lanes = static_cast<int>(kLanes<T>);
  const Vec<T> low = __builtin_shufflevector(a, b, (first + 3 * I < 2 * lanes ? first + 3 * I : 0)...);
  return __builtin_shufflevector(low, c, (first + 3 * I < 2 * lanes ? I : first + 3 * I - lanes)...);
}

// All three channels of whole vectors of pixels: two permutations a vector, where squares would take a dozen shuffles.
template <class T>
static void three_to_planes(const T* x, std::int64_t pixels, T* planes, std::int64_t plane) {
  constexpr std::int64_t lanes = kLanes<T>;
  const typename LanesUpTo<static_cast<int>(lanes)>::type all{};
  for (std::int64_t p = 0; p < pixels; p += lanes, x += 3 * lanes) {
    const Vec<T> a = load<T>(x), b = load<T>(x + lanes), c = load<T>(x + 2 * lanes);
    store<T>(planes + p, every_third<T, 0>(a, b, c, all));
    store<T>(planes + plane + p, every_third<T, 1>(a, b, c, all));
    store<T>(planes + 2 * plane + p, every_third<T, 2>(a, b, c, all));
  }
}

// The inverse in units of 1 or 2 entries: vector m of the three that take a unit of a, b and c in turn.
template <class T, int unit, int m, int... I>
static PFN_ALWAYS_INLINE Vec<T> in_turn(Vec<T> a, Vec<T> b, Vec<T> c, LaneList<I...>) {
  constexpr int lanes = static_cast<int>(kLanes<T>);
  const Vec<T> low = __builtin_shufflevector(
      a, b, ((m * lanes + I) / unit % 3 == 1 ? lanes : 0) + (m * lanes + I) / unit / 3 * unit + I % unit...);
  return __builtin_shufflevector(
      low, c, ((m * lanes + I) / unit % 3 == 2 ? lanes + (m * lanes + I) / unit / 3 * unit + I % unit : I)...);
}
template <class T, int unit>
static PFN_ALWAYS_INLINE void store_in_turn(T* y, Vec<T> a, Vec<T> b, Vec<T> c) {
  constexpr std::int64_t lanes = kLanes<T>;
  const typename LanesUpTo<static_cast<int>(lanes)>::type all{};
  store<T>(y, in_turn<T, unit, 0>(a, b, c, all));
  store<T>(y + lanes, in_turn<T, unit, 1>(a, b, c, all));
  store<T>(y + 2 * lanes, in_turn<T, unit, 2>(a, b, c, all));
}

// Half `high` of a and b, entry by entry.
template <class T, int high, int... I>
static PFN_ALWAYS_INLINE Vec<T> zipped(Vec<T> a, Vec<T> b, LaneList<I...>) {
  constexpr int lanes = static_cast<int>(kLanes<T>);
  return __builtin_shufflevector(a, b, (high * lanes / 2 + I / 2 + I % 2 * lanes)...);
}

// Whole vectors of pixels with three channels, and with six.
template <class T>
static void three_to_pixels(const T* planes, std::int64_t plane, std::int64_t pixels, T* y) {
  constexpr std::int64_t lanes = kLanes<T>;
  for (std::int64_t p = 0; p < pixels; p += lanes, y += 3 * lanes)
    store_in_turn<T, 1>(y, load<T>(planes + p), load<T>(planes + plane + p), load<T>(planes + 2 * plane + p));
}
template <class T>
static void six_to_pixels(const T* planes, std::int64_t plane, std::int64_t pixels, T* y) {
  constexpr std::int64_t lanes = kLanes<T>;
  const typename LanesUpTo<static_cast<int>(lanes)>::type all{};
  for (std::int64_t p = 0; p < pixels; p += lanes, y += 6 * lanes) {
    Vec<T> v[6];
#pragma GCC unroll 6
    for (int k = 0; k < 6; ++k) v[k] = load<T>(planes + k * plane + p);
    store_in_turn<T, 2>(y, zipped<T, 0>(v[0], v[1], all), zipped<T, 0>(v[2], v[3], all), zipped<T, 0>(v[4], v[5], all));
    store_in_turn<T, 2>(y + 3 * lanes, zipped<T, 1>(v[0], v[1], all), zipped<T, 1>(v[2], v[3], all),
                        zipped<T, 1>(v[4], v[5], all));
  }
}
#endif

// Channels [c0, c0 + count), count <= P, of `pixels` pixels into planes. The pieces of whole vectors of pixels may be
// read up to `end`; behind the last pixel up to lanes - 1 entries of a plane are overwritten.
template <class T, int P>
static void to_planes(const T* x, std::int64_t channels, std::int64_t count, std::int64_t pixels, const T* end,
                      T* planes, std::int64_t plane) {
  if constexpr (P == 1) {
    constexpr std::int64_t lanes = kLanes<T>;
    std::int64_t p = 0;
    for (; p + lanes <= pixels; p += lanes) store<T>(planes + p, load<T>(x + p));
    store<T>(planes + p, load_partial(x + p, pixels - p));
    return;
  } else {
    to_planes_in_pieces<T, P>(x, channels, count, pixels, end, planes, plane);
  }
}
// The inverse: `count` planes into the first `count` channels of y. A piece is written whole where what stands behind
// the pixel's channels comes later, and is no other group of channels. followed: the next row comes later, too.
template <class T, int P>
static void from_planes_in_pieces(const T* planes, std::int64_t plane, std::int64_t count, std::int64_t pixels, T* y,
                                  std::int64_t channels, bool followed) {
  constexpr std::int64_t lanes = kLanes<T>;
  // Pixels that may be written in whole pieces.
  const std::int64_t spill = followed ? 0 : div_up(P - count, channels);
  const std::int64_t behind = count == P ? 0 : count == channels ? spill : pixels;
  const std::int64_t whole = pixels - behind;
  for (std::int64_t p = 0; p < pixels; p += lanes) {
    T* const to = y + p * channels;
    Vec<T> v[P];
#pragma GCC unroll 16
    for (int k = 0; k < P; ++k) v[k] = load<T>(planes + (k < count ? k : 0) * plane + p);
    transpose_squares<T, P>(v);
    typename Piece<T, P>::type piece[lanes];
#pragma GCC unroll 16
    for (int i = 0; i < P; ++i)
      deal_pieces<T, P, static_cast<int>(lanes)>(
          v[i], [&piece, i](int k, typename Piece<T, P>::type part) { piece[k * P + i] = part; }, 0);
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i)
      if (p + i < whole) __builtin_memcpy(to + i * channels, &piece[i], sizeof(piece[i]));
  }
  for (std::int64_t p = larger(0, whole); p < pixels; ++p)
    for (std::int64_t k = 0; k < count; ++k) y[p * channels + k] = planes[k * plane + p];
}

template <class T, int P>
static void from_planes(const T* planes, std::int64_t plane, std::int64_t count, std::int64_t pixels, T* y,
                        std::int64_t channels, bool followed) {
  if constexpr (P == 1) {
    constexpr std::int64_t lanes = kLanes<T>;
    std::int64_t p = 0;
    for (; p + lanes <= pixels; p += lanes) store<T>(y + p, load<T>(planes + p));
    if (p < pixels) store_low(y + p, load<T>(planes + p), pixels - p);
  } else {
    from_planes_in_pieces<T, P>(planes, plane, count, pixels, y, channels, followed);
  }
}

}  // namespace pfn::PFN_ISA
