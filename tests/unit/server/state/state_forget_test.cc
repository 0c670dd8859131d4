// Giving up a worker that never comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/server/state/test_bed.h"

namespace sinkforge::server {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

class ForgetTest : public ::testing::Test {
 protected:
  // A job whose last checkpoint, of step 10, only w1 has, which is killed then.
  void SetUp() override {
    for (HandWorker* worker : {&w1_, &w2_, &w3_}) {
      worker->snapshot.set_disk_free_bytes(1'000'000);
    }
    w1_.Sync();
    id_ = bed_.Submit();
    w1_.RunTo(id_, 12);
    w1_.Checkpoint(id_, 10);
    w1_.Sync();
    bed_.Advance(kPatience);
    ASSERT_TRUE(w1_.Report().ok());
    bed_.Tick();
    ASSERT_EQ(bed_.Job(id_).checkpoints_size(), 1);
  }

  // The worker does not report while the other one does, until its lease has ended.
  void Lose(HandWorker* lost, HandWorker* other) {
    lost->Disconnect();
    for (int i = 0; i < 6; ++i) {
      bed_.Advance(seconds(1));
      ASSERT_TRUE(other->Report().ok());
      bed_.Tick();
    }
  }

  std::string WarningOf(const std::string& id) {
    const std::vector<v1::Event> warnings = bed_.Events(id, v1::EVENT_KIND_WARNING);
    return warnings.empty() ? "" : warnings.back().message();
  }

  static constexpr std::chrono::milliseconds kPatience{1};
  TestBed bed_{{.commit_patience = kPatience}};
  HandWorker w1_{&bed_, "w1", 1};
  HandWorker w2_{&bed_, "w2", 1};
  HandWorker w3_{&bed_, "w3", 1};
  std::string id_;
};

TEST_F(ForgetTest, TheJobThatWaitedForItGoesOnFromTheBeginning) {
  w1_.Disconnect();
  bed_.Advance(seconds(6));
  bed_.Tick();
  w2_.Sync();
  ASSERT_EQ(bed_.StateOf(id_), v1::JOB_STATE_QUEUED);
  const Explanation why = bed_.coordinator.Explain(id_, bed_.now);
  ASSERT_EQ(why.reason, v1::REASON_WAITING_FOR_CHECKPOINT_HOLDER);
  EXPECT_THAT(why.message, HasSubstr("start it, or give it up with `sinkforge forget w1`"));
  const v1::JobWait wait = bed_.coordinator.ExplainWait(id_);
  ASSERT_EQ(wait.would_run_size(), 1);
  EXPECT_THAT(wait.would_run(0), HasSubstr("`sinkforge forget w1`"));

  EXPECT_EQ(bed_.ForgetWorker("w1").value(), 1);
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING);
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 0);
  EXPECT_EQ(WarningOf(id_),
            "the checkpoint of step 10 is lost (worker w1 was given up by the user); there is no "
            "other, so that it starts from the beginning");
  ASSERT_EQ(bed_.coordinator.Workers().size(), 1u);
  EXPECT_EQ(bed_.coordinator.Workers()[0].worker(), "w2");
  w2_.RunTo(id_, 1);
  EXPECT_FALSE(w2_.Desired().ranks(0).has_restore());
  EXPECT_EQ(bed_.stored.at(id_).checkpoints_size(), 0);
}

TEST_F(ForgetTest, AnOlderCheckpointThatAnotherHasCountsAgain) {
  w2_.Sync();
  w2_.Fetch();
  w1_.Train(id_, 22);
  w1_.Checkpoint(id_, 20);
  w1_.Sync();
  bed_.Advance(kPatience);
  ASSERT_TRUE(w1_.Report().ok());
  bed_.Tick();
  Lose(&w1_, &w2_);
  ASSERT_EQ(bed_.Job(id_).checkpoints_size(), 2);
  EXPECT_EQ(bed_.ForgetWorker("w1").value(), 1);
  ASSERT_EQ(bed_.Job(id_).checkpoints_size(), 1);
  EXPECT_EQ(bed_.Job(id_).checkpoints(0).parts(0).worker(), "w2");
  EXPECT_EQ(bed_.Job(id_).checkpoints(0).copies_size(), 0);
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_STARTING);
  w2_.Sync();
  EXPECT_EQ(w2_.Desired().ranks(0).restore().step(), 10);
}

TEST_F(ForgetTest, WhatIsElsewhereIsNotLostAndIsCopiedAnew) {
  w2_.Sync();
  w2_.Fetch();
  Lose(&w1_, &w2_);
  EXPECT_EQ(bed_.ForgetWorker("w1").value(), 0);
  EXPECT_THAT(WarningOf(id_), HasSubstr("worker w1, which had the checkpoint of step 10, was given "
                                        "up by the user; what counts now: rank 0 on w2"));
  w3_.Sync();
  EXPECT_EQ(w3_.Desired().copy_parts_size(), 1);
}

TEST_F(ForgetTest, OneThatIsThereIsRefused) {
  const absl::Status refused = bed_.ForgetWorker("w1").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("it is there; stop it, or take it out of use with `sinkforge drain w1`"));
  w1_.Disconnect();  // its lease goes on
  EXPECT_THAT(std::string(bed_.ForgetWorker("w1").status().message()),
              HasSubstr("it may be back at any moment; try again in a few seconds"));
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 1);
  EXPECT_EQ(bed_.StateOf(id_), v1::JOB_STATE_RUNNING);
}

TEST_F(ForgetTest, OneThatWasStoppedIsAwayAtOnce) {
  w1_.snapshot.set_draining(true);
  w1_.snapshot.set_goodbye(true);
  ASSERT_TRUE(w1_.Report().ok());
  ASSERT_EQ(bed_.coordinator.Workers().size(), 1u);
  EXPECT_EQ(bed_.ForgetWorker("w1").value(), 1);
  EXPECT_TRUE(bed_.coordinator.Workers().empty());
}

TEST_F(ForgetTest, AfterARestartItIsFirstGivenTimeToComeBack) {
  bed_.Restart();
  const absl::Status early = bed_.ForgetWorker("w1").status();
  EXPECT_EQ(early.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(early.message()), HasSubstr("try again in a few seconds"));
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 1);
  bed_.Advance(seconds(6));
  bed_.Tick();
  EXPECT_EQ(bed_.ForgetWorker("w1").value(), 1);
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 0);
}

TEST_F(ForgetTest, AHolderThatIsNotListedCanBeForgotten) {
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  bed_.Restart();  // which knows it from the checkpoint alone
  bed_.Advance(seconds(6));
  bed_.Tick();
  ASSERT_TRUE(bed_.coordinator.Workers().empty());
  EXPECT_EQ(bed_.ForgetWorker("w1").value(), 1);
  EXPECT_EQ(WarningOf(id_),
            "the checkpoint of step 10 is lost (worker w1 was given up by the user); there is no "
            "other");
  EXPECT_EQ(bed_.ForgetWorker("w1").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ForgetTest, ItsDrainGoesAndWhatWasToBeDeletedVanishes) {
  ASSERT_TRUE(bed_.Drain("w1", "burnt down").ok());
  ASSERT_TRUE(bed_.Cancel(id_).ok());
  ASSERT_TRUE(bed_.DeleteCheckpoint(id_, 10).ok());
  w1_.Disconnect();
  bed_.Advance(seconds(6));
  bed_.Tick();
  ASSERT_EQ(bed_.Job(id_).checkpoints_size(), 1);
  EXPECT_EQ(bed_.ForgetWorker("w1").value(), 0);
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 0);
  EXPECT_TRUE(bed_.drains.empty());
  EXPECT_THAT(WarningOf(id_), testing::Not(HasSubstr("given up")));
}

TEST_F(ForgetTest, WhatItWasToFetchAnotherFetches) {
  w2_.Sync();
  ASSERT_EQ(w2_.Desired().copy_parts_size(), 1);
  Lose(&w2_, &w1_);
  EXPECT_EQ(bed_.ForgetWorker("w2").value(), 0);
  w3_.Sync();
  EXPECT_EQ(w3_.Desired().copy_parts_size(), 1);
}

TEST_F(ForgetTest, OneThatComesBackAllTheSameIsANewOne) {
  Lose(&w1_, &w2_);
  ASSERT_EQ(bed_.ForgetWorker("w1").value(), 1);
  ASSERT_TRUE(w1_.Report().ok());
  EXPECT_EQ(bed_.coordinator.Workers().size(), 2u);
  // Its part is of an attempt that is over: nobody counts on it any more.
  EXPECT_EQ(w1_.Desired().drop_checkpoints_size(), 1);
  w1_.Sync();
  EXPECT_EQ(bed_.Job(id_).checkpoints_size(), 0);
}

TEST_F(ForgetTest, ARepeatGetsTheFirstAnswerAndAnotherRequestIsToldThatItIsGone) {
  Lose(&w1_, &w2_);
  EXPECT_EQ(bed_.ForgetWorker("w1", "first").value(), 1);
  EXPECT_EQ(bed_.ForgetWorker("w1", "first").value(), 1);
  EXPECT_EQ(bed_.ForgetWorker("w2", "first").status().code(),
            absl::StatusCode::kFailedPrecondition);
  const absl::Status again = bed_.ForgetWorker("w1", "second").status();
  EXPECT_EQ(again.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(again.message()), HasSubstr("it has been forgotten already"));
  // It is another worker now, whatever was asked about the one before.
  ASSERT_TRUE(w1_.Report().ok());
  EXPECT_EQ(bed_.ForgetWorker("w1", "third").status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(ForgetTest, AnUnknownNameIsNotFound) {
  const absl::Status unknown = bed_.ForgetWorker("nobody").status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("sinkforge workers"));
}

}  // namespace
}  // namespace sinkforge::server
