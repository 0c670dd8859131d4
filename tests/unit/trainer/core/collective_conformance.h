// What every Collective must do, as one suite: give it a factory and instantiate it.
//
//   INSTANTIATE_TEST_SUITE_P(Mine, CollectiveConformanceTest,
//                            ::testing::Values(CollectiveFactory{"Mine", 3, MakeMine}));
//
// A factory's `make` gives one collective per rank, each of which is then used by its own thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
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

  // A tensor's `size` elements cut into segments of uneven sizes, some empty, some of neighbouring
  // ones with one owner, with gaps between them; `round` makes another division.
  std::vector<Segment> Segments(int64_t size, int64_t round) const {
    std::vector<Segment> segments;
    int64_t first = round % 2;
    for (int64_t i = round; first < size; ++i) {
      const int64_t length = std::min(size - first, i % 5 == 4 ? 0 : 1 + (i * i * 37) % 4099);
      segments.push_back({first, length, static_cast<int>((i / 2) % world_size())});
      first += length + (i % 3 == 0 ? 2 : 0);
    }
    return segments;
  }
};

// What `rank` contributes at `index`.
inline double ConformanceValue(size_t rank, size_t index) {
  return 1.0 / static_cast<double>(1 + (index * 7 + rank * 13) % 101);
}

TEST_P(CollectiveConformanceTest, FinishesWhenEveryRankDoes) {
  std::atomic<int> finished = 0;
  Run([&](std::unique_ptr<Collective>& collective) {
    EXPECT_TRUE(collective->Barrier().ok());
    collective->Finish();
    ++finished;
  });
  EXPECT_EQ(finished, world_size());
}

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

TEST_P(CollectiveConformanceTest, SumsToTheSameBitsOnEveryRank) {
  for (const size_t size : kConformanceSizes) {
    std::vector<std::vector<double>> results(static_cast<size_t>(world_size()));
    Run([&](std::unique_ptr<Collective>& collective) {
      const auto rank = static_cast<size_t>(collective->rank());
      std::vector<double> values(size);
      for (size_t i = 0; i < size; ++i) {
        values[i] = ConformanceValue(rank, i);
      }
      EXPECT_TRUE(collective->AllReduceSum(std::span<double>(values)).ok());
      results[rank] = values;
    });
    for (const auto& result : results) EXPECT_EQ(result, results[0]);
    for (size_t i = 0; i < size; i += 997) {
      double expected = 0;
      for (size_t rank = 0; rank < results.size(); ++rank) {
        expected += ConformanceValue(rank, i);
      }
      EXPECT_NEAR(results[0][i], expected, 1e-15 * expected);
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

template <typename T>
std::vector<T> ConformanceValues(int rank, size_t size) {
  std::vector<T> values(size);
  for (size_t i = 0; i < size; ++i) {
    values[i] = static_cast<T>(ConformanceValue(static_cast<size_t>(rank), i));
  }
  return values;
}

template <typename T>
kernels::Tensor FlatTensor(std::vector<T>& values) {
  const auto dtype = sizeof(T) == 8 ? kernels::DType::kF64 : kernels::DType::kF32;
  return kernels::Tensor(values.data(), dtype, {static_cast<int64_t>(values.size())});
}

// The sums of what all ranks gave, at the elements of the segments that `rank` owns.
template <typename T>
void ExpectOwnedSums(const std::vector<T>& values, const std::vector<Segment>& segments, int rank,
                     int world_size) {
  for (const Segment& segment : segments) {
    if (segment.owner != rank) continue;
    for (int64_t i = segment.first; i < segment.first + segment.size; ++i) {
      const auto at = static_cast<size_t>(i);
      double expected = 0;
      for (int other = 0; other < world_size; ++other) {
        expected += ConformanceValue(static_cast<size_t>(other), at);
      }
      ASSERT_NEAR(values[at], expected, (sizeof(T) == 8 ? 1e-15 : 1e-6) * expected);
    }
  }
}

TEST_P(CollectiveConformanceTest, ReduceScatterSumsEachSegmentOnItsOwner) {
  for (const size_t size : kConformanceSizes) {
    Run([&](std::unique_ptr<Collective>& collective) {
      const int rank = collective->rank();
      const std::vector<Segment> segments = Segments(static_cast<int64_t>(size), 0);
      std::vector<float> narrow = ConformanceValues<float>(rank, size);
      std::vector<double> wide = ConformanceValues<double>(rank, size);
      collective->BeginReduceScatterSum(FlatTensor(narrow), segments);
      collective->BeginReduceScatterSum(FlatTensor(wide), segments);
      ASSERT_TRUE(collective->Wait().ok());
      ExpectOwnedSums(narrow, segments, rank, world_size());
      ExpectOwnedSums(wide, segments, rank, world_size());
    });
  }
}

TEST_P(CollectiveConformanceTest, ReduceScatterGivesTheSameBitsEveryTime) {
  constexpr size_t kSize = 100003;
  std::vector<std::vector<float>> results[2];
  for (auto& result : results) {
    result.resize(static_cast<size_t>(world_size()));
    Run([&](std::unique_ptr<Collective>& collective) {
      const std::vector<Segment> segments = Segments(kSize, 1);
      std::vector<float> values = ConformanceValues<float>(collective->rank(), kSize);
      collective->BeginReduceScatterSum(FlatTensor(values), segments);
      ASSERT_TRUE(collective->Wait().ok());
      std::vector<float>& owned = result[static_cast<size_t>(collective->rank())];
      for (const Segment& segment : segments) {
        if (segment.owner != collective->rank()) continue;
        owned.insert(owned.end(), values.begin() + segment.first,
                     values.begin() + segment.first + segment.size);
      }
    });
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST_P(CollectiveConformanceTest, AllGatherGivesEveryRankTheOwnersElements) {
  for (const size_t size : kConformanceSizes) {
    Run([&](std::unique_ptr<Collective>& collective) {
      const std::vector<Segment> segments = Segments(static_cast<int64_t>(size), 0);
      std::vector<float> values = ConformanceValues<float>(collective->rank(), size);
      std::vector<float> expected = values;
      for (const Segment& segment : segments) {
        const std::vector<float> owners = ConformanceValues<float>(segment.owner, size);
        std::copy_n(owners.begin() + segment.first, segment.size, expected.begin() + segment.first);
      }
      collective->BeginAllGather(FlatTensor(values), segments);
      ASSERT_TRUE(collective->Wait().ok());
      EXPECT_EQ(values, expected);
    });
  }
}

// As a step does it: several buckets under way while the caller writes to memory of its own, then
// the owners' results to everybody, then control values.
TEST_P(CollectiveConformanceTest, RunsManyTransfersBesideTheCaller) {
  constexpr size_t kSize = 30011;
  Run([&](std::unique_ptr<Collective>& collective) {
    const int rank = collective->rank();
    std::vector<Segment> segments[4];
    for (int64_t i = 0; i < 4; ++i) segments[i] = Segments(kSize, i);
    for (int round = 0; round < 10; ++round) {
      std::vector<std::vector<float>> buckets;
      buckets.reserve(4);
      for (const auto& division : segments) {
        buckets.push_back(ConformanceValues<float>(rank, kSize));
        collective->BeginReduceScatterSum(FlatTensor(buckets.back()), division);
      }
      ASSERT_TRUE(collective->Wait().ok());
      for (size_t i = 0; i < 4; ++i) {
        collective->BeginAllGather(FlatTensor(buckets[i]), segments[i]);
      }
      ASSERT_TRUE(collective->Wait().ok());
      for (size_t i = 0; i < 4; ++i) {
        for (int owner = 0; owner < world_size(); ++owner) {
          ExpectOwnedSums(buckets[i], segments[i], owner, world_size());
        }
      }
      std::vector<double> sum = {1.0};
      ASSERT_TRUE(collective->AllReduceSum(std::span<double>(sum)).ok());
      ASSERT_EQ(sum[0], world_size());
    }
  });
}

TEST_P(CollectiveConformanceTest, TellsOfALostRankInWait) {
  if (world_size() == 1) {
    Run([](std::unique_ptr<Collective>& collective) { EXPECT_TRUE(collective->Wait().ok()); });
    return;
  }
  Run([&](std::unique_ptr<Collective>& collective) {
    std::vector<float> values(1000, 1.0F);
    const std::vector<Segment> segments = Segments(1000, 0);
    collective->BeginReduceScatterSum(FlatTensor(values), segments);
    ASSERT_TRUE(collective->Wait().ok());
    if (collective->rank() == 0) {
      collective.reset();
      return;
    }
    kernels::Status status;
    while (status.ok()) {
      collective->BeginReduceScatterSum(FlatTensor(values), segments);
      collective->BeginAllGather(FlatTensor(values), segments);
      status = collective->Wait();
    }
    EXPECT_EQ(status.code(), kernels::StatusCode::kUnavailable);
    EXPECT_EQ(collective->Barrier().code(), kernels::StatusCode::kUnavailable);
    collective->BeginAllGather(FlatTensor(values), segments);
    EXPECT_EQ(collective->Wait().code(), kernels::StatusCode::kUnavailable);
  });
}

// A rank that gives up does not wait for the others.
TEST_P(CollectiveConformanceTest, EndsWhileATransferIsUnderWay) {
  Run([&](std::unique_ptr<Collective>& collective) {
    std::vector<float> values(100003, 1.0F);
    const std::vector<Segment> segments = Segments(100003, 0);
    if (collective->rank() == 0) collective->BeginAllGather(FlatTensor(values), segments);
    collective.reset();
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
