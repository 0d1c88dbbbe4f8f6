// The only file that includes <omp.h>.
#include "core/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <atomic>

namespace pfn {
namespace {

std::atomic<int> g_threads{0};

// After fork only the calling thread exists in the child, and libgomp would wait for its lost team for ever: the child of a
// process that may have run a parallel region stays serial.
std::atomic<bool> g_forked{false};

[[maybe_unused]] const int g_registered = pthread_atfork(nullptr, nullptr, [] { g_forked.store(true); });

}  // namespace

int num_threads() {
  const int set = g_threads.load(std::memory_order_relaxed);
  return set > 0 ? set : omp_get_max_threads();
}

void set_num_threads(int n) { g_threads.store(n, std::memory_order_relaxed); }

std::string openmp_runtime() {
#if defined(__clang__)
  return "libomp (OpenMP " + std::to_string(_OPENMP) + ")";
#else
  return "libgomp (OpenMP " + std::to_string(_OPENMP) + ")";
#endif
}

void parallel_for(int threads, std::int64_t extent, std::int64_t grain, RangeBody body, void* context) {
  const std::int64_t pieces = (extent + grain - 1) / grain;
  if (pieces < threads) threads = static_cast<int>(pieces);
  if (threads <= 1 || g_forked.load(std::memory_order_relaxed)) {
    body(context, 0, extent, 0);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t team = omp_get_num_threads();
    const std::int64_t me = omp_get_thread_num();
    const std::int64_t begin = pieces * me / team * grain;
    std::int64_t end = pieces * (me + 1) / team * grain;
    if (end > extent) end = extent;
    if (begin < end) body(context, begin, end, static_cast<int>(me));
  }
}

}  // namespace pfn
