// The products of the affine layer with both factors rounded to bfloat16 (8 significant bits) and sums in the float
// type of the call:
//
//   linear_forward_bf16   y[n,o]  = r(x[n,i]) @ r(w[i,o]) + b[o]
//   linear_dx_bf16        dx[n,i] = r(dy[n,o]) @ r(w[i,o]).T
//   linear_dw_bf16        dw[i,o] = r(x[n,i]).T @ r(dy[n,o])        last phase: rows of dw
//
// r rounds to nearest even, maps magnitudes below 2^-126 to zero and those that round to 2^128 to infinity; NaN stays.
// float32 on AVX512-BF16 runs on vdpbf16ps (gemm_bf16.hpp): phase 0 rounds A, then B is packed, by everyone or by each
// thread for its columns. Everything else makes rounded copies and hands them to gemm.hpp: the meaning is the same, the
// last bits are not.
//
// Sum of an element: blocks of k, each over k in order, then the blocks in order, the bias with the first; the blocks
// depend on k alone, so a row of y or dx has the same bits in every batch. |error| <= (k + 3) u sum |a| |b| against the
// exact product of the rounded factors, and k 2^-126 more on vdpbf16ps, which flushes small sums to zero.
//
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, VDPBF16PS, VCVTNE2PS2BF16.
#include "kernels/gemm_bf16.hpp"

#include "kernels/gemm.hpp"

namespace pfn::PFN_ISA {

struct Bf16Product {
  GemmLayout layout;
  std::int64_t m, n, k;
};

// Whether products of T run on the processor's own instruction.
template <class T>
static bool is_native() {
#if defined(PFN_ISA_AVX512)
  return sizeof(T) == 4 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

// The nearest bfloat16, ties to even, computed on the bits of a double, which holds every float.
template <class T>
static T round_to_bf16(T x) {
  constexpr double least = 0x1p-126;
  const double wide = static_cast<double>(x);
  const double size = wide < 0 ? -wide : wide;
  if (!(size >= least)) return size < least ? static_cast<T>(wide < 0 ? -0.0 : 0.0) : x;
  std::uint64_t bits;
  __builtin_memcpy(&bits, &wide, sizeof(bits));
  constexpr int drop = 52 - 7;
  bits += (std::uint64_t{1} << (drop - 1)) - 1 + ((bits >> drop) & 1);
  bits = bits >> drop << drop;
  double rounded;
  __builtin_memcpy(&rounded, &bits, sizeof(rounded));
  if (size < __builtin_inf() && (rounded >= 0x1p128 || rounded <= -0x1p128))
    rounded = wide < 0 ? -__builtin_inf() : __builtin_inf();
  return size < __builtin_inf() ? static_cast<T>(rounded) : x;
}

static inline std::int64_t whole_lines(std::int64_t bytes) { return div_up(bytes, 64) * 64; }

// The form without the instruction: rounded copies of A and B in front of gemm.hpp's scratch.
template <class T>
static void prepare_copies(OpCall& call, const Bf16Product& x) {
  constexpr std::int64_t item = static_cast<std::int64_t>(sizeof(T));
  gemm_prepare(call, x.layout, x.m, x.n, x.k, item);
  if (call.phases == 0) return;
  for (int p = call.phases; p > 0; --p) call.phase[p] = call.phase[p - 1];
  const std::int64_t items = x.m * x.k + x.k * x.n;
  call.phase[0] = Phase{items, 1024, 2.0 * static_cast<double>(items)};
  ++call.phases;
  call.scratch_bytes += whole_lines(x.m * x.k * item) + whole_lines(x.k * x.n * item);
}
template <class T>
static void run_copies(const OpCall& call, const Gemm<T>& g, int phase, std::int64_t begin, std::int64_t end,
                       void* local) {
  constexpr std::int64_t item = static_cast<std::int64_t>(sizeof(T));
  char* const scratch = static_cast<char*>(call.scratch);
  T* const a = reinterpret_cast<T*>(scratch);
  T* const b = reinterpret_cast<T*>(scratch + whole_lines(g.m * g.k * item));
  if (phase == 0) {
    const std::int64_t size_a = g.m * g.k;
    for (std::int64_t i = begin; i < smaller(end, size_a); ++i) a[i] = round_to_bf16(g.a[i]);
    for (std::int64_t i = begin > size_a ? begin : size_a; i < end; ++i) b[i - size_a] = round_to_bf16(g.b[i - size_a]);
    return;
  }
  OpCall inner = call;
  inner.scratch = reinterpret_cast<char*>(b) + whole_lines(g.k * g.n * item);
  gemm_run(inner, Gemm<T>{g.layout, g.m, g.n, g.k, a, b, g.bias, g.c}, phase - 1, begin, end, local);
}

#if defined(PFN_ISA_AVX512)

// How a product is cut. Only kc may change bits.
struct Bf16Plan {
  bool over_columns;  // the last phase runs over columns and each thread packs its own, else over rows of C
  std::int64_t kc, blocks;
  std::int64_t nc;   // columns a thread packs at a time
  std::int64_t lda;  // pairs
  std::int64_t a_pairs;
};

static Bf16Plan make_bf16_plan(const Bf16Product& x) {
  constexpr std::int64_t whole = 2048;  // terms of one block at most
  Bf16Plan plan;
  plan.blocks = x.k <= whole ? 1 : (x.k + whole / 4) / (whole / 2);
  plan.kc = plan.blocks == 1 ? x.k : div_up(div_up(x.k, plan.blocks), 32) * 32;
  if (plan.blocks > 1) plan.blocks = div_up(x.k, plan.kc);
  plan.over_columns = x.layout != GemmLayout::tn && x.n >= 256;
  plan.nc = smaller(div_up(x.n, 64), (256 << 10) / (64 * (plan.kc + 32)) + 1) * 64;
  const bool tn = x.layout == GemmLayout::tn;
  plan.lda = odd_lines(tn ? x.m : div_up(x.k, 2));
  plan.a_pairs = plan.lda * (tn ? div_up(x.k, 2) : x.m);
  return plan;
}

static void prepare_native(OpCall& call, const Bf16Product& x) {
  if (x.m == 0 || x.n == 0) {
    call.phases = 0;
    return;
  }
  const Bf16Plan plan = make_bf16_plan(x);
  const Panels<float> all(0, x.n);
  const double moves_a = 4.0 * static_cast<double>(x.m) * static_cast<double>(x.k);
  const double moves_b = 4.0 * static_cast<double>(x.n) * static_cast<double>(x.k);
  const double macs = static_cast<double>(x.m) * static_cast<double>(x.n) * static_cast<double>(x.k);
  call.phases = 2;
  call.phase[0] = Phase{x.layout == GemmLayout::tn ? div_up(x.k, 2) : x.m, 4, 0.03 * moves_a};
  call.scratch_bytes = plan.a_pairs * 4;
  double cost = 20 + macs / 105;
  if (plan.over_columns) {
    call.local_bytes = div_up(plan.kc, 2) * plan.nc * 4;
    cost += 0.03 * moves_b;
  } else {
    call.phase[1] = Phase{all.count * plan.blocks, 1, 0.03 * moves_b};
    call.phases = 3;
    call.scratch_bytes += plan.blocks * div_up(plan.kc, 2) * all.padded() * 4;
  }
  const std::int64_t extent = plan.over_columns ? x.n : x.m;
  call.phase[call.phases - 1] = Phase{extent, plan.over_columns ? 64 : x.layout == GemmLayout::tn ? 48 : 6, cost};
}

static inline std::int64_t terms_of(const Bf16Plan& plan, std::int64_t k, std::int64_t block) {
  return smaller(plan.kc, k - block * plan.kc);
}

static void pack_bf16(const Gemm<float>& g, const Bf16Plan& plan, const Panels<float>& panels, std::int64_t p0,
                      std::int64_t p1, std::int64_t block, Pair* out) {
  const std::int64_t k0 = block * plan.kc;
  const std::int64_t kc = terms_of(plan, g.k, block);
  if (g.layout == GemmLayout::nt)
    pack_pairs_transposed(g.b + panels.n0 * g.k + k0, g.k, kc, panels, p0, p1, out);
  else
    pack_pairs(g.b + k0 * g.n + panels.n0, g.n, kc, panels, p0, p1, out);
}

// Rows [m0, m1) of the panels' columns, one block of k.
static void multiply_bf16(const Gemm<float>& g, const Bf16Plan& plan, const Panels<float>& panels, const Pair* a,
                          const Pair* packed, std::int64_t block, std::int64_t m0, std::int64_t m1) {
  const bool tn = g.layout == GemmLayout::tn;
  const bool first = block == 0;
  const std::int64_t pairs = div_up(terms_of(plan, g.k, block), 2);
  Bf16Tile t{tn ? 1 : plan.lda, tn ? plan.lda : 1, g.n, first ? 0 : g.n, pairs, 16};
  a += block * (plan.kc / 2) * t.pair_step;
  const std::int64_t together = 8 + (240 << 10) / (2 * (plan.kc + 32));
  const std::int64_t row_blocks = div_up(m1 - m0, together);
  for (std::int64_t ic = 0; ic < row_blocks; ++ic) {
    const std::int64_t r0 = m0 + (m1 - m0) * ic / row_blocks;
    const std::int64_t rows = m0 + (m1 - m0) * (ic + 1) / row_blocks - r0;
    for (std::int64_t p = 0; p < panels.count; ++p) {
      const std::int64_t nv = panels.nv(p);
      const std::int64_t j = panels.n0 + panels.column(p);
      const Bf16Fn* const fn = find_bf16_tiles(nv);
      const Pair* const b = packed + panels.column(p) * pairs;
      const float* const bias = g.bias ? g.bias + j : nullptr;
      t.last_count = panels.columns(p) - (nv - 1) * kPairLanes;
      const std::int64_t tiles = div_up(rows, kBf16Rows[nv - 1]);
      const std::int64_t low = rows / tiles;
      const std::int64_t higher = rows - low * tiles;  // so many tiles have one row more
      std::int64_t r = r0;
      for (std::int64_t i = 0; i < tiles; ++i) {
        const std::int64_t mr = low + (i < higher);
        float* const c = g.c + r * g.n + j;
        fn[mr - 1](t, a + r * t.row_step, b, c, first ? bias : c);
        r += mr;
      }
    }
  }
}

static void run_native(const OpCall& call, const Gemm<float>& g, int phase, std::int64_t begin, std::int64_t end,
                       void* local) {
  if (begin >= end) return;
  const Bf16Plan plan = make_bf16_plan(Bf16Product{g.layout, g.m, g.n, g.k});
  Pair* const a = static_cast<Pair*>(call.scratch);
  Pair* const b = a + plan.a_pairs;
  const Panels<float> all(0, g.n);
  const std::int64_t block_stride = div_up(plan.kc, 2) * all.padded();
  if (phase == 0) {
    if (g.layout == GemmLayout::tn)
      round_columns(g.a, g.k, g.m, begin, end, a, plan.lda);
    else
      round_rows(g.a, g.k, begin, end, a, plan.lda);
    return;
  }
  if (plan.over_columns) {
    Pair* const room = static_cast<Pair*>(local);
    for (std::int64_t j = begin; j < end; j += plan.nc) {
      const Panels<float> panels(j, smaller(plan.nc, end - j));
      for (std::int64_t block = 0; block < plan.blocks; ++block) {
        pack_bf16(g, plan, panels, 0, panels.count, block, room);
        multiply_bf16(g, plan, panels, a, room, block, 0, g.m);
      }
    }
    return;
  }
  if (phase == 1) {
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t block = i / all.count;
      const std::int64_t p0 = i - block * all.count;
      const std::int64_t p1 = smaller(all.count, p0 + end - i);
      pack_bf16(g, plan, all, p0, p1, block, b + block * block_stride);
      i += p1 - p0;
    }
    return;
  }
  for (std::int64_t block = 0; block < plan.blocks; ++block)
    multiply_bf16(g, plan, all, a, b + block * block_stride, block, begin, end);
}

#endif

template <class T>
static void prepare(OpCall& call, const Bf16Product& x) {
#if defined(PFN_ISA_AVX512)
  if (is_native<T>()) {
    prepare_native(call, x);
    return;
  }
#endif
  prepare_copies<T>(call, x);
}
template <class T>
static void run(const OpCall& call, const Gemm<T>& g, int phase, std::int64_t begin, std::int64_t end, void* local) {
#if defined(PFN_ISA_AVX512)
  if constexpr (sizeof(T) == 4) {
    if (is_native<T>()) {
      run_native(call, g, phase, begin, end, local);
      return;
    }
  }
#endif
  run_copies(call, g, phase, begin, end, local);
}

template <class T>
static void forward_prepare(OpCall& call) {
  prepare<T>(call, {GemmLayout::nn, call.in[0].rows(), call.in[1].cols(), call.in[0].cols()});
}
template <class T>
static void forward_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const View& x = call.in[0];
  const View& w = call.in[1];
  run(call,
      Gemm<T>{GemmLayout::nn, x.rows(), w.cols(), x.cols(), x.as<const T>(), w.as<const T>(), call.in[2].as<const T>(),
              call.out[0].as<T>()},
      phase, begin, end, local);
}
PFN_KERNEL(linear_forward_bf16, forward_prepare, forward_run);

template <class T>
static void dx_prepare(OpCall& call) {
  prepare<T>(call, {GemmLayout::nt, call.in[0].rows(), call.in[1].rows(), call.in[0].cols()});
}
template <class T>
static void dx_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const View& dy = call.in[0];
  const View& w = call.in[1];
  run(call,
      Gemm<T>{GemmLayout::nt, dy.rows(), w.rows(), dy.cols(), dy.as<const T>(), w.as<const T>(), nullptr,
              call.out[0].as<T>()},
      phase, begin, end, local);
}
PFN_KERNEL(linear_dx_bf16, dx_prepare, dx_run);

template <class T>
static void dw_prepare(OpCall& call) {
  prepare<T>(call, {GemmLayout::tn, call.in[0].cols(), call.in[1].cols(), call.in[0].rows()});
}
template <class T>
static void dw_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  const View& x = call.in[0];
  const View& dy = call.in[1];
  run(call,
      Gemm<T>{GemmLayout::tn, x.cols(), dy.cols(), x.rows(), x.as<const T>(), dy.as<const T>(), nullptr,
              call.out[0].as<T>()},
      phase, begin, end, local);
}
PFN_KERNEL(linear_dw_bf16, dw_prepare, dw_run);

}  // namespace pfn::PFN_ISA
