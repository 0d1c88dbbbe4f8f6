// The vector layer: about twenty operations on a register of floats or doubles of the ISA being compiled.
//
// Arithmetic, comparison and selection are the compiler's own vector operators (a + b, a < b ? a : b); what they cannot
// say stands in vec_<isa>.hpp: load_partial, store_partial, splat, fma, vmax, vmin, vsqrt. The ISA is our own define,
// never the compiler's, so that raising the compiler's baseline cannot change which text is compiled.
#pragma once
#include <cstdint>

#if defined(PFN_ISA_AVX512)
#define PFN_VEC_BYTES 64
#elif defined(PFN_ISA_AVX2)
#define PFN_VEC_BYTES 32
#elif defined(PFN_ISA_GENERIC)
#define PFN_VEC_BYTES 16
#else
#error "define PFN_ISA_GENERIC, PFN_ISA_AVX2 or PFN_ISA_AVX512 (cmake/isa.cmake does)"
#endif

namespace pfn::PFN_ISA {

template <class T>
struct VecTypes {
  typedef T type __attribute__((vector_size(PFN_VEC_BYTES)));
  typedef T unaligned __attribute__((vector_size(PFN_VEC_BYTES), aligned(alignof(T)), may_alias));
};
template <class T>
using Vec = typename VecTypes<T>::type;
using VecF = Vec<float>;
using VecD = Vec<double>;
using VecI32 = Vec<std::int32_t>;
using VecI64 = Vec<std::int64_t>;

template <class T>
constexpr std::int64_t kLanes = PFN_VEC_BYTES / static_cast<std::int64_t>(sizeof(T));

template <class T>
static inline Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VecTypes<T>::unaligned*>(p);
}
template <class T>
static inline void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename VecTypes<T>::unaligned*>(p) = v;
}

}  // namespace pfn::PFN_ISA

#if defined(PFN_ISA_AVX512)
#include "kernels/vec_avx512.hpp"
#elif defined(PFN_ISA_AVX2)
#include "kernels/vec_avx2.hpp"
#else
#include "kernels/vec_generic.hpp"
#endif

namespace pfn::PFN_ISA {

// Lists of lanes 0, 1, 2 ... for shuffles.
template <int... K>
struct LaneList {};
template <int N, int... K>
struct LanesUpTo : LanesUpTo<N - 1, N - 1, K...> {};
template <int... K>
struct LanesUpTo<0, K...> {
  using type = LaneList<K...>;
};

// Lane i of the result is lane (i + kBy) % lanes.
template <class T, int kBy, int... K>
static inline Vec<T> rotated(Vec<T> v, LaneList<K...>) {
  return __builtin_shufflevector(v, v, ((K + kBy) % static_cast<int>(kLanes<T>))...);
}

// Sum and maximum over the lanes in one fixed order: halves are folded onto each other. reduce_max drops NaN.
template <class T, int kHalf = static_cast<int>(kLanes<T>) / 2>
static inline T reduce_add(Vec<T> v) {
  if constexpr (kHalf == 0)
    return v[0];
  else
    return reduce_add<T, kHalf / 2>(v + rotated<T, kHalf>(v, typename LanesUpTo<static_cast<int>(kLanes<T>)>::type{}));
}
template <class T, int kHalf = static_cast<int>(kLanes<T>) / 2>
static inline T reduce_max(Vec<T> v) {
  if constexpr (kHalf == 0) {
    return v[0];
  } else {
    const Vec<T> other = rotated<T, kHalf>(v, typename LanesUpTo<static_cast<int>(kLanes<T>)>::type{});
    return reduce_max<T, kHalf / 2>(other > v ? other : v);
  }
}

}  // namespace pfn::PFN_ISA
