// Whether sharing a step list's work pays at the moment: measured, not assumed.
//
// On quiet cores a team is faster; beside another busy process it may be slower than its leader alone, since pieces
// wait for a core and data move between caches for nothing. So a run now and then tries the other way for a few steps
// and keeps the faster one. Time is that spent in steps of the list: after a rest it does not begin with a trial. The
// bits do not depend on it.
#pragma once
#include <algorithm>
#include <cstdint>

namespace pfn {

class Pace {
 public:
  // Whether the step that begins now should be done by the leader alone.
  bool alone() {
    if (!trying_ && clock_ >= next_try_ && next_try_ != 0) {
      trying_ = true;
      tried_steps_ = 0;
      tried_ns_ = 0;
    }
    return alone_ != trying_;
  }

  // The step that began so took `spent` nanoseconds.
  void record(std::int64_t spent) {
    clock_ += spent;
    const double ns = static_cast<double>(spent);
    if (!trying_) {
      if (next_try_ == 0) next_try_ = clock_ + std::max(kFirst, kSteps * spent);
      usual_ns_ = usual_ns_ == 0 ? ns : 0.8 * usual_ns_ + 0.2 * ns;
      return;
    }
    cost_ns_ += spent;
    // The first step of a trial finds its data in the other caches.
    if (++tried_steps_ > 1) tried_ns_ += ns;
    if (tried_steps_ < 2 || tried_ns_ < kTryNs) return;
    const double mean = tried_ns_ / (tried_steps_ - 1);
    trying_ = false;
    if (mean < 0.97 * usual_ns_) {
      alone_ = !alone_;
      usual_ns_ = mean;
      interval_ = kFirst;
    } else {
      interval_ = std::min(2 * interval_, kLongest);
    }
    // Trials take a few percent of the time, however long a step is.
    next_try_ = clock_ + std::max(interval_, kSteps * cost_ns_);
    cost_ns_ = 0;
  }

 private:
  static constexpr double kTryNs = 1e6;
  static constexpr std::int64_t kFirst = 30'000'000, kLongest = 1'000'000'000, kSteps = 30;

  bool alone_ = false;   // the way that was faster last
  bool trying_ = false;  // the other way is being tried
  int tried_steps_ = 0;
  double tried_ns_ = 0, usual_ns_ = 0;
  std::int64_t clock_ = 0, next_try_ = 0, interval_ = kFirst, cost_ns_ = 0;
};

}  // namespace pfn
