// The pool runs every task exactly once, with a thread index that is its own, loop after loop.
#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace sinkforge::kernels {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunsEveryTaskOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.threads(), GetParam());
  for (int64_t tasks : {0, 1, 2, 3, 17, 1000}) {
    std::vector<int> runs(static_cast<size_t>(tasks));
    pool.Run(tasks, [&](int64_t task, int) { ++runs[static_cast<size_t>(task)]; });
    EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(tasks), 1)) << tasks;
  }
}

TEST_P(ThreadPoolTest, ManyLoopsSeeEachOthersWrites) {
  ThreadPool pool(GetParam());
  constexpr int64_t kTasks = 8;
  constexpr int kLoops = 5000;
  std::vector<int64_t> values(kTasks);
  for (int loop = 0; loop < kLoops; ++loop) {
    // Each loop reads its neighbour's value of the loop before: a race for the thread sanitizer if
    // loops overlapped.
    std::vector<int64_t> next(kTasks);
    pool.Run(kTasks, [&](int64_t task, int) {
      next[static_cast<size_t>(task)] = values[static_cast<size_t>((task + 1) % kTasks)] + 1;
    });
    values.swap(next);
  }
  EXPECT_EQ(std::accumulate(values.begin(), values.end(), int64_t{0}), kTasks * kLoops);
}

TEST_P(ThreadPoolTest, ThreadIndexIsNeverSharedAtOneTime) {
  ThreadPool pool(GetParam());
  // Unsynchronised counters, one a thread index: the thread sanitizer watches that no two threads
  // have one index; the sum shows that no count was lost.
  std::vector<int64_t> counts(static_cast<size_t>(pool.threads()));
  for (int loop = 0; loop < 200; ++loop) {
    pool.Run(50, [&](int64_t, int thread) { ++counts[static_cast<size_t>(thread)]; });
  }
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), 200 * 50);
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, ::testing::Values(1, 2, 5));

}  // namespace
}  // namespace sinkforge::kernels
