// The whole daemon against a fake coordinator, with real processes that play trainers: spawn, run,
// stop, kill, lost streams, a coordinator that goes away, draining, and what the options can get
// wrong.
#include "worker/daemon.h"

#include <signal.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sinkforge/v1/checkpoint_service.grpc.pb.h"
#include "sinkforge/v1/trainer_service.grpc.pb.h"
#include "tests/unit/worker/fake_coordinator.h"
#include "tests/unit/worker/test_support.h"

namespace sinkforge::worker {
namespace {

using testing::HasSubstr;

constexpr int64_t kForever = 1'000'000;  // steps that no test waits for

class DaemonTest : public testing::Test {
 protected:
  DaemonOptions Options(const std::string& folder) const {
    DaemonOptions options;
    options.name = "node-1";
    options.coordinator = coordinator_.address();
    options.data_dir = folder_.path() + "/" + folder;
    options.slots = 2;
    options.metrics_listen = "127.0.0.1:0";
    options.trainer = std::string(std::getenv("SINKFORGE_BUILD_DIR")) + "/bin/worker_fake_trainer";
    options.disk_reserve_bytes = 0;
    options.version = "test";
    return options;
  }
  std::unique_ptr<Daemon> Start(const DaemonOptions& options) {
    auto daemon = Daemon::Start(options, &clock_, [this](const absl::Status& status) {
      base::MutexLock lock(&mutex_);
      fatal_ = status;
    });
    EXPECT_TRUE(daemon.ok()) << daemon.status();
    return daemon.ok() ? *std::move(daemon) : nullptr;
  }
  absl::Status fatal() {
    base::MutexLock lock(&mutex_);
    return fatal_;
  }
  bool WaitForEnd(const std::string& job, int64_t attempt) {
    return Eventually(
        [&] { return coordinator_.rank(job, attempt).phase() == v1::RANK_PHASE_ENDED; });
  }
  bool WaitForStep(const std::string& job, int64_t attempt, int64_t step) {
    return Eventually([&] { return coordinator_.rank(job, attempt).step() >= step; });
  }
  pid_t TrainerPid(const std::string& job) {
    pid_t pid = 0;
    EXPECT_TRUE(Eventually([&] {
      for (const std::string& line : coordinator_.logs(job)) {
        const size_t at = line.find("pid ");
        if (at != std::string::npos) pid = std::stoi(line.substr(at + 4));
      }
      return pid > 0;
    }));
    return pid;
  }

  TempFolder folder_;
  base::RealClock clock_;
  FakeCoordinator coordinator_;
  base::Mutex mutex_;
  absl::Status fatal_;
};

TEST_F(DaemonTest, RunsATrainerToItsEndAndHandsEverythingOver) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "good", 1, 0, 20);
  });
  ASSERT_TRUE(WaitForEnd("d4-1", 1));
  const v1::RankStatus rank = coordinator_.rank("d4-1", 1);
  EXPECT_EQ(rank.outcome(), v1::RANK_OUTCOME_COMPLETED) << rank.message();
  EXPECT_EQ(rank.step(), 20);
  ASSERT_TRUE(Eventually([&] { return coordinator_.steps("d4-1").size() >= 20; }));
  std::vector<std::pair<int64_t, int64_t>> expected;
  for (int64_t step = 1; step <= 20; ++step) expected.emplace_back(1, step);
  EXPECT_EQ(coordinator_.steps("d4-1"), expected);
  EXPECT_EQ(coordinator_.starts("d4-1"), 1);
  EXPECT_TRUE(Eventually([&] { return daemon->step_spool().records == 0; }));
  EXPECT_TRUE(Eventually([&] { return !coordinator_.logs("d4-1").empty(); }));
  const v1::WorkerSnapshot snapshot = coordinator_.snapshot();
  EXPECT_EQ(snapshot.address(), daemon->address());
  EXPECT_FALSE(snapshot.processor().empty());
  ASSERT_EQ(snapshot.checkpoint_parts_size(), 1);
  EXPECT_EQ(snapshot.checkpoint_parts(0).step(), 20);
  EXPECT_EQ(snapshot.checkpoint_parts(0).worker(), "node-1");

  coordinator_.Want([](v1::DesiredState* desired) {
    desired->clear_ranks();
    desired->add_acknowledged_ends("d4-1/1/0");
    v1::DropCheckpoint& drop = *desired->add_drop_checkpoints();
    drop.set_job_id("d4-1");
    drop.set_attempt(1);
    drop.set_step(20);
  });
  EXPECT_TRUE(Eventually([&] {
    const v1::WorkerSnapshot now = coordinator_.snapshot();
    return now.ranks_size() == 0 && now.checkpoint_parts_size() == 0;
  }));
}

TEST_F(DaemonTest, ReportsCrashesWithTheirLastWords) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("crash-1", "crash", 1, 0, 20);
    *desired->add_ranks() = FakeCoordinator::Rank("exit-2", "exit", 1, 1, 20);
  });
  ASSERT_TRUE(WaitForEnd("crash-1", 1));
  ASSERT_TRUE(WaitForEnd("exit-2", 1));
  const v1::RankStatus crash = coordinator_.rank("crash-1", 1);
  EXPECT_EQ(crash.reason(), v1::REASON_TRAINER_CRASHED);
  EXPECT_THAT(crash.message(), HasSubstr("signal 11"));
  EXPECT_THAT(crash.message(), HasSubstr("planned crash"));
  EXPECT_THAT(coordinator_.rank("exit-2", 1).message(), HasSubstr("code 9"));
}

TEST_F(DaemonTest, KillsWhatIsNoLongerWantedAndReusesTheSlot) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("old-1", "stubborn", 1, 0, kForever);
  });
  ASSERT_TRUE(WaitForStep("old-1", 1, 3));
  coordinator_.Want([](v1::DesiredState* desired) {
    desired->clear_ranks();
    *desired->add_ranks() = FakeCoordinator::Rank("new-2", "good", 1, 0, 5);
  });
  ASSERT_TRUE(WaitForEnd("new-2", 1));
  EXPECT_EQ(coordinator_.rank("old-1", 1).outcome(), v1::RANK_OUTCOME_KILLED);
  EXPECT_EQ(coordinator_.rank("new-2", 1).outcome(), v1::RANK_OUTCOME_COMPLETED);
}

TEST_F(DaemonTest, StopsWithACheckpointAndRestoresFromIt) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "good", 1, 0, kForever);
  });
  ASSERT_TRUE(WaitForStep("d4-1", 1, 3));
  coordinator_.Want([](v1::DesiredState* desired) {
    desired->mutable_ranks(0)->set_run(v1::RUN_REQUEST_CHECKPOINT_AND_STOP);
  });
  ASSERT_TRUE(WaitForEnd("d4-1", 1));
  EXPECT_EQ(coordinator_.rank("d4-1", 1).outcome(), v1::RANK_OUTCOME_STOPPED);
  const v1::WorkerSnapshot snapshot = coordinator_.snapshot();
  ASSERT_EQ(snapshot.checkpoint_parts_size(), 1);
  const v1::CheckpointPart part = snapshot.checkpoint_parts(0);

  coordinator_.Want([&](v1::DesiredState* desired) {
    v1::DesiredRank again = FakeCoordinator::Rank("d4-1", "good", 2, 0, part.step() + 5);
    again.mutable_restore()->set_step(part.step());
    *again.mutable_restore()->add_parts() = part;
    desired->clear_ranks();
    *desired->add_ranks() = again;
  });
  ASSERT_TRUE(WaitForEnd("d4-1", 2));
  const v1::RankStatus rank = coordinator_.rank("d4-1", 2);
  EXPECT_EQ(rank.outcome(), v1::RANK_OUTCOME_COMPLETED) << rank.message();
  EXPECT_EQ(rank.restored_step(), part.step());
}

TEST_F(DaemonTest, RestoresFromAnotherWorker) {
  // The holder has a coordinator of its own, so that both workers can be driven.
  FakeCoordinator other;
  DaemonOptions holder_options = Options("holder");
  holder_options.name = "node-2";
  holder_options.coordinator = other.address();
  const auto holder = Start(holder_options);
  other.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "good", 1, 0, 4);
  });
  ASSERT_TRUE(Eventually([&] { return other.snapshot().checkpoint_parts_size() == 1; }));
  const v1::CheckpointPart part = other.snapshot().checkpoint_parts(0);
  EXPECT_EQ(part.worker(), "node-2");

  const auto daemon = Start(Options("a"));
  const auto want = [&](int64_t attempt, const std::string& address) {
    coordinator_.Want([&](v1::DesiredState* desired) {
      v1::DesiredRank rank = FakeCoordinator::Rank("d4-1", "good", attempt, 0, 8);
      rank.mutable_restore()->set_step(4);
      *rank.mutable_restore()->add_parts() = part;
      if (!address.empty()) (*rank.mutable_holder_addresses())["node-2"] = address;
      desired->clear_ranks();
      *desired->add_ranks() = rank;
    });
  };
  want(2, holder->address());
  ASSERT_TRUE(WaitForEnd("d4-1", 2));
  EXPECT_EQ(coordinator_.rank("d4-1", 2).outcome(), v1::RANK_OUTCOME_COMPLETED);
  // Not lost: it can be read when its holder is back.
  want(3, "");
  ASSERT_TRUE(WaitForEnd("d4-1", 3));
  EXPECT_EQ(coordinator_.rank("d4-1", 3).reason(), v1::REASON_WORKER_LOST);
  EXPECT_TRUE(Eventually([&] {
    for (const std::string& line : coordinator_.logs("d4-1")) {
      if (line.find("node-2, is away") != std::string::npos) return true;
    }
    return false;
  }));
}

TEST_F(DaemonTest, RestoresNothingOfAnotherJobOfTheSameNameAndNumber) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) {
    v1::DesiredRank rank = FakeCoordinator::Rank("d4-1", "good", 1, 0, 4);
    rank.set_job_uid("other");
    *desired->add_ranks() = rank;
  });
  ASSERT_TRUE(Eventually([&] { return coordinator_.snapshot().checkpoint_parts_size() == 1; }));
  const v1::CheckpointPart other = coordinator_.snapshot().checkpoint_parts(0);
  EXPECT_EQ(other.job_uid(), "other");

  // Its own checkpoint of that attempt and step is on a worker that is away.
  coordinator_.Want([&](v1::DesiredState* desired) {
    v1::DesiredRank rank = FakeCoordinator::Rank("d4-1", "good", 2, 0, 8);
    rank.set_job_uid("this");
    rank.mutable_restore()->set_step(4);
    v1::CheckpointPart* part = rank.mutable_restore()->add_parts();
    *part = other;
    part->set_job_uid("this");
    part->set_worker("node-2");
    desired->clear_ranks();
    *desired->add_ranks() = rank;
  });
  ASSERT_TRUE(WaitForEnd("d4-1", 2));
  EXPECT_EQ(coordinator_.rank("d4-1", 2).reason(), v1::REASON_WORKER_LOST);

  coordinator_.Want([](v1::DesiredState* desired) {
    v1::DropCheckpoint* drop = desired->add_drop_checkpoints();
    drop->set_job_id("d4-1");
    drop->set_attempt(1);
    drop->set_step(4);
    drop->set_job_uid("other");
  });
  EXPECT_TRUE(Eventually([&] { return coordinator_.snapshot().checkpoint_parts_size() == 0; }));
}

TEST_F(DaemonTest, CopiesAPartFromAnotherWorkerAndRestoresFromTheCopy) {
  FakeCoordinator other;
  DaemonOptions holder_options = Options("holder");
  holder_options.name = "node-2";
  holder_options.coordinator = other.address();
  auto holder = Start(holder_options);
  other.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "good", 1, 0, 4);
  });
  ASSERT_TRUE(Eventually([&] { return other.snapshot().checkpoint_parts_size() == 1; }));
  const v1::CheckpointPart part = other.snapshot().checkpoint_parts(0);

  const auto daemon = Start(Options("a"));
  coordinator_.Want([&](v1::DesiredState* desired) {
    v1::CopyPart* copy = desired->add_copy_parts();
    *copy->mutable_part() = part;
    copy->set_address(holder->address());
  });
  ASSERT_TRUE(Eventually([&] { return coordinator_.snapshot().checkpoint_parts_size() == 1; }));
  const v1::CheckpointPart copied = coordinator_.snapshot().checkpoint_parts(0);
  EXPECT_EQ(copied.worker(), "node-1");
  EXPECT_EQ(copied.bytes(), part.bytes());
  EXPECT_EQ(copied.step(), part.step());

  holder.reset();
  coordinator_.Want([&](v1::DesiredState* desired) {
    v1::DesiredRank rank = FakeCoordinator::Rank("d4-1", "good", 2, 0, 8);
    rank.mutable_restore()->set_step(4);
    *rank.mutable_restore()->add_parts() = part;  // the one that is away
    *rank.mutable_restore()->add_copies() = copied;
    desired->clear_copy_parts();
    *desired->add_ranks() = rank;
  });
  ASSERT_TRUE(WaitForEnd("d4-1", 2));
  EXPECT_EQ(coordinator_.rank("d4-1", 2).outcome(), v1::RANK_OUTCOME_COMPLETED);
}

TEST_F(DaemonTest, ACoordinatorOutageStopsNothing) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "good", 1, 0, kForever);
  });
  ASSERT_TRUE(WaitForStep("d4-1", 1, 3));
  const pid_t trainer = TrainerPid("d4-1");
  for (int outage = 0; outage < 2; ++outage) {
    coordinator_.Stop();
    const int64_t before = daemon->agent().Ranks().front().status.step();
    ASSERT_TRUE(
        Eventually([&] { return daemon->agent().Ranks().front().status.step() > before + 20; }));
    EXPECT_GT(daemon->step_spool().records, 0);
    coordinator_.Start();
    ASSERT_TRUE(WaitForStep("d4-1", 1, before + 20));
    ASSERT_TRUE(Eventually([&] {
      const auto steps = coordinator_.steps("d4-1");
      return !steps.empty() && steps.back().second > before + 20;
    }));
  }
  EXPECT_EQ(TrainerPid("d4-1"), trainer);
  EXPECT_TRUE(ProcessStartTicks(trainer).ok());
  // In order and complete; a batch whose answer was lost may have come twice.
  std::set<int64_t> seen;
  for (const auto& [attempt, step] : coordinator_.steps("d4-1")) seen.insert(step);
  EXPECT_EQ(*seen.rbegin(), static_cast<int64_t>(seen.size()));
}

TEST_F(DaemonTest, GivesUpOnATrainerThatHangs) {
  DaemonOptions options = Options("a");
  options.patience.no_progress = std::chrono::seconds(2);
  const auto daemon = Start(options);
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "hang", 1, 0, 20);
  });
  ASSERT_TRUE(WaitForEnd("d4-1", 1));
  EXPECT_EQ(coordinator_.rank("d4-1", 1).reason(), v1::REASON_NO_PROGRESS);
}

TEST_F(DaemonTest, AFullDiskFailsTheCheckpointAndNothingElse) {
  DaemonOptions options = Options("a");
  options.disk_reserve_bytes = int64_t{1} << 60;
  const auto daemon = Start(options);
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "good", 1, 0, 5);
  });
  ASSERT_TRUE(WaitForEnd("d4-1", 1));
  const v1::RankStatus rank = coordinator_.rank("d4-1", 1);
  EXPECT_EQ(rank.reason(), v1::REASON_CHECKPOINT_FAILED);
  EXPECT_THAT(rank.message(), HasSubstr(options.data_dir));
  EXPECT_THAT(rank.message(), HasSubstr("bytes free"));
  EXPECT_EQ(coordinator_.snapshot().checkpoint_parts_size(), 0);
  EXPECT_EQ(coordinator_.snapshot().disk_free_bytes(), 0);
  EXPECT_TRUE(Eventually([&] { return coordinator_.steps("d4-1").size() == 5; }));
}

TEST_F(DaemonTest, ATrainerWaitsWhileItsRecordsCannotBeKept) {
  const DaemonOptions options = Options("a");
  const auto daemon = Start(options);
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "patient", 1, 0, 60);
  });
  ASSERT_TRUE(WaitForStep("d4-1", 1, 3));
  // The database's folder is away, as with a disk that cannot be written.
  const std::string store = options.data_dir + "/store";
  ASSERT_EQ(rename(store.c_str(), (store + ".away").c_str()), 0);
  ASSERT_TRUE(Eventually([&] { return !coordinator_.rank("d4-1", 1).message().empty(); }));
  const v1::RankStatus held = coordinator_.rank("d4-1", 1);
  EXPECT_EQ(held.phase(), v1::RANK_PHASE_TRAINING);
  EXPECT_THAT(held.message(), HasSubstr("node-1 cannot keep its step records"));
  EXPECT_THAT(held.message(), HasSubstr(store));
  ASSERT_EQ(rename((store + ".away").c_str(), store.c_str()), 0);
  ASSERT_TRUE(WaitForEnd("d4-1", 1));
  const v1::RankStatus end = coordinator_.rank("d4-1", 1);
  EXPECT_EQ(end.outcome(), v1::RANK_OUTCOME_COMPLETED) << end.message();
  EXPECT_TRUE(Eventually([&] { return coordinator_.steps("d4-1").size() == 60; }));
}

TEST_F(DaemonTest, DrainsWithACheckpoint) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "good", 1, 0, kForever);
  });
  ASSERT_TRUE(WaitForStep("d4-1", 1, 3));
  daemon->Drain();
  EXPECT_EQ(daemon->agent().unacknowledged(), 0);
  EXPECT_TRUE(coordinator_.snapshot().draining());
  EXPECT_EQ(coordinator_.rank("d4-1", 1).outcome(), v1::RANK_OUTCOME_STOPPED);
  EXPECT_EQ(coordinator_.snapshot().checkpoint_parts_size(), 1);
  EXPECT_EQ(daemon->step_spool().records, 0);
}

// Else the coordinator takes it for lost when its lease ends.
TEST_F(DaemonTest, SaysGoodbyeAlsoWhereNothingRan) {
  const auto daemon = Start(Options("a"));
  ASSERT_TRUE(Eventually([&] { return coordinator_.snapshot().worker() == "node-1"; }));
  daemon->Drain();
  EXPECT_TRUE(coordinator_.snapshot().draining());
  EXPECT_TRUE(coordinator_.snapshot().goodbye());
  EXPECT_EQ(coordinator_.snapshot().ranks_size(), 0);
}

TEST_F(DaemonTest, StaysUntilOthersHaveWhatItAloneHas) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) { desired->set_leave(v1::LEAVE_LATER); });
  std::thread drain([&] { daemon->Drain(); });
  EXPECT_TRUE(Eventually([&] { return coordinator_.snapshot().draining(); }));
  EXPECT_FALSE(coordinator_.snapshot().goodbye());
  // What it alone has can be read, and the coordinator goes on hearing of it.
  const int64_t heard = coordinator_.snapshot().report_sequence();
  EXPECT_TRUE(Eventually([&] { return coordinator_.snapshot().report_sequence() > heard + 1; }));
  EXPECT_FALSE(coordinator_.snapshot().goodbye());
  coordinator_.Want([](v1::DesiredState* desired) { desired->set_leave(v1::LEAVE_NOW); });
  drain.join();
  EXPECT_TRUE(coordinator_.snapshot().goodbye());
}

// What it alone has is read from it by other workers, and the coordinator comes back.
TEST_F(DaemonTest, StaysAlsoWhileTheCoordinatorIsAway) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) { desired->set_leave(v1::LEAVE_LATER); });
  std::atomic<bool> has_left = false;
  std::thread drain([&] {
    daemon->Drain();
    has_left = true;
  });
  EXPECT_TRUE(Eventually([&] { return coordinator_.snapshot().draining(); }));
  coordinator_.Stop();
  coordinator_.Start();
  const int64_t heard = coordinator_.snapshot().report_sequence();
  EXPECT_TRUE(Eventually([&] { return coordinator_.snapshot().report_sequence() > heard + 1; }));
  EXPECT_FALSE(has_left);
  coordinator_.Want([](v1::DesiredState* desired) { desired->set_leave(v1::LEAVE_NOW); });
  drain.join();
  EXPECT_TRUE(coordinator_.snapshot().goodbye());
}

// It was stopped while the coordinator was started anew.
TEST_F(DaemonTest, WaitsForTheCoordinatorWhereThereIsSomethingToTell) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "good", 1, 0, kForever);
  });
  ASSERT_TRUE(WaitForStep("d4-1", 1, 3));
  coordinator_.Stop();
  std::thread drain([&] { daemon->Drain(); });
  EXPECT_TRUE(Eventually([&] { return daemon->agent().running() == 0; }));
  coordinator_.Start();
  drain.join();
  EXPECT_EQ(coordinator_.rank("d4-1", 1).outcome(), v1::RANK_OUTCOME_STOPPED);
  EXPECT_TRUE(coordinator_.snapshot().goodbye());
}

TEST_F(DaemonTest, StaysNoLongerThanItsGracePeriod) {
  DaemonOptions options = Options("a");
  options.grace = std::chrono::milliseconds(300);
  const auto daemon = Start(options);
  coordinator_.Want([](v1::DesiredState* desired) { desired->set_leave(v1::LEAVE_LATER); });
  daemon->Drain();
  EXPECT_TRUE(coordinator_.snapshot().goodbye());
}

TEST_F(DaemonTest, SaysGoodbyeAlsoInAHurry) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) { desired->set_leave(v1::LEAVE_LATER); });
  std::thread drain([&] { daemon->Drain(); });
  EXPECT_TRUE(Eventually([&] { return coordinator_.snapshot().draining(); }));
  daemon->Hurry();
  drain.join();
  EXPECT_TRUE(Eventually([&] { return coordinator_.snapshot().goodbye(); }));
}

TEST_F(DaemonTest, KillsAtTheEndOfTheGracePeriod) {
  DaemonOptions options = Options("a");
  options.grace = std::chrono::milliseconds(300);
  const auto daemon = Start(options);
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "stubborn", 1, 0, kForever);
  });
  ASSERT_TRUE(WaitForStep("d4-1", 1, 3));
  const pid_t trainer = TrainerPid("d4-1");
  daemon->Drain();
  EXPECT_FALSE(ProcessStartTicks(trainer).ok());
  EXPECT_TRUE(Eventually(
      [&] { return coordinator_.rank("d4-1", 1).reason() == v1::REASON_WORKER_DRAINING; }));
}

TEST_F(DaemonTest, GivesUpOnANameThatAnotherOneHas) {
  coordinator_.Refuse({grpc::StatusCode::ALREADY_EXISTS,
                       "worker node-1: another live worker has this name; choose another --name"});
  const auto daemon = Start(Options("a"));
  ASSERT_TRUE(Eventually([&] { return !fatal().ok(); }));
  EXPECT_TRUE(absl::IsAlreadyExists(fatal()));
  EXPECT_THAT(std::string(fatal().message()), HasSubstr("--name"));
}

TEST_F(DaemonTest, KeepsItsTrainersWhenItsNameIsDisputedLater) {
  const auto daemon = Start(Options("a"));
  coordinator_.Want([](v1::DesiredState* desired) {
    *desired->add_ranks() = FakeCoordinator::Rank("d4-1", "good", 1, 0, kForever);
  });
  ASSERT_TRUE(WaitForStep("d4-1", 1, 3));
  coordinator_.Refuse({grpc::StatusCode::ALREADY_EXISTS, "another live worker has this name"});
  const int64_t before = daemon->agent().Ranks().front().status.step();
  ASSERT_TRUE(
      Eventually([&] { return daemon->agent().Ranks().front().status.step() > before + 50; }));
  coordinator_.Refuse(grpc::Status::OK);
  EXPECT_TRUE(WaitForStep("d4-1", 1, before + 60));
  EXPECT_TRUE(fatal().ok());
}

TEST_F(DaemonTest, RefusesStrangersOnTheTrainersSocket) {
  const DaemonOptions options = Options("a");
  const auto daemon = Start(options);
  const auto stub = v1::TrainerService::NewStub(
      base::MakeChannel("unix:" + options.data_dir + "/run/trainer.sock"));
  grpc::ClientContext context;
  v1::Assignment assignment;
  EXPECT_EQ(stub->GetAssignment(&context, v1::GetAssignmentRequest(), &assignment).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  grpc::ClientContext write_context;
  v1::WriteCheckpointResponse response;
  const auto writer = stub->WriteCheckpoint(&write_context, &response);
  v1::WriteCheckpointRequest request;
  *request.mutable_header()->mutable_part() = MakePart("d4-1", 1, 1, 0);
  writer->Write(request);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(DaemonTest, ServesCheckpointsAndSurvivesImpossibleRequests) {
  const auto daemon = Start(Options("a"));
  const auto stub = v1::CheckpointService::NewStub(base::MakeChannel(daemon->address()));
  const auto ask = [&](const std::string& job, int64_t attempt, int64_t step) {
    grpc::ClientContext context;
    v1::ReadCheckpointRequest request;
    request.set_job_id(job);
    request.set_attempt(attempt);
    request.set_step(step);
    const auto reader = stub->ReadCheckpoint(&context, request);
    v1::CheckpointData data;
    while (reader->Read(&data)) {
    }
    return reader->Finish().error_code();
  };
  EXPECT_EQ(ask("d4-1", 1, 1), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ask("", 1, 1), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ask(std::string("a\0b", 3), 1, 1), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ask("d4-1", -1, 1), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ask("d4-1", 1, -1), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(DaemonTest, OffersGpusThatItsTrainerCanUse) {
  DaemonOptions options = Options("a");
  options.trainer = folder_.path() + "/trainer.sh";
  WriteScript(options.trainer, "echo '[{\"index\": 0}]'");
  options.gpus = 2;
  const auto fewer = Daemon::Start(options, &clock_, [](const absl::Status&) {});
  EXPECT_TRUE(absl::IsUnavailable(fewer.status())) << fewer.status();
  EXPECT_THAT(std::string(fewer.status().message()), HasSubstr("1 of the first 2 GPUs"));
  options.gpus = 1;
  EXPECT_NE(Start(options), nullptr);
}

TEST_F(DaemonTest, NamesWhatIsWrongWithItsOptions) {
  const auto fails = [&](const DaemonOptions& options, absl::StatusCode code,
                         const std::string& text) {
    const auto daemon = Daemon::Start(options, &clock_, [](const absl::Status&) {});
    EXPECT_EQ(daemon.status().code(), code) << daemon.status();
    EXPECT_THAT(std::string(daemon.status().message()), HasSubstr(text));
  };
  const auto running = Start(Options("a"));
  fails(Options("a"), absl::StatusCode::kFailedPrecondition, "--data-dir");
  DaemonOptions options = Options("b");
  options.listen = running->address();
  fails(options, absl::StatusCode::kUnavailable, "--listen");
  options = Options("b");
  options.metrics_listen = running->metrics_address();
  fails(options, absl::StatusCode::kUnavailable, "--metrics-listen");
  options = Options("b");
  options.data_roots = {folder_.path() + "/missing"};
  fails(options, absl::StatusCode::kNotFound, "/missing");
  options = Options("b");
  options.trainer = "/bin/none";
  fails(options, absl::StatusCode::kNotFound, "--trainer");
  options = Options("b");
  options.listen = "0.0.0.0:0";
  fails(options, absl::StatusCode::kInvalidArgument, "--insecure-listen");
  options = Options("b");
  options.slots = 0;
  fails(options, absl::StatusCode::kInvalidArgument, "--slots");
}

}  // namespace
}  // namespace sinkforge::worker
