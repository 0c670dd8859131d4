// Presets, defaults and the length of a run.
#include "proto/jobspec/resolve.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/jobspec/micro_batch.h"
#include "proto/jobspec/validate.h"

namespace sinkforge::jobspec {
namespace {

// Fills one optional field where it is absent.
#define SINKFORGE_DEFAULT(message, field, value)                  \
  do {                                                            \
    if (!(message)->has_##field()) (message)->set_##field(value); \
  } while (false)

// Depth of "d20"; absent for anything else.
std::optional<int32_t> PresetDepth(const std::string& preset) {
  if (preset.size() < 2 || preset[0] != 'd' || preset[1] == '0') return std::nullopt;
  int32_t depth = 0;
  const char* end = preset.data() + preset.size();
  const auto [stop, code] = std::from_chars(preset.data() + 1, end, depth);
  if (code != std::errc() || stop != end || depth < 1 || depth > kLayersMax) return std::nullopt;
  return depth;
}

// Heads of 128 channels; where that does not divide the width, the next wider heads that do and
// have an even number of channels, as RoPE needs.
int32_t PresetHeads(int32_t width) {
  int32_t heads = std::max(1, width / 128);
  while (heads > 1 && (width % heads != 0 || width / heads % 2 != 0)) --heads;
  return heads;
}

// SwiGLU has three matrices for two: at 8/3 of the width they have as many parameters as at 4.
int32_t DefaultMlpWidth(const v1::ModelSpec& model) {
  if (model.mlp() != v1::MLP_SWIGLU) return 4 * model.width();
  constexpr int32_t kMultiple = 64;
  return (8 * model.width() + 3 * kMultiple - 1) / (3 * kMultiple) * kMultiple;
}

void ResolveModel(v1::ModelSpec* model, std::vector<Violation>* violations) {
  if (model->has_preset()) {
    const std::optional<int32_t> depth = PresetDepth(model->preset());
    if (!depth) {
      violations->push_back(
          {"model.preset", absl::StrCat("unknown preset; presets are d<depth>, such as d4 or d20, "
                                        "with a depth of 1 to ",
                                        kLayersMax)});
      return;
    }
    SINKFORGE_DEFAULT(model, layers, *depth);
    SINKFORGE_DEFAULT(model, width, 64 * *depth);
    if (model->width() > 0) SINKFORGE_DEFAULT(model, heads, PresetHeads(model->width()));
  }
  SINKFORGE_DEFAULT(model, layers, 4);
  SINKFORGE_DEFAULT(model, width, 256);
  SINKFORGE_DEFAULT(model, heads, 8);
  SINKFORGE_DEFAULT(model, vocab_size, 256);
  SINKFORGE_DEFAULT(model, attention, v1::ATTENTION_VARIANT_VANILLA);
  SINKFORGE_DEFAULT(model, gate, v1::GATE_GRANULARITY_HEAD);
  SINKFORGE_DEFAULT(model, head_norm, v1::HEAD_NORM_NONE);
  SINKFORGE_DEFAULT(model, lse_gradient, v1::LSE_GRADIENT_EXACT);
  model->mutable_sink_init();  // its numbers are 0 where absent
  SINKFORGE_DEFAULT(model, gate_init, 0.0);
  SINKFORGE_DEFAULT(model, mlp, v1::MLP_RELU_SQUARED);
  if (model->width() > 0 && model->width() <= kWidthMax) {
    SINKFORGE_DEFAULT(model, mlp_width, DefaultMlpWidth(*model));
  }
  SINKFORGE_DEFAULT(model, rope_base, 10000.0);
  SINKFORGE_DEFAULT(model, logit_softcap, 15.0);
}

void ResolveHeadBalance(v1::HeadBalanceSpec* balance) {
  SINKFORGE_DEFAULT(balance, loss, v1::BALANCE_LOSS_NONE);
  SINKFORGE_DEFAULT(balance, coefficient, balance->loss() == v1::BALANCE_LOSS_NONE ? 0.0 : 1e-3);
  SINKFORGE_DEFAULT(balance, shared_heads, 0);
}

void ResolveOptimizer(v1::OptimizerSpec* optimizer) {
  SINKFORGE_DEFAULT(optimizer, kind, v1::OPTIMIZER_KIND_MUON);
  if (optimizer->kind() == v1::OPTIMIZER_KIND_ADAMW) {
    SINKFORGE_DEFAULT(optimizer, learning_rate, 3e-4);
    SINKFORGE_DEFAULT(optimizer, matrix_lr, optimizer->learning_rate());
    SINKFORGE_DEFAULT(optimizer, embedding_lr, optimizer->learning_rate());
    SINKFORGE_DEFAULT(optimizer, unembedding_lr, optimizer->learning_rate());
    SINKFORGE_DEFAULT(optimizer, gate_lr, optimizer->learning_rate());
  } else {
    SINKFORGE_DEFAULT(optimizer, matrix_lr, 0.02);
    SINKFORGE_DEFAULT(optimizer, embedding_lr, 0.2);
    SINKFORGE_DEFAULT(optimizer, unembedding_lr, 0.004);
    SINKFORGE_DEFAULT(optimizer, gate_lr, 0.02);
  }
  SINKFORGE_DEFAULT(optimizer, weight_decay, 0.0);
  SINKFORGE_DEFAULT(optimizer, beta1, 0.8);
  SINKFORGE_DEFAULT(optimizer, beta2, 0.95);
  SINKFORGE_DEFAULT(optimizer, epsilon, 1e-10);
  SINKFORGE_DEFAULT(optimizer, warmup, 0.0);
  SINKFORGE_DEFAULT(optimizer, warmdown, 0.2);
}

// The smallest whole number of micro-batches that has at least 8,192 tokens; of rows, where the
// micro-batch is found later.
int64_t DefaultBatchTokens(const v1::JobSpec& spec) {
  constexpr int64_t kWanted = 8192;
  const int64_t rows = IsAutoMicroBatch(spec.train()) ? 1 : spec.train().micro_batch();
  const int64_t micro_tokens = rows * spec.data().sequence_length();
  if (micro_tokens <= 0) return kWanted;
  return (kWanted + micro_tokens - 1) / micro_tokens * micro_tokens;
}

// Tokens to train on, rounded up to whole steps; absent where they cannot be told.
std::optional<double> TokensWanted(const v1::JobSpec& spec) {
  if (spec.train().has_tokens()) return static_cast<double>(spec.train().tokens());
  const std::optional<int64_t> parameters = ParameterCount(spec.model());
  if (!parameters) return std::nullopt;
  return spec.train().tokens_per_parameter() * static_cast<double>(*parameters);
}

void ResolveSteps(v1::JobSpec* spec, std::vector<Violation>* violations) {
  v1::TrainSpec* train = spec->mutable_train();
  const int given = (train->has_steps() ? 1 : 0) + (train->has_tokens() ? 1 : 0) +
                    (train->has_tokens_per_parameter() ? 1 : 0);
  if (given != 1) {
    violations->push_back(
        {"train", absl::StrCat(given == 0 ? "says not how long to train"
                                          : "says more than once "
                                            "how long to train",
                               "; give exactly one of steps, tokens, tokens_per_parameter")});
    return;
  }
  if (train->has_steps()) return;
  const char* field = train->has_tokens() ? "train.tokens" : "train.tokens_per_parameter";
  const std::optional<double> tokens = TokensWanted(*spec);
  const double batch = static_cast<double>(train->batch_tokens());
  // Where a dimension or the batch is out of bounds, Validate says so; any steps do until then.
  double steps = 1;
  if (tokens && batch > 0) steps = std::ceil(*tokens / batch);
  if (!(steps >= 1 && steps <= static_cast<double>(kStepsMax))) {
    violations->push_back(
        {field, absl::StrCat("comes to ", steps, " steps of ", train->batch_tokens(),
                             " tokens; between 1 and ", kStepsMax, " are possible")});
    return;
  }
  train->clear_tokens();
  train->clear_tokens_per_parameter();
  train->set_steps(static_cast<int64_t>(steps));
}

// All that is wrong at once, also where the length of training is: a file that says nothing yet
// learns what it needs.
std::vector<Violation> ResolveAndJudge(
    v1::JobSpec* spec, std::vector<Violation> (*validate)(const v1::JobSpec& spec)) {
  const std::vector<Violation> unresolved = Resolve(spec);
  if (unresolved.empty()) return validate(*spec);
  // A preset that is not known leaves no dimensions to judge.
  if (unresolved.front().field == "model.preset") return unresolved;
  v1::JobSpec judged = *spec;
  judged.mutable_train()->set_steps(1);  // any do: what is wrong with them is known
  std::vector<Violation> violations = validate(judged);
  violations.insert(violations.end(), unresolved.begin(), unresolved.end());
  return violations;
}

}  // namespace

std::optional<int64_t> ParameterCount(const v1::ModelSpec& model) {
  const int64_t layers = model.layers();
  const int64_t width = model.width();
  const int64_t heads = model.heads();
  const int64_t vocab = model.vocab_size();
  const int64_t mlp = model.mlp_width();
  const bool in_limits = layers >= 1 && layers <= kLayersMax && width >= 1 && width <= kWidthMax &&
                         heads >= 1 && heads <= kHeadsMax && vocab >= 1 && vocab <= kVocabMax &&
                         mlp >= 1 && mlp <= kMlpWidthMax;
  if (!in_limits) return std::nullopt;
  const int64_t mlp_matrices = model.mlp() == v1::MLP_SWIGLU ? 3 : 2;
  int64_t per_layer = 4 * width * width + mlp_matrices * width * mlp;
  if (model.attention() == v1::ATTENTION_VARIANT_SINK) per_layer += heads;
  if (model.attention() == v1::ATTENTION_VARIANT_GATED) {
    const bool element = model.gate() == v1::GATE_GRANULARITY_ELEMENT;
    per_layer += (element ? width : heads) * width;
  }
  return 2 * vocab * width + layers * per_layer;
}

std::vector<Violation> Resolve(v1::JobSpec* spec) {
  std::vector<Violation> violations;
  if (!spec->has_namespace_()) spec->set_namespace_("default");
  SINKFORGE_DEFAULT(spec, priority, 0);
  SINKFORGE_DEFAULT(spec, deadline_hours, 0.0);
  ResolveModel(spec->mutable_model(), &violations);
  ResolveHeadBalance(spec->mutable_head_balance());
  SINKFORGE_DEFAULT(spec->mutable_data(), tokenizer, "bytes");
  SINKFORGE_DEFAULT(spec->mutable_data(), sequence_length, 256);
  v1::TrainSpec* train = spec->mutable_train();
  SINKFORGE_DEFAULT(train, micro_batch, 8);
  SINKFORGE_DEFAULT(train, batch_tokens, DefaultBatchTokens(*spec));
  SINKFORGE_DEFAULT(train, precision, v1::PRECISION_FP32);
  SINKFORGE_DEFAULT(train, recompute, v1::RECOMPUTE_NONE);
  SINKFORGE_DEFAULT(train, seed, 1);
  SINKFORGE_DEFAULT(train, gradient_clip, 1.0);
  SINKFORGE_DEFAULT(train, bad_batches, v1::BAD_BATCHES_FAIL);
  SINKFORGE_DEFAULT(train, loss_spike, 0.0);
  ResolveOptimizer(spec->mutable_optimizer());
  SINKFORGE_DEFAULT(spec->mutable_evaluation(), every_steps, 50);
  SINKFORGE_DEFAULT(spec->mutable_evaluation(), tokens, 65536);
  SINKFORGE_DEFAULT(spec->mutable_checkpoint(), every_steps, 100);
  SINKFORGE_DEFAULT(spec->mutable_checkpoint(), keep, 3);
  SINKFORGE_DEFAULT(spec->mutable_checkpoint(), keep_best, 0);
  SINKFORGE_DEFAULT(spec->mutable_checkpoint(), keep_every, 0);
  v1::ResourceSpec* resources = spec->mutable_resources();
  SINKFORGE_DEFAULT(resources, device, v1::DEVICE_CPU);
  SINKFORGE_DEFAULT(resources, ranks, 1);
  SINKFORGE_DEFAULT(resources, min_ranks, resources->ranks());
  SINKFORGE_DEFAULT(resources, threads, 2);
  if (violations.empty()) ResolveSteps(spec, &violations);
  return violations;
}

#undef SINKFORGE_DEFAULT

std::vector<Violation> ResolveAndValidate(v1::JobSpec* spec) {
  return ResolveAndJudge(spec, &Validate);
}

std::vector<Violation> ResolveAndValidateNew(v1::JobSpec* spec) {
  return ResolveAndJudge(spec, &ValidateNew);
}

}  // namespace sinkforge::jobspec
