// How gradients of convolution weights are dealt out (conv_dw.cpp, conv_dw_pooled.cpp).
//
// The images are cut into blocks whose x and dy fit the second-level cache: several images, or a band of the rows of a
// large one. Blocks are dealt to chunks, and each chunk makes sums of its own; a second phase adds them in order. A
// chunk's work may be parted by taps and filters, which changes no sum. Blocks, chunks and parts follow from the shape
// alone: any number of threads gives the same bits.
#pragma once
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kDwBlockBytes = 1 << 17;    // x and dy of one block of images
constexpr std::int64_t kDwImageBytes = 1 << 18;    // larger images are cut into bands of rows
constexpr std::int64_t kDwScratchBytes = 1 << 19;  // partial sums of all chunks
constexpr std::int64_t kDwPieces = 16;
constexpr double kDwPieceNs = 10000;

static inline std::int64_t dw_min(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
static inline std::int64_t dw_max(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
static inline std::int64_t dw_ceil(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

enum class DwForm : std::int64_t { filters, runs, depth };

// Everything that follows from the shapes.
struct DwShape {
  std::int64_t n, h, w, c, out_h, out_w, f;
  std::int64_t kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w;
  std::int64_t groups, group_c, group_f;
  std::int64_t taps, run;     // each tap's values of x are `run` neighbours
  std::int64_t pad_h, pad_w;  // rows and columns of x that windows reach, zeros included
  std::int64_t rows;          // of dw as a matrix with f columns
  std::int64_t run_vectors;   // form runs: vectors a run takes
  DwForm form;
  bool copy;                  // read x from a copy
  bool pack;                  // filters: read the columns of dy beyond whole vectors from a copy
  std::int64_t images, band;  // a block: so many images, or so many output rows of one
  std::int64_t blocks, chunks;
  std::int64_t sums;   // partial sums of one chunk
  std::int64_t joint;  // filters: taps a tile takes at once
  std::int64_t tap_groups, panels, parts;
  std::int64_t x_items, dy_items;  // copies a thread makes
};

// Blocks, chunks, parts and copies of a shape whose sums cost `cost` ns and can be parted into `units`.
static inline void dw_deal(DwShape& s, std::int64_t item, std::int64_t units, double cost) {
  const std::int64_t x_row = s.pad_w * s.c, dy_row = s.out_w * s.f;
  const std::int64_t image_bytes = (s.pad_h * x_row + s.out_h * dy_row) * item;
  if (image_bytes <= kDwImageBytes) {
    s.band = s.out_h;
    s.images = dw_max(1, dw_min(kDwBlockBytes / dw_max(image_bytes, 1), dw_ceil(s.n, kDwPieces)));
    s.blocks = dw_ceil(s.n, s.images);
  } else {
    s.images = 1;
    const std::int64_t halo = (s.kernel_h - 1) * s.dilation_h * x_row * item;
    // An even number of rows: pooled cells have two.
    s.band = dw_min(s.out_h, dw_max(2, (kDwImageBytes - halo) / ((s.stride_h * x_row + dy_row) * item) / 2) * 2);
    s.blocks = s.n * dw_ceil(s.out_h, s.band);
  }
  const std::int64_t pieces =
      cost > kDwPieces * kDwPieceNs ? kDwPieces : dw_max(1, static_cast<std::int64_t>(cost / kDwPieceNs));
  s.chunks = dw_max(1, dw_min(dw_min(s.blocks, pieces), kDwScratchBytes / dw_max(1, s.sums * item)));
  s.parts = dw_max(1, dw_min(units, dw_ceil(pieces, s.chunks)));
  if (!s.copy) return;
  const std::int64_t lines = (s.band - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1;
  s.x_items = dw_ceil(s.images * lines * x_row + 64 / item, 16) * 16;  // a vector may begin at the last run
}

// Sums straight into dw need no second phase.
template <class T>
static inline void dw_phases(OpCall& call, const DwShape& s, double cost) {
  const bool direct = s.blocks == 0 || (s.chunks == 1 && s.form != DwForm::runs);
  call.phases = direct ? 1 : 2;
  call.phase[0] = Phase{s.chunks * s.parts, 1, cost};
  if (!direct) call.phase[1] = Phase{s.rows, 8, 0.02 * static_cast<double>(s.sums * s.chunks) * (sizeof(T) / 4)};
  call.scratch_bytes = direct ? 0 : s.chunks * s.sums * static_cast<std::int64_t>(sizeof(T));
  call.local_bytes = (s.x_items + s.dy_items) * static_cast<std::int64_t>(sizeof(T));
}

// The output rows [first, last) of the images [image, image + images).
struct DwBlock {
  std::int64_t image, images, first, last;
};

static inline DwBlock dw_block(const DwShape& s, std::int64_t block) {
  if (s.band == s.out_h) return {block * s.images, dw_min(s.images, s.n - block * s.images), 0, s.out_h};
  const std::int64_t bands = dw_ceil(s.out_h, s.band), band = block % bands;
  return {block / bands, 1, band * s.band, dw_min(s.out_h, (band + 1) * s.band)};
}

// Copies the rows of x the block reads, with zeros outside the image.
template <class T>
static void dw_copy(const DwShape& s, const DwBlock& b, const T* x, T* copy) {
  const std::int64_t from = b.first * s.stride_h, to = (b.last - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1;
  const std::int64_t row = s.pad_w * s.c, left = dw_min(s.left, s.pad_w);
  const std::int64_t inside = dw_max(0, dw_min(s.w, s.pad_w - left));
  const auto bytes = [](std::int64_t items) { return static_cast<std::size_t>(items) * sizeof(T); };
  for (std::int64_t i = 0; i < b.images; ++i) {
    for (std::int64_t r = from; r < to; ++r, copy += row) {
      const std::int64_t y = r - s.top;
      if (y < 0 || y >= s.h) {
        __builtin_memset(copy, 0, bytes(row));
        continue;
      }
      __builtin_memset(copy, 0, bytes(left * s.c));
      __builtin_memcpy(copy + left * s.c, x + (((b.image + i) * s.h + y) * s.w) * s.c, bytes(inside * s.c));
      __builtin_memset(copy + (left + inside) * s.c, 0, bytes((s.pad_w - left - inside) * s.c));
    }
  }
  __builtin_memset(copy, 0, bytes(kLanes<T>));  // a vector may begin at the last run and end here
}

// Adds the chunks' sums of rows [begin, end) of dw.
template <class T>
static void dw_add_chunks(const DwShape& s, const T* sums, std::int64_t begin, std::int64_t end, T* dw) {
  constexpr std::int64_t lanes = kLanes<T>;
  const auto total = [&](const T* p, std::int64_t count) {
    Vec<T> v = load_partial(p, count);
    for (std::int64_t chunk = 1; chunk < s.chunks; ++chunk) v += load_partial(p + chunk * s.sums, count);
    return v;
  };
  if (s.form != DwForm::runs) {
    const std::int64_t stop = end * s.f;
    std::int64_t i = begin * s.f;
    for (; i + lanes <= stop; i += lanes) {
      Vec<T> v = load<T>(sums + i);
      for (std::int64_t chunk = 1; chunk < s.chunks; ++chunk) v += load<T>(sums + chunk * s.sums + i);
      store<T>(dw + i, v);
    }
    if (i < stop) store_partial(dw + i, total(sums + i, stop - i), stop - i);
    return;
  }
  const std::int64_t ld = s.run_vectors * lanes;
  for (std::int64_t r = begin; r < end;) {
    const std::int64_t tap = r / s.run, m = r % s.run, count = dw_min(dw_min(lanes, s.run - m), end - r);
    for (std::int64_t f = 0; f < s.f; ++f) {
      T lane[lanes];
      store<T>(lane, total(sums + (tap * s.f + f) * ld + m, count));
      for (std::int64_t k = 0; k < count; ++k) dw[(r + k) * s.f + f] = lane[k];
    }
    r += count;
  }
}

}  // namespace pfn::PFN_ISA
