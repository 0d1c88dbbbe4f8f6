// Gathering a batch of dense rows from a sparse matrix in compressed rows (CSR).
//
//   x[i, :] = 0, then x[i, columns[p]] += data[p] * scale[columns[p]] for p from starts[index[i]] to starts[index[i] +
//   1]
//
// scale may be left out (null data): then the items are added as they are. Zeros stay zeros, so no shift can be taken
// on the way. Columns that stand twice in a row are added up in their order, as SciPy does. A column outside [0,
// features) is left out, starts outside the data end at its border, and an index without a row makes a row of NaN, so
// that whatever the arrays hold nothing is read or written beside them. NaN in data stays NaN. One rounding for each
// product, and for each addition where a column stands twice.
#include "kernels/kernel.hpp"

namespace pfn::PFN_ISA {

template <class T>
static void gather_csr_prepare(OpCall& call) {
  const std::int64_t cols = call.out[0].cols(), rows = call.in[2].size();
  const double each = rows > 1 ? static_cast<double>(call.in[0].size()) / static_cast<double>(rows - 1) : 0.0;
  const std::int64_t grain = cols >= 4096 ? 1 : 4096 / (cols > 0 ? cols : 1);
  one_phase(call, call.out[0].rows(), 10.0 + 0.05 * (sizeof(T) / 4) * static_cast<double>(cols) + each, grain);
}

template <class T, bool kScale>
static void gather_csr_rows(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const T* data = call.in[0].as<const T>();
  const std::int64_t* columns = call.in[1].as<const std::int64_t>();
  const std::int64_t* starts = call.in[2].as<const std::int64_t>();
  const std::int64_t* index = call.in[3].as<const std::int64_t>();
  const T* scale = call.in[4].as<const T>();
  // A plan may hold data and columns of different lengths.
  const std::int64_t stored = call.in[0].size() < call.in[1].size() ? call.in[0].size() : call.in[1].size();
  const std::int64_t rows = call.in[2].size() - 1, features = call.out[0].cols();
  const auto within = [stored](std::int64_t p) { return p < 0 ? 0 : p < stored ? p : stored; };
  T* x = call.out[0].as<T>() + begin * features;
  for (std::int64_t i = begin; i < end; ++i, x += features) {
    const std::int64_t row = index[i];
    const bool known = row >= 0 && row < rows;
    const T empty = known ? T(0) : static_cast<T>(__builtin_nan(""));
    for (std::int64_t j = 0; j < features; ++j) x[j] = empty;
    if (!known) continue;
    const std::int64_t last = within(starts[row + 1]);
    for (std::int64_t p = within(starts[row]); p < last; ++p) {
      const std::int64_t column = columns[p];
      if (column >= 0 && column < features) x[column] += kScale ? data[p] * scale[column] : data[p];
    }
  }
}

template <class T>
static void gather_csr_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  if (call.in[4].data != nullptr)
    gather_csr_rows<T, true>(call, begin, end);
  else
    gather_csr_rows<T, false>(call, begin, end);
}
PFN_KERNEL(gather_csr, gather_csr_prepare, gather_csr_run);

}  // namespace pfn::PFN_ISA
