// Threads: how many, and a loop over pieces of a range. The only door to OpenMP.
#pragma once
#include <cstdint>
#include <string>

namespace pfn {

int num_threads();            // as set, else OpenMP's default (OMP_NUM_THREADS, threadpoolctl)
void set_num_threads(int n);  // n >= 1; 0 returns to OpenMP's default
std::string openmp_runtime();

// Runs body(context, begin, end, thread) over [0, extent) cut at multiples of grain, on at most `threads` threads. Which piece
// a thread gets depends on the team's size, so bodies must give the same bits however the range is cut.
using RangeBody = void (*)(void* context, std::int64_t begin, std::int64_t end, int thread);
void parallel_for(int threads, std::int64_t extent, std::int64_t grain, RangeBody body, void* context);

}  // namespace pfn
