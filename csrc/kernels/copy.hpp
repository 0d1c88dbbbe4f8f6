// Copies of short runs of elements, inline: a call of memcpy would cost more than most rows.
#pragma once
#include "kernels/vec.hpp"

namespace pfn::PFN_ISA {

template <class T>
static inline void copy_run(const T* from, T* to, std::int64_t count) {
  constexpr std::int64_t L = kLanes<T>;
  std::int64_t i = 0;
  for (; i + 4 * L <= count; i += 4 * L) {
    const Vec<T> a = load<T>(from + i), b = load<T>(from + i + L), c = load<T>(from + i + 2 * L),
                 d = load<T>(from + i + 3 * L);
    store<T>(to + i, a);
    store<T>(to + i + L, b);
    store<T>(to + i + 2 * L, c);
    store<T>(to + i + 3 * L, d);
  }
  for (; i + L <= count; i += L) store<T>(to + i, load<T>(from + i));
  if (i < count) store_partial(to + i, load_partial(from + i, count - i), count - i);
}

template <class T>
static inline void fill_run(T* to, T value, std::int64_t count) {
  constexpr std::int64_t L = kLanes<T>;
  const Vec<T> v = splat(value);
  std::int64_t i = 0;
  for (; i + L <= count; i += L) store<T>(to + i, v);
  if (i < count) store_partial(to + i, v, count - i);
}

// Rows of a piece: about 4096 elements, so that pieces are worth a thread's while.
static inline std::int64_t rows_per_piece(std::int64_t cols) { return cols >= 4096 ? 1 : 4096 / (cols > 0 ? cols : 1); }

}  // namespace pfn::PFN_ISA
