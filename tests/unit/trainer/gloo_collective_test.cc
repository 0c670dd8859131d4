// Gloo against the suite that every collective passes, and ranks that do not come.
#include "worker/trainer/gloo_collective.h"

#include <gmock/gmock.h>

#include "tests/unit/trainer/core/collective_conformance.h"
#include "tests/unit/trainer/memory_store.h"

namespace sinkforge::trainer {
namespace {

std::vector<std::unique_ptr<Collective>> MakeGloo(int world_size) {
  MemoryStore store;
  std::vector<std::unique_ptr<Collective>> collectives(static_cast<size_t>(world_size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      CollectiveOptions options;
      options.rank = rank;
      options.world_size = world_size;
      auto made = MakeCollective(options, &store);
      EXPECT_TRUE(made.ok()) << made.status().message();
      if (made.ok()) collectives[static_cast<size_t>(rank)] = std::move(made).value();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return collectives;
}

INSTANTIATE_TEST_SUITE_P(Gloo, CollectiveConformanceTest,
                         ::testing::Values(CollectiveFactory{"Gloo2", 2, MakeGloo},
                                           CollectiveFactory{"Gloo3", 3, MakeGloo},
                                           CollectiveFactory{"Gloo4", 4, MakeGloo}),
                         [](const auto& tested) { return tested.param.name; });

TEST(GlooCollectiveTest, RankThatDoesNotComeIsATimeout) {
  MemoryStore store;
  CollectiveOptions options;
  options.rank = 1;
  options.world_size = 2;
  options.meeting_timeout = std::chrono::milliseconds(50);
  const auto made = MakeCollective(options, &store);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.status().code(), kernels::StatusCode::kUnavailable);
  EXPECT_THAT(made.status().message(), testing::HasSubstr("rank 1 of 2 could not meet the others"));
}

TEST(GlooCollectiveTest, ImpossibleWorldsAreRefused) {
  CollectiveOptions options;
  options.world_size = 2;
  EXPECT_EQ(MakeCollective(options, nullptr).status().code(),
            kernels::StatusCode::kInvalidArgument);
  MemoryStore store;
  options.rank = 2;
  EXPECT_EQ(MakeCollective(options, &store).status().code(), kernels::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sinkforge::trainer
