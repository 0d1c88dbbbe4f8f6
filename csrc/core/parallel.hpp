// Threads: how many, and a team that shares phases of work. The only door to OpenMP.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

namespace pfn {

int num_threads();            // as set, else OpenMP's default (OMP_NUM_THREADS, threadpoolctl)
void set_num_threads(int n);  // n >= 1; 0 returns to OpenMP's default
std::string openmp_runtime();

// Whether a team may shrink to its leader while the cores are busy with something else; off in tests that must see
// threads.
void set_adaptive_threads(bool on);

// Does [begin, end) of a phase on one thread; must give the same bits however the range is cut.
using RangeBody = void (*)(void* context, std::int64_t begin, std::int64_t end, int thread);

// The threads of one parallel region. The first one, the leader, runs the program and hands out phases; the others wait
// for them, spinning briefly, then asleep. A phase is cut into pieces that are claimed one by one, each thread its own
// share first and then what is left of the others': it ends when all pieces are done, whether or not every thread woke
// up in time. When a core is taken by another process and a piece is stuck on it, the leader works alone for a while.
class Team {
 public:
  explicit Team(int size) : size_(size) {}

  // Leader only. Cuts [0, extent) at multiples of grain; returns when all of it is done.
  void run(std::int64_t extent, std::int64_t grain, RangeBody body, void* context);

  int size() const { return size_; }
  void work(int thread);  // the others' loop
  void dismiss();         // leader only: ends that loop

 private:
  static constexpr std::int64_t kMaxPieces = 64;

  std::int64_t claim_pieces(std::uint64_t epoch, int thread);  // returns how many it did
  void wait_done(std::int64_t piece_ns);

  // A phase is published as a sequence lock: odd while it is written. A thread that wakes late reads a whole phase or
  // reads again, and finds every piece of a past one claimed.
  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<std::int64_t> extent_{0}, grain_{1}, pieces_{0};
  std::atomic<RangeBody> body_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<std::uint64_t> claimed_[kMaxPieces] = {};  // the last epoch in which the piece was claimed
  alignas(64) std::atomic<std::int64_t> done_{0};

  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> dismissed_{false};
  std::mutex mutex_;
  std::condition_variable wake_;

  int size_;
};

// Calls body(context, team) on the calling thread, inside a region of at most `threads` threads; serially after a fork.
using LeaderBody = void (*)(void* context, Team& team);
void with_team(int threads, LeaderBody body, void* context);

}  // namespace pfn
