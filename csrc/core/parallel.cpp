// The pool of threads behind every team. OpenMP only answers how many there should be (this is the one file that
// includes <omp.h>): its regions begin and end when every thread has come, so beside another busy process each costs
// two waits for a core (8 ms a step were seen where the work took 1.2), and a child of fork waits for a team that is
// gone.
#include "core/parallel.hpp"

#include <omp.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace pfn {
namespace {

// A thread without work spins about this many pauses (some 100 us) before it sleeps.
constexpr int kSpins = 4000;

// A piece that keeps the leader waiting longer than this and twice the time of its own pieces sits on a core that
// something else holds.
constexpr std::int64_t kStuckNs = 100'000;
constexpr std::int64_t kAloneNs = 50'000'000, kAloneMostNs = 1'600'000'000;

constexpr std::int64_t kMaxPieces = 64;

std::atomic<int> g_threads{0};

// While now_ns() < g_alone_until no work is shared: the cores are busy with something else. Kept for the whole process,
// since a run may be shorter than the disturbance.
std::atomic<std::int64_t> g_alone_until{0};
std::atomic<std::int64_t> g_alone_for{0};
std::atomic<bool> g_adaptive{true};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool alone_for_now() {
  const std::int64_t until = g_alone_until.load(std::memory_order_relaxed);
  return until != 0 && now_ns() < until;
}

}  // namespace

class Pool {
 public:
  // Takes the pool for one leader and sees that it has `workers` threads; false when another leader has it.
  bool take(int workers);
  void give_back() { taken_.store(false, std::memory_order_release); }
  int workers() const { return workers_; }

  // Leader only. A team of `size` threads does all of [0, extent).
  void share(int size, std::int64_t pieces, std::int64_t extent, std::int64_t grain, RangeBody body, void* context);

 private:
  void work(int thread);
  std::int64_t claim_pieces(std::uint64_t epoch, int thread);  // returns how many it did
  void wait_done(std::int64_t pieces, std::int64_t piece_ns);

  // A phase is published as a sequence lock: the epoch is odd while it is written. A thread that wakes late reads a
  // whole phase or nothing, and finds every piece of a past one claimed.
  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<std::int64_t> extent_{0}, grain_{1}, pieces_{0};
  std::atomic<int> size_{1};
  std::atomic<RangeBody> body_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<std::uint64_t> claimed_[kMaxPieces] = {};  // the last epoch in which the piece was claimed
  alignas(64) std::atomic<std::int64_t> done_{0};

  alignas(64) std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;

  std::atomic<bool> taken_{false};
  int workers_ = 0;
};

namespace {

// Never freed: its threads may sleep in it until the process ends. After fork the child, which has none of the threads,
// starts another one.
std::atomic<Pool*> g_pool{nullptr};

[[maybe_unused]] const int g_registered = pthread_atfork(nullptr, nullptr, [] { g_pool.store(nullptr); });

Pool* the_pool() {
  Pool* pool = g_pool.load(std::memory_order_acquire);
  if (pool != nullptr) return pool;
  auto* fresh = new Pool();
  if (g_pool.compare_exchange_strong(pool, fresh)) return fresh;
  delete fresh;
  return pool;
}

}  // namespace

bool Pool::take(int workers) {
  if (taken_.exchange(true, std::memory_order_acquire)) return false;
  if (workers_ >= workers) return true;
  // Signals are the business of the threads that were there before.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    while (workers_ < workers) {
      std::thread([this, thread = workers_ + 1] { work(thread); }).detach();
      ++workers_;
    }
  } catch (const std::system_error&) {
    // The system gives no more threads: the team is smaller.
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return true;
}

void Pool::share(int size, std::int64_t pieces, std::int64_t extent, std::int64_t grain, RangeBody body,
                 void* context) {
  const std::uint64_t epoch = epoch_.load(std::memory_order_relaxed) + 2;
  epoch_.store(epoch - 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  extent_.store(extent, std::memory_order_relaxed);
  grain_.store(grain, std::memory_order_relaxed);
  pieces_.store(pieces, std::memory_order_relaxed);
  size_.store(size, std::memory_order_relaxed);
  body_.store(body, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  epoch_.store(epoch, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
    }
    wake_.notify_all();
  }
  const std::int64_t start = now_ns();
  const std::int64_t own = claim_pieces(epoch, 0);
  if (done_.load(std::memory_order_acquire) < pieces) wait_done(pieces, own > 0 ? (now_ns() - start) / own : 0);
}

// Waits for pieces in other hands, a piece of one's own having taken piece_ns. When they are stuck, no more work is
// shared for a while, longer each time it happens again.
void Pool::wait_done(std::int64_t pieces, std::int64_t piece_ns) {
  const std::int64_t since = now_ns();
  while (done_.load(std::memory_order_acquire) < pieces) pause();
  const std::int64_t now = now_ns();
  if (now - since < kStuckNs + 2 * piece_ns || !adaptive()) return;
  const std::int64_t before = g_alone_for.load(std::memory_order_relaxed);
  const bool again = now < g_alone_until.load(std::memory_order_relaxed) + 2 * before;
  const std::int64_t for_ns = again ? std::min(2 * before, kAloneMostNs) : kAloneNs;
  g_alone_for.store(for_ns, std::memory_order_relaxed);
  g_alone_until.store(now + for_ns, std::memory_order_relaxed);
}

std::int64_t Pool::claim_pieces(std::uint64_t epoch, int thread) {
  const std::int64_t extent = extent_.load(std::memory_order_relaxed);
  const std::int64_t grain = grain_.load(std::memory_order_relaxed);
  const std::int64_t pieces = pieces_.load(std::memory_order_relaxed);
  const int size = size_.load(std::memory_order_relaxed);
  const RangeBody body = body_.load(std::memory_order_relaxed);
  void* const context = context_.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (epoch_.load(std::memory_order_relaxed) != epoch) return 0;  // over, and what was read may be a mixture
  if (thread >= size) return 0;

  const std::int64_t grains = (extent + grain - 1) / grain;
  const std::int64_t mine = pieces * thread / size, end = pieces * (thread + 1) / size;
  std::int64_t own = 0;
  // Own pieces forward, so that a thread meets its rows again in the next phase; then the others', from the back.
  for (std::int64_t k = 0; k < pieces; ++k) {
    const std::int64_t i = k < end - mine ? mine + k : (mine - 1 - (k - (end - mine)) + pieces) % pieces;
    std::uint64_t seen = claimed_[i].load(std::memory_order_relaxed);
    if (seen >= epoch || !claimed_[i].compare_exchange_strong(seen, epoch, std::memory_order_relaxed)) continue;
    body(context, grains * i / pieces * grain, std::min(grains * (i + 1) / pieces * grain, extent), thread);
    done_.fetch_add(1, std::memory_order_release);
    ++own;
  }
  return own;
}

void Pool::work(int thread) {
  std::uint64_t seen = 0;
  for (;;) {
    std::uint64_t epoch = epoch_.load(std::memory_order_acquire);
    for (int spin = 0; (epoch == seen || epoch % 2 == 1) && spin < kSpins; ++spin) {
      pause();
      epoch = epoch_.load(std::memory_order_acquire);
    }
    if (epoch == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] { return epoch_.load(std::memory_order_seq_cst) != seen; });
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
      continue;
    }
    if (epoch % 2 == 1) continue;
    seen = epoch;
    claim_pieces(epoch, thread);
  }
}

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

void set_adaptive_threads(bool on) {
  g_adaptive.store(on, std::memory_order_relaxed);
  if (!on) g_alone_until.store(0, std::memory_order_relaxed);
}

bool adaptive() { return g_adaptive.load(std::memory_order_relaxed); }

void Team::run(std::int64_t extent, std::int64_t grain, RangeBody body, void* context) {
  const std::int64_t grains = (extent + grain - 1) / grain;
  const std::int64_t pieces = std::min({grains, std::int64_t{2} * size_, kMaxPieces});
  if (size_ <= 1 || pieces <= 1 || alone_ || alone_for_now())
    body(context, 0, extent, 0);
  else
    pool_->share(size_, pieces, extent, grain, body, context);
}

void with_team(int threads, LeaderBody body, void* context) {
  Pool* const pool = threads > 1 ? the_pool() : nullptr;
  if (pool == nullptr || !pool->take(threads - 1)) {
    Team alone(nullptr, 1);
    body(context, alone);
    return;
  }
  Team team(pool, std::min(threads, pool->workers() + 1));
  body(context, team);
  pool->give_back();
}

}  // namespace pfn
