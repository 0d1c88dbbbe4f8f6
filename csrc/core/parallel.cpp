// The only file that includes <omp.h>: OpenMP gives the threads, Team hands out the work.
#include "core/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>

namespace pfn {
namespace {

// A thread without work spins about this many pauses (some 50 us) before it sleeps.
constexpr int kSpins = 2000;

// A piece that keeps the leader waiting longer than this and twice the time of its own pieces sits on a core that
// something else holds.
constexpr std::int64_t kStuckNs = 100'000;
constexpr std::int64_t kAloneNs = 50'000'000, kAloneMostNs = 1'600'000'000;

std::atomic<int> g_threads{0};

// After fork only the calling thread exists in the child, and libgomp would wait for its lost team for ever: the child
// of a process that may have run a parallel region stays serial.
std::atomic<bool> g_forked{false};

[[maybe_unused]] const int g_registered = pthread_atfork(nullptr, nullptr, [] { g_forked.store(true); });

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// While now_ns() < g_alone_until no work is shared: the cores are busy with something else. Kept for the whole process,
// since a run may be shorter than the disturbance.
std::atomic<std::int64_t> g_alone_until{0};
std::atomic<std::int64_t> g_alone_for{0};
std::atomic<bool> g_adaptive{true};

bool alone() {
  const std::int64_t until = g_alone_until.load(std::memory_order_relaxed);
  return until != 0 && now_ns() < until;
}

}  // namespace

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

void Team::run(std::int64_t extent, std::int64_t grain, RangeBody body, void* context) {
  const std::int64_t grains = (extent + grain - 1) / grain;
  const std::int64_t pieces = std::min({grains, std::int64_t{2} * size_, kMaxPieces});
  if (size_ <= 1 || pieces <= 1 || alone()) {
    body(context, 0, extent, 0);
    return;
  }
  const std::uint64_t epoch = epoch_.load(std::memory_order_relaxed) + 2;
  epoch_.store(epoch - 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  extent_.store(extent, std::memory_order_relaxed);
  grain_.store(grain, std::memory_order_relaxed);
  pieces_.store(pieces, std::memory_order_relaxed);
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
  if (done_.load(std::memory_order_acquire) < pieces) wait_done(own > 0 ? (now_ns() - start) / own : 0);
}

// Waits for pieces in other hands, a piece of one's own having taken piece_ns. When they are stuck, no more work is
// shared for a while, longer each time it happens again.
void Team::wait_done(std::int64_t piece_ns) {
  const std::int64_t pieces = pieces_.load(std::memory_order_relaxed);
  const std::int64_t since = now_ns();
  while (done_.load(std::memory_order_acquire) < pieces) pause();
  const std::int64_t now = now_ns();
  if (now - since < kStuckNs + 2 * piece_ns || !g_adaptive.load(std::memory_order_relaxed)) return;
  const std::int64_t before = g_alone_for.load(std::memory_order_relaxed);
  const bool again = now < g_alone_until.load(std::memory_order_relaxed) + 2 * before;
  const std::int64_t for_ns = again ? std::min(2 * before, kAloneMostNs) : kAloneNs;
  g_alone_for.store(for_ns, std::memory_order_relaxed);
  g_alone_until.store(now + for_ns, std::memory_order_relaxed);
}

std::int64_t Team::claim_pieces(std::uint64_t epoch, int thread) {
  const std::int64_t extent = extent_.load(std::memory_order_relaxed);
  const std::int64_t grain = grain_.load(std::memory_order_relaxed);
  const std::int64_t pieces = pieces_.load(std::memory_order_relaxed);
  const RangeBody body = body_.load(std::memory_order_relaxed);
  void* const context = context_.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (epoch_.load(std::memory_order_relaxed) != epoch) return 0;  // over, and what was read may be a mixture

  const std::int64_t grains = (extent + grain - 1) / grain;
  const std::int64_t mine = pieces * thread / size_, end = pieces * (thread + 1) / size_;
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

void Team::work(int thread) {
  std::uint64_t seen = 0;
  for (;;) {
    std::uint64_t epoch = epoch_.load(std::memory_order_acquire);
    for (int spin = 0; (epoch == seen || epoch % 2 == 1) && spin < kSpins; ++spin) {
      if (dismissed_.load(std::memory_order_acquire)) return;
      pause();
      epoch = epoch_.load(std::memory_order_acquire);
    }
    if (epoch == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] { return epoch_.load(std::memory_order_seq_cst) != seen || dismissed_.load(); });
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
      continue;
    }
    if (epoch % 2 == 1) continue;
    seen = epoch;
    claim_pieces(epoch, thread);
  }
}

void Team::dismiss() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    dismissed_.store(true);
  }
  wake_.notify_all();
}

void with_team(int threads, LeaderBody body, void* context) {
  if (threads <= 1 || g_forked.load(std::memory_order_relaxed) || alone()) {
    Team team(1);
    body(context, team);
    return;
  }
  Team team(threads);
#pragma omp parallel num_threads(threads)
  {
    // OpenMP may give fewer threads than asked for: then nobody's pieces are left lying, the others claim them.
    const int me = omp_get_thread_num();
    if (me == 0) {
      body(context, team);
      team.dismiss();
    } else {
      team.work(me);
    }
  }
}

}  // namespace pfn
