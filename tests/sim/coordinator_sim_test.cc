// The coordinator against everything that can go wrong, from seeds: first faults, with the
// invariants checked after every step; then none, and every job must come to its end.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "seeds.h"

namespace sinkforge::sim {
namespace {

constexpr int kSeeds = 200;  // tests/nightly.sh runs 10,000
constexpr int kSeedsPerTest = 10;

class CoordinatorSimTest : public testing::TestWithParam<int> {};

TEST_P(CoordinatorSimTest, HoldsUnderFaultsAndConvergesWithout) {
  for (int i = 0; i < kSeedsPerTest && !HasFailure(); ++i) {
    const uint64_t seed = static_cast<uint64_t>(GetParam() * kSeedsPerTest + i + 1);
    EXPECT_EQ(RunSeed(seed, nullptr), "") << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CoordinatorSimTest, testing::Range(0, kSeeds / kSeedsPerTest));

// The runs above are worth something only if they do what they are there for.
TEST(CoordinatorSimCoverageTest, TheSeedsExerciseEverything) {
  std::map<std::string, int64_t> total;
  for (uint64_t seed = 1; seed <= 100; ++seed) EXPECT_EQ(RunSeed(seed, &total), "") << seed;
  for (const char* what : {"submissions",
                           "pauses",
                           "resumes",
                           "cancels",
                           "deletes",
                           "checkpoint deletes",
                           "worker kills",
                           "worker drains",
                           "worker hurries",
                           "coordinator restarts",
                           "store failures",
                           "crashes after a write",
                           "clock jumps",
                           "drains by users",
                           "workers forgotten",
                           "quota changes",
                           "EVENT_KIND_ATTEMPT_STARTED",
                           "EVENT_KIND_ATTEMPT_ENDED",
                           "EVENT_KIND_CHECKPOINT_COMMITTED",
                           "EVENT_KIND_CHECKPOINT_DELETED",
                           "EVENT_KIND_RESTORED",
                           "EVENT_KIND_WARNING",
                           "EVENT_KIND_STOP_REQUESTED",
                           "REASON_PREEMPTED",
                           "REASON_LENT_SLOTS_TAKEN_BACK",
                           "REASON_RESIZED",
                           "REASON_DEADLINE_EXCEEDED",
                           "REASON_BAD_DATA",
                           "elastic starts",
                           "starts that avoid a worker",
                           "starts on an unfit worker for want of others",
                           "held by a sweep",
                           "commits on one worker",
                           "commits on two workers",
                           "commits without a late copy",
                           "steps adopted after a restore",
                           "parts of another job of the same name and number",
                           "waits for a holder"}) {
    EXPECT_GT(total[what], 0) << what;
    RecordProperty(what, static_cast<int>(total[what]));
  }
}

}  // namespace
}  // namespace sinkforge::sim
