// Runs a step list of a plan over the rows of a data set, in one call: the loop over steps, and nothing else.
#pragma once
#include <cstdint>

#include "core/plan.hpp"

namespace pfn {

enum class StopReason { finished, nonfinite, limit, interrupted };
const char* stop_name(StopReason reason);

// Asked every ~20 ms between steps; returns false to stop. Called without any lock held.
struct Poll {
  virtual ~Poll() = default;
  virtual bool keep_going(std::int64_t steps_done) = 0;
};

// Told after each step of the list, in order; slow, for traces.
struct StepHook {
  virtual ~StepHook() = default;
  virtual void after(std::size_t step, const OpCall& call, std::int64_t ns) = 0;
};

// Does the steps that are functions of the caller's; returns false to stop.
struct Foreign {
  virtual ~Foreign() = default;
  virtual bool call(int function, int inputs, int outputs, const OpCall& call) = 0;
};

struct RunRequest {
  std::int64_t rows = 0;          // rows to go through
  std::int64_t batch = 1;         // rows a step; the last step takes what is left
  const double* hyper = nullptr;  // [hyper_steps][hyper_groups][kHyperFields]
  std::int64_t hyper_steps = 0;   // 1: the same row for every step
  std::int64_t hyper_groups = 0;
  int watch = -1;           // external f64 value that advances by step: tested after each step
  double limit = 0;         // stop when the watched value exceeds it (infinity: only when not finite)
  double limit_factor = 0;  // above 0: the limit is this times the first watched value of the run
  int threads = 1;
  std::int64_t* step_ns = nullptr;  // per step of the list: nanoseconds are added when given
  Poll* poll = nullptr;
  StepHook* hook = nullptr;
  Foreign* foreign = nullptr;
  StepList* also = nullptr;  // taken instead in the steps k with (k + offset) % every == 0; it writes the same state
  std::int64_t every = 1;
  std::int64_t offset = 0;  // 0 or more

  bool takes_other(std::int64_t k) const { return also != nullptr && (k + offset) % every == 0; }
  // Those of the first `steps` steps that take it.
  std::int64_t records(std::int64_t steps) const {
    return also == nullptr ? 0 : (steps + offset + every - 1) / every - (offset + every - 1) / every;
  }
};

struct RunResult {
  std::int64_t steps = 0;  // steps whose result stands
  StopReason reason = StopReason::finished;
};

// Rough time of a run on one core in nanoseconds, from the last preparation; infinite when there is none for it.
double expected_cost(const Plan& plan, const StepList& list, const RunRequest& request);

// Checks bindings and sizes, takes all memory, then runs. Throws std::invalid_argument or std::bad_alloc before the
// first step only.
RunResult run(Plan& plan, StepList& list, const RunRequest& request);

}  // namespace pfn
