// Loops over elements that do not depend on each other: whole vectors between two partial ones.
//
// A vector that straddles two cache lines costs a second access, and NumPy's large arrays begin 16 bytes into a line:
// updates in place took a third longer. So long loops begin with a partial vector that ends where the array
// written first is aligned. An element's bits do not depend on the lane it is in.
#pragma once
#include "kernels/vec.hpp"

namespace pfn::PFN_ISA {

struct Whole {};
struct Part {
  std::int64_t count;
};

template <class T>
static inline Vec<T> load_at(const T* p, Whole) {
  return load<T>(p);
}
template <class T>
static inline Vec<T> load_at(const T* p, Part part) {
  return load_partial(p, part.count);
}
template <class T>
static inline void store_at(T* p, Vec<T> v, Whole) {
  store<T>(p, v);
}
template <class T>
static inline void store_at(T* p, Vec<T> v, Part part) {
  store_partial(p, v, part.count);
}

// Elements before the first aligned one; 0 for short loops, where it would not pay.
template <class T>
static inline std::int64_t until_aligned(const T* p, std::int64_t count) {
  constexpr std::uintptr_t worth = 32;
  const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(p) % PFN_VEC_BYTES;
  if (past == 0 || count < static_cast<std::int64_t>(worth) * kLanes<T>) return 0;
  return static_cast<std::int64_t>((PFN_VEC_BYTES - past) / sizeof(T));
}

// f(i, Whole or Part) for the elements [begin, end), of which those of `written` are to be aligned.
template <class T, class F>
static inline void sweep(const T* written, std::int64_t begin, std::int64_t end, const F& f) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t head = until_aligned(written + begin, end - begin);
  if (head > 0) f(begin, Part{head});
  std::int64_t i = begin + head;
  for (; i + L <= end; i += L) f(i, Whole{});
  if (i < end) f(i, Part{end - i});
}

}  // namespace pfn::PFN_ISA
