// A table of vectors looked up by whole numbers, and the gradient of the table.
//
//   embedding_forward   y[i, :] = table[index[i], :]
//   embedding_dw        dtable[k, :] = sum of dy[i, :] over the i with index[i] = k, in the order of i
//
// An index outside the table reads and adds nothing: its row of y is NaN, so that a loss shows it. NaN passes through.
// Max error: forward exact; backward u * (count - 1) * sum |dy| for a row that is looked up count times.
// Source: Bengio, Ducharme, Vincent and Jauvin, JMLR 3 (2003) 1137.
#include "kernels/copy.hpp"
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

template <class T>
static void embedding_forward_prepare(OpCall& call) {
  const std::int64_t cols = call.out[0].cols();
  one_phase(call, call.in[1].size(), 5.0 + 0.1 * (sizeof(T) / 4) * static_cast<double>(cols), rows_per_piece(cols));
}
template <class T>
static void embedding_forward_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(T)), soon = 8;
  const std::int64_t rows = call.in[0].rows(), cols = call.out[0].cols();
  const T* table = call.in[0].as<const T>();
  const std::int64_t* index = call.in[1].as<const std::int64_t>();
  const auto known = [rows](std::int64_t k) { return k >= 0 && k < rows; };
  const bool far = rows * cols * static_cast<std::int64_t>(sizeof(T)) > (1 << 20);  // not in the second-level cache
  T* y = call.out[0].as<T>() + begin * cols;
  for (std::int64_t i = begin; i < end; ++i, y += cols) {
    if (far && soon < end - i && known(index[i + soon]))  // the rows lie anywhere: the processor cannot foresee them
      for (std::int64_t j = 0; j < cols; j += line) __builtin_prefetch(table + index[i + soon] * cols + j, 0, 2);
    if (known(index[i]))
      copy_run(table + index[i] * cols, y, cols);
    else
      fill_run(y, static_cast<T>(__builtin_nan("")), cols);
  }
}
PFN_KERNEL(embedding_forward, embedding_forward_prepare, embedding_forward_run);

// Pieces are rows of the table. Each reads the whole index and adds what belongs to its rows, so sums have one order;
// there are at most 16 pieces, to keep that reading short.
template <class T>
static void embedding_dw_prepare(OpCall& call) {
  const std::int64_t rows = call.out[0].rows(), cols = call.out[0].cols(), count = call.in[1].size();
  const double bytes = static_cast<double>(sizeof(T)) * static_cast<double>(cols);
  const double cost = static_cast<double>(rows) * 0.02 * bytes + static_cast<double>(count) * (4.0 + 0.05 * bytes);
  call.phases = 1;
  call.phase[0] = Phase{rows, (rows + 15) / 16, cost};
}
template <class T>
static void embedding_dw_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  constexpr std::int64_t L = kLanes<T>;
  const std::int64_t cols = call.out[0].cols(), count = call.in[1].size();
  const T* dy = call.in[0].as<const T>();
  const std::int64_t* index = call.in[1].as<const std::int64_t>();
  T* dtable = call.out[0].as<T>();
  fill_run(dtable + begin * cols, T(0), (end - begin) * cols);
  for (std::int64_t i = 0; i < count; ++i) {
    if (index[i] < begin || index[i] >= end) continue;
    const T* from = dy + i * cols;
    T* to = dtable + index[i] * cols;
    std::int64_t j = 0;
    for (; j + L <= cols; j += L) store<T>(to + j, load<T>(to + j) + load<T>(from + j));
    if (j < cols) store_partial(to + j, load_partial(to + j, cols - j) + load_partial(from + j, cols - j), cols - j);
  }
}
PFN_KERNEL(embedding_dw, embedding_dw_prepare, embedding_dw_run);

}  // namespace pfn::PFN_ISA
