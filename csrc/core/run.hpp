// Runs one prepared call: its phases in order, each over all its range, on one thread or a team.
#pragma once
#include "core/parallel.hpp"
#include "ops/op_call.hpp"

namespace pfn {

// Work below this many nanoseconds on one core is not shared. At 0, for tests, every shape goes to the threads, however
// busy the cores are.
double parallel_cost();
void set_parallel_cost(double ns);

// `local` holds a workspace for each thread of the team, `local_stride` bytes apart.
void run_call(const OpCall& call, const Kernel& kernel, Team& team, char* local, std::int64_t local_stride);

// On the calling thread alone, with one workspace.
void run_call(const OpCall& call, const Kernel& kernel, char* local);

// Whether any phase of the call would use more than one thread if it had them.
bool worth_threads(const OpCall& call);

}  // namespace pfn
