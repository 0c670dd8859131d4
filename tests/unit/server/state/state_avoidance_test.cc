// Workers that a job avoids: bad data on one of them, and one that fails whatever starts there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "test_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

constexpr char kNoFile[] = "data.train: no file matches text.txt";

class AvoidanceTest : public testing::Test {
 protected:
  HandWorker& Add(const std::string& name, int slots = 1) {
    HandWorker& worker = workers_.emplace(name, HandWorker(&bed_, name, slots)).first->second;
    worker.Sync();
    return worker;
  }

  void Pass(std::chrono::nanoseconds duration) {
    for (std::chrono::nanoseconds passed{0}; passed < duration; passed += seconds(1)) {
      bed_.Advance(seconds(1));
      for (auto& [name, worker] : workers_) worker.Sync();
      bed_.Tick();
    }
  }

  // Two workers, of which one is in use until its job, `busy_`, ends.
  void AddOneBusyAndOneFree() {
    Add("w1");
    Add("w2");
    busy_ = bed_.Submit();
    workers_.at(PlaceOf(busy_)).RunTo(busy_, 1);
  }

  // Empty while it has none.
  std::string PlaceOf(const std::string& id) {
    const v1::Job& job = bed_.Job(id);
    return job.placement_size() == 0 ? "" : job.placement(0).worker();
  }

  // Its rank does not come to train.
  std::string FailStart(const std::string& id, v1::Reason reason = v1::REASON_TRAINER_CRASHED) {
    const std::string place = PlaceOf(id);
    HandWorker& worker = workers_.at(place);
    worker.Sync();
    worker.Crash(id, reason, reason == v1::REASON_BAD_DATA ? kNoFile : "no GPU can be used");
    return place;
  }

  std::string Why(const std::string& id) { return bed_.coordinator.Explain(id, bed_.now).message; }

  TestBed bed_;
  std::string busy_;
  std::map<std::string, HandWorker> workers_;
};

TEST_F(AvoidanceTest, DataThatOneWorkerLacksAreLookedForOnAnother) {
  Add("w1");
  Add("w2");
  const std::string id = bed_.Submit();
  const std::string first = FailStart(id, v1::REASON_BAD_DATA);
  EXPECT_THAT(bed_.Events(id, v1::EVENT_KIND_STATE_CHANGED)[1].message(),
              HasSubstr("(retry 1 of 2)"));
  ASSERT_EQ(bed_.StateOf(id), v1::JOB_STATE_STARTING);
  const std::string second = PlaceOf(id);
  EXPECT_NE(second, first);
  workers_.at(second).RunTo(id, 5);
  EXPECT_EQ(bed_.StateOf(id), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(bed_.Job(id).retries().unfit_worker(), 1);
}

TEST_F(AvoidanceTest, DataThatNoWorkerHasFailTheJobAndNameWhereTheyWereLookedFor) {
  Add("w1");
  Add("w2");
  const std::string id = bed_.Submit();
  const std::string first = FailStart(id, v1::REASON_BAD_DATA);
  const std::string second = FailStart(id, v1::REASON_BAD_DATA);
  EXPECT_EQ(bed_.StateOf(id), v1::JOB_STATE_FAILED);
  EXPECT_EQ(bed_.Job(id).reason(), v1::REASON_BAD_DATA);
  EXPECT_THAT(bed_.Job(id).message(),
              HasSubstr(absl::StrCat("rank 0 on ", second, ": ", kNoFile,
                                     "; before that it failed on ", first, ". Correct the data")));
  // After a resume both may have them.
  ASSERT_TRUE(bed_.Resume(id).ok());
  EXPECT_EQ(bed_.Job(id).avoided_workers_size(), 0);
  EXPECT_EQ(bed_.StateOf(id), v1::JOB_STATE_STARTING);
}

TEST_F(AvoidanceTest, OneWorkerFailsAtOnce) {
  Add("w1");
  const std::string id = bed_.Submit();
  FailStart(id, v1::REASON_BAD_DATA);
  EXPECT_EQ(bed_.StateOf(id), v1::JOB_STATE_FAILED);
  EXPECT_THAT(bed_.Job(id).message(), Not(HasSubstr("before that")));
}

TEST_F(AvoidanceTest, ManyWorkersAreNotAllAsked) {
  for (const char* name : {"w1", "w2", "w3", "w4", "w5"}) Add(name);
  const std::string id = bed_.Submit();
  int tried = 0;
  for (; bed_.StateOf(id) != v1::JOB_STATE_FAILED; ++tried) {
    ASSERT_LT(tried, 5);
    FailStart(id, v1::REASON_BAD_DATA);
    Pass(seconds(5));
  }
  EXPECT_EQ(tried, 1 + bed_.options.unfit_worker_retries);
  EXPECT_EQ(bed_.Job(id).reason(), v1::REASON_BAD_DATA);
}

TEST_F(AvoidanceTest, ALastCheckpointWithoutRoomIsMadeAgainOnAnotherWorker) {
  HandWorker& w1 = Add("w1");
  const std::string id = bed_.Submit();
  w1.RunTo(id, 10);
  w1.Checkpoint(id, 10);
  w1.RunTo(id, 19);
  HandWorker& w2 = Add("w2");
  w1.Crash(id, v1::REASON_CHECKPOINT_FAILED, "checkpoint of step 20: 3 bytes free");
  ASSERT_EQ(PlaceOf(id), "w2");
  w2.Sync();
  ASSERT_EQ(w2.Desired().ranks_size(), 1);
  EXPECT_EQ(w2.Desired().ranks(0).restore().step(), 10);
  w2.Crash(id, v1::REASON_CHECKPOINT_FAILED, "checkpoint of step 20: 4 bytes free");
  EXPECT_EQ(bed_.Job(id).reason(), v1::REASON_CHECKPOINT_FAILED);
  EXPECT_THAT(bed_.Job(id).message(),
              HasSubstr("4 bytes free; before that it failed on w1; the last good checkpoint is "
                        "step 10. Make room"));
}

TEST_F(AvoidanceTest, AGangGoesOnWithoutTheWorkerThatLacksItsData) {
  Add("w1", 2);
  Add("w2", 2);
  const std::string id = bed_.Submit({.ranks = 4, .min_ranks = 2});
  ASSERT_EQ(bed_.Job(id).placement_size(), 4);
  workers_.at("w2").Sync();
  workers_.at("w2").Crash(id, v1::REASON_BAD_DATA, kNoFile);
  Pass(seconds(5));
  ASSERT_EQ(bed_.Job(id).placement_size(), 2);
  EXPECT_EQ(PlaceOf(id), "w1");
  workers_.at("w1").RunTo(id, 5);
  Pass(minutes(2));
  EXPECT_EQ(bed_.Job(id).placement_size(), 2) << "it does not grow onto it";
  // A gang that needs both of them has no other choice.
  const std::string other = bed_.Submit({.ranks = 4, .priority = 1});
  Pass(minutes(3));
  ASSERT_EQ(bed_.Job(other).placement_size(), 4);
  workers_.at("w2").Sync();
  workers_.at("w2").Crash(other, v1::REASON_BAD_DATA, kNoFile);
  EXPECT_EQ(bed_.StateOf(other), v1::JOB_STATE_FAILED);
}

TEST_F(AvoidanceTest, AWorkerThatFailsEverythingDoesNotFailTheQueue) {
  AddOneBusyAndOneFree();
  const std::string good = PlaceOf(busy_);
  const std::string id = bed_.Submit();
  const std::string broken = FailStart(id);
  Pass(seconds(30));
  EXPECT_EQ(bed_.StateOf(id), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(bed_.Job(id).retries().crash(), 1);
  EXPECT_THAT(Why(id), HasSubstr(absl::StrCat("not on ", broken, ", where it failed; rank 0 on ",
                                              broken, ": no GPU can be used")));
  // Who comes after it finds out for itself.
  const std::string next = bed_.Submit();
  EXPECT_EQ(PlaceOf(next), broken);
  FailStart(next);
  workers_.at(good).Train(busy_, 20);
  workers_.at(good).End(busy_, v1::RANK_OUTCOME_COMPLETED);
  workers_.at(good).Checkpoint(busy_, 20);
  Pass(seconds(20));
  ASSERT_EQ(bed_.StateOf(busy_), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(PlaceOf(id), good);
}

TEST_F(AvoidanceTest, AfterAWhileItIsTriedAgain) {
  AddOneBusyAndOneFree();
  const std::string id = bed_.Submit();
  const std::string broken = FailStart(id);
  Pass(bed_.options.avoid_worker_for - seconds(10));
  EXPECT_EQ(PlaceOf(id), "");
  Pass(seconds(20));
  EXPECT_EQ(PlaceOf(id), broken);
}

TEST_F(AvoidanceTest, ATrainerThatCrashedInTrainingStartsThereAgainAtOnce) {
  AddOneBusyAndOneFree();
  const std::string id = bed_.Submit();
  const std::string place = PlaceOf(id);
  workers_.at(place).RunTo(id, 5);
  workers_.at(place).Crash(id);
  Pass(seconds(3));
  EXPECT_EQ(PlaceOf(id), place);
}

}  // namespace
}  // namespace sinkforge::server
