#include "core/run.hpp"

#include <atomic>

namespace pfn {
namespace {

std::atomic<double> g_parallel_cost{8000.0};

struct PhaseContext {
  const OpCall* call;
  const Kernel* kernel;
  int phase;
  char* local;
  std::int64_t local_stride;
};

void run_piece(void* context, std::int64_t begin, std::int64_t end, int thread) {
  const auto* c = static_cast<const PhaseContext*>(context);
  c->kernel->run(*c->call, c->phase, begin, end, c->local + thread * c->local_stride);
}

bool phase_worth_threads(const Phase& phase) { return phase.cost >= parallel_cost() && phase.extent > phase.grain; }

}  // namespace

double parallel_cost() { return g_parallel_cost.load(std::memory_order_relaxed); }
void set_parallel_cost(double ns) {
  g_parallel_cost.store(ns, std::memory_order_relaxed);
  set_adaptive_threads(ns > 0);
}

bool worth_threads(const OpCall& call) {
  for (int p = 0; p < call.phases; ++p)
    if (phase_worth_threads(call.phase[p])) return true;
  return false;
}

void run_call(const OpCall& call, const Kernel& kernel, Team& team, char* local, std::int64_t local_stride) {
  for (int p = 0; p < call.phases; ++p) {
    const Phase& phase = call.phase[p];
    if (phase.extent <= 0) continue;
    if (team.size() > 1 && phase_worth_threads(phase)) {
      PhaseContext context{&call, &kernel, p, local, local_stride};
      team.run(phase.extent, phase.grain, run_piece, &context);
    } else {
      kernel.run(call, p, 0, phase.extent, local);
    }
  }
}

void run_call(const OpCall& call, const Kernel& kernel, char* local) {
  for (int p = 0; p < call.phases; ++p)
    if (call.phase[p].extent > 0) kernel.run(call, p, 0, call.phase[p].extent, local);
}

}  // namespace pfn
