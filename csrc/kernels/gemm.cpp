// The loops around the microkernel. See gemm.hpp for what is computed and in which order.
//
// For each block of k (in order): for each block of rows of A (about 240 KiB): for each panel of columns: for each tile
// of rows. The block of A and one panel of B stay in the second-level cache together. nn and nt read A where it lies;
// tn copies it where short tiles, or a row length that is a multiple of the page, make reading it in place slower than
// the copy.
//
// Source: K. Goto, R. A. van de Geijn, Anatomy of high-performance matrix multiplication, ACM TOMS 34 (2008) 12; here
// panels of B are reused from the second-level cache and A is not packed.
#include "kernels/gemm.hpp"

#include "kernels/gemm_dot.hpp"
#include "kernels/gemm_few.hpp"
#include "kernels/gemm_pack.hpp"
#include "kernels/gemm_rows.hpp"

namespace pfn::PFN_ISA {

enum Note : int { kPath, kCopiesA, kOverColumns, kBlockTerms, kBlocks, kPanelColumns };

// Multiply-adds a nanosecond of one core, roughly: only to weigh a phase against the cost of waking threads.
template <class T>
static double macs_per_ns() {
#if defined(PFN_ISA_AVX512)
  constexpr double per_lane = 3.3;
#elif defined(PFN_ISA_AVX2)
  constexpr double per_lane = 6.0;
#else
  constexpr double per_lane = 4.2;
#endif
  return per_lane * static_cast<double>(kLanes<T>);
}

template <class T>
static void prepare(OpCall& call, GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t item = static_cast<std::int64_t>(sizeof(T));
  if (m == 0 || n == 0) {
    call.phases = 0;
    return;
  }
  const GemmPlan plan = make_plan<T>(layout, m, n, k);
  call.note[kPath] = static_cast<std::int64_t>(plan.path);
  call.note[kCopiesA] = plan.copy_a;
  call.note[kOverColumns] = plan.over_columns;
  call.note[kBlockTerms] = plan.kc;
  call.note[kBlocks] = plan.blocks;
  call.note[kPanelColumns] = plan.nc;
  const Panels<T> all(0, n);
  const double macs = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  Phase work{plan.over_columns ? n : m, plan.grain, 20 + macs / macs_per_ns<T>()};
  call.phases = 1;
  if (plan.path == GemmPath::shared) {
    const double moves = static_cast<double>(k) * static_cast<double>(n) * static_cast<double>(item);
    call.phase[0] = Phase{all.count * plan.blocks, 1, 0.03 * moves};
    call.phases = 2;
    call.scratch_bytes = k * all.padded() * item;
  } else if (plan.path == GemmPath::dot && n > 1 && layout == GemmLayout::nn) {
    const double moves = static_cast<double>(k) * static_cast<double>(n);
    call.phase[0] = Phase{div_up(k, kLanes<T>), 8, 0.2 * moves};
    call.phases = 2;
    call.scratch_bytes = n * dot_ld<T>(k) * item;
  } else if (plan.path == GemmPath::local) {
    call.local_bytes = plan.kc * plan.nc * item;
    work.cost += 0.03 * static_cast<double>(k * n * item);
  } else if (plan.path == GemmPath::direct && !kMasksTail && n % kLanes<T> != 0) {
    call.local_bytes = plan.kc * kMaxVectors * kLanes<T> * item;
  }
  if (plan.copy_a) call.local_bytes += copied_rows<T>(plan.kc, m) * copied_lda<T>(plan.kc) * item;
  call.phase[call.phases - 1] = work;
}

template <class T>
struct Product {
  const Gemm<T>& g;
  const GemmPlan& plan;

  PFN_ALWAYS_INLINE bool k_strided() const { return g.layout == GemmLayout::tn; }
  PFN_ALWAYS_INLINE std::int64_t lda() const { return k_strided() ? g.m : g.k; }
  PFN_ALWAYS_INLINE std::int64_t terms(std::int64_t block) const { return smaller(plan.kc, g.k - block * plan.kc); }
};

// Panels [p0, p1) of one block of k; panel p starts at out + column(p) * terms.
template <class T>
static void pack_panels(const Product<T>& x, const Panels<T>& panels, std::int64_t p0, std::int64_t p1,
                        std::int64_t block, T* out) {
  const std::int64_t k0 = block * x.plan.kc;
  const std::int64_t kc = x.terms(block);
  if (x.g.layout != GemmLayout::nt) {
    pack_rows(x.g.b + k0 * x.g.n + panels.n0, x.g.n, kc, panels, p0, p1, out);
    return;
  }
  for (std::int64_t p = p0; p < p1; ++p)
    pack_transposed(x.g.b + (panels.n0 + panels.column(p)) * x.g.k + k0, x.g.k, kc, panels.columns(p),
                    out + panels.column(p) * kc, panels.nv(p) * kLanes<T>);
}

// Rows [m0, m1) of the panels' columns, one block of k. packed: the block's panels one after the other, or null: then B
// is read in place. local: room for a copied block of A, then for one panel where the ISA cannot mask B's last columns.
template <class T>
static void multiply_block(const Product<T>& x, const Panels<T>& panels, const T* packed, T* local, std::int64_t block,
                           std::int64_t m0, std::int64_t m1) {
  constexpr std::int64_t lanes = kLanes<T>;
  const Gemm<T>& g = x.g;
  const std::int64_t k0 = block * x.plan.kc;
  const std::int64_t kc = x.terms(block);
  const std::int64_t last = panels.count - 1;
  const bool first = block == 0;
  const bool copy_a = x.plan.copy_a;
  const bool k_strided = x.k_strided() && !copy_a;
  const std::int64_t lda = copy_a ? copied_lda<T>(kc) : x.lda();
  const std::int64_t a_step = k_strided ? 1 : lda;
  // Rows of A a multiple of 2 KiB apart meet in one or two sets of the first-level cache, which hold 8 lines each.
  const bool same_set = !k_strided && lda * static_cast<std::int64_t>(sizeof(T)) % 2048 == 0;
  const T* edge = nullptr;
  if (!kMasksTail && !packed && panels.width % lanes != 0) {
    T* const room = local + (copy_a ? copied_rows<T>(x.plan.kc, g.m) * copied_lda<T>(x.plan.kc) : 0);
    pack_panels(x, Panels<T>(panels.n0 + panels.column(last), panels.columns(last)), 0, 1, block, room);
    edge = room;
  }
  const bool along_rows = kMasksTail && x.plan.kc <= kShortTerms && last > 1;
  const std::int64_t together = along_rows ? 2 * kMaxRows[kMaxVectors - 1] : rows_together<T>(x.plan.kc);
  const std::int64_t row_blocks = m1 - m0 <= together ? 1 : div_up(m1 - m0, together);
  const std::int64_t low_block = row_blocks == 1 ? m1 - m0 : (m1 - m0) / row_blocks;
  const std::int64_t higher_blocks = (m1 - m0) - low_block * row_blocks;
  std::int64_t r0 = m0;
  for (std::int64_t ic = 0; ic < row_blocks; ++ic) {
    const std::int64_t rows = low_block + (ic < higher_blocks);
    const T* a_block = k_strided ? g.a + r0 + k0 * lda : g.a + r0 * lda + k0;
    if (copy_a) {
      pack_transposed(g.a + k0 * g.m + r0, g.m, rows, kc, local, lda);
      a_block = local;
    }
    for (std::int64_t p = 0; p <= last; ++p) {
      const std::int64_t nv = panels.nv(p);
      const std::int64_t j = panels.n0 + panels.column(p);
      TileArgs<T> t{lda, nv * lanes, g.n, first ? 0 : g.n, kc, panels.columns(p) - (nv - 1) * lanes};
      const T* b;
      if (packed) {
        b = packed + panels.column(p) * kc;
      } else if (edge && p == last) {
        b = edge;
      } else {
        b = g.b + k0 * g.n + j;
        t.ldb = g.n;
      }
      const TileFn<T>* fn = find_tiles<T>(nv, k_strided, kMasksTail && 2 * t.last_count <= lanes);
      const std::int64_t most = same_set ? smaller(kMaxRows[nv - 1], 8) : kMaxRows[nv - 1];
      const std::int64_t tiles = rows <= most ? 1 : div_up(rows, most);
      const std::int64_t low = tiles == 1 ? rows : rows / tiles;
      const std::int64_t higher = rows - low * tiles;  // so many tiles have one row more
      const T* a = a_block;
      T* c = g.c + r0 * g.n + j;
      const T* const bias = g.bias ? g.bias + j : nullptr;
      for (std::int64_t i = 0; i < tiles; ++i) {
        const std::int64_t mr = low + (i < higher);
        fn[mr - 1](t, a, b, c, first ? bias : c);
        a += mr * a_step;
        c += mr * g.n;
      }
    }
    r0 += rows;
  }
}

// Rows [m0, m1) and columns [n0, n1), panels packed into `local` a few at a time.
template <class T>
static void multiply_local(const Product<T>& x, std::int64_t m0, std::int64_t m1, std::int64_t n0, std::int64_t n1,
                           T* local) {
  for (std::int64_t j = n0; j < n1; j += x.plan.nc) {
    const Panels<T> panels(j, smaller(x.plan.nc, n1 - j));
    for (std::int64_t block = 0; block < x.plan.blocks; ++block) {
      pack_panels(x, panels, 0, panels.count, block, local);
      multiply_block<T>(x, panels, local, nullptr, block, m0, m1);
    }
  }
}

// Products of one tile, which would spend as long on finding out about blocks and panels.
template <class T>
static PFN_ALWAYS_INLINE void multiply_one(const Gemm<T>& g, std::int64_t m0, std::int64_t rows) {
  constexpr std::int64_t lanes = kLanes<T>;
  const bool k_strided = g.layout == GemmLayout::tn;
  const std::int64_t nv = div_up(g.n, lanes);
  const std::int64_t rest = g.n - (nv - 1) * lanes;
  const TileArgs<T> t{k_strided ? g.m : g.k, g.n, g.n, 0, g.k, rest};
  find_tiles<T>(nv, k_strided, kMasksTail && 2 * rest <= lanes)[rows - 1](t, k_strided ? g.a + m0 : g.a + m0 * g.k, g.b,
                                                                          g.c + m0 * g.n, g.bias);
}

template <class T>
static void run(const OpCall& call, const Gemm<T>& g, int phase, std::int64_t begin, std::int64_t end, void* local) {
  if (begin >= end) return;
  if (call.note[kPath] == static_cast<std::int64_t>(GemmPath::one)) return multiply_one(g, begin, end - begin);
  const GemmPlan plan{static_cast<GemmPath>(call.note[kPath]),
                      call.note[kCopiesA] != 0,
                      call.note[kOverColumns] != 0,
                      call.note[kBlockTerms],
                      call.note[kBlocks],
                      call.note[kPanelColumns],
                      1};
  const Product<T> x{g, plan};
  const Panels<T> all(0, g.n);
  T* const scratch = static_cast<T*>(call.scratch);
  const std::int64_t block_stride = plan.kc * all.padded();
  if (plan.path == GemmPath::shared && phase == 0) {
    for (std::int64_t i = begin; i < end;) {  // panels of the first block of k, then those of the second, ...
      const std::int64_t block = i / all.count;
      const std::int64_t p0 = i - block * all.count;
      const std::int64_t p1 = smaller(all.count, p0 + end - i);
      pack_panels(x, all, p0, p1, block, scratch + block * block_stride);
      i += p1 - p0;
    }
    return;
  }
  const bool transposed = plan.path == GemmPath::dot && g.n > 1 && g.layout == GemmLayout::nn;
  if (transposed && phase == 0) {
    const std::int64_t k0 = begin * kLanes<T>;
    const std::int64_t k1 = smaller(g.k, end * kLanes<T>);
    pack_transposed(g.b + k0 * g.n, g.n, g.n, k1 - k0, scratch + k0, dot_ld<T>(g.k));
    return;
  }
  const std::int64_t m0 = plan.over_columns ? 0 : begin;
  const std::int64_t m1 = plan.over_columns ? g.m : end;
  const std::int64_t n0 = plan.over_columns ? begin : 0;
  const std::int64_t n1 = plan.over_columns ? end : g.n;
  if (plan.path == GemmPath::local) {
    multiply_local(x, m0, m1, n0, n1, static_cast<T*>(local));
    return;
  }
  if (plan.path == GemmPath::dot) {
    multiply_dot(g, transposed ? scratch : g.b, transposed ? dot_ld<T>(g.k) : g.k, m0, m1);
    return;
  }
  if (plan.path == GemmPath::dot_few) {
    multiply_dot_few(g, m0, m1);
    return;
  }
#if !defined(PFN_ISA_GENERIC)
  if (plan.path == GemmPath::few) {
    for (std::int64_t block = 0; block < plan.blocks; ++block) multiply_few(g, block * plan.kc, x.terms(block), n0, n1);
    return;
  }
#endif
  if (plan.path == GemmPath::rows) {
    for (std::int64_t block = 0; block < plan.blocks; ++block)
      multiply_rows(g, block * plan.kc, x.terms(block), m0, m1);
    return;
  }
  const Panels<T> panels(n0, n1 - n0);
  for (std::int64_t block = 0; block < plan.blocks; ++block) {
    const T* packed = plan.path == GemmPath::shared ? scratch + block * block_stride : nullptr;
    multiply_block(x, panels, packed, static_cast<T*>(local), block, m0, m1);
  }
}

void gemm_prepare(OpCall& call, GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k,
                  std::int64_t item_bytes) {
  if (item_bytes == 4)
    prepare<float>(call, layout, m, n, k);
  else
    prepare<double>(call, layout, m, n, k);
}
void gemm_run(const OpCall& call, const Gemm<float>& g, int phase, std::int64_t begin, std::int64_t end, void* local) {
  run(call, g, phase, begin, end, local);
}
void gemm_run(const OpCall& call, const Gemm<double>& g, int phase, std::int64_t begin, std::int64_t end, void* local) {
  run(call, g, phase, begin, end, local);
}

}  // namespace pfn::PFN_ISA
