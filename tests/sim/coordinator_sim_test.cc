// The coordinator against everything that can go wrong, from seeds: first faults, with the
// invariants checked after every step; then none, and every job must come to its end.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "sim_cluster.h"

namespace sinkforge::sim {
namespace {

constexpr int kSeeds = 200;
constexpr int kSeedsPerTest = 10;
constexpr int kFaultTicks = 1500;
constexpr int kHealTicksMax = 6000;

// Every knob comes from the seed; some runs have no faults of a kind at all.
Faults RandomFaults(Random* random) {
  const auto knob = [&](int64_t low, int64_t high) {
    return random->OneIn(3) ? 0 : random->Between(low, high);
  };
  Faults faults;
  faults.lose_message = knob(3, 50);
  faults.repeat_message = knob(2, 20);
  faults.delay_ticks_max = knob(1, 30);
  faults.break_stream = knob(50, 1000);
  faults.kill_worker = knob(100, 1000);
  faults.drain_worker = knob(200, 1500);
  faults.wipe_disk = knob(2, 10);
  faults.restart_coordinator = knob(50, 1000);
  faults.fail_store = knob(10, 200);
  faults.trainer.load_ticks = random->Between(1, 10);
  faults.trainer.step_ticks = random->Between(1, 5);
  faults.trainer.checkpoint_every = random->Between(1, 10);
  faults.trainer.checkpoint_ticks_max = random->Between(1, 10);
  faults.trainer.crash_one_in = knob(200, 3000);
  faults.trainer.hang_one_in = knob(1000, 10000);
  faults.trainer.fatal_one_in = knob(5000, 50000);
  return faults;
}

ClusterOptions RandomOptions(uint64_t seed, Random* random) {
  ClusterOptions options;
  options.seed = seed;
  options.worker_count = static_cast<int>(random->Between(1, 4));
  options.coordinator.start_timeout = std::chrono::seconds(30);
  options.coordinator.no_progress_timeout = std::chrono::seconds(20);
  options.coordinator.infrastructure_retries = 1000;
  options.coordinator.backoff_max = std::chrono::seconds(10);
  return options;
}

void RunSeed(uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Random knobs(seed * 7919 + 1);
  const Faults faults = RandomFaults(&knobs);
  SimCluster cluster(RandomOptions(seed, &knobs));
  for (int i = 0; i < kFaultTicks && cluster.violation().empty(); ++i) {
    cluster.Tick(faults, SimCluster::Clients::kAct);
  }
  ASSERT_EQ(cluster.violation(), "");
  cluster.Heal();
  Faults none;
  none.trainer = faults.trainer;
  none.trainer.crash_one_in = none.trainer.hang_one_in = none.trainer.fatal_one_in = 0;
  for (int i = 0; i < kHealTicksMax && !cluster.AllJobsAreFinal(); ++i) {
    cluster.Tick(none, SimCluster::Clients::kQuiet);
    ASSERT_EQ(cluster.violation(), "");
  }
  EXPECT_TRUE(cluster.AllJobsAreFinal()) << cluster.Summary();
}

class CoordinatorSimTest : public testing::TestWithParam<int> {};

TEST_P(CoordinatorSimTest, HoldsUnderFaultsAndConvergesWithout) {
  for (int i = 0; i < kSeedsPerTest && !HasFailure(); ++i) {
    RunSeed(static_cast<uint64_t>(GetParam() * kSeedsPerTest + i + 1));
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CoordinatorSimTest, testing::Range(0, kSeeds / kSeedsPerTest));

// The runs above are worth something only if they do what they are there for.
TEST(CoordinatorSimCoverageTest, TheSeedsExerciseEverything) {
  std::map<std::string, int64_t> total;
  for (int seed = 1; seed <= 20; ++seed) {
    Random knobs(static_cast<uint64_t>(seed) * 7919 + 1);
    const Faults faults = RandomFaults(&knobs);
    SimCluster cluster(RandomOptions(static_cast<uint64_t>(seed), &knobs));
    for (int i = 0; i < kFaultTicks; ++i) cluster.Tick(faults, SimCluster::Clients::kAct);
    for (const auto& [what, count] : cluster.counters()) total[what] += count;
  }
  for (const char* what :
       {"submissions", "pauses", "resumes", "cancels", "deletes", "checkpoint deletes",
        "worker kills", "worker drains", "coordinator restarts", "store failures",
        "EVENT_KIND_ATTEMPT_STARTED", "EVENT_KIND_ATTEMPT_ENDED", "EVENT_KIND_CHECKPOINT_COMMITTED",
        "EVENT_KIND_CHECKPOINT_DELETED", "EVENT_KIND_RESTORED", "EVENT_KIND_WARNING"}) {
    EXPECT_GT(total[what], 20) << what;
    RecordProperty(what, static_cast<int>(total[what]));
  }
}

}  // namespace
}  // namespace sinkforge::sim
