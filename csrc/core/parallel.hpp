// Threads: how many, and a team that shares phases of work.
#pragma once
#include <cstdint>
#include <string>

namespace pfn {

int num_threads();            // as set, else OpenMP's default (OMP_NUM_THREADS, threadpoolctl)
void set_num_threads(int n);  // n >= 1; 0 returns to OpenMP's default
std::string openmp_runtime();

// Whether a team may shrink to its leader while the cores are busy with something else; off in tests that must see
// threads.
void set_adaptive_threads(bool on);
bool adaptive();

// Does [begin, end) of a phase on one thread; must give the same bits however the range is cut.
using RangeBody = void (*)(void* context, std::int64_t begin, std::int64_t end, int thread);

class Pool;

// The calling thread, the leader, and the pool's threads while it has them. The leader runs the program and hands out
// phases. A phase is cut into pieces that are claimed one by one, each thread its own share first and then what is left
// of the others': it ends when all pieces are done, whether or not every thread woke up in time. When a piece is stuck
// on a core that another process holds, the leader works alone for a while.
class Team {
 public:
  Team(Pool* pool, int size) : pool_(pool), size_(size) {}

  // Cuts [0, extent) at multiples of grain; returns when all of it is done.
  void run(std::int64_t extent, std::int64_t grain, RangeBody body, void* context);

  int size() const { return size_; }
  void set_alone(bool alone) { alone_ = alone && adaptive(); }  // whether the leader does all work itself for now

 private:
  Pool* pool_;
  int size_;
  bool alone_ = false;
};

// Calls body(context, team) on the calling thread with a team of at most `threads`. The pool serves one team at a time:
// whoever finds it taken works alone, with the same bits.
using LeaderBody = void (*)(void* context, Team& team);
void with_team(int threads, LeaderBody body, void* context);

}  // namespace pfn
