// The agent with a fake launcher: what the coordinator wants becomes what runs, and what runs is
// what the snapshot says.
#include "worker/agent/agent.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/test_support.h"

namespace sinkforge::worker {
namespace {

using std::chrono::seconds;

class AgentTest : public testing::Test {
 protected:
  AgentTest() : kv_(OpenKv(folder_.path())) {
    CheckpointStoreOptions store;
    store.worker = "node-1";
    store.disk_free_bytes = []() -> absl::StatusOr<int64_t> { return 1 << 30; };
    checkpoints_ = CheckpointStore::Open(kv_.get(), store).value();
    Agent::Parts parts;
    parts.launch = [this](const LaunchRequest& request) { launched_.push_back(request); };
    parts.kill = [this](const RankKey& key) { killed_.push_back(key); };
    parts.checkpoints = checkpoints_.get();
    parts.loop = &loop_;
    parts.on_news = [](Agent::Parts::Urgency) {};
    AgentOptions options;
    options.worker = "node-1";
    options.incarnation = "first";
    options.cpu_slots = 2;
    options.gpu_slots = 1;
    options.data_roots = {"/data"};
    agent_ = std::make_unique<Agent>(options, parts);
  }

  static v1::DesiredState Desired(int64_t revision, const std::vector<std::string>& jobs) {
    v1::DesiredState desired;
    desired.set_desired_revision(revision);
    for (const std::string& job : jobs) {
      v1::DesiredRank& rank = *desired.add_ranks();
      rank.set_job_id(job);
      rank.set_attempt(1);
      rank.set_slot(desired.ranks_size() - 1);
      rank.set_run(v1::RUN_REQUEST_TRAIN);
      rank.mutable_spec()->mutable_resources()->set_threads(3);
    }
    return desired;
  }
  void Apply(const v1::DesiredState& desired, seconds now = seconds(0)) {
    agent_->SetDesired(desired);
    Tick(now);
  }
  void Tick(seconds now) { agent_->Tick({now, {}}); }

  TempFolder folder_;
  std::unique_ptr<base::KvStore> kv_;
  std::unique_ptr<CheckpointStore> checkpoints_;
  Wakeup loop_;
  std::vector<LaunchRequest> launched_;
  std::vector<RankKey> killed_;
  std::unique_ptr<Agent> agent_;
};

TEST_F(AgentTest, DoesNothingBeforeTheCoordinatorSpoke) {
  Tick(seconds(1));
  EXPECT_TRUE(launched_.empty());
  const v1::WorkerSnapshot snapshot = agent_->Snapshot(7);
  ASSERT_EQ(snapshot.slots_size(), 3);
  EXPECT_EQ(snapshot.slots(1).device(), v1::DEVICE_CPU);
  EXPECT_EQ(snapshot.slots(2).device(), v1::DEVICE_CUDA);
  EXPECT_EQ(snapshot.slots(2).index(), 2);
  EXPECT_EQ(snapshot.disk_free_bytes(), 7);
  EXPECT_EQ(snapshot.applied_desired_revision(), 0);
  EXPECT_GT(agent_->Snapshot(7).report_sequence(), snapshot.report_sequence());
}

TEST_F(AgentTest, GivesATrainerTheGpuOfItsSlot) {
  Apply(Desired(1, {"a-1", "b-2", "c-3"}));
  ASSERT_EQ(launched_.size(), 3U);
  EXPECT_FALSE(launched_[1].gpu.has_value());
  EXPECT_EQ(launched_[2].gpu, 0);
}

TEST_F(AgentTest, LaunchesOnceAndTellsTheRevisionThatItApplied) {
  Apply(Desired(4, {"a-1"}));
  Apply(Desired(4, {"a-1"}));
  ASSERT_EQ(launched_.size(), 1U);
  EXPECT_EQ(launched_[0].threads, 3);
  const v1::WorkerSnapshot snapshot = agent_->Snapshot(0);
  EXPECT_EQ(snapshot.applied_desired_revision(), 4);
  ASSERT_EQ(snapshot.ranks_size(), 1);
  EXPECT_EQ(snapshot.ranks(0).phase(), v1::RANK_PHASE_SPAWNING);
}

TEST_F(AgentTest, IgnoresAnOlderRevisionOfTheSameStream) {
  Apply(Desired(5, {"a-1"}));
  Apply(Desired(4, {}));
  EXPECT_TRUE(killed_.empty());
}

TEST_F(AgentTest, AppliesNothingOfAStreamThatIsGone) {
  Apply(Desired(5, {"a-1"}));
  agent_->OnExit({"a-1", 1, 0}, TrainerExit());
  agent_->SetDesired(Desired(6, {"b-2"}));
  agent_->OnStreamOpened();
  Tick(seconds(1));
  EXPECT_EQ(launched_.size(), 1U);
  // A coordinator that lost count starts lower; on the new stream that is what counts.
  Apply(Desired(1, {"b-2"}));
  EXPECT_EQ(launched_.size(), 2U);
}

TEST_F(AgentTest, VoidsTheTokenOfWhatItKills) {
  Apply(Desired(1, {"a-1"}));
  const std::string token = launched_[0].token;
  EXPECT_TRUE(agent_->Authenticate(token).ok());
  EXPECT_EQ(agent_->Assign(token)->data_roots(0), "/data");
  Apply(Desired(2, {}));
  EXPECT_EQ(killed_.size(), 1U);
  EXPECT_TRUE(absl::IsFailedPrecondition(agent_->Authenticate(token).status()));
  v1::TrainerReport report;
  report.set_token(token);
  EXPECT_TRUE(absl::IsFailedPrecondition(agent_->Report(report, {}).status()));
  EXPECT_EQ(agent_->running(), 1);
  agent_->OnExit({"a-1", 1, 0}, {TrainerExit::How::kSignaled, 9, "", {}});
  EXPECT_EQ(agent_->running(), 0);
  EXPECT_EQ(agent_->Snapshot(0).ranks(0).outcome(), v1::RANK_OUTCOME_KILLED);
}

TEST_F(AgentTest, UsesASlotAgainOnlyWhenItsProcessIsGone) {
  Apply(Desired(1, {"a-1"}));
  Apply(Desired(2, {"b-2"}));
  EXPECT_EQ(launched_.size(), 1U);
  agent_->OnExit({"a-1", 1, 0}, {TrainerExit::How::kSignaled, 9, "", {}});
  Tick(seconds(1));
  ASSERT_EQ(launched_.size(), 2U);
  EXPECT_EQ(launched_[1].key.job_id, "b-2");
}

TEST_F(AgentTest, ATrainerThatStartsReadsWhereItsCheckpointIsByThen) {
  v1::DesiredState desired = Desired(1, {"a-1"});
  v1::DesiredRank& rank = *desired.mutable_ranks(0);
  rank.mutable_restore()->set_step(10);
  rank.mutable_restore()->add_parts()->set_worker("node-2");
  (*rank.mutable_holder_addresses())["node-2"] = "node-2:1";
  Apply(desired);
  const std::string token = launched_[0].token;
  // The holder was started anew, and another one has a copy by now.
  (*rank.mutable_holder_addresses())["node-2"] = "node-2:2";
  rank.mutable_restore()->add_copies()->set_worker("node-3");
  Apply(desired);
  EXPECT_EQ(agent_->Assign(token)->rank().holder_addresses().at("node-2"), "node-2:2");
  EXPECT_EQ(agent_->Assign(token)->rank().restore().copies_size(), 1);
  // A coordinator that does not know the address yet takes none away.
  rank.mutable_holder_addresses()->clear();
  Apply(desired);
  EXPECT_EQ(agent_->Assign(token)->rank().holder_addresses().at("node-2"), "node-2:2");
  // What the trainer reads stays the same checkpoint.
  rank.mutable_restore()->set_step(20);
  Apply(desired);
  EXPECT_EQ(agent_->Assign(token)->rank().restore().step(), 10);
}

TEST_F(AgentTest, ATrainerThatStartsFromTheBeginningGoesOnDoingSo) {
  Apply(Desired(1, {"a-1"}));
  Apply(Desired(1, {"a-1"}));
  EXPECT_FALSE(agent_->Assign(launched_[0].token)->rank().has_restore());
}

TEST_F(AgentTest, HandsTheStopRequestToTheTrainer) {
  Apply(Desired(1, {"a-1"}));
  v1::TrainerReport report;
  report.set_token(launched_[0].token);
  EXPECT_EQ(agent_->Report(report, {})->run(), v1::RUN_REQUEST_TRAIN);
  v1::DesiredState stop = Desired(2, {"a-1"});
  stop.mutable_ranks(0)->set_run(v1::RUN_REQUEST_CHECKPOINT_AND_STOP);
  Apply(stop);
  EXPECT_EQ(agent_->Report(report, {})->run(), v1::RUN_REQUEST_CHECKPOINT_AND_STOP);
}

TEST_F(AgentTest, KillsWhatHangsButNotWhatWritesACheckpoint) {
  Apply(Desired(1, {"a-1"}));
  agent_->OnCheckpointBytes(launched_[0].token, {seconds(500), {}});
  Tick(seconds(700));
  EXPECT_TRUE(killed_.empty());
  Tick(seconds(1101));
  ASSERT_EQ(killed_.size(), 1U);
  agent_->OnExit({"a-1", 1, 0}, {TrainerExit::How::kSignaled, 9, "", {}});
  EXPECT_EQ(agent_->Snapshot(0).ranks(0).reason(), v1::REASON_NO_PROGRESS);
}

v1::TrainerReport StepReport(const std::string& token, int64_t step) {
  v1::TrainerReport report;
  report.set_token(token);
  report.set_phase(v1::RANK_PHASE_TRAINING);
  report.set_step(step);
  report.add_steps()->set_step(step);
  report.mutable_steps(0)->set_step_seconds(1);
  return report;
}

TEST_F(AgentTest, KillsNobodyWhileItCannotKeepTheirRecords) {
  v1::DesiredState desired = Desired(1, {"a-1", "a-1"});
  desired.mutable_ranks(1)->set_rank(1);
  desired.mutable_ranks(0)->mutable_spec()->mutable_train()->set_steps(100);
  Apply(desired);
  const std::string token = launched_[0].token;
  ASSERT_TRUE(agent_->Report(StepReport(token, 5), {seconds(1), {}}).ok());
  EXPECT_TRUE(agent_->Snapshot(0).ranks(0).progress().has_eta());
  // The trainer sends the same report again and again, for hours.
  const v1::TrainerReport report = StepReport(token, 6);
  for (seconds now(2); now < seconds(10'000); now += seconds(5)) {
    agent_->OnReportArrived(report, {now, {}});
    agent_->OnReportNotKept(token, absl::ResourceExhaustedError("/data: disk full"));
    Tick(now);
  }
  EXPECT_TRUE(killed_.empty()) << "also not rank 1, which waits for rank 0";
  const v1::RankStatus held = agent_->Snapshot(0).ranks(0);
  EXPECT_THAT(held.message(), testing::HasSubstr("node-1 cannot keep its step records"));
  EXPECT_THAT(held.message(), testing::HasSubstr("/data: disk full"));
  EXPECT_FALSE(held.progress().has_eta());
  EXPECT_THAT(held.warnings(), testing::ElementsAre(held.message())) << "one event, not thousands";
  // There is room again.
  agent_->OnReportArrived(report, {seconds(10'000), {}});
  ASSERT_TRUE(agent_->Report(report, {seconds(10'000), {}}).ok());
  const v1::RankStatus free = agent_->Snapshot(0).ranks(0);
  EXPECT_EQ(free.message(), "");
  EXPECT_EQ(free.step(), 6);
  EXPECT_TRUE(free.progress().has_eta());
  // From now on silence is the trainer's own.
  Tick(seconds(10'031));
  EXPECT_EQ(killed_.size(), 1U);
}

TEST_F(AgentTest, ForgetsAnEndOnlyWhenItIsAcknowledged) {
  Apply(Desired(1, {"a-1"}));
  agent_->OnExit({"a-1", 1, 0}, {TrainerExit::How::kExited, 3, "", {}});
  Apply(Desired(2, {}));
  EXPECT_EQ(agent_->Snapshot(0).ranks_size(), 1);
  EXPECT_EQ(agent_->unacknowledged(), 1);
  v1::DesiredState acknowledged = Desired(3, {});
  acknowledged.add_acknowledged_ends("a-1/1/0");
  Apply(acknowledged);
  EXPECT_EQ(agent_->Snapshot(0).ranks_size(), 0);
  EXPECT_EQ(agent_->unacknowledged(), 0);
}

TEST_F(AgentTest, DropsCheckpointsAndReportsParts) {
  auto writer = checkpoints_->Begin(MakePart("a-1", 1, 100, 0)).value();
  for (const v1::CheckpointData& data : MakeStream(10, 1)) ASSERT_TRUE(writer->Add(data).ok());
  ASSERT_TRUE(writer->Commit().ok());
  writer.reset();
  EXPECT_EQ(agent_->Snapshot(0).checkpoint_parts_size(), 1);
  v1::DesiredState desired = Desired(1, {});
  v1::DropCheckpoint& drop = *desired.add_drop_checkpoints();
  drop.set_job_id("a-1");
  drop.set_attempt(1);
  drop.set_step(100);
  Apply(desired);
  EXPECT_EQ(agent_->Snapshot(0).checkpoint_parts_size(), 0);
}

TEST_F(AgentTest, SurvivesNamesAndNumbersThatCannotBe) {
  v1::DesiredState desired = Desired(1, {"", "../up", std::string("a\0b", 3), "a-1"});
  desired.mutable_ranks(3)->set_slot(0);
  desired.add_ranks()->set_job_id("b-2");
  desired.mutable_ranks(4)->set_attempt(-1);
  desired.add_drop_checkpoints()->set_job_id(std::string("\0", 1));
  desired.add_drop_checkpoints()->set_step(-5);
  Apply(desired);
  ASSERT_EQ(launched_.size(), 1U);
  EXPECT_EQ(launched_[0].key.job_id, "a-1");
}

TEST_F(AgentTest, DrainsAndThenKills) {
  Apply(Desired(1, {"a-1"}));
  agent_->Drain();
  v1::TrainerReport report;
  report.set_token(launched_[0].token);
  EXPECT_EQ(agent_->Report(report, {})->run(), v1::RUN_REQUEST_CHECKPOINT_AND_STOP);
  EXPECT_TRUE(agent_->Snapshot(0).draining());
  agent_->KillAll();
  agent_->OnExit({"a-1", 1, 0}, {TrainerExit::How::kSignaled, 9, "", {}});
  EXPECT_EQ(agent_->Snapshot(0).ranks(0).reason(), v1::REASON_WORKER_DRAINING);
}

}  // namespace
}  // namespace sinkforge::worker
