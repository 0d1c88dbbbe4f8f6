// Simulated steps for csrc/core/pace.hpp: what sharing costs, what working alone costs, and when that changes.
//   pace SHARED ALONE LATER_SHARED LATER_ALONE STEPS   (microseconds)
// prints the part of the time of each half that went into the slower way.
#include "core/pace.hpp"

#include <cstdio>
#include <cstdlib>

int main(int, char** argv) {
  const std::int64_t cost[2][2] = {{std::atoll(argv[1]) * 1000, std::atoll(argv[2]) * 1000},
                                   {std::atoll(argv[3]) * 1000, std::atoll(argv[4]) * 1000}};
  const long steps = std::atol(argv[5]);
  pfn::Pace pace;
  for (int half = 0; half < 2; ++half) {
    const int slower = cost[half][1] > cost[half][0] ? 1 : 0;
    double lost = 0, all = 0;
    for (long k = 0; k < steps; ++k) {
      const int alone = pace.alone() ? 1 : 0;
      pace.record(cost[half][alone]);
      all += static_cast<double>(cost[half][alone]);
      if (alone == slower) lost += static_cast<double>(cost[half][alone]);
    }
    std::printf("%.4f\n", lost / all);
  }
  return 0;
}
