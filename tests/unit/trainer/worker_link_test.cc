// Worker mode against a fake worker: records, checkpoints, restore, stop, abandon, and a worker
// that fails in every way.
#include "worker/trainer/worker_link.h"

#include <gmock/gmock.h>
#include <grpc/grpc.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "base/rpc.h"
#include "proto/checkpoint_format/checkpoint_stream.h"
#include "proto/jobspec/job_file.h"
#include "proto/jobspec/resolve.h"
#include "tests/unit/trainer/child.h"
#include "tests/unit/trainer/fake_worker.h"
#include "tests/unit/trainer/temp_folder.h"
#include "worker/trainer/data_files.h"
#include "worker/trainer/worker_command.h"

namespace sinkforge::trainer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr char kJob[] = R"(name: small
model: {layers: 2, width: 32, heads: 4, attention: sink}
head_balance: {loss: cv}
data: {train: train.txt, validation: valid.txt, sequence_length: 32}
train: {steps: 40, batch_tokens: 256, micro_batch: 8}
evaluation: {every_steps: 20, tokens: 512}
checkpoint: {every_steps: 10}
resources: {threads: 1}
)";

class WorkerLinkTest : public testing::Test {
 protected:
  // Held to the end of the program: when its last user goes, the library may wait 10 seconds for an
  // idle poller.
  static void SetUpTestSuite() { grpc_init(); }

  void SetUp() override {
    folder_.Write("train.txt", SampleText(20'000));
    folder_.Write("valid.txt", SampleText(2'000));
    v1::DesiredRank* rank = fake_.assignment.mutable_rank();
    rank->set_job_id("small-1");
    rank->set_attempt(3);
    rank->set_world_size(1);
    rank->set_run(v1::RUN_REQUEST_TRAIN);
    *rank->mutable_spec() = jobspec::ParseJobFile(kJob).spec;
    ASSERT_THAT(jobspec::Resolve(rank->mutable_spec()), IsEmpty());
    fake_.assignment.add_data_roots(folder_.path().string());
  }

  ExitCode RunTrainer(const std::string& token = "secret") {
    LinkOptions options;
    options.channel = base::MakeChannel(fake_.address());
    options.token = token;
    WorkerLink link(std::move(options));
    const ExitCode code = RunAssignment(link, "127.0.0.1", 1);
    // What the handlers wrote is read without their lock from here on.
    fake_.WaitFor([] { return true; });
    return code;
  }

  void RestoreFrom(int64_t step) {
    v1::DesiredRank* rank = fake_.assignment.mutable_rank();
    rank->set_attempt(rank->attempt() + 1);
    rank->mutable_restore()->set_step(step);
    rank->mutable_restore()->set_attempt(3);
    rank->mutable_restore()->clear_parts();
    rank->mutable_restore()->add_parts()->set_step(step);
  }

  // Both ranks of a world of two with fresh meeting points: rank 0 here, and rank 1 beside it, on a
  // machine of its own where it is given another data root.
  std::pair<ExitCode, ExitCode> RunTwoRanks(const std::string& second_root = "") {
    fake_.ForgetRendezvous();
    fake_.assignment.mutable_rank()->set_world_size(2);
    fake_.second_assignment = fake_.assignment;
    fake_.second_assignment.mutable_rank()->set_rank(1);
    if (!second_root.empty()) fake_.second_assignment.set_data_roots(0, second_root);
    ExitCode second = ExitCode::kOtherError;
    std::thread other([&] { second = RunTrainer("second"); });
    const ExitCode first = RunTrainer();
    other.join();
    return {first, second};
  }

  const v1::TrainerReport& Last() const { return fake_.reports.back(); }

  TempFolder folder_;
  FakeWorker fake_{folder_ / "worker.sock"};
};

TEST_F(WorkerLinkTest, ReportsEveryStepOnceAndEnds) {
  EXPECT_EQ(RunTrainer(), ExitCode::kCompleted);
  ASSERT_EQ(fake_.records.size(), 40U);
  EXPECT_EQ(fake_.records.begin()->first, 1);
  EXPECT_EQ(fake_.records.at(7).attempt(), 3);
  EXPECT_EQ(fake_.records.at(7).importance_size(), 8);
  EXPECT_EQ(fake_.records.at(7).heads(), 4);
  EXPECT_TRUE(fake_.records.at(20).has_validation_bits_per_byte());
  EXPECT_GT(fake_.records.at(7).memory_bytes(), 0);
  int records = 0;
  bool started = false;
  for (const v1::TrainerReport& report : fake_.reports) {
    started = started || report.has_start();
    if (report.has_start()) {
      EXPECT_EQ(report.start().attempt(), 3);
      EXPECT_EQ(report.start().restored_step(), 0);
      EXPECT_EQ(report.start().micro_batch(), 8);
    }
    EXPECT_TRUE(started || report.steps_size() == 0);
    records += report.steps_size();
  }
  EXPECT_EQ(records, 40);
  EXPECT_EQ(Last().phase(), v1::RANK_PHASE_ENDED);
  EXPECT_EQ(Last().outcome(), v1::RANK_OUTCOME_COMPLETED);
  EXPECT_EQ(Last().step(), 40);
}

TEST_F(WorkerLinkTest, CheckpointsVerifyAndResumeToTheSameBits) {
  fake_.assignment.mutable_rank()->set_job_uid("uid");
  std::map<int64_t, v1::CheckpointPart> headers;
  fake_.on_checkpoint = [&](const v1::CheckpointPart& part) {
    headers[part.step()] = part;
    return grpc::Status::OK;
  };
  ASSERT_EQ(RunTrainer(), ExitCode::kCompleted);
  EXPECT_EQ(headers.size(), 4U);
  for (const auto& [step, part] : headers) {
    EXPECT_EQ(part.job_uid(), "uid") << step;
    EXPECT_EQ(part.loss(), fake_.records.at(step).loss()) << step;
    EXPECT_EQ(part.has_validation_loss(), step % 20 == 0) << step;
    EXPECT_EQ(part.validation_loss(), fake_.records.at(step).validation_loss()) << step;
  }
  ASSERT_EQ(fake_.parts.size(), 4U);
  for (const auto& [step, part] : fake_.parts) {
    checkpoint::PartVerifier verifier;
    for (const v1::CheckpointData& data : part) ASSERT_TRUE(verifier.Accept(data).ok()) << step;
    EXPECT_TRUE(verifier.Complete().ok());
  }
  const auto whole = fake_.records;
  const auto last_part = fake_.parts.at(40);
  fake_.records.clear();
  fake_.reports.clear();
  fake_.parts.erase(40);
  RestoreFrom(20);
  ASSERT_EQ(RunTrainer(), ExitCode::kCompleted);

  ASSERT_EQ(fake_.records.size(), 20U);
  for (const auto& [step, record] : fake_.records) {
    EXPECT_EQ(record.loss(), whole.at(step).loss()) << step;
    EXPECT_EQ(record.attempt(), 4);
  }
  const auto& again = fake_.parts.at(40);
  ASSERT_EQ(again.size(), last_part.size());
  for (size_t i = 0; i < again.size(); ++i) {
    EXPECT_EQ(again[i].SerializeAsString(), last_part[i].SerializeAsString()) << i;
  }
  const auto start = std::find_if(fake_.reports.begin(), fake_.reports.end(),
                                  [](const auto& report) { return report.has_start(); });
  ASSERT_NE(start, fake_.reports.end());
  EXPECT_EQ(start->start().restored_step(), 20);
  for (const auto& report : fake_.reports) EXPECT_EQ(report.warnings_size(), 0);
}

// The whole step fits wherever tests run, and is what the job without `auto` has.
TEST_F(WorkerLinkTest, AnAutomaticMicroBatchIsToldAndKept) {
  ASSERT_EQ(RunTrainer(), ExitCode::kCompleted);
  const auto whole = fake_.records;
  const auto told = [&] {
    for (const auto& report : fake_.reports) {
      if (report.has_start()) return report.start().micro_batch();
    }
    return -1;
  };
  EXPECT_EQ(told(), 8);
  fake_.assignment.mutable_rank()->mutable_spec()->mutable_train()->set_micro_batch(0);
  for (const int64_t from : {0, 20}) {
    fake_.records.clear();
    fake_.reports.clear();
    if (from > 0) RestoreFrom(from);
    ASSERT_EQ(RunTrainer(), ExitCode::kCompleted);
    EXPECT_EQ(told(), 8);
    ASSERT_EQ(fake_.records.size(), static_cast<size_t>(40 - from));
    for (const auto& [step, record] : fake_.records) {
      EXPECT_EQ(record.loss(), whole.at(step).loss()) << step;
      EXPECT_EQ(record.imbalance(), whole.at(step).imbalance()) << step;
    }
    for (const auto& report : fake_.reports) EXPECT_EQ(report.warnings_size(), 0);
  }
}

TEST_F(WorkerLinkTest, StopsAfterADurableCheckpoint) {
  fake_.on_report = [](const v1::TrainerReport& report, v1::TrainerCommand* command) {
    if (report.step() >= 3) command->set_run(v1::RUN_REQUEST_CHECKPOINT_AND_STOP);
    return grpc::Status::OK;
  };
  fake_.assignment.mutable_rank()->mutable_spec()->mutable_train()->set_steps(100'000);
  EXPECT_EQ(RunTrainer(), ExitCode::kStopped);
  EXPECT_EQ(Last().outcome(), v1::RANK_OUTCOME_STOPPED);
  EXPECT_EQ(fake_.parts.rbegin()->first, Last().step());
  EXPECT_EQ(fake_.records.size(), static_cast<size_t>(Last().step()));
  EXPECT_TRUE(std::any_of(fake_.reports.begin(), fake_.reports.end(), [](const auto& report) {
    return report.phase() == v1::RANK_PHASE_CHECKPOINTING_TO_STOP;
  }));
}

TEST_F(WorkerLinkTest, AbandonedAttemptWritesNothingMore) {
  bool over = false;
  int calls_after = 0;
  fake_.on_report = [&](const v1::TrainerReport& report, v1::TrainerCommand*) {
    if (over) ++calls_after;
    over = over || report.steps_size() > 0;
    return over ? grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "not desired")
                : grpc::Status::OK;
  };
  fake_.on_checkpoint = [&](const v1::CheckpointPart&) {
    if (over) ++calls_after;
    return grpc::Status::OK;
  };
  fake_.assignment.mutable_rank()->mutable_spec()->mutable_train()->set_steps(100'000);
  EXPECT_EQ(RunTrainer(), ExitCode::kAbandoned);
  EXPECT_EQ(calls_after, 0);
  EXPECT_TRUE(fake_.records.empty());
}

TEST_F(WorkerLinkTest, AbandonedByTheCheckpointCall) {
  fake_.on_checkpoint = [](const v1::CheckpointPart&) {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "not desired");
  };
  EXPECT_EQ(RunTrainer(), ExitCode::kAbandoned);
  EXPECT_TRUE(fake_.parts.empty());
}

TEST_F(WorkerLinkTest, WrongTokenIsAbandonedAtOnce) {
  EXPECT_EQ(RunTrainer("other"), ExitCode::kAbandoned);
  EXPECT_TRUE(fake_.reports.empty());
}

TEST_F(WorkerLinkTest, FullDiskFailsTheLastCheckpointOnly) {
  fake_.on_checkpoint = [](const v1::CheckpointPart& part) {
    if (part.step() == 10) return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "/data: the disk is full");
  };
  EXPECT_EQ(RunTrainer(), ExitCode::kCheckpointFailed);
  EXPECT_EQ(fake_.records.size(), 40U);
  EXPECT_EQ(Last().outcome(), v1::RANK_OUTCOME_FAILED);
  EXPECT_EQ(Last().reason(), v1::REASON_CHECKPOINT_FAILED);
  EXPECT_THAT(Last().message(), HasSubstr("the disk is full"));
  // Which checkpoint is the last good one, the coordinator says.
  EXPECT_THAT(Last().message(), Not(HasSubstr("checkpoint is of step")));
  std::string warnings;
  for (const auto& report : fake_.reports) {
    for (const std::string& warning : report.warnings()) warnings += warning + "\n";
  }
  EXPECT_THAT(warnings, HasSubstr("checkpoint of step 20: /data: the disk is full"));
}

TEST_F(WorkerLinkTest, EndIsHeldForAWorkerWhoseDiskIsFull) {
  int refused = 0;
  fake_.on_report = [&](const v1::TrainerReport& report, v1::TrainerCommand*) {
    if (report.phase() != v1::RANK_PHASE_ENDED || ++refused > 10) return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "/data: the disk is full");
  };
  LinkOptions options;
  options.channel = base::MakeChannel(fake_.address());
  options.token = "secret";
  options.patience = std::chrono::milliseconds(500);  // half of what the refusals take
  WorkerLink link(std::move(options));
  EXPECT_EQ(RunAssignment(link, "127.0.0.1", 1), ExitCode::kCompleted);
  EXPECT_EQ(Last().outcome(), v1::RANK_OUTCOME_COMPLETED);
}

// A trainer that is killed takes the records with it that its worker does not have.
TEST_F(WorkerLinkTest, ACheckpointComesAfterTheRecordsOfItsSteps) {
  int refused = 0;
  fake_.on_report = [&](const v1::TrainerReport& report, v1::TrainerCommand*) {
    if (report.steps_size() == 0 || ++refused > 5) return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "/data: the disk is full");
  };
  std::map<int64_t, size_t> records_before;
  fake_.on_checkpoint = [&](const v1::CheckpointPart& part) {
    records_before[part.step()] = fake_.records.size();
    return grpc::Status::OK;
  };
  EXPECT_EQ(RunTrainer(), ExitCode::kCompleted);
  ASSERT_EQ(records_before.size(), 4U);
  for (const auto& [step, records] : records_before) {
    EXPECT_GE(records, static_cast<size_t>(step));
  }
}

TEST_F(WorkerLinkTest, UnavailableCheckpointIsTriedAgain) {
  int refused = 0;
  fake_.on_checkpoint = [&](const v1::CheckpointPart&) {
    if (++refused % 2 == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "busy");
    return grpc::Status::OK;
  };
  EXPECT_EQ(RunTrainer(), ExitCode::kCompleted);
  EXPECT_EQ(fake_.parts.size(), 4U);
}

TEST_F(WorkerLinkTest, NothingIsLostWhenTheWorkerRestarts) {
  fake_.assignment.mutable_rank()->mutable_spec()->mutable_train()->set_steps(400);
  std::thread restarter([&] {
    for (const size_t records : {20U, 120U}) {
      fake_.WaitFor([&] { return fake_.records.size() >= records; });
      fake_.Stop();
      fake_.Start();
    }
  });
  EXPECT_EQ(RunTrainer(), ExitCode::kCompleted);
  restarter.join();
  EXPECT_EQ(fake_.records.size(), 400U);
  EXPECT_EQ(fake_.records.rbegin()->first, 400);
  EXPECT_EQ(fake_.parts.count(400), 1U);
}

TEST_F(WorkerLinkTest, CorruptOrMissingCheckpointIsNamed) {
  ASSERT_EQ(RunTrainer(), ExitCode::kCompleted);
  v1::CheckpointData& damaged = fake_.parts.at(20)[3];
  ASSERT_TRUE(damaged.has_chunk());
  (*damaged.mutable_chunk()->mutable_data())[5] ^= 1;
  RestoreFrom(20);
  EXPECT_EQ(RunTrainer(), ExitCode::kCheckpointFailed);
  EXPECT_EQ(Last().reason(), v1::REASON_CHECKPOINT_LOST);
  EXPECT_THAT(Last().message(), HasSubstr("is corrupt: its CRC32C differs"));
  fake_.parts.erase(20);
  EXPECT_EQ(RunTrainer(), ExitCode::kCheckpointFailed);
  EXPECT_THAT(Last().message(), HasSubstr("checkpoint of step 20, part of rank 0: not held here"));
}

TEST_F(WorkerLinkTest, NewerCheckpointIsRefused) {
  ASSERT_EQ(RunTrainer(), ExitCode::kCompleted);
  fake_.parts.at(20).back().mutable_trailer()->set_schema_version(2);
  RestoreFrom(20);
  EXPECT_EQ(RunTrainer(), ExitCode::kCheckpointFailed);
  EXPECT_THAT(Last().message(), HasSubstr("schema version 2 is newer"));
}

TEST_F(WorkerLinkTest, ChangedDataRefuseToResume) {
  ASSERT_EQ(RunTrainer(), ExitCode::kCompleted);
  folder_.Write("train.txt", SampleText(20'001));
  RestoreFrom(20);
  EXPECT_EQ(RunTrainer(), ExitCode::kBadData);
  EXPECT_EQ(Last().reason(), v1::REASON_BAD_DATA);
  EXPECT_THAT(Last().message(), HasSubstr("train.txt has changed"));
}

TEST_F(WorkerLinkTest, ValidationTextThatIsTrainedOnBecomesAWarning) {
  std::filesystem::create_hard_link(folder_ / "train.txt", folder_ / "same.txt");
  v1::DataSpec* data = fake_.assignment.mutable_rank()->mutable_spec()->mutable_data();
  data->set_validation(0, "same.txt");
  EXPECT_EQ(RunTrainer(), ExitCode::kCompleted);
  std::string warnings;
  for (const auto& report : fake_.reports) {
    for (const std::string& warning : report.warnings()) warnings += warning + "\n";
  }
  EXPECT_THAT(warnings, HasSubstr("data.validation: same.txt is the file train.txt of data.train"));
}

TEST_F(WorkerLinkTest, OtherEnvironmentBecomesAWarning) {
  ASSERT_EQ(RunTrainer(), ExitCode::kCompleted);
  fake_.reports.clear();
  fake_.assignment.mutable_rank()->mutable_spec()->mutable_resources()->set_threads(2);
  RestoreFrom(30);
  EXPECT_EQ(RunTrainer(), ExitCode::kCompleted);
  std::string warnings;
  for (const auto& report : fake_.reports) {
    for (const std::string& warning : report.warnings()) warnings += warning + "\n";
  }
  EXPECT_EQ(warnings, "not_bit_exact: resumed after step 30 with threads 1 -> 2\n");
}

TEST_F(WorkerLinkTest, BadJobsAndDataEndWithTheirReason) {
  v1::JobSpec& spec = *fake_.assignment.mutable_rank()->mutable_spec();
  const v1::JobSpec good = spec;
  spec.mutable_model()->set_heads(5);
  EXPECT_EQ(RunTrainer(), ExitCode::kBadJob);
  EXPECT_EQ(Last().reason(), v1::REASON_BAD_JOB);
  EXPECT_THAT(Last().message(), HasSubstr("model.heads: is 5"));
  spec = good;
  spec.mutable_data()->set_train(0, "../escape.txt");
  EXPECT_EQ(RunTrainer(), ExitCode::kBadData);
  EXPECT_THAT(Last().message(), HasSubstr("`..` is not accepted here"));
}

TEST_F(WorkerLinkTest, GpuThatCannotBeHadHasItsOwnCodeAndIsTriedElsewhere) {
  fake_.assignment.mutable_rank()->mutable_spec()->mutable_resources()->set_device(v1::DEVICE_CUDA);
  EXPECT_EQ(RunTrainer(), ExitCode::kDeviceFailed);
  EXPECT_EQ(Last().reason(), v1::REASON_TRAINER_CRASHED);
  EXPECT_THAT(Last().message(), HasSubstr("resources.device"));
}

TEST_F(WorkerLinkTest, DivergedLossNamesTheStep) {
  v1::JobSpec& spec = *fake_.assignment.mutable_rank()->mutable_spec();
  spec.mutable_checkpoint()->set_every_steps(1);
  v1::OptimizerSpec* optimizer = spec.mutable_optimizer();
  optimizer->set_kind(v1::OPTIMIZER_KIND_ADAMW);
  optimizer->set_matrix_lr(1000);
  optimizer->set_weight_decay(1000);
  EXPECT_EQ(RunTrainer(), ExitCode::kNonFiniteLoss);
  EXPECT_EQ(Last().reason(), v1::REASON_NON_FINITE_LOSS);
  EXPECT_THAT(Last().message(), HasSubstr("step " + std::to_string(fake_.records.size() + 1)));
}

TEST_F(WorkerLinkTest, TwoRanksFollowOneAndResumeToTheSameBits) {
  ASSERT_EQ(RunTrainer(), ExitCode::kCompleted);
  const auto alone = fake_.records;
  fake_.records.clear();
  const std::pair<ExitCode, ExitCode> completed(ExitCode::kCompleted, ExitCode::kCompleted);
  ASSERT_EQ(RunTwoRanks(), completed);
  const auto together = fake_.records;
  ASSERT_EQ(together.size(), 40U);
  EXPECT_NEAR(together.at(1).loss(), alone.at(1).loss(), 1e-6 * alone.at(1).loss());
  EXPECT_NEAR(together.at(2).imbalance(), alone.at(2).imbalance(), 1e-3);
  ASSERT_EQ(fake_.parts_of_rank[1].size(), 4U);

  fake_.records.clear();
  RestoreFrom(20);
  v1::CheckpointPart* part = fake_.assignment.mutable_rank()->mutable_restore()->add_parts();
  part->set_step(20);
  part->set_rank(1);
  ASSERT_EQ(RunTwoRanks(), completed);
  ASSERT_EQ(fake_.records.size(), 20U);
  for (const auto& [step, record] : fake_.records) {
    EXPECT_EQ(record.loss(), together.at(step).loss()) << step;
  }

  // One rank can go on from the parts of two, with a warning.
  fake_.reports.clear();
  fake_.assignment.mutable_rank()->set_world_size(1);
  EXPECT_EQ(RunTrainer(), ExitCode::kCompleted);
  EXPECT_TRUE(std::any_of(fake_.reports.begin(), fake_.reports.end(), [](const auto& report) {
    return report.warnings_size() > 0 &&
           report.warnings(0).find("ranks 2 -> 1") != std::string::npos;
  }));
}

// Ranks whose machines have different files would train on them without an error.
class TwoMachinesTest : public WorkerLinkTest {
 protected:
  void SetUp() override {
    WorkerLinkTest::SetUp();
    CopyToSecond();
  }

  // The second machine has what the first one has.
  void CopyToSecond() {
    for (const char* name : {"train.txt", "valid.txt"}) {
      second_.Write(name, ReadWhole(folder_ / name));
    }
  }

  std::pair<ExitCode, ExitCode> RunBoth() {
    fake_.reports.clear();
    return RunTwoRanks(second_.path().string());
  }

  // What the rank of that token said at its end.
  v1::TrainerReport EndOf(const std::string& token) const {
    for (const v1::TrainerReport& report : fake_.reports) {
      if (report.token() == token && report.phase() == v1::RANK_PHASE_ENDED) return report;
    }
    return {};
  }

  void ExpectBothName(const std::string& field, const std::string& file) {
    EXPECT_EQ(RunBoth(), std::pair(ExitCode::kBadData, ExitCode::kBadData)) << field;
    for (const auto& [token, own] : {std::pair("secret", "rank 0: "), {"second", "rank 1: "}}) {
      const v1::TrainerReport end = EndOf(token);
      EXPECT_EQ(end.reason(), v1::REASON_BAD_DATA);
      EXPECT_THAT(end.message(),
                  HasSubstr(field + ": its files are not the same on all ranks' machines (" + own +
                            file + ", "));
      EXPECT_THAT(end.message(), HasSubstr("copy them from one machine to the others"));
    }
  }

  v1::JobSpec& Spec() { return *fake_.assignment.mutable_rank()->mutable_spec(); }

  TempFolder second_;
};

TEST_F(TwoMachinesTest, CopiesTrainAsOne) {
  EXPECT_EQ(RunBoth(), std::pair(ExitCode::kCompleted, ExitCode::kCompleted));
  EXPECT_EQ(fake_.records.size(), 40U);
}

TEST_F(TwoMachinesTest, DifferentFilesAreNamedBeforeTheFirstStep) {
  second_.Write("train.txt", SampleText(20'001));
  ExpectBothName("data.train", "train.txt");
  EXPECT_THAT(EndOf("secret").message(), HasSubstr("train.txt, 20000 bytes"));
  EXPECT_THAT(EndOf("secret").message(), HasSubstr("rank 1: 20001 bytes"));
  EXPECT_THAT(EndOf("second").message(), HasSubstr("train.txt, 20001 bytes"));

  CopyToSecond();
  std::string text = SampleText(2'000);
  text[1'000] = '#';
  second_.Write("valid.txt", text);
  ExpectBothName("data.validation", "valid.txt");

  CopyToSecond();
  folder_.Write("start.safetensors", "weights");
  second_.Write("start.safetensors", "other weights");
  Spec().mutable_init()->set_from("start.safetensors");
  ExpectBothName("init.from", "start.safetensors");
  EXPECT_THAT(fake_.records, IsEmpty());
}

TEST_F(TwoMachinesTest, ShardsOfDifferentTokenizersAreNamed) {
  std::string shard(1024, '\0');
  const int32_t header[] = {20240520, 1, 4'000};
  std::memcpy(shard.data(), header, sizeof(header));
  for (int i = 0; i < 4'000; ++i) shard += {static_cast<char>('a' + i * i % 20), '\0'};
  const auto write = [&](const TempFolder& machine, const std::string& tokenizer) {
    machine.Write("t.json", tokenizer);
    const auto digest = DigestFiles({{machine / "t.json", "t.json", "t.json"}});
    machine.Write("train.bin", shard);
    std::string bytes = "1";
    for (int i = 1; i < 200; ++i) bytes += ",1";
    machine.Write("train.json", R"({"vocab_size": 200, "bytes_per_token": [)" + bytes +
                                    R"(], "tokenizer": "xxh3:)" +
                                    FingerprintText(digest.value()[0].xxh3) + R"("})");
  };
  v1::DataSpec* data = Spec().mutable_data();
  data->set_train(0, "train.bin");
  data->clear_validation();
  data->set_tokenizer("t.json");
  write(folder_, "{}");
  write(second_, "{ }");
  ExpectBothName("data.tokenizer", "t.json");
  write(second_, "{}");
  EXPECT_EQ(RunBoth(), std::pair(ExitCode::kCompleted, ExitCode::kCompleted));
  second_.Write("train.json", ReadWhole(second_ / "train.json") + "\n");
  ExpectBothName("data.train", "train.bin's sidecar");
}

// What the checkpoint remembers tells which of the machines is the one to mend, and a job that may
// run on fewer goes on without it.
TEST_F(TwoMachinesTest, AfterARestoreTheMachineWithOtherTrainingDataIsTheBadOne) {
  ASSERT_EQ(RunBoth(), std::pair(ExitCode::kCompleted, ExitCode::kCompleted));
  RestoreFrom(20);
  v1::CheckpointPart* part = fake_.assignment.mutable_rank()->mutable_restore()->add_parts();
  part->set_step(20);
  part->set_rank(1);
  fake_.records.clear();
  second_.Write("train.txt", SampleText(20'001));
  EXPECT_EQ(RunBoth(), std::pair(ExitCode::kRankLost, ExitCode::kBadData));
  EXPECT_THAT(EndOf("second").message(), HasSubstr("train.txt has changed since the checkpoint"));
  CopyToSecond();
  second_.Write("valid.txt", SampleText(2'001));
  ExpectBothName("data.validation", "valid.txt");
  EXPECT_THAT(fake_.records, IsEmpty());
}

TEST_F(WorkerLinkTest, LostRankEndsTheOther) {
  v1::DesiredRank* rank = fake_.assignment.mutable_rank();
  rank->set_world_size(2);
  rank->mutable_spec()->mutable_train()->set_steps(1'000'000);
  fake_.second_assignment = fake_.assignment;
  fake_.second_assignment.mutable_rank()->set_rank(1);
  Child second({"worker", "--socket", fake_.address(), "--parent-pid", std::to_string(getpid())},
               folder_ / "stderr", "second");
  std::thread killer([&] {
    fake_.WaitFor([&] { return fake_.records.size() >= 3; });
    second.Signal(SIGKILL);
  });
  EXPECT_EQ(RunTrainer(), ExitCode::kRankLost);
  killer.join();
  EXPECT_EQ(Last().reason(), v1::REASON_RANK_LOST);
  EXPECT_THAT(Last().message(), HasSubstr("the connection to another rank is lost"));
}

TEST_F(WorkerLinkTest, RealProgramEndsWithItsCode) {
  Child child({"worker", "--socket", fake_.address(), "--parent-pid", std::to_string(getpid())},
              folder_ / "stderr", "secret");
  EXPECT_EQ(child.Wait(), 0) << child.Output();
  EXPECT_EQ(fake_.records.size(), 40U);
  EXPECT_THAT(child.Output(), HasSubstr("\"message\":\"progress\""));
  EXPECT_THAT(child.Output(), HasSubstr("\"step\":40,\"steps\":40,\"loss\":"));
}

// A daemon that is killed takes its trainers with it.
TEST_F(WorkerLinkTest, RealProgramDiesWithItsParent) {
  fake_.assignment.mutable_rank()->mutable_spec()->mutable_train()->set_steps(1'000'000);
  // Orphans of this process become its children, so that the trainer's end can be awaited here.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  const std::string address = fake_.address();
  const pid_t parent = fork();
  if (parent == 0) {
    const std::string own = std::to_string(getpid());
    const pid_t trainer = fork();
    if (trainer == 0) {
      setenv(kTokenVariable, "secret", 1);
      execl(TRAINER_BINARY, TRAINER_BINARY, "worker", "--socket", address.c_str(), "--parent-pid",
            own.c_str(), nullptr);
      _exit(127);
    }
    const ssize_t written = write(channel[1], &trainer, sizeof(trainer));
    pause();
    _exit(written > 0 ? 0 : 1);
  }
  pid_t trainer = 0;
  ASSERT_EQ(read(channel[0], &trainer, sizeof(trainer)), static_cast<ssize_t>(sizeof(trainer)));
  close(channel[0]);
  close(channel[1]);
  fake_.WaitFor([&] { return fake_.records.size() >= 2; });
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  int status = 0;
  ASSERT_EQ(waitpid(trainer, &status, 0), trainer);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST(ReportQueueTest, KeepsOrderAndBatches) {
  ReportQueue queue("t");
  for (int step = 1; step <= 1200; ++step) {
    v1::StepRecord record;
    record.set_step(step);
    queue.AddRecord(record);
  }
  queue.SetEnd(v1::RANK_OUTCOME_COMPLETED, v1::REASON_UNSPECIFIED, "");
  int64_t next = 1;
  int reports = 0;
  while (auto report = queue.Next(std::chrono::milliseconds(0))) {
    ++reports;
    for (const v1::StepRecord& record : report->steps()) EXPECT_EQ(record.step(), next++);
    EXPECT_EQ(report->phase() == v1::RANK_PHASE_ENDED, next == 1201);
    queue.Acknowledge(*report);
  }
  EXPECT_EQ(next, 1201);
  EXPECT_EQ(reports, 3);
  EXPECT_TRUE(queue.WaitForEnd(std::chrono::seconds(0)));
}

TEST(ReportQueueTest, FullQueueWaitsForTheWorkerOrTheEnd) {
  ReportQueue queue("t");
  for (size_t i = 0; i < ReportQueue::kRecordsMax; ++i) queue.AddRecord(v1::StepRecord());
  std::thread adder([&] { queue.AddRecord(v1::StepRecord()); });
  queue.Acknowledge(*queue.Next(std::chrono::milliseconds(0)));
  adder.join();
  std::thread filler([&] {
    for (size_t i = 0; i < ReportQueue::kRecordsMax; ++i) queue.AddRecord(v1::StepRecord());
  });
  queue.Close();
  filler.join();
  EXPECT_FALSE(queue.Next(std::chrono::milliseconds(0)).has_value());
}

}  // namespace
}  // namespace sinkforge::trainer
