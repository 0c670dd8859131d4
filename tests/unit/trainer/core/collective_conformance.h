// What every Collective must do, as one suite: give it a factory and instantiate it.
//
//   INSTANTIATE_TEST_SUITE_P(Mine, CollectiveConformanceTest,
//                            ::testing::Values(CollectiveFactory{"Mine", 3, MakeMine}));
//
// A factory's `make` gives one collective per rank, each of which is then used by its own thread.
#pragma once

#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "worker/trainer/core/collective.h"

namespace sinkforge::trainer {

struct CollectiveFactory {
  std::string name;
  int world_size = 1;
  std::function<std::vector<std::unique_ptr<Collective>>(int world_size)> make;
};

class CollectiveConformanceTest : public ::testing::TestWithParam<CollectiveFactory> {
 protected:
  // Runs `body` on one thread per rank and joins them. A rank's collective lives until all ranks
  // are done, unless `body` resets it.
  void Run(const std::function<void(std::unique_ptr<Collective>&)>& body) {
    auto collectives = GetParam().make(GetParam().world_size);
    ASSERT_EQ(static_cast<int>(collectives.size()), GetParam().world_size);
    std::vector<std::thread> threads;
    for (auto& collective : collectives) {
      threads.emplace_back([&body, &collective] { body(collective); });
    }
    for (std::thread& thread : threads) thread.join();
  }
  int world_size() const { return GetParam().world_size; }
};

TEST_P(CollectiveConformanceTest, NumbersItsRanks) {
  std::vector<int> seen(static_cast<size_t>(world_size()));
  Run([&](std::unique_ptr<Collective>& collective) {
    EXPECT_EQ(collective->world_size(), world_size());
    seen[static_cast<size_t>(collective->rank())] += 1;
  });
  EXPECT_EQ(seen, std::vector<int>(seen.size(), 1));
}

// Sizes around the number of ranks and above any pipeline's block.
constexpr size_t kConformanceSizes[] = {0, 1, 2, 3, 5, 1000, 100003};

TEST_P(CollectiveConformanceTest, SumsFloatsToTheSameBitsOnEveryRank) {
  for (const size_t size : kConformanceSizes) {
    std::vector<std::vector<float>> results(static_cast<size_t>(world_size()));
    Run([&](std::unique_ptr<Collective>& collective) {
      const auto rank = static_cast<size_t>(collective->rank());
      std::vector<float> values(size);
      for (size_t i = 0; i < size; ++i) {
        values[i] = 1.0F / static_cast<float>(1 + (i * 7 + rank * 13) % 101);
      }
      EXPECT_TRUE(collective->AllReduceSum(std::span<float>(values)).ok());
      results[rank] = values;
    });
    for (const auto& result : results) EXPECT_EQ(result, results[0]);
    for (size_t i = 0; i < size; i += 997) {
      double expected = 0;
      for (size_t rank = 0; rank < results.size(); ++rank) {
        expected += 1.0 / static_cast<double>(1 + (i * 7 + rank * 13) % 101);
      }
      EXPECT_NEAR(results[0][i], expected, 1e-6 * expected);
    }
  }
}

TEST_P(CollectiveConformanceTest, SumsDoublesInFullPrecision) {
  for (const size_t size : kConformanceSizes) {
    Run([&](std::unique_ptr<Collective>& collective) {
      std::vector<double> values(size, 1.0 + collective->rank() * 0x1p-40);
      EXPECT_TRUE(collective->AllReduceSum(std::span<double>(values)).ok());
      const int world = world_size();
      const double expected = world + (world * (world - 1) / 2) * 0x1p-40;
      for (const double value : values) ASSERT_EQ(value, expected);
    });
  }
}

TEST_P(CollectiveConformanceTest, TakesTheLargestInteger) {
  Run([&](std::unique_ptr<Collective>& collective) {
    const int rank = collective->rank();
    std::vector<int64_t> values = {rank, -rank, rank == 0 ? int64_t{1} << 60 : -5,
                                   std::numeric_limits<int64_t>::min()};
    EXPECT_TRUE(collective->AllReduceMax(std::span<int64_t>(values)).ok());
    EXPECT_EQ(values, (std::vector<int64_t>{world_size() - 1, 0, int64_t{1} << 60,
                                            std::numeric_limits<int64_t>::min()}));
  });
}

TEST_P(CollectiveConformanceTest, CarriesNonFiniteValuesToEveryRank) {
  Run([&](std::unique_ptr<Collective>& collective) {
    std::vector<double> values = {1.0, 1.0};
    if (collective->rank() == world_size() - 1) {
      values = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()};
    }
    EXPECT_TRUE(collective->AllReduceSum(std::span<double>(values)).ok());
    EXPECT_TRUE(std::isnan(values[0]));
    EXPECT_TRUE(std::isinf(values[1]));
  });
}

TEST_P(CollectiveConformanceTest, KeepsManyOperationsApart) {
  Run([&](std::unique_ptr<Collective>& collective) {
    for (int round = 0; round < 200; ++round) {
      std::vector<double> sum = {static_cast<double>(round)};
      std::vector<int64_t> most = {round * 10 + collective->rank()};
      ASSERT_TRUE(collective->AllReduceSum(std::span<double>(sum)).ok());
      ASSERT_TRUE(collective->AllReduceMax(std::span<int64_t>(most)).ok());
      ASSERT_EQ(sum[0], round * world_size());
      ASSERT_EQ(most[0], round * 10 + world_size() - 1);
    }
  });
}

TEST_P(CollectiveConformanceTest, LetsNobodyPastABarrierBeforeAllHaveCome) {
  std::atomic<int> arrived = 0;
  Run([&](std::unique_ptr<Collective>& collective) {
    for (int round = 1; round <= 20; ++round) {
      ++arrived;
      ASSERT_TRUE(collective->Barrier().ok());
      EXPECT_GE(arrived.load(), round * world_size());
    }
  });
}

TEST_P(CollectiveConformanceTest, TellsTheOthersThatARankIsLost) {
  if (world_size() == 1) {
    Run([](std::unique_ptr<Collective>& collective) {
      // There is nobody to lose.
      EXPECT_TRUE(collective->Barrier().ok());
    });
    return;
  }
  Run([&](std::unique_ptr<Collective>& collective) {
    ASSERT_TRUE(collective->Barrier().ok());
    if (collective->rank() == world_size() - 1) {
      collective.reset();
      return;
    }
    // Each survivor finds out, in this operation or in a later one, and never again succeeds.
    std::vector<double> values(10, 1.0);
    kernels::Status status;
    while (status.ok()) status = collective->AllReduceSum(std::span<double>(values));
    EXPECT_EQ(status.code(), kernels::StatusCode::kUnavailable);
    EXPECT_FALSE(status.message().empty());
    EXPECT_EQ(collective->Barrier().code(), kernels::StatusCode::kUnavailable);
  });
}

}  // namespace sinkforge::trainer
