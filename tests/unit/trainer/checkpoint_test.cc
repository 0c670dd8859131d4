// Records, checkpoint files and their retention; the writer's thread; the job's configuration.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <future>

#include "proto/jobspec/resolve.h"
#include "proto/safetensors/safetensors.h"
#include "tests/unit/trainer/temp_folder.h"
#include "worker/trainer/background_writer.h"
#include "worker/trainer/checkpoint_file.h"
#include "worker/trainer/job_config.h"
#include "worker/trainer/step_json.h"

namespace sinkforge::trainer {
namespace {

using kernels::Status;
using kernels::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

CheckpointRecord SampleRecord() {
  CheckpointRecord record;
  record.state = {30, 480, 30720, 18446744073709551615U, 2.0 / 3, 28};
  record.loss = 0.1 + 0.2;
  record.files = {{"a \"b\".txt", 12, 18446744073709551614U}};
  record.environment = {2, "Some CPU", "cpu", "0.1.0", 1, 16};
  return record;
}

Snapshot SampleSnapshot() {
  Snapshot snapshot;
  snapshot.state = SampleRecord().state;
  SnapshotTensor tensor{"w", "F32", {2, 2}, 0, 4, std::vector<std::byte>(16)};
  const float values[] = {1, -2, 3.5, 4};
  std::memcpy(tensor.bytes.data(), values, sizeof(values));
  snapshot.tensors = {tensor, {"optimizer/m/w", "F32", {2}, 0, 2, std::vector<std::byte>(8)}};
  return snapshot;
}

TEST(CheckpointRecordTest, RoundTripsExactly) {
  const auto parsed = ParseRecord(ToJson(SampleRecord()));
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(ToJson(parsed.value()), ToJson(SampleRecord()));
  EXPECT_EQ(parsed.value().state.seed, 18446744073709551615U);
  EXPECT_EQ(parsed.value().state.smooth_loss, 2.0 / 3);
  EXPECT_EQ(parsed.value().state.smoothed_steps, 28);
  EXPECT_EQ(parsed.value().loss, 0.1 + 0.2);
  EXPECT_EQ(parsed.value().files[0].xxh3, 18446744073709551614U);
  EXPECT_EQ(parsed.value().environment.micro_batch, 16);
}

TEST(CheckpointRecordTest, OneWithoutAMicroBatchIsReadAndDiffersInNothing) {
  std::string text = ToJson(SampleRecord());
  const std::string field = "\"micro_batch\":16,";
  ASSERT_NE(text.find(field), std::string::npos) << text;
  text.erase(text.find(field), field.size());
  const auto parsed = ParseRecord(text);
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(parsed.value().environment.micro_batch, 0);
  EXPECT_EQ(DescribeDifference(parsed.value().environment, SampleRecord().environment), "");
}

TEST(CheckpointRecordTest, BrokenAndNewerRecordsAreRefused) {
  for (const char* text :
       {"", "[]", "{}", "{\"schema_version\": 1}", "{\"schema_version\": 1, \"state\": 3}",
        "{\"schema_version\": \"1\"}"}) {
    EXPECT_EQ(ParseRecord(text).status().code(), StatusCode::kDataLoss) << text;
  }
  const auto newer = ParseRecord("{\"schema_version\": 2}");
  EXPECT_EQ(newer.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(newer.status().message(), HasSubstr("schema version 2"));
}

TEST(CheckpointRecordTest, DifferencesOfTheEnvironmentAreNamed) {
  const RunEnvironment stored = SampleRecord().environment;
  RunEnvironment now = stored;
  EXPECT_EQ(DescribeDifference(stored, now), "");
  now.threads = 4;
  now.processor = "Another";
  now.micro_batch = 8;
  EXPECT_EQ(DescribeDifference(stored, now),
            "threads 2 -> 4, processor Some CPU -> Another, micro_batch 16 -> 8");
  EXPECT_FALSE(ProcessorModel().empty());
}

TEST(CheckpointRecordTest, PositionMustMeanTheSame) {
  TrainingConfig config;
  config.seed = 18446744073709551615U;
  config.micro_batch_rows = 8;
  config.micro_steps = 2;
  config.sequence_length = 64;
  const TrainerState state = SampleRecord().state;
  EXPECT_TRUE(CheckPosition(state, config).ok());
  TrainingConfig other = config;
  other.seed = 2;
  EXPECT_THAT(CheckPosition(state, other).message(), HasSubstr("train.seed is 2"));
  other = config;
  other.micro_steps = 1;
  EXPECT_THAT(CheckPosition(state, other).message(), HasSubstr("train.batch_tokens"));
  other = config;
  other.skip_batches = {0};  // was read
  EXPECT_THAT(CheckPosition(state, other).message(), HasSubstr("train.batch_tokens"));
  other.skip_batches = {1000};  // comes later
  EXPECT_TRUE(CheckPosition(state, other).ok());
  other = config;
  other.sequence_length = 32;
  EXPECT_THAT(CheckPosition(state, other).message(), HasSubstr("data.sequence_length"));
}

TEST(CheckpointFileTest, RoundTripsExactly) {
  const TempFolder folder;
  const std::string path = CheckpointPath(folder.path().string(), 30);
  ASSERT_TRUE(WriteCheckpointFile(path, SampleSnapshot(), SampleRecord()).ok());
  const auto stored = ReadCheckpointFile(path);
  ASSERT_TRUE(stored.ok()) << stored.status().message();
  EXPECT_EQ(stored.value().snapshot.state.step, 30);
  ASSERT_EQ(stored.value().snapshot.tensors.size(), 2U);
  EXPECT_EQ(stored.value().snapshot.tensors[0].bytes, SampleSnapshot().tensors[0].bytes);
  EXPECT_EQ(stored.value().snapshot.tensors[0].length, 4);
  EXPECT_EQ(ToJson(stored.value().record), ToJson(SampleRecord()));
}

TEST(CheckpointFileTest, EveryFlippedByteIsNoticed) {
  const TempFolder folder;
  const std::string path = CheckpointPath(folder.path().string(), 30);
  ASSERT_TRUE(WriteCheckpointFile(path, SampleSnapshot(), SampleRecord()).ok());
  const std::string good = ReadWhole(path);
  const size_t data = good.size() - 24;
  for (size_t i = data; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 4);
    std::ofstream(path, std::ios::binary) << bad;
    EXPECT_EQ(ReadCheckpointFile(path).status().code(), StatusCode::kDataLoss) << i;
  }
  for (size_t i = 0; i < good.size(); i += 7) {
    std::ofstream(path, std::ios::binary) << good.substr(0, i);
    EXPECT_EQ(ReadCheckpointFile(path).status().code(), StatusCode::kDataLoss) << i;
  }
}

TEST(CheckpointFileTest, FullDiskIsResourceExhausted) {
  const TempFolder folder;
  const std::string path = CheckpointPath(folder.path().string(), 30);
  std::filesystem::create_symlink("/dev/full", path + ".partial");
  const Status status = WriteCheckpointFile(path, SampleSnapshot(), SampleRecord());
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr(path));
}

TEST(CheckpointFileTest, KeepsTheLastOnes) {
  const TempFolder folder;
  for (int step : {9, 10, 100, 20}) {
    folder.Write("step-" + std::to_string(step) + ".safetensors", "x");
  }
  folder.Write("step-7.safetensors.partial", "x");
  folder.Write("step-x.safetensors", "x");
  folder.Write("notes.txt", "x");
  const std::string path = folder.path().string();
  EXPECT_THAT(ListCheckpoints(path), ElementsAre(9, 10, 20, 100));
  RetainCheckpoints(path, 2);
  EXPECT_THAT(ListCheckpoints(path), ElementsAre(20, 100));
  EXPECT_FALSE(std::filesystem::exists(folder / "step-7.safetensors.partial"));
  EXPECT_TRUE(std::filesystem::exists(folder / "notes.txt"));
  EXPECT_THAT(ListCheckpoints("/nonexistent"), IsEmpty());
}

TEST(ReadParametersTest, ConvertsAndLeavesOutTheOptimizer) {
  const TempFolder folder;
  const std::string path = folder / "w.safetensors";
  safetensors::Failure failure;
  auto writer = safetensors::Writer::Create(
      path, {{"a", "F64", {1}}, {"b", "BF16", {2}}, {"optimizer/m/a", "I64", {1}}}, {}, &failure);
  const double wide = 1.5;
  const uint16_t halves[] = {0x3FC0, 0xC000};  // 1.5, -2
  ASSERT_TRUE(writer->Append(&wide, 8, &failure) && writer->Append(halves, 4, &failure) &&
              writer->Append(&wide, 8, &failure) && writer->Finish(&failure));
  const auto tensors = ReadParameters(path);
  ASSERT_TRUE(tensors.ok()) << tensors.status().message();
  ASSERT_EQ(tensors.value().size(), 2U);
  float values[3];
  std::memcpy(values, tensors.value()[0].bytes.data(), 4);
  std::memcpy(values + 1, tensors.value()[1].bytes.data(), 8);
  EXPECT_THAT(values, ElementsAre(1.5F, 1.5F, -2.0F));
  EXPECT_EQ(tensors.value()[0].dtype, "F32");
}

TEST(BackgroundWriterTest, TakesOneWhileAnotherIsWritten) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  std::atomic<int> written = 0;
  BackgroundWriter writer([&](const Snapshot& snapshot) {
    released.wait();
    ++written;
    return snapshot.state.step == 2 ? Status(StatusCode::kUnavailable, "no") : Status();
  });
  Snapshot first;
  first.state.step = 1;
  EXPECT_TRUE(writer.Submit(first).ok());  // returns although nothing is written yet
  EXPECT_EQ(writer.durable_step(), 0);
  release.set_value();
  Snapshot second;
  second.state.step = 2;
  EXPECT_TRUE(writer.Submit(second).ok());
  EXPECT_EQ(writer.Finish().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(writer.Finish().ok());  // a failure is told once
  EXPECT_TRUE(writer.last_failed());
  EXPECT_EQ(writer.durable_step(), 1);
  EXPECT_EQ(written, 2);
}

TEST(JobConfigTest, FollowsTheJob) {
  v1::JobSpec spec;
  spec.set_name("a");
  spec.mutable_data()->add_train("t");
  spec.mutable_data()->set_sequence_length(64);
  spec.mutable_train()->set_steps(7);
  spec.mutable_train()->set_micro_batch(4);
  spec.mutable_train()->set_batch_tokens(1024);
  spec.mutable_train()->set_gradient_clip(0.5);
  spec.mutable_model()->set_attention(v1::ATTENTION_VARIANT_SINK);
  spec.mutable_model()->mutable_sink_init()->set_high(8);
  spec.mutable_model()->set_mlp(v1::MLP_SWIGLU);
  spec.mutable_head_balance()->set_loss(v1::BALANCE_LOSS_SWITCH);
  spec.mutable_optimizer()->set_kind(v1::OPTIMIZER_KIND_ADAMW);
  ASSERT_THAT(jobspec::ResolveAndValidate(&spec), IsEmpty());
  const TrainingConfig config = ToTrainingConfig(spec);
  EXPECT_EQ(config.steps, 7);
  EXPECT_EQ(config.micro_steps, 4);
  EXPECT_EQ(config.model.attention, kernels::AttentionVariant::kSink);
  EXPECT_EQ(config.model.sink_init_high, 8);
  EXPECT_EQ(config.model.mlp, MlpKind::kSwiGlu);
  EXPECT_EQ(config.model.mlp_width, 704);
  spec.mutable_model()->clear_mlp();  // a job from before there was a choice
  EXPECT_EQ(ToTrainingConfig(spec).model.mlp, MlpKind::kReluSquared);
  EXPECT_EQ(config.head_balance.loss, kernels::BalanceLoss::kSwitch);
  EXPECT_EQ(config.head_balance.coefficient, 1e-3);
  EXPECT_EQ(config.optimizer.kind, OptimizerKind::kAdamW);
  EXPECT_FALSE(config.optimizer.scale_by_width);
  EXPECT_EQ(config.optimizer.embedding_lr, 3e-4);
  EXPECT_EQ(config.optimizer.gradient_clip, 0.5);

  spec.mutable_train()->set_micro_batch(0);  // auto: a step is one micro-batch until it is chosen
  ASSERT_THAT(jobspec::ResolveAndValidate(&spec), IsEmpty());
  EXPECT_EQ(ToTrainingConfig(spec).micro_batch_rows, 16);
  EXPECT_EQ(ToTrainingConfig(spec).micro_steps, 1);
}

TEST(StepJsonTest, NumbersReadBackToTheSameBits) {
  StepReport report;
  report.step = 3;
  report.loss = 1.0 / 3;
  report.aux_loss = 5e-324;
  report.importance = {0.1F, 0.7};
  report.validation_loss = 2.0 / 3;
  const std::string line = StepToJson(report);
  EXPECT_THAT(line, HasSubstr("\"loss\":0.3333333333333333,"));
  EXPECT_THAT(line, HasSubstr("\"aux_loss\":5e-324"));
  EXPECT_THAT(line, HasSubstr("0.10000000149011612"));
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(StepOfJson(line), 3);
  EXPECT_EQ(StepOfJson(line.substr(0, line.size() - 1)), std::nullopt);
  EXPECT_EQ(StepOfJson("{\"step\": \"x\"}"), std::nullopt);
}

}  // namespace
}  // namespace sinkforge::trainer
