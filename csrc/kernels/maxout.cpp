// Maximum over the last dimension, the pieces of a maxout unit (Goodfellow et al., ICML 2013).
//
//   forward   y[u] = max over p of x[u, p]                backward  dx[u, p] = p is the first maximum of u ? dy[u] : 0
//
// The first NaN of a unit counts as its maximum, as in NumPy. No pieces: -inf. Exact.
#include "kernels/columns.hpp"
#include "kernels/kernel.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kUnits = 1024;  // units of the smallest piece: a multiple of every vector width

template <class T>
static void maxout_forward_prepare(OpCall& call) {
  const double each = 0.4 + 0.15 * static_cast<double>(call.in[0].cols());
  one_phase(call, call.out[0].size(), each * (sizeof(T) / 4), kUnits);
}
template <class T>
static void maxout_backward_prepare(OpCall& call) {
  const double each = 0.6 + 0.3 * static_cast<double>(call.in[1].cols());
  one_phase(call, call.in[0].size(), each * (sizeof(T) / 4), kUnits);
}

// Whether b is the maximum of a, b when a comes first: also where b alone is NaN.
template <class T>
static PFN_ALWAYS_INLINE IntVec<T> beats(Vec<T> b, Vec<T> a) {
  return ~(IntVec<T>)(b <= a) & (IntVec<T>)(a == a);
}

// Two pieces: numbers 0, 2, 4 ... and 1, 3, 5 ... of two vectors, and back.
template <class T, int... K>
static PFN_ALWAYS_INLINE void part_pairs(Vec<T>& a, Vec<T>& b, LaneList<K...>) {
  const Vec<T> even = __builtin_shufflevector(a, b, (2 * K)...);
  b = __builtin_shufflevector(a, b, (2 * K + 1)...);
  a = even;
}
template <class T, int... K>
static PFN_ALWAYS_INLINE void join_pairs(Vec<T>& a, Vec<T>& b, LaneList<K...>) {
  constexpr int L = static_cast<int>(kLanes<T>);
  const Vec<T> low = __builtin_shufflevector(a, b, ((K % 2) * L + K / 2)...);
  b = __builtin_shufflevector(a, b, ((K % 2) * L + L / 2 + K / 2)...);
  a = low;
}
template <class T>
using Lanes = typename LanesUpTo<static_cast<int>(kLanes<T>)>::type;

template <class T>
static inline std::int64_t first_largest(const T* x, std::int64_t pieces) {
  std::int64_t best = 0;
  for (std::int64_t p = 0; p < pieces; ++p) {
    if (x[p] != x[p]) return p;
    if (x[p] > x[best]) best = p;
  }
  return best;
}

// The maximum of each lane over the columns, and which column it is.
template <class T>
static inline IntVec<T> best_column(const Vec<T>* col, std::int64_t pieces, Vec<T>& best) {
  best = col[0];
  IntVec<T> which = {};
  for (std::int64_t p = 1; p < pieces; ++p) {
    const IntVec<T> take = beats<T>(col[p], best);
    best = take != 0 ? col[p] : best;
    which = take != 0 ? (which - which) + static_cast<IntOf<T>>(p) : which;
  }
  return which;
}

template <class T>
static void maxout_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t pieces = call.in[0].cols();
  const T* x = call.in[0].as<const T>();
  T* y = call.out[0].as<T>();
  if (pieces == 0 || pieces > kFewColumns) {
    for (std::int64_t u = begin; u < end; ++u)
      y[u] = pieces == 0 ? -kInf<T> : x[u * pieces + first_largest(x + u * pieces, pieces)];
    return;
  }
  std::int64_t u = begin;
  if (pieces == 2) {
    for (; u + L <= end; u += L) {
      Vec<T> a = load<T>(x + 2 * u), b = load<T>(x + 2 * u + L);
      part_pairs<T>(a, b, Lanes<T>{});
      store<T>(y + u, beats<T>(b, a) != 0 ? b : a);
    }
  }
  for (; u < end; u += L) {
    const std::int64_t units = end - u < L ? end - u : L;
    Vec<T> col[kColumnVectors<T>] = {}, best;
    load_columns(x + u * pieces, units, pieces, col);
    best_column<T>(col, pieces, best);
    store_partial(y + u, best, units);
  }
}
PFN_KERNEL(maxout_forward, maxout_forward_prepare, maxout_forward_run);

template <class T>
static void maxout_backward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t pieces = call.in[1].cols();
  const T* dy = call.in[0].as<const T>();
  const T* x = call.in[1].as<const T>();
  T* dx = call.out[0].as<T>();
  if (pieces > kFewColumns) {
    for (std::int64_t u = begin; u < end; ++u) {
      for (std::int64_t p = 0; p < pieces; ++p) dx[u * pieces + p] = T(0);
      dx[u * pieces + first_largest(x + u * pieces, pieces)] = dy[u];
    }
    return;
  }
  std::int64_t u = begin;
  if (pieces == 2) {
    for (; u + L <= end; u += L) {
      Vec<T> a = load<T>(x + 2 * u), b = load<T>(x + 2 * u + L);
      part_pairs<T>(a, b, Lanes<T>{});
      const IntVec<T> second = beats<T>(b, a);
      const Vec<T> g = load<T>(dy + u), zero = splat(T(0));
      a = second != 0 ? zero : g;
      b = second != 0 ? g : zero;
      join_pairs<T>(a, b, Lanes<T>{});
      store<T>(dx + 2 * u, a);
      store<T>(dx + 2 * u + L, b);
    }
  }
  for (; u < end && pieces > 0; u += L) {
    const std::int64_t units = end - u < L ? end - u : L;
    Vec<T> col[kColumnVectors<T>] = {}, best;
    load_columns(x + u * pieces, units, pieces, col);
    const IntVec<T> which = best_column<T>(col, pieces, best);
    const Vec<T> g = load_partial(dy + u, units), zero = splat(T(0));
    for (std::int64_t p = 0; p < pieces; ++p) col[p] = which == static_cast<IntOf<T>>(p) ? g : zero;
    store_columns(dx + u * pieces, units, pieces, col);
  }
}
PFN_KERNEL(maxout_backward, maxout_backward_prepare, maxout_backward_run);

}  // namespace pfn::PFN_ISA
