// One call of one op: what a kernel is given and what it tells its caller. No std containers: kernels are compiled per
// ISA.
#pragma once
#include <cstdint>

// Helpers outside the per-ISA namespaces must leave no symbol behind that holds one ISA's code.
#define PFN_ALWAYS_INLINE inline __attribute__((always_inline))

namespace pfn {

constexpr int kMaxArgs = 8;
constexpr int kMaxAttrs = 16;
constexpr int kMaxDims = 4;
constexpr int kMaxPhases = 4;
constexpr int kMaxNotes = 8;

enum class DType : std::int32_t { f32, f64, u8, i64 };

enum HyperField : int {
#define PFN_HYPER(name) kHyper_##name,
#include "ops/hyper.def"
#undef PFN_HYPER
  kHyperFields
};

// A contiguous row-major array. No alignment, padding or non-overlap may be assumed beyond what the op's flags say.
struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  std::int32_t ndim = 0;
  std::int64_t shape[kMaxDims] = {1, 1, 1, 1};

  PFN_ALWAYS_INLINE std::int64_t size() const {
    std::int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= shape[d];
    return n;
  }
  PFN_ALWAYS_INLINE std::int64_t cols() const { return ndim > 0 ? shape[ndim - 1] : 1; }  // last dimension
  PFN_ALWAYS_INLINE std::int64_t rows() const {                                           // product of all the others
    std::int64_t n = 1;
    for (int d = 0; d + 1 < ndim; ++d) n *= shape[d];
    return n;
  }
  template <class T>
  PFN_ALWAYS_INLINE T* as() const {
    return static_cast<T*>(data);
  }
};

// A phase is a loop over [0, extent) that may be cut at multiples of grain and run in any order or at once.
// The caller passes a barrier between phases. The result must not depend on where the loop is cut.
struct Phase {
  std::int64_t extent = 0;
  std::int64_t grain = 1;
  double cost = 0;  // rough time of the whole phase on one core, ns: decides only whether threads are worth waking
};

// Rows of a data set that the next step will gather. A kernel may fetch them into the second-level cache as it works.
struct Ahead {
  const char* data = nullptr;  // null: nothing to fetch
  const std::int64_t* index = nullptr;
  std::int64_t rows = 0;
  std::int64_t row_bytes = 0;
};

struct OpCall {
  View in[kMaxArgs];
  View out[kMaxArgs];
  double attr[kMaxAttrs] = {};
  const double* hyper = nullptr;  // kHyperFields numbers of the call's parameter group; null if the op reads none
  void* scratch = nullptr;        // scratch_bytes shared by the phases of this call, 64-byte aligned
  Ahead ahead;                    // only for ops of flag kFetchesAhead

  // Filled by Kernel::prepare from shapes and attributes alone, never from the thread count.
  int phases = 0;
  Phase phase[kMaxPhases];
  std::int64_t scratch_bytes = 0;
  std::int64_t local_bytes = 0;       // workspace each running thread needs, 64-byte aligned
  std::int64_t note[kMaxNotes] = {};  // the kernel's own numbers (block sizes), from prepare to run
};

struct Kernel {
  void (*prepare)(OpCall& call);
  void (*run)(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local);
};

}  // namespace pfn
