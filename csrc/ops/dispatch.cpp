// Pointer tables made from ops.def, one per compiled ISA. Compiled for the baseline, without link-time optimisation.
#include "ops/dispatch.hpp"

#include <stdexcept>

#define PFN_OP(name, inputs, outputs, attrs, hyper, flags) extern const Kernel name[2];
namespace pfn::generic {
#include "ops/ops.def"
}
#ifdef PFN_HAVE_AVX2
namespace pfn::avx2 {
#include "ops/ops.def"
}
#endif
#ifdef PFN_HAVE_AVX512
namespace pfn::avx512 {
#include "ops/ops.def"
}
#endif
#undef PFN_OP

namespace pfn {

static const Kernel* const kGenericTable[] = {
#define PFN_OP(name, inputs, outputs, attrs, hyper, flags) generic::name,
#include "ops/ops.def"
#undef PFN_OP
};
#ifdef PFN_HAVE_AVX2
static const Kernel* const kAvx2Table[] = {
#define PFN_OP(name, inputs, outputs, attrs, hyper, flags) avx2::name,
#include "ops/ops.def"
#undef PFN_OP
};
#endif
#ifdef PFN_HAVE_AVX512
static const Kernel* const kAvx512Table[] = {
#define PFN_OP(name, inputs, outputs, attrs, hyper, flags) avx512::name,
#include "ops/ops.def"
#undef PFN_OP
};
#endif

const Kernel& kernel(Isa isa, OpId op, DType float_type) {
  const Kernel* const* table = kGenericTable;
#ifdef PFN_HAVE_AVX2
  if (isa == Isa::avx2) table = kAvx2Table;
#endif
#ifdef PFN_HAVE_AVX512
  if (isa == Isa::avx512) table = kAvx512Table;
#endif
  return table[static_cast<int>(op)][float_type == DType::f64 ? 1 : 0];
}

const Kernel& kernel(OpId op, DType float_type) { return kernel(active_isa(), op, float_type); }

}  // namespace pfn
