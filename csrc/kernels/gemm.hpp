// Matrix products of whole row-major arrays, C[m, n] = A @ B (+ bias), for float and double.
//
//   layout   A stored as   B stored as   used for
//   nn       [m, k]        [k, n]        linear_forward
//   nt       [m, k]        [n, k]        linear_dx   (A @ B.T)
//   tn       [k, m]        [k, n]        linear_dw   (A.T @ B)
//
// Sum of an element: blocks of k, each a chain of fused multiply-adds over k in order (generic: products are rounded),
// then the block sums added in order, the bias with the first. nn, nt with a few columns sum along lanes instead
// (gemm_dot.hpp). Which one, and the blocks, depend on (k, n, dtype, ISA) alone: a row of y or dx has the same bits in
// every batch. |error| <= (k + 2) u sum |a| |b| (generic: k + 3). NaN and Inf follow IEEE arithmetic: no product is
// skipped. k = 0 gives the bias or 0.
//
// The last phase runs over rows of C, except that nn and nt may run over columns; any cut gives the same bits.
#pragma once
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

enum class GemmLayout : std::int32_t { nn, nt, tn };

template <class T>
struct Gemm {
  GemmLayout layout;
  std::int64_t m, n, k;
  const T* a;
  const T* b;
  const T* bias;  // n entries or null
  T* c;
  const Ahead* ahead = nullptr;
};

// Fills phases, workspaces and notes of a call that does this one product. item_bytes: 4 for float, 8 for double.
void gemm_prepare(OpCall& call, GemmLayout layout, std::int64_t m, std::int64_t n, std::int64_t k,
                  std::int64_t item_bytes);

// Kernel::run of the product prepared in `call`.
void gemm_run(const OpCall& call, const Gemm<float>& g, int phase, std::int64_t begin, std::int64_t end, void* local);
void gemm_run(const OpCall& call, const Gemm<double>& g, int phase, std::int64_t begin, std::int64_t end, void* local);

}  // namespace pfn::PFN_ISA
