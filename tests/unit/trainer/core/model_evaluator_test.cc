// A model's evaluation against a straightforward one: a sequence at a time, all logits, the softmax
// in float64; for every variant of the model.
#include "worker/trainer/core/model_evaluator.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/trainer/core/model_probe.h"

namespace sinkforge::trainer {
namespace {

using kernels::DType;

constexpr int64_t kContext = 9;
// Of some thousand operations each; a wrong position or head is off by 1e-2 and more.
constexpr double kTolerance64 = 1e-11;
constexpr double kTolerance32 = 1e-5;

// What one sequence's last tokens come to, and the gates of its positions.
struct Naive {
  double log_likelihood = 0;
  std::vector<double> gate_sums;
};

std::vector<double> TensorNamed(Model& model, kernels::Backend* backend, const std::string& name) {
  for (const Arena::Allocation& part : model.activations().table()) {
    if (part.name == name) return ToDoubles(backend, part.tensor);
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

// The model is planned for this one sequence.
Naive ScoreNaively(const ModelConfig& config, const ScoredSequence& sequence) {
  const auto backend = kernels::MakeRefBackend(DType::kF64);
  const auto inputs = static_cast<int64_t>(sequence.tokens.size()) - 1;
  ModelProbe probe(config, {1, inputs}, {}, backend.get());
  probe.model().LoadBatch(1, sequence.tokens.data(), sequence.tokens.data() + 1);
  probe.model().Forward();
  Naive naive;
  naive.gate_sums.resize(static_cast<size_t>(config.layers * config.heads));
  probe.model().ReadGateStatistics(naive.gate_sums, {});
  const std::vector<double> hidden = TensorNamed(probe.model(), backend.get(), "x");
  const std::vector<double> head =
      ToDoubles(backend.get(), probe.model().parameters().lm_head().value);
  for (int64_t t = inputs - sequence.scored; t < inputs; ++t) {
    std::vector<double> logits;
    double sum = 0;
    for (int64_t v = 0; v < config.vocab_size; ++v) {
      const double logit = std::inner_product(hidden.begin() + t * config.width,
                                              hidden.begin() + (t + 1) * config.width,
                                              head.begin() + v * config.width, 0.0);
      const double cap = config.logit_softcap;
      logits.push_back(cap > 0 ? cap * std::tanh(logit / cap) : logit);
      sum += std::exp(logits.back());
    }
    const auto target = static_cast<size_t>(sequence.tokens[static_cast<size_t>(t) + 1]);
    naive.log_likelihood += logits[target] - std::log(sum);
  }
  return naive;
}

std::vector<ScoredSequence> SomeSequences(int32_t vocabulary) {
  const std::vector<std::pair<int64_t, int64_t>> shapes = {
      {4, 1}, {10, 9}, {2, 1}, {7, 3}, {4, 3}, {7, 6}, {10, 2}, {4, 2}, {7, 1}, {10, 1}};
  std::vector<ScoredSequence> sequences;
  for (const auto& [tokens, scored] : shapes) {
    sequences.push_back({SyntheticTokens(tokens, vocabulary, 40 + sequences.size()), scored});
    sequences.back().tokens[0] = static_cast<int32_t>(sequences.size()) % vocabulary;
  }
  return sequences;
}

// A model with the same parameters, for batches of `positions` positions.
class Evaluated {
 public:
  Evaluated(const ModelConfig& config, int64_t positions, std::unique_ptr<kernels::Backend> backend)
      : backend_(std::move(backend)),
        probe_(config, {(positions + kContext - 1) / kContext, kContext}, {}, backend_.get()),
        evaluator_({kContext, positions}, &probe_.model()) {}
  ModelEvaluator* operator->() { return &evaluator_; }
  ModelProbe& probe() { return probe_; }
  kernels::Backend* backend() { return backend_.get(); }

 private:
  std::unique_ptr<kernels::Backend> backend_;
  ModelProbe probe_;
  ModelEvaluator evaluator_;
};

class ModelEvaluatorTest : public testing::TestWithParam<ModelConfig> {};

TEST_P(ModelEvaluatorTest, SequencesScoreAsOneAtATimeDo) {
  const ModelConfig& config = GetParam();
  const auto sequences = SomeSequences(static_cast<int32_t>(config.vocab_size));
  std::vector<double> expected;
  std::vector<double> importance(static_cast<size_t>(config.layers * config.heads));
  int64_t positions = 0;
  for (const ScoredSequence& sequence : sequences) {
    const Naive naive = ScoreNaively(config, sequence);
    expected.push_back(naive.log_likelihood);
    for (size_t i = 0; i < importance.size(); ++i) importance[i] += naive.gate_sums[i];
    positions += static_cast<int64_t>(sequence.tokens.size()) - 1;
  }
  for (double& value : importance) value /= static_cast<double>(positions);

  // Batches of one row, of some, and of all of a length.
  for (const int64_t positions_max : {9, 20, 90}) {
    for (const bool is_exact : {true, false}) {
      SCOPED_TRACE(std::to_string(positions_max) + (is_exact ? ", float64" : ", cpu"));
      Evaluated evaluated(
          config, positions_max,
          is_exact ? kernels::MakeRefBackend(DType::kF64) : kernels::MakeCpuBackend(2));
      const auto scores = evaluated->ScoreSequences(sequences, nullptr);
      ASSERT_TRUE(scores.ok());
      const double tolerance = is_exact ? kTolerance64 : kTolerance32;
      EXPECT_LT(RelativeDistance(scores.value().log_likelihoods, expected), tolerance);
      EXPECT_EQ(scores.value().positions, positions);
      EXPECT_LT(RelativeDistance(scores.value().balance.importance, importance), tolerance);
    }
  }
}

TEST_P(ModelEvaluatorTest, ATextIsItsRowsOneAfterAnother) {
  const ModelConfig& config = GetParam();
  const std::vector<int32_t> tokens =
      SyntheticTokens(3 * kContext + 5, static_cast<int32_t>(config.vocab_size), 3);
  MemoryDataset text(tokens, kContext);
  text.token_bytes = 2;
  double nats = 0;
  std::vector<double> sums(static_cast<size_t>(config.layers * config.heads));
  for (size_t first = 0; first + 1 < tokens.size(); first += kContext) {
    const size_t end = std::min(tokens.size(), first + kContext + 1);
    const Naive row = ScoreNaively(config, {{tokens.begin() + static_cast<int64_t>(first),
                                             tokens.begin() + static_cast<int64_t>(end)},
                                            static_cast<int64_t>(end - first) - 1});
    nats -= row.log_likelihood;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += row.gate_sums[i];
  }
  const auto targets = static_cast<double>(tokens.size() - 1);
  for (double& value : sums) value /= targets;

  for (const int64_t positions_max : {9, 20, 90}) {
    Evaluated evaluated(config, positions_max, kernels::MakeRefBackend(DType::kF64));
    std::vector<int64_t> shown;
    const auto result = evaluated->EvaluateText(
        text, [&](int64_t done, int64_t /*total*/) { shown.push_back(done); });
    ASSERT_TRUE(result.ok());
    const TextEvaluation& value = result.value();
    EXPECT_EQ(value.loss.tokens, static_cast<int64_t>(targets));
    EXPECT_EQ(value.bytes, 2 * static_cast<int64_t>(targets));
    EXPECT_NEAR(value.loss.loss, nats / targets, kTolerance64 * nats);
    EXPECT_NEAR(*value.loss.bits_per_byte, nats / (2 * targets * std::log(2.0)),
                kTolerance64 * nats);
    EXPECT_LT(RelativeDistance(value.balance.importance, sums), kTolerance64);
    EXPECT_EQ(shown.back(), static_cast<int64_t>(targets));
  }
}

std::vector<ModelConfig> Configs() {
  std::vector<ModelConfig> configs = AllModelConfigs(SmallJob().model);
  configs.back().logit_softcap = 0;
  return configs;
}

INSTANTIATE_TEST_SUITE_P(Models, ModelEvaluatorTest, testing::ValuesIn(Configs()),
                         [](const auto& instance) { return ModelName(instance.param); });

TEST(ModelEvaluatorErrorTest, WeightsThatAreNotNumbersAreNamed) {
  const ModelConfig config = SmallJob().model;
  Evaluated evaluated(config, 20, kernels::MakeRefBackend(DType::kF64));
  const kernels::Tensor head = evaluated.probe().model().parameters().lm_head().value;
  std::vector<double> values = ToDoubles(evaluated.backend(), head);
  values[0] = std::numeric_limits<double>::quiet_NaN();
  FromDoubles(evaluated.backend(), values, head);
  const MemoryDataset text(SyntheticTokens(20, 13, 3), kContext);
  const auto result = evaluated->EvaluateText(text, nullptr);
  EXPECT_EQ(result.status().code(), kernels::StatusCode::kNonFinite);
  const auto scores = evaluated->ScoreSequences(SomeSequences(13), nullptr);
  EXPECT_EQ(scores.status().code(), kernels::StatusCode::kNonFinite);
}

}  // namespace
}  // namespace sinkforge::trainer
