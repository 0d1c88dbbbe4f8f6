// Touches every entry of every table, so that a missing kernel is a link error that names op and ISA.
#include <cstdio>

#include "ops/dispatch.hpp"

int main() {
  using namespace pfn;
  int found = 0;
  for (Isa isa : compiled_isas())
    for (int op = 0; op < kOpCount; ++op)
      for (DType type : {DType::f32, DType::f64}) {
        const Kernel& entry = kernel(isa, static_cast<OpId>(op), type);
        found += entry.prepare != nullptr && entry.run != nullptr;
      }
  std::printf("%d kernels\n", found);
  return found == static_cast<int>(compiled_isas().size()) * kOpCount * 2 ? 0 : 1;
}
