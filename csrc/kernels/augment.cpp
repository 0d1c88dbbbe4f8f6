// Random changes of the images [n, h, w, c] of a batch: flips, a shifted crop of the padded image, and a square of
// zeros.
//
//   forward   y[i, j] = 0 inside the square, else x[a, b], or 0 where (a, b) is outside the image
//             a = (h - 1 - i if flipped vertically, else i) + shift_v,   shift_v and shift_h in [-pad, pad]
//             b = (w - 1 - j if flipped horizontally, else j) + shift_h
//   backward  dx[a, b] = dy[i, j] where the forward pass copied x[a, b] to y[i, j], else 0
//
// `flip` is 1 for horizontal, 2 for vertical, 3 for both; each happens with probability 1/2. The square has `cutout`
// pixels a side around a pixel drawn from the whole image, and is cut off at the border (DeVries and Taylor, arXiv
// 1708.04552). Image k takes the four words of Philox4x32-10 with key (seed low, seed high) and counter (k low, k high,
// node, step low): the top two bits of the first say which flips happen, the next two give the shifts, the last one the
// square's centre, each as (word * choices) >> 32. Copies only: exact, a NaN goes where its pixel goes.
#include "kernels/kernel.hpp"
#include "kernels/philox.hpp"

namespace pfn::PFN_ISA {

struct ImageSize {
  std::int64_t h, w, c;
};

// How one image is read: pixel (i, j) of what is written comes from pixel (a, b) of what is read.
struct Change {
  bool flip_v, flip_h;
  std::int64_t shift_v, shift_h;
  std::int64_t top, bottom, left, right;  // the square, in pixels of what is written
};

static inline std::int64_t whole(double attr) {
  constexpr double most = 1 << 30;  // so that nothing below overflows
  return static_cast<std::int64_t>(attr < most ? attr : most);
}

static inline std::int64_t choice(std::uint32_t word, std::int64_t choices) {
  return static_cast<std::int64_t>((std::uint64_t{word} * static_cast<std::uint64_t>(choices)) >> 32);
}

static inline std::int64_t within(std::int64_t value, std::int64_t limit) {
  return value < 0 ? 0 : value < limit ? value : limit;
}

static inline Change drawn(const OpCall& call, const std::uint32_t* word, const ImageSize& size) {
  const std::int64_t flip = whole(call.attr[0]), pad = whole(call.attr[1]), cutout = whole(call.attr[2]);
  Change change;
  change.flip_h = (flip & 1) != 0 && (word[0] >> 31) != 0;
  change.flip_v = (flip & 2) != 0 && ((word[0] >> 30) & 1) != 0;
  change.shift_v = choice(word[1], 2 * pad + 1) - pad;
  change.shift_h = choice(word[2], 2 * pad + 1) - pad;
  const std::int64_t centre = choice(word[3], size.h * size.w);
  const std::int64_t top = centre / size.w - cutout / 2, left = centre % size.w - cutout / 2;
  change.top = within(top, size.h);
  change.bottom = within(top + cutout, size.h);
  change.left = within(left, size.w);
  change.right = within(left + cutout, size.w);
  return change;
}

// The same change seen from the other side: what was read is written now.
static inline Change inverse(const Change& forward, const ImageSize& size) {
  Change back = forward;
  const std::int64_t v = forward.shift_v, h = forward.shift_h;
  back.top = within((forward.flip_v ? size.h - forward.bottom : forward.top) + v, size.h);
  back.bottom = within((forward.flip_v ? size.h - forward.top : forward.bottom) + v, size.h);
  back.left = within((forward.flip_h ? size.w - forward.right : forward.left) + h, size.w);
  back.right = within((forward.flip_h ? size.w - forward.left : forward.right) + h, size.w);
  if (!forward.flip_v) back.shift_v = -v;
  if (!forward.flip_h) back.shift_h = -h;
  return back;
}

// kChannels of 0 is any number.
template <class T, int kChannels>
static inline void copy_row(const T* __restrict from, T* __restrict to, const ImageSize& size, const Change& change) {
  const std::int64_t c = kChannels > 0 ? kChannels : size.c;
  const std::int64_t shift = change.shift_h;
  const std::int64_t first = within(change.flip_h ? shift : -shift, size.w);
  const std::int64_t last = within(change.flip_h ? size.w + shift : size.w - shift, size.w);
  for (std::int64_t k = 0; k < first * c; ++k) to[k] = T(0);
  if (change.flip_h) {
    const T* pixel = from + (size.w - 1 - first + shift) * c;
    for (std::int64_t j = first; j < last; ++j, pixel -= c)
      for (std::int64_t k = 0; k < c; ++k) to[j * c + k] = pixel[k];
  } else {
    for (std::int64_t k = first * c; k < last * c; ++k) to[k] = from[k + shift * c];
  }
  for (std::int64_t k = (last > first ? last : first) * c; k < size.w * c; ++k) to[k] = T(0);
}

template <class T, int kChannels>
static void change_image(const T* from, T* to, const ImageSize& size, const Change& change) {
  const std::int64_t row = size.w * size.c;
  for (std::int64_t i = 0; i < size.h; ++i) {
    const std::int64_t a = (change.flip_v ? size.h - 1 - i : i) + change.shift_v;
    T* written = to + i * row;
    if (a >= 0 && a < size.h)
      copy_row<T, kChannels>(from + a * row, written, size, change);
    else
      for (std::int64_t k = 0; k < row; ++k) written[k] = T(0);
    if (i >= change.top && i < change.bottom)
      for (std::int64_t k = change.left * size.c; k < change.right * size.c; ++k) written[k] = T(0);
  }
}

template <class T, bool kForward>
static inline void change_images(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const View& x = call.in[0];
  const ImageSize size = {x.shape[1], x.shape[2], x.shape[3]};
  const std::int64_t items = size.h * size.w * size.c;
  if (items == 0) return;
  const std::uint64_t seed = static_cast<std::uint64_t>(call.hyper[kHyper_seed]);
  const PhiloxKey key = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                         static_cast<std::uint32_t>(static_cast<std::uint64_t>(call.attr[3])),
                         static_cast<std::uint32_t>(static_cast<std::uint64_t>(call.hyper[kHyper_step]))};
  alignas(PFN_VEC_BYTES) std::uint32_t word[kPhiloxWords];
  constexpr std::int64_t at_once = kPhiloxWords / 4;
  for (std::int64_t n = begin; n < end; ++n) {
    if ((n - begin) % at_once == 0) philox_words(key, static_cast<std::uint64_t>(n), word);
    Change change = drawn(call, word + 4 * ((n - begin) % at_once), size);
    if (!kForward) change = inverse(change, size);
    const T* from = x.as<const T>() + n * items;
    T* to = call.out[0].as<T>() + n * items;
    if (size.c == 1)
      change_image<T, 1>(from, to, size, change);
    else if (size.c == 3)
      change_image<T, 3>(from, to, size, change);
    else
      change_image<T, 0>(from, to, size, change);
  }
}

template <class T>
static void augment_prepare(OpCall& call) {
  const View& x = call.in[0];
  const std::int64_t items = x.shape[1] * x.shape[2] * x.shape[3];
  const std::int64_t grain = items >= 4096 ? 1 : 4096 / (items > 0 ? items : 1);
  one_phase(call, x.shape[0], 20.0 + 0.15 * (sizeof(T) / 4) * static_cast<double>(items), grain);
}
template <class T>
static void augment_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  change_images<T, true>(call, begin, end);
}
PFN_KERNEL(augment, augment_prepare, augment_run);

template <class T>
static void augment_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  change_images<T, false>(call, begin, end);
}
PFN_KERNEL(augment_backward, augment_prepare, augment_backward_run);

}  // namespace pfn::PFN_ISA
