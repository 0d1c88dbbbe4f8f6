// Transposes a square of vectors in registers by swapping off-diagonal blocks of 1, 2, 4 ... lanes
// (Eklundh, IEEE Trans. Computers C-21 (1972) 801).
#pragma once
#include "kernels/vec.hpp"

namespace pfn::PFN_ISA {

template <class T, int kHalf, int... K>
static inline void swap_blocks(Vec<T>& a, Vec<T>& b, LaneList<K...>) {
  constexpr int L = static_cast<int>(kLanes<T>);
  const Vec<T> first = __builtin_shufflevector(a, b, ((K & kHalf) != 0 ? L + K - kHalf : K)...);
  b = __builtin_shufflevector(a, b, ((K & kHalf) != 0 ? L + K : K + kHalf)...);
  a = first;
}

// v[i][j] becomes v[j][i].
template <class T, int kHalf = 1>
static inline void transpose(Vec<T>* v) {
  constexpr int L = static_cast<int>(kLanes<T>);
  if constexpr (kHalf < L) {
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      if ((i & kHalf) == 0) swap_blocks<T, kHalf>(v[i], v[i + kHalf], typename LanesUpTo<L>::type{});
    transpose<T, 2 * kHalf>(v);
  }
}

}  // namespace pfn::PFN_ISA
