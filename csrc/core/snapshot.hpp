// Copies of the state of a step list: what it updates in place, that is its external outputs that do not move from step
// to step.
#pragma once
#include "core/plan.hpp"

namespace pfn {

void save_state(Plan& plan, const StepList& list);
void restore_state(Plan& plan, const StepList& list);  // throws std::runtime_error if that list was not the last saved

// Whether every float of the state is finite.
bool state_is_finite(const Plan& plan, const StepList& list);

}  // namespace pfn
