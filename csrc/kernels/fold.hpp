// Sum and maximum over the lanes in registers, with the bits of reduce_add and reduce_max: halves are folded onto each
// other.
#pragma once
#include "kernels/transpose.hpp"
#include "ops/op_call.hpp"

namespace pfn::PFN_ISA {

// Lane i of the result is lane i ^ kHalf.
template <class T, int kHalf, int... K>
static PFN_ALWAYS_INLINE Vec<T> swapped(Vec<T> v, LaneList<K...>) {
  return __builtin_shufflevector(v, v, (K ^ kHalf)...);
}

template <class T, int kHalf = static_cast<int>(kLanes<T> / 2)>
static PFN_ALWAYS_INLINE T fold_add(Vec<T> v) {
  if constexpr (kHalf == 0)
    return v[0];
  else
    return fold_add<T, kHalf / 2>(v + swapped<T, kHalf>(v, typename LanesUpTo<static_cast<int>(kLanes<T>)>::type{}));
}
// Drops NaN.
template <class T, int kHalf = static_cast<int>(kLanes<T> / 2)>
static PFN_ALWAYS_INLINE T fold_max(Vec<T> v) {
  if constexpr (kHalf == 0) {
    return v[0];
  } else {
    const Vec<T> other = swapped<T, kHalf>(v, typename LanesUpTo<static_cast<int>(kLanes<T>)>::type{});
    return fold_max<T, kHalf / 2>(vmax(other, v));
  }
}

}  // namespace pfn::PFN_ISA
