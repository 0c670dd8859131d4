// train.micro_batch: auto in whole runs with any free memory: the chosen rows train to the bits of
// a job that names them, a resumed run keeps them, and ranks with different memory agree.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "proto/jobspec/job_file.h"
#include "proto/jobspec/resolve.h"
#include "tests/unit/trainer/address_space.h"
#include "tests/unit/trainer/memory_store.h"
#include "tests/unit/trainer/temp_folder.h"
#include "worker/trainer/checkpoint_file.h"
#include "worker/trainer/core/memory_plan.h"
#include "worker/trainer/job_config.h"
#include "worker/trainer/standalone_host.h"
#include "worker/trainer/training_run.h"

namespace sinkforge::trainer {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// 16 rows a step.
constexpr char kJob[] = R"(name: small
model: {layers: 2, width: 32, heads: 4, attention: gated}
head_balance: {loss: cv, coefficient: 1.0e-3}
data: {train: train.txt, sequence_length: 32}
train: {steps: 12, batch_tokens: 512, micro_batch: auto}
checkpoint: {every_steps: 4, keep: 9}
resources: {threads: 1}
)";

v1::JobSpec Job(const std::vector<std::string>& overrides = {}) {
  v1::JobSpec spec = jobspec::ParseJobFile(kJob).spec;
  for (const std::string& assignment : overrides) {
    EXPECT_TRUE(jobspec::ApplyOverride(&spec, assignment).ok()) << assignment;
  }
  EXPECT_THAT(jobspec::ResolveAndValidateNew(&spec), IsEmpty());
  return spec;
}

// A device on which exactly `rows` fit with this many ranks, and a tenth is left over.
FreeMemory RoomFor(int64_t rows, int64_t ranks = 1) {
  const v1::JobSpec spec = Job({"train.micro_batch=" + std::to_string(rows)});
  const auto backend = MakeBackend(spec, BackendChoice::kFast);
  const auto plan = PlanMemory(ToTrainingConfig(spec), ranks, backend.value().get());
  FreeMemory memory;
  memory.kind = FreeMemory::Kind::kDevice;
  memory.bytes = (plan.value().bytes() * 10 + 8) / 9;
  return memory;
}

// A rank without daemons or files: it keeps what it is told and begins anew. Every rank of one
// store meets the others there.
class TalkingHost final : public RunHost {
 public:
  explicit TalkingHost(RendezvousStore* store) : store_(store) {}

  kernels::Result<std::optional<StoredCheckpoint>> LoadCheckpoint() override {
    return std::optional<StoredCheckpoint>();
  }
  kernels::Status Begin(const RunContext& context, int64_t) override {
    micro_batch = context.environment.micro_batch;
    return {};
  }
  RendezvousStore* rendezvous() override { return store_; }
  int64_t durable_step() const override { return 0; }
  bool checkpoint_failed() const override { return false; }
  void Note(const std::string& message) override { notes.push_back(message); }
  void OnStep(const StepReport& report) override { losses.push_back(report.loss); }
  HostCommand Poll() override { return HostCommand::kTrain; }
  kernels::Status WriteCheckpoint(Snapshot) override { return {}; }
  kernels::Status FinishCheckpoints() override { return {}; }
  void Warn(const std::string& message) override { ADD_FAILURE() << message; }

  int64_t micro_batch = 0;
  std::vector<std::string> notes;
  std::vector<double> losses;

 private:
  RendezvousStore* store_;
};

class AutoMicroBatchTest : public testing::Test {
 protected:
  void SetUp() override { folder_.Write("train.txt", SampleText(20'000)); }

  RunRequest Request(const v1::JobSpec& spec, const FreeMemory& free) const {
    RunRequest request;
    request.spec = spec;
    request.data_roots = {folder_.path().string()};
    request.read_memory = [free](const kernels::Backend&) { return free; };
    return request;
  }

  // Goes on from what is in the work folder.
  RunEnd Train(const std::string& work_dir, const v1::JobSpec& spec, const FreeMemory& free) {
    StandaloneOptions options;
    options.work_dir = folder_ / work_dir;
    options.steps = spec.train().steps();
    options.keep = spec.checkpoint().keep();
    options.start = StandaloneOptions::Start::kResume;
    auto host = StandaloneHost::Create(options);
    EXPECT_TRUE(host.ok()) << host.status().message();
    return RunJob(Request(spec, free), *host.value());
  }

  std::string Checkpoint(const std::string& work_dir, int64_t step) const {
    return ReadWhole(CheckpointPath(folder_ / work_dir + "/checkpoints", step));
  }

  // As if the run had died before its later checkpoints.
  void GoBackTo(const std::string& work_dir, int64_t step) const {
    const std::string checkpoints = folder_ / work_dir + "/checkpoints";
    for (const int64_t later : ListCheckpoints(checkpoints)) {
      if (later > step) std::filesystem::remove(CheckpointPath(checkpoints, later));
    }
  }

  // Each rank with its own memory; the hosts as the runs left them.
  std::vector<std::unique_ptr<TalkingHost>> TrainRanks(const v1::JobSpec& spec,
                                                       const std::vector<FreeMemory>& memories,
                                                       std::vector<RunEnd>* ends) {
    MemoryStore store;
    std::vector<std::unique_ptr<TalkingHost>> hosts;
    std::vector<std::thread> threads;
    ends->resize(memories.size());
    for (size_t i = 0; i < memories.size(); ++i) {
      hosts.push_back(std::make_unique<TalkingHost>(&store));
      threads.emplace_back([&, i, host = hosts.back().get()] {
        RunRequest request = Request(spec, memories[i]);
        request.rank = static_cast<int>(i);
        request.world_size = static_cast<int>(memories.size());
        (*ends)[i] = RunJob(request, *host);
      });
    }
    for (std::thread& thread : threads) thread.join();
    return hosts;
  }

  TempFolder folder_;
};

TEST_F(AutoMicroBatchTest, TheChosenRowsTrainToTheBitsOfAJobThatNamesThem) {
  for (const int64_t rows : {1, 4, 16}) {
    const std::string name = std::to_string(rows);
    EXPECT_EQ(Train("auto" + name, Job(), RoomFor(rows)).message, "");
    const v1::JobSpec given = Job({"train.micro_batch=" + name});
    EXPECT_EQ(Train("given" + name, given, FreeMemory()).message, "");
    EXPECT_FALSE(Checkpoint("auto" + name, 12).empty());
    EXPECT_EQ(Checkpoint("auto" + name, 12), Checkpoint("given" + name, 12)) << rows << " rows";
  }
  EXPECT_NE(Checkpoint("auto1", 12), Checkpoint("auto16", 12)) << "the rows are part of the run";
}

TEST_F(AutoMicroBatchTest, AResumedRunKeepsItsRowsWhateverIsFreeNow) {
  ASSERT_EQ(Train("run", Job(), RoomFor(8)).message, "");
  const std::string whole = Checkpoint("run", 12);
  GoBackTo("run", 4);
  ASSERT_EQ(Train("run", Job(), RoomFor(16)).message, "");
  EXPECT_EQ(Checkpoint("run", 12), whole);

  // Less than at first, without what is left over, and still enough.
  GoBackTo("run", 4);
  FreeMemory less = RoomFor(8);
  less.bytes = less.bytes / 10 * 9 + 10;
  ASSERT_EQ(Train("run", Job(), less).message, "");
  EXPECT_EQ(Checkpoint("run", 12), whole);

  GoBackTo("run", 4);
  const RunEnd end = Train("run", Job(), RoomFor(4));
  EXPECT_EQ(end.exit_code, ExitCode::kBadJob);
  EXPECT_THAT(end.message, HasSubstr("auto became 8 rows when the job began"));
  EXPECT_THAT(end.message, HasSubstr("are there for it"));
}

TEST_F(AutoMicroBatchTest, WithoutACheckpointTheNextRunChoosesAnew) {
  ASSERT_EQ(Train("run", Job(), RoomFor(8)).message, "");
  GoBackTo("run", 0);
  ASSERT_EQ(Train("run", Job(), RoomFor(2)).message, "");
  const auto stored = ReadCheckpointFile(CheckpointPath(folder_ / "run/checkpoints", 12));
  ASSERT_TRUE(stored.ok()) << stored.status().message();
  EXPECT_EQ(stored.value().record.environment.micro_batch, 2);
}

TEST_F(AutoMicroBatchTest, RowsThatAChangedBatchHasNoPlaceForAreNamed) {
  ASSERT_EQ(Train("run", Job(), RoomFor(16)).message, "");
  const RunEnd end = Train("run", Job({"train.batch_tokens=256", "train.steps=20"}), RoomFor(16));
  EXPECT_EQ(end.exit_code, ExitCode::kBadJob);
  EXPECT_THAT(end.message, HasSubstr("micro-batches of 16 rows"));
}

TEST_F(AutoMicroBatchTest, WhereNothingFitsTheJobFailsWithTheFigures) {
  FreeMemory little = RoomFor(1);
  little.bytes /= 2;
  const RunEnd end = Train("run", Job(), little);
  EXPECT_EQ(end.exit_code, ExitCode::kBadJob);
  EXPECT_EQ(end.reason, v1::REASON_BAD_JOB);
  EXPECT_THAT(end.message, HasSubstr("auto: there is no memory for even 1 row: rank 0 would take"));
}

#if SINKFORGE_ADDRESS_SPACE_CAN_BE_LIMITED
TEST_F(AutoMicroBatchTest, MemoryThatIsGoneByThenIsNamedWithTheRowsThatAutoChose) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  FreeMemory memory;
  memory.bytes = int64_t{1} << 40;
  // 4,096 rows, which take more than half a GiB.
  const std::vector<std::string> large = {"train.batch_tokens=131072", "train.steps=1"};
  const auto limited = [&](const std::string& work_dir, const v1::JobSpec& spec) {
    const AddressSpaceLimit limit(AddressSpace() + 200 * kMiB);
    return Train(work_dir, spec, memory).message;
  };
  EXPECT_THAT(limited("chosen", Job(large)),
              AllOf(HasSubstr("no memory for "), HasSubstr("auto chose 4096 rows"),
                    HasSubstr("give train.micro_batch a number below 4096")));
  EXPECT_THAT(limited("given", Job({large[0], large[1], "train.micro_batch=4096"})),
              AllOf(HasSubstr("no memory for "), Not(HasSubstr("auto"))));
  ASSERT_EQ(Train("kept", Job(large), memory).message, "");
  EXPECT_THAT(limited("kept", Job({large[0], "train.steps=2"})),
              AllOf(HasSubstr("no memory for "), HasSubstr("auto keeps the 4096 rows"),
                    HasSubstr("then go on with it")));
}
#endif

TEST_F(AutoMicroBatchTest, RanksWithDifferentMemoryTrainWithTheSameRows) {
  const v1::JobSpec spec = Job({"resources.ranks=3", "train.batch_tokens=768"});  // 24 rows
  std::vector<RunEnd> ends;
  const auto hosts = TrainRanks(spec, {RoomFor(16, 1), RoomFor(8, 3), RoomFor(16, 1)}, &ends);
  const int64_t rows = hosts[0]->micro_batch;
  EXPECT_GE(rows, 8);
  EXPECT_LT(rows, 24);
  for (size_t i = 0; i < hosts.size(); ++i) {
    EXPECT_EQ(ends[i].message, "");
    EXPECT_EQ(hosts[i]->micro_batch, rows);
    EXPECT_EQ(hosts[i]->notes, hosts[0]->notes);
    EXPECT_EQ(hosts[i]->losses, hosts[0]->losses);
    EXPECT_EQ(hosts[i]->losses.size(), 12U);
  }
  EXPECT_THAT(hosts[0]->notes,
              ElementsAre(HasSubstr("auto is " + std::to_string(rows) + " rows: rank 1 takes")));

  FreeMemory none;
  none.kind = FreeMemory::Kind::kDevice;
  TrainRanks(spec, {RoomFor(16), none, RoomFor(16)}, &ends);
  for (const RunEnd& end : ends) {
    EXPECT_EQ(end.reason, v1::REASON_BAD_JOB);
    EXPECT_THAT(end.message, HasSubstr("no memory for even 3 rows: rank 1 would take"));
  }
}

}  // namespace
}  // namespace sinkforge::trainer
