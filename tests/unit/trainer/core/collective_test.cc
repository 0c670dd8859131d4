// The core's own collectives against the conformance suite.
#include "tests/unit/trainer/core/collective_conformance.h"
#include "worker/trainer/core/in_process_collective.h"
#include "worker/trainer/core/solo_collective.h"

namespace sinkforge::trainer {
namespace {

std::vector<std::unique_ptr<Collective>> MakeSolo(int world_size) {
  SINKFORGE_CHECK(world_size == 1);
  std::vector<std::unique_ptr<Collective>> collectives;
  collectives.push_back(std::make_unique<SoloCollective>());
  return collectives;
}

INSTANTIATE_TEST_SUITE_P(
    Core, CollectiveConformanceTest,
    ::testing::Values(CollectiveFactory{"Solo", 1, MakeSolo},
                      CollectiveFactory{"InProcess1", 1, MakeInProcessCollectives},
                      CollectiveFactory{"InProcess2", 2, MakeInProcessCollectives},
                      CollectiveFactory{"InProcess3", 3, MakeInProcessCollectives},
                      CollectiveFactory{"InProcess4", 4, MakeInProcessCollectives}),
    [](const auto& tested) { return tested.param.name; });

TEST(InProcessCollectiveDeathTest, FindsRanksThatDoDifferentThings) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        auto collectives = MakeInProcessCollectives(2);
        std::thread other([&] { (void)collectives[1]->Barrier(); });
        std::vector<double> values(3);
        (void)collectives[0]->AllReduceSum(std::span<double>(values));
        other.join();
      },
      "check failed");
}

}  // namespace
}  // namespace sinkforge::trainer
