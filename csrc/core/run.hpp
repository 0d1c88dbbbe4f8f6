// Runs one prepared call: its phases in order, each over all its range, on one thread or several.
#pragma once
#include "ops/op_call.hpp"

namespace pfn {

// Work below this many nanoseconds on one core is not worth waking a second one: a warm fork and join costs about 1000, but tens of
// thousands when the team sleeps or another process holds a core. Tests set it to 0, to run every shape on several threads.
double parallel_cost();
void set_parallel_cost(double ns);

// `local` holds `threads` workspaces, `local_stride` bytes apart.
void run_call(const OpCall& call, const Kernel& kernel, int threads, char* local, std::int64_t local_stride);

// Whether any phase of the call would use more than one thread if it had them.
bool worth_threads(const OpCall& call);

}  // namespace pfn
