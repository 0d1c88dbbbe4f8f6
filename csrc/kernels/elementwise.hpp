// Loops of the activations: the first output is a function of one or two inputs of its shape, element by element. The
// output may be the memory of the first input.
#pragma once
#include "kernels/kernel.hpp"
#include "kernels/sweep.hpp"

namespace pfn::PFN_ISA {

// Elements per piece when a loop is cut for threads: a multiple of every vector width, so pieces
// share no vector.
constexpr std::int64_t kGrain = 4096;

template <class T>
static void cheap_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.05 * (sizeof(T) / 4), kGrain);
}
template <class T>
static void costly_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.3 * (sizeof(T) / 4), kGrain);
}

// out[0] = f(in[0]), two vectors in flight.
template <class T, class F>
static inline void map(const OpCall& call, std::int64_t begin, std::int64_t end, F f) {
  constexpr std::int64_t L = kLanes<T>;
  const T* x = call.in[0].as<const T>();
  T* y = call.out[0].as<T>();
  const std::int64_t head = until_aligned(y + begin, end - begin);
  if (head > 0) store_partial(y + begin, f(load_partial(x + begin, head)), head);
  std::int64_t i = begin + head;
  for (; i + 2 * L <= end; i += 2 * L) {
    const Vec<T> y0 = f(load<T>(x + i)), y1 = f(load<T>(x + i + L));
    store<T>(y + i, y0);
    store<T>(y + i + L, y1);
  }
  for (; i + L <= end; i += L) store<T>(y + i, f(load<T>(x + i)));
  if (i < end) store_partial(y + i, f(load_partial(x + i, end - i)), end - i);
}

// out[0] = f(in[0], in[1]).
template <class T, class F>
static inline void map2(const OpCall& call, std::int64_t begin, std::int64_t end, F f) {
  constexpr std::int64_t L = kLanes<T>;
  const T* a = call.in[0].as<const T>();
  const T* b = call.in[1].as<const T>();
  T* y = call.out[0].as<T>();
  const std::int64_t head = until_aligned(y + begin, end - begin);
  if (head > 0) store_partial(y + begin, f(load_partial(a + begin, head), load_partial(b + begin, head)), head);
  std::int64_t i = begin + head;
  for (; i + 2 * L <= end; i += 2 * L) {
    const Vec<T> y0 = f(load<T>(a + i), load<T>(b + i)), y1 = f(load<T>(a + i + L), load<T>(b + i + L));
    store<T>(y + i, y0);
    store<T>(y + i + L, y1);
  }
  for (; i + L <= end; i += L) store<T>(y + i, f(load<T>(a + i), load<T>(b + i)));
  if (i < end) store_partial(y + i, f(load_partial(a + i, end - i), load_partial(b + i, end - i)), end - i);
}

}  // namespace pfn::PFN_ISA
