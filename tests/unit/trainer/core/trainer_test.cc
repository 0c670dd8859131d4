// Trainer: it learns, resumes exactly, accumulates gradients, evaluates every token once, dumps
// what it did, and leaves its state alone when numbers stop being finite.
#include "worker/trainer/core/trainer.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "tests/unit/trainer/core/delegating_backend.h"
#include "tests/unit/trainer/core/test_support.h"

namespace sinkforge::trainer {
namespace {

using kernels::BalanceLoss;
using kernels::DType;
using kernels::StatusCode;
using ::testing::HasSubstr;

// A text one of whose tokens stands for no bytes, as that which begins a document does.
class WithSpecialToken final : public Dataset {
 public:
  WithSpecialToken(const Dataset& text, int32_t special) : text_(text), special_(special) {}
  int64_t tokens() const override { return text_.tokens(); }
  int64_t rows() const override { return text_.rows(); }
  void ReadRow(int64_t row, int32_t* inputs, int32_t* targets) const override {
    text_.ReadRow(row, inputs, targets);
  }
  void ReadTokens(int64_t first, int64_t count, int32_t* tokens) const override {
    text_.ReadTokens(first, count, tokens);
  }
  std::optional<int64_t> TokenBytes(int32_t token) const override {
    return token == special_ ? 0 : 1;
  }
  int64_t ShuffledRow(uint64_t seed, int64_t index) const override {
    return text_.ShuffledRow(seed, index);
  }

 private:
  const Dataset& text_;
  const int32_t special_;
};

class TrainerTest : public ::testing::Test {
 protected:
  Rig Make(const TrainingConfig& config, DType dtype = DType::kF32) {
    RigOptions options;
    options.backend = kernels::MakeRefBackend(dtype);
    options.train = &train_;
    options.validation = &validation_;
    return MakeRig(config, std::move(options));
  }

  // Reports of `count` steps.
  static std::vector<StepReport> Steps(Trainer& trainer, int64_t count) {
    std::vector<StepReport> reports;
    for (int64_t i = 0; i < count; ++i) {
      StepReport report;
      const kernels::Status status = trainer.Step(&report, nullptr);
      EXPECT_TRUE(status.ok()) << status.message();
      reports.push_back(report);
    }
    return reports;
  }

  static std::vector<std::vector<double>> Gradients(const Rig& rig) {
    std::vector<std::vector<double>> gradients;
    for (const NamedTensor& named : rig.trainer->gradients()) {
      gradients.push_back(ToDoubles(rig.backend.get(), named.tensor));
    }
    return gradients;
  }

  static int64_t CountOf(const Trainer& trainer) {
    int64_t count = 0;
    for (const NamedTensor& named : trainer.parameters()) count += named.tensor.elements();
    return count;
  }

  MemoryDataset train_{SyntheticTokens(2000, 13, 1), 8};
  MemoryDataset validation_{SyntheticTokens(150, 13, 2), 8};
};

TEST_F(TrainerTest, LearnsASmallText) {
  for (const OptimizerKind kind : {OptimizerKind::kMuon, OptimizerKind::kAdamW}) {
    TrainingConfig config = SmallJob();
    config.optimizer.kind = kind;
    if (kind == OptimizerKind::kAdamW) {
      config.optimizer.matrix_lr = 0.01;
      config.optimizer.embedding_lr = 0.01;
      config.optimizer.unembedding_lr = 0.01;
      config.optimizer.scale_by_width = false;
    }
    config.steps = 200;
    Rig rig = Make(config);
    const std::vector<StepReport> reports = Steps(*rig.trainer, config.steps);
    // lm_head starts at zero: every token has the same probability.
    EXPECT_NEAR(reports.front().loss, std::log(13.0), 1e-5);
    EXPECT_LT(reports.back().loss, 0.7 * reports.front().loss);
    const auto evaluation = rig.trainer->Evaluate();
    ASSERT_TRUE(evaluation.ok());
    EXPECT_LT(evaluation.value().loss, 0.8 * reports.front().loss);
    std::printf("loss %.3f -> %.3f, validation %.3f\n", reports.front().loss, reports.back().loss,
                evaluation.value().loss);
  }
}

TEST_F(TrainerTest, LearnsToBalanceItsHeads) {
  TrainingConfig config = SmallJob();
  config.model.gate_init = 1;
  config.steps = 150;
  std::vector<double> imbalance;
  for (const double coefficient : {0.0, 0.1}) {
    config.head_balance.coefficient = coefficient;
    Rig rig = Make(config);
    imbalance.push_back(Steps(*rig.trainer, config.steps).back().imbalance);
  }
  EXPECT_LT(imbalance[1], 0.5 * imbalance[0]);
}

TEST_F(TrainerTest, ReportsWhatItMeasured) {
  TrainingConfig config = SmallJob();
  config.micro_steps = 2;
  Rig rig = Make(config);
  const StepReport report = Steps(*rig.trainer, 2)[1];
  EXPECT_EQ(report.step, 2);
  EXPECT_EQ(report.heads, 4);
  ASSERT_EQ(report.importance.size(), 8U);
  ASSERT_EQ(report.layer_cv.size(), 2U);
  for (const double importance : report.importance) {
    EXPECT_GT(importance, 0);
    EXPECT_LT(importance, 1);
  }
  EXPECT_NEAR(report.imbalance, (report.layer_cv[0] + report.layer_cv[1]) / 2, 1e-12);
  EXPECT_EQ(report.tokens_total, 2 * 2 * 4 * 8);
  EXPECT_EQ(report.learning_rate_scale, 1);
  EXPECT_GT(report.gradient_norm, 0);
  EXPECT_GT(report.step_seconds, report.data_seconds);
  EXPECT_GT(report.tokens_per_second, 0);
  EXPECT_EQ(rig.trainer->parameter_count(), CountOf(*rig.trainer));
}

TEST_F(TrainerTest, ResumesBitForBit) {
  for (const OptimizerKind kind : {OptimizerKind::kMuon, OptimizerKind::kAdamW}) {
    TrainingConfig config = SmallJob();
    config.optimizer.kind = kind;
    config.micro_steps = 2;
    Rig whole = Make(config);
    const std::vector<StepReport> expected = Steps(*whole.trainer, 60);

    Rig first = Make(config);
    Steps(*first.trainer, 30);
    const Snapshot half = first.trainer->TakeSnapshot();
    EXPECT_EQ(half.state.step, 30);
    EXPECT_EQ(half.state.rows_consumed, 30 * 2 * 4);
    Rig second = Make(config);
    ASSERT_TRUE(second.trainer->Restore(half).ok());
    EXPECT_TRUE(SameBytes(second.trainer->TakeSnapshot(), half));
    const std::vector<StepReport> resumed = Steps(*second.trainer, 30);
    for (size_t i = 0; i < resumed.size(); ++i) {
      EXPECT_EQ(resumed[i].loss, expected[30 + i].loss);
      EXPECT_EQ(resumed[i].aux_loss, expected[30 + i].aux_loss);
      EXPECT_EQ(resumed[i].gradient_norm, expected[30 + i].gradient_norm);
      EXPECT_EQ(resumed[i].importance, expected[30 + i].importance);
    }
    EXPECT_TRUE(SameBytes(second.trainer->TakeSnapshot(), whole.trainer->TakeSnapshot()));
  }
}

TEST_F(TrainerTest, EvaluatingChangesNothing) {
  Rig plain = Make(SmallJob());
  Rig evaluated = Make(SmallJob());
  Steps(*plain.trainer, 6);
  for (int i = 0; i < 6; ++i) {
    Steps(*evaluated.trainer, 1);
    ASSERT_TRUE(evaluated.trainer->Evaluate().ok());
  }
  EXPECT_TRUE(SameBytes(plain.trainer->TakeSnapshot(), evaluated.trainer->TakeSnapshot()));
}

TEST_F(TrainerTest, TwoMicroStepsAreOneBigBatchForTheBaseLoss) {
  TrainingConfig big = SmallJob();
  big.head_balance.loss = BalanceLoss::kNone;
  big.micro_batch_rows = 6;
  TrainingConfig two = big;
  two.micro_batch_rows = 3;
  two.micro_steps = 2;
  Rig a = Make(big, DType::kF64);
  Rig b = Make(two, DType::kF64);
  // After the first step every tensor has a gradient.
  const std::vector<StepReport> reports_a = Steps(*a.trainer, 3);
  const std::vector<StepReport> reports_b = Steps(*b.trainer, 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(reports_a[i].loss, reports_b[i].loss, 1e-12);
  const auto gradients_a = Gradients(a);
  const auto gradients_b = Gradients(b);
  for (size_t i = 0; i < gradients_a.size(); ++i) {
    EXPECT_LE(RelativeDistance(gradients_a[i], gradients_b[i]), 1e-9);
  }
}

// The auxiliary loss of an optimizer step is the mean of its micro-steps' losses, and so is its
// gradient: two micro-steps are the mean of two steps of one micro-step each, from the same state.
TEST_F(TrainerTest, AveragesTheAuxiliaryLossOverMicroSteps) {
  TrainingConfig two = SmallJob();
  two.head_balance.coefficient = 1;
  two.micro_steps = 2;
  TrainingConfig one = two;
  one.micro_steps = 1;
  Rig trained = Make(two, DType::kF64);
  Steps(*trained.trainer, 3);
  Snapshot start = trained.trainer->TakeSnapshot();
  const StepReport both = Steps(*trained.trainer, 1)[0];
  const auto both_gradients = Gradients(trained);

  std::vector<StepReport> halves;
  std::vector<std::vector<std::vector<double>>> half_gradients;
  for (int half = 0; half < 2; ++half) {
    Rig rig = Make(one, DType::kF64);
    ASSERT_TRUE(rig.trainer->Restore(start).ok());
    halves.push_back(Steps(*rig.trainer, 1)[0]);
    half_gradients.push_back(Gradients(rig));
    start.state.rows_consumed += one.micro_batch_rows;
  }
  EXPECT_NEAR(both.loss, (halves[0].loss + halves[1].loss) / 2, 1e-12);
  EXPECT_NEAR(both.aux_loss, (halves[0].aux_loss + halves[1].aux_loss) / 2, 1e-12);
  EXPECT_NEAR(both.imbalance, (halves[0].imbalance + halves[1].imbalance) / 2, 1e-12);
  EXPECT_GT(both.aux_loss, 1e-3);
  for (size_t tensor = 0; tensor < both_gradients.size(); ++tensor) {
    std::vector<double> mean = half_gradients[0][tensor];
    for (size_t i = 0; i < mean.size(); ++i) mean[i] = (mean[i] + half_gradients[1][tensor][i]) / 2;
    EXPECT_LE(RelativeDistance(both_gradients[tensor], mean), 1e-12);
  }
}

TEST_F(TrainerTest, ClipsTheWholeGradient) {
  TrainingConfig config = SmallJob();
  config.optimizer.kind = OptimizerKind::kAdamW;
  config.optimizer.epsilon = 1e-3;  // So large that the gradient's scale shows in the update.
  config.optimizer.gradient_clip = 0;
  Rig free = Make(config);
  const StepReport report = Steps(*free.trainer, 1)[0];
  config.optimizer.gradient_clip = 0.1 * report.gradient_norm;
  Rig clipped = Make(config);
  EXPECT_EQ(Steps(*clipped.trainer, 1)[0].gradient_norm, report.gradient_norm);
  const Snapshot a = free.trainer->TakeSnapshot();
  const Snapshot b = clipped.trainer->TakeSnapshot();
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    if (a.tensors[i].name != "optimizer/adam_m/lm_head.weight") continue;
    const auto* x = reinterpret_cast<const float*>(a.tensors[i].bytes.data());
    const auto* y = reinterpret_cast<const float*>(b.tensors[i].bytes.data());
    for (int64_t j = 0; j < a.tensors[i].length; ++j) EXPECT_NEAR(y[j], 0.1F * x[j], 1e-6F);
  }
}

// 149 targets: 18 whole rows of 8 and one of 5, in batches of 5 rows.
TEST_F(TrainerTest, EvaluatesEveryTargetTokenOnce) {
  TrainingConfig config = SmallJob();
  config.micro_batch_rows = 5;
  Rig trained = Make(config, DType::kF64);
  Steps(*trained.trainer, 5);
  const Snapshot state = trained.trainer->TakeSnapshot();
  // Nats of the first `tokens` targets of `text`; 0: of all.
  const auto nats_of = [&](const MemoryDataset& text, int64_t tokens, int64_t expected_tokens) {
    TrainingConfig limited = config;
    limited.evaluation_tokens = tokens;
    RigOptions options;
    options.backend = kernels::MakeRefBackend(DType::kF64);
    options.train = &train_;
    options.validation = &text;
    Rig rig = MakeRig(limited, std::move(options));
    EXPECT_TRUE(rig.trainer->Restore(state).ok());
    const auto evaluation = rig.trainer->Evaluate();
    EXPECT_TRUE(evaluation.ok());
    EXPECT_EQ(evaluation.value().tokens, expected_tokens);
    return evaluation.value().loss * static_cast<double>(expected_tokens);
  };
  // Rows do not see one another, so every row can be evaluated as a text of its own.
  double by_rows = 0;
  for (int64_t first = 0; first < 149; first += 8) {
    const int64_t count = std::min<int64_t>(8, 149 - first);
    std::vector<int32_t> row(static_cast<size_t>(count + 1));
    validation_.ReadTokens(first, count + 1, row.data());
    by_rows += nats_of(MemoryDataset(row, 8), 0, count);
    // A limit counts exactly so many targets.
    EXPECT_NEAR(nats_of(validation_, first + count, first + count), by_rows, 1e-9);
  }
  EXPECT_NEAR(nats_of(validation_, 0, 149), by_rows, 1e-9);
  EXPECT_NEAR(nats_of(validation_, 1000, 149), by_rows, 1e-9);
  EXPECT_GT(nats_of(validation_, 148, 148), 0);
}

TEST_F(TrainerTest, GivesBitsPerByteWhereBytesAreKnown) {
  validation_.token_bytes = 3;
  Rig rig = Make(SmallJob());
  const auto known = rig.trainer->Evaluate();
  ASSERT_TRUE(known.ok());
  ASSERT_TRUE(known.value().bits_per_byte.has_value());
  EXPECT_NEAR(*known.value().bits_per_byte, known.value().loss / (3 * std::log(2.0)), 1e-12);
  validation_.token_bytes.reset();
  const auto unknown = rig.trainer->Evaluate();
  ASSERT_TRUE(unknown.ok());
  EXPECT_FALSE(unknown.value().bits_per_byte.has_value());
  // Nothing but special tokens: no bytes, no rate.
  validation_.token_bytes = 0;
  EXPECT_FALSE(rig.trainer->Evaluate().value().bits_per_byte.has_value());
}

TEST_F(TrainerTest, BitsPerByteLeaveOutTargetsThatStandForNoBytes) {
  Rig trained = Make(SmallJob(), DType::kF64);
  Steps(*trained.trainer, 5);
  const Snapshot state = trained.trainer->TakeSnapshot();
  int32_t special = 0;
  validation_.ReadTokens(5, 1, &special);
  const WithSpecialToken text(validation_, special);
  const auto evaluate = [&](int64_t tokens) {
    TrainingConfig config = SmallJob();
    config.evaluation_tokens = tokens;
    RigOptions options;
    options.backend = kernels::MakeRefBackend(DType::kF64);
    options.train = &train_;
    options.validation = &text;
    Rig rig = MakeRig(config, std::move(options));
    EXPECT_TRUE(rig.trainer->Restore(state).ok());
    const auto evaluation = rig.trainer->Evaluate();
    EXPECT_TRUE(evaluation.ok());
    return evaluation.value();
  };
  // The nats of a target are what it adds to those before it.
  double before = 0;
  double nats = 0;
  int64_t bytes = 0;
  for (int64_t tokens = 1; tokens <= 149; ++tokens) {
    const double now = evaluate(tokens).loss * static_cast<double>(tokens);
    int32_t target = 0;
    validation_.ReadTokens(tokens, 1, &target);
    if (target != special) {
      nats += now - before;
      ++bytes;
    }
    before = now;
  }
  ASSERT_LT(bytes, 149);
  const Evaluation all = evaluate(0);
  EXPECT_NEAR(all.loss, before / 149, 1e-12) << "per token, whatever it stands for";
  EXPECT_NEAR(*all.bits_per_byte, nats / (std::log(2.0) * static_cast<double>(bytes)), 1e-9);
}

TEST_F(TrainerTest, SaysThatThereIsNothingToEvaluateOn) {
  RigOptions options;
  options.train = &train_;
  Rig rig = MakeRig(SmallJob(), std::move(options));
  EXPECT_FALSE(rig.trainer->can_evaluate());
  EXPECT_EQ(rig.trainer->Evaluate().status().code(), StatusCode::kFailedPrecondition);
}

TEST_F(TrainerTest, DumpsTheStepItTook) {
  TrainingConfig config = SmallJob();
  config.micro_steps = 2;
  Rig rig = Make(config);
  Steps(*rig.trainer, 4);
  const Snapshot before = rig.trainer->TakeSnapshot();
  StepReport report;
  StepDump dump;
  ASSERT_TRUE(rig.trainer->Step(&report, &dump).ok());
  EXPECT_EQ(dump.micro_steps, 2);
  EXPECT_EQ(dump.rows, 4);
  EXPECT_EQ(dump.sequence, 8);
  std::vector<int32_t> inputs(8);
  std::vector<int32_t> targets(8);
  train_.ReadRow(train_.ShuffledRow(config.seed, 4 * 8 + 5), inputs.data(), targets.data());
  EXPECT_TRUE(std::equal(inputs.begin(), inputs.end(), dump.inputs.begin() + 5 * 8));
  EXPECT_TRUE(std::equal(targets.begin(), targets.end(), dump.targets.begin() + 5 * 8));
  ASSERT_LT(dump.parameters.size(), before.tensors.size());
  for (size_t i = 0; i < dump.parameters.size(); ++i) {
    EXPECT_EQ(dump.parameters[i].name, before.tensors[i].name);
    EXPECT_EQ(dump.parameters[i].bytes, before.tensors[i].bytes);
  }
  const auto gradients = rig.trainer->gradients();
  ASSERT_EQ(dump.gradients.size(), gradients.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_EQ(dump.gradients[i].name, gradients[i].name);
    EXPECT_EQ(std::memcmp(dump.gradients[i].bytes.data(), gradients[i].tensor.data,
                          dump.gradients[i].bytes.size()),
              0);
  }
  EXPECT_EQ(dump.base, report.loss);
  EXPECT_EQ(dump.aux, report.aux_loss);
  EXPECT_EQ(dump.imbalance, report.imbalance);
  EXPECT_EQ(dump.importance, report.importance);
  EXPECT_EQ(dump.layer_cv, report.layer_cv);
}

// As if the data had never had the batch: its rows are those of the batches around it.
TEST_F(TrainerTest, PassesOverBatches) {
  TrainingConfig config = SmallJob();
  config.skip_batches = {0, 3, 4};
  Rig skipping = Make(config);
  for (const int64_t batch : {1, 2, 5, 6}) {
    StepReport report;
    StepDump dump;
    ASSERT_TRUE(skipping.trainer->Step(&report, &dump).ok());
    std::vector<int32_t> expected;
    for (int64_t row = batch * 4; row < batch * 4 + 4; ++row) {
      std::vector<int32_t> inputs(8);
      std::vector<int32_t> targets(8);
      train_.ReadRow(train_.ShuffledRow(config.seed, row), inputs.data(), targets.data());
      expected.insert(expected.end(), inputs.begin(), inputs.end());
    }
    EXPECT_EQ(dump.inputs, expected);
  }
  EXPECT_EQ(BatchAfter(config, 0), 0);
  EXPECT_EQ(BatchAfter(config, 1), 2);
  EXPECT_EQ(BatchAfter(config, 2), 3);
  EXPECT_EQ(BatchAfter(config, 3), 6);
  EXPECT_EQ(skipping.trainer->TakeSnapshot().state.rows_consumed,
            BatchAfter(config, 4) * config.micro_batch_rows);
  EXPECT_EQ(skipping.trainer->TakeSnapshot().state.tokens_total, 4 * 4 * 8);
}

TEST_F(TrainerTest, StopsBeforeAStepWhoseLossIsASpike) {
  TrainingConfig config = SmallJob();
  config.loss_spike = 0.1;  // every loss is one, once there is an average
  Rig rig = Make(config);
  Steps(*rig.trainer, 20);
  const Snapshot before = rig.trainer->TakeSnapshot();
  StepReport report;
  const kernels::Status status = rig.trainer->Step(&report, nullptr);
  EXPECT_EQ(status.code(), StatusCode::kDiverged);
  EXPECT_THAT(status.message(), HasSubstr("step 21: the loss of"));
  EXPECT_TRUE(SameBytes(rig.trainer->TakeSnapshot(), before));
}

TEST_F(TrainerTest, ARestoredRunFindsTheSameSpike) {
  TrainingConfig config = SmallJob();
  config.loss_spike = 0.1;
  Rig first = Make(config);
  Steps(*first.trainer, 13);
  Rig second = Make(config);
  ASSERT_TRUE(second.trainer->Restore(first.trainer->TakeSnapshot()).ok());
  Steps(*second.trainer, 7);
  StepReport report;
  EXPECT_THAT(second.trainer->Step(&report, nullptr).message(), HasSubstr("step 21: the loss of"));
}

TEST_F(TrainerTest, LeavesItsStateAloneWhenAParameterIsPoisoned) {
  Rig rig = Make(SmallJob());
  Steps(*rig.trainer, 3);
  for (const NamedTensor& named : rig.trainer->parameters()) {
    const std::vector<double> saved = ToDoubles(rig.backend.get(), named.tensor);
    std::vector<double> poisoned = saved;
    // Every element: a single one may belong to a token that the batch does not have.
    std::fill(poisoned.begin(), poisoned.end(), std::numeric_limits<double>::quiet_NaN());
    FromDoubles(rig.backend.get(), poisoned, named.tensor);
    const Snapshot before = rig.trainer->TakeSnapshot();
    StepReport report;
    const kernels::Status status = rig.trainer->Step(&report, nullptr);
    EXPECT_EQ(status.code(), StatusCode::kNonFinite) << named.name;
    EXPECT_THAT(status.message(), HasSubstr("step 4"));
    EXPECT_TRUE(SameBytes(rig.trainer->TakeSnapshot(), before)) << named.name;
    EXPECT_EQ(rig.trainer->Evaluate().status().code(), StatusCode::kNonFinite) << named.name;
    FromDoubles(rig.backend.get(), saved, named.tensor);
  }
  Steps(*rig.trainer, 1);
  EXPECT_EQ(rig.trainer->steps_done(), 4);
}

TEST_F(TrainerTest, LeavesItsStateAloneWhenTheRateIsAbsurd) {
  TrainingConfig config = SmallJob();
  // The block matrices would not do: the norms around them take any finite scale away.
  config.optimizer.embedding_lr = 1e38;
  Rig rig = Make(config);
  kernels::Status status;
  Snapshot before;
  StepReport report;
  for (int i = 0; i < 10 && status.ok(); ++i) {
    before = rig.trainer->TakeSnapshot();
    status = rig.trainer->Step(&report, nullptr);
  }
  EXPECT_EQ(status.code(), StatusCode::kNonFinite);
  EXPECT_THAT(status.message(), HasSubstr("step " + std::to_string(before.state.step + 1)));
  EXPECT_TRUE(SameBytes(rig.trainer->TakeSnapshot(), before));
}

// The loss is finite and a gradient is not.
class OverflowingBackend final : public DelegatingBackend {
 public:
  using DelegatingBackend::DelegatingBackend;
  void EmbeddingBackward(const kernels::Tensor& tokens, const kernels::Tensor& d_out,
                         const kernels::Tensor& d_table) override {
    inner()->EmbeddingBackward(tokens, d_out, d_table);
    if (overflow) d_table.as<float>()[3] = std::numeric_limits<float>::infinity();
  }
  bool overflow = false;
};

TEST_F(TrainerTest, LeavesItsStateAloneWhenAGradientIsInfinite) {
  const auto inner = kernels::MakeRefBackend(DType::kF32);
  auto owned = std::make_unique<OverflowingBackend>(inner.get());
  OverflowingBackend* backend = owned.get();
  RigOptions options;
  options.backend = std::move(owned);
  options.train = &train_;
  Rig rig = MakeRig(SmallJob(), std::move(options));
  Steps(*rig.trainer, 2);
  const Snapshot before = rig.trainer->TakeSnapshot();
  backend->overflow = true;
  StepReport report;
  const kernels::Status status = rig.trainer->Step(&report, nullptr);
  EXPECT_EQ(status.code(), StatusCode::kNonFinite);
  EXPECT_THAT(status.message(), HasSubstr("gradient"));
  EXPECT_TRUE(SameBytes(rig.trainer->TakeSnapshot(), before));
  backend->overflow = false;
  Steps(*rig.trainer, 1);
}

}  // namespace
}  // namespace sinkforge::trainer
