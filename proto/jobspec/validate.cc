// One function per group of the job file; each message says what is wrong and what to do.
#include "proto/jobspec/validate.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/jobspec/job_file.h"
#include "proto/jobspec/micro_batch.h"
#include "proto/jobspec/resolve.h"

namespace sinkforge::jobspec {
namespace {

struct IntegerRange {
  int64_t low = 0;
  int64_t high = 0;
};

struct RealRange {
  double low = 0;
  double high = 0;
};

// Collects violations. Each check returns whether it held, so that rules that build on it can wait.
class Checker {
 public:
  bool Require(bool holds, const std::string& field, const std::string& message) {
    if (!holds) violations_.push_back({field, message});
    return holds;
  }

  bool Integer(const std::string& field, int64_t value, const IntegerRange& range) {
    return Require(value >= range.low && value <= range.high, field,
                   absl::StrCat("is ", value, "; it must be from ", range.low, " to ", range.high));
  }

  bool Real(const std::string& field, double value, const RealRange& range) {
    return Require(std::isfinite(value) && value >= range.low && value <= range.high, field,
                   absl::StrCat("is ", value, "; it must be a finite number from ", range.low,
                                " to ", range.high));
  }

  // Of a decay rate: with 1 the average would never move.
  bool BelowOne(const std::string& field, double value) {
    return Require(value >= 0 && value < 1, field,
                   absl::StrCat("is ", value, "; it must be in [0, 1): at least 0 and below 1"));
  }

  // The wire can carry numbers that this version has no name for.
  template <typename Enum>
  bool Choice(const std::string& field, Enum value) {
    const auto& type = *google::protobuf::GetEnumDescriptor<Enum>();
    if (value != 0 && type.FindValueByNumber(value) != nullptr) return true;
    std::vector<std::string> names;
    for (int i = 0; i < type.value_count(); ++i) {
      const int number = type.value(i)->number();
      if (number != 0) names.push_back(ShortEnumName(type, number));
    }
    return Require(false, field,
                   absl::StrCat("has the unknown value ", static_cast<int>(value),
                                "; choose one of ", absl::StrJoin(names, ", ")));
  }

  void Name(const std::string& field, const std::string& value) {
    const std::string problem = NameProblem(value);
    Require(problem.empty(), field, problem);
  }

  void Path(const std::string& field, const std::string& value) {
    const bool valid = !value.empty() && static_cast<int>(value.size()) <= kPathBytesMax &&
                       value.find('\0') == std::string::npos;
    Require(valid, field,
            absl::StrCat("is not a path; give 1 to ", kPathBytesMax, " bytes without NUL"));
  }

  std::vector<Violation> Take() { return std::move(violations_); }

 private:
  std::vector<Violation> violations_;
};

void CheckHeads(const v1::ModelSpec& model, Checker* check) {
  const int32_t width = model.width();
  const int32_t heads = model.heads();
  if (!check->Require(width % heads == 0, "model.heads",
                      absl::StrCat("is ", heads, ", which does not divide the width of ", width,
                                   "; choose a divisor of the width"))) {
    return;
  }
  const int32_t head_dim = width / heads;
  check->Require(head_dim % 2 == 0, "model.heads",
                 absl::StrCat("gives heads of ", head_dim,
                              " channels, but RoPE turns pairs; "
                              "choose heads so that width / heads is even"));
  check->Require(head_dim <= kHeadDimMax, "model.heads",
                 absl::StrCat("gives heads of ", head_dim, " channels; at most ", kHeadDimMax,
                              " are possible, so give more heads"));
}

void CheckAttention(const v1::ModelSpec& model, Checker* check) {
  const bool known = check->Choice("model.attention", model.attention());
  check->Choice("model.gate", model.gate());
  const bool known_norm = check->Choice("model.head_norm", model.head_norm());
  check->Choice("model.lse_gradient", model.lse_gradient());
  check->Real("model.gate_init", model.gate_init(), {0, 10});
  const v1::RangeOrValue& sink = model.sink_init();
  const bool finite = check->Real("model.sink_init", sink.low(), {-1000, 1000}) &&
                      check->Real("model.sink_init", sink.high(), {-1000, 1000});
  if (finite) {
    check->Require(sink.low() <= sink.high(), "model.sink_init",
                   "has its larger end first; write [low, high]");
  }
  if (!known) return;
  const bool is_sink = model.attention() == v1::ATTENTION_VARIANT_SINK;
  const bool is_gated = model.attention() == v1::ATTENTION_VARIANT_GATED;
  const std::string variant = ShortEnumName(*v1::AttentionVariant_descriptor(), model.attention());
  if (known_norm && is_sink) {
    check->Require(model.head_norm() == v1::HEAD_NORM_NONE, "model.head_norm",
                   "rms cannot go with sink attention: dividing each head by its own RMS would "
                   "cancel the gate of the sink; use head_norm: none, or attention: gated");
  }
  // A value that changes nothing may stay, so that a sweep over variants can share one file.
  if (!is_gated) {
    check->Require(model.gate() != v1::GATE_GRANULARITY_ELEMENT, "model.gate",
                   absl::StrCat("element needs attention: gated, but the attention is ", variant,
                                "; remove it"));
    check->Require(
        model.gate_init() == 0, "model.gate_init",
        absl::StrCat("needs attention: gated, but the attention is ", variant, "; remove it"));
  }
  if (!is_sink) {
    check->Require(
        sink.low() == 0 && sink.high() == 0, "model.sink_init",
        absl::StrCat("needs attention: sink, but the attention is ", variant, "; remove it"));
  }
}

void CheckModel(const v1::ModelSpec& model, Checker* check) {
  const bool layers = check->Integer("model.layers", model.layers(), {1, kLayersMax});
  const bool width = check->Integer("model.width", model.width(), {2, kWidthMax});
  const bool heads = check->Integer("model.heads", model.heads(), {1, kHeadsMax});
  const bool vocab = check->Integer("model.vocab_size", model.vocab_size(), {2, kVocabMax});
  // Without a valid width there is no default to judge.
  const bool mlp = width && check->Integer("model.mlp_width", model.mlp_width(), {1, kMlpWidthMax});
  if (width && heads) CheckHeads(model, check);
  if (layers && heads) {
    check->Require(model.layers() * model.heads() <= kLayerHeadsMax, "model.heads",
                   absl::StrCat("times layers is more than ", kLayerHeadsMax, "; give fewer"));
  }
  CheckAttention(model, check);
  check->Choice("model.mlp", model.mlp());
  check->Real("model.rope_base", model.rope_base(), {1, 1e12});
  check->Real("model.logit_softcap", model.logit_softcap(), {0, 1e6});
  if (layers && width && heads && vocab && mlp) {
    const int64_t parameters = ParameterCount(model).value_or(0);
    check->Require(parameters <= kParametersMax, "model",
                   absl::StrCat("has ", parameters, " parameters; at most ", kParametersMax,
                                " are possible, so make it smaller"));
  }
}

void CheckHeadBalance(const v1::JobSpec& spec, Checker* check) {
  const v1::HeadBalanceSpec& balance = spec.head_balance();
  const bool known = check->Choice("head_balance.loss", balance.loss());
  check->Real("head_balance.coefficient", balance.coefficient(), {0, 1e6});
  const int64_t heads = spec.model().heads();
  const bool shared_held =
      check->Require(balance.shared_heads() >= 0 &&
                         (balance.shared_heads() == 0 || balance.shared_heads() <= heads - 2),
                     "head_balance.shared_heads",
                     absl::StrCat("is ", balance.shared_heads(), "; with ", heads,
                                  " heads it must be from 0 to ", std::max<int64_t>(0, heads - 2)));
  if (!known || balance.loss() == v1::BALANCE_LOSS_NONE) return;
  check->Require(heads >= 2, "head_balance.loss",
                 "needs at least 2 heads in a layer; give more model.heads, or loss: none");
  if (shared_held && balance.loss() == v1::BALANCE_LOSS_SWITCH) {
    check->Require(balance.shared_heads() == 0, "head_balance.shared_heads",
                   "belongs to loss: cv (Eq. 8); the Switch loss has no shared heads, so set it "
                   "to 0");
  }
}

// Text that is named twice would be trained on twice as often as the rest, and bits per byte of
// text that was trained on would be no measure of other text. One path or glob in two places is
// found here, however it is spelt; one file under two names only the trainer can see.
void CheckDataOnce(const v1::DataSpec& data, Checker* check) {
  const auto normal = [](const std::string& path) {
    return std::filesystem::path(path).lexically_normal().string();
  };
  std::map<std::string, int> trained;
  for (int i = 0; i < std::min(data.train_size(), kDataFilesMax); ++i) {
    const auto [first, is_new] = trained.emplace(normal(data.train(i)), i);
    check->Require(is_new, absl::StrCat("data.train[", i, "]"),
                   absl::StrCat("is `", data.train(i), "`, which data.train[", first->second,
                                "] names already; remove one of them"));
  }
  for (int i = 0; i < std::min(data.validation_size(), kDataFilesMax); ++i) {
    const auto found = trained.find(normal(data.validation(i)));
    check->Require(
        found == trained.end(), absl::StrCat("data.validation[", i, "]"),
        absl::StrCat(
            "is `", data.validation(i),
            "`, which data.train names as well; bits per byte of text that was trained on say "
            "nothing of other text: hold some text back in a file of its own, "
            "or remove it here"));
  }
}

void CheckData(const v1::JobSpec& spec, Checker* check) {
  const v1::DataSpec& data = spec.data();
  check->Require(data.train_size() >= 1, "data.train",
                 "names no file; give paths or globs under the worker's data roots");
  check->Require(
      data.train_size() + data.validation_size() <= kDataFilesMax, "data.train",
      absl::StrCat("and data.validation have more than ", kDataFilesMax, " entries; use globs"));
  for (int i = 0; i < std::min(data.train_size(), kDataFilesMax); ++i) {
    check->Path(absl::StrCat("data.train[", i, "]"), data.train(i));
  }
  for (int i = 0; i < std::min(data.validation_size(), kDataFilesMax); ++i) {
    check->Path(absl::StrCat("data.validation[", i, "]"), data.validation(i));
  }
  if (data.tokenizer() == "bytes") {
    check->Require(spec.model().vocab_size() >= 256, "model.vocab_size",
                   absl::StrCat("is ", spec.model().vocab_size(),
                                ", but the bytes tokenizer has 256 tokens; give at least 256"));
  } else if (check->Require(absl::EndsWith(data.tokenizer(), ".json"), "data.tokenizer",
                            "is neither `bytes` nor a tokenizer.json under the worker's data "
                            "roots, whose shards `sinkforge tokenize` makes")) {
    check->Path("data.tokenizer", data.tokenizer());
  }
  check->Integer("data.sequence_length", data.sequence_length(), {1, kSequenceMax});
}

// What holds of a step whatever micro-batch its ranks choose.
void CheckAutoBatch(const v1::JobSpec& spec, Checker* check) {
  const int64_t tokens = spec.train().batch_tokens();
  const int64_t sequence = spec.data().sequence_length();
  const int32_t ranks = spec.resources().ranks();
  const bool in_limits = check->Integer("train.batch_tokens", tokens, {1, kBatchTokensMax}) &&
                         sequence >= 1 && sequence <= kSequenceMax && ranks >= 1 &&
                         ranks <= kRanksMax;
  if (!in_limits) return;
  const int64_t below = tokens / sequence * sequence;
  if (!check->Require(tokens % sequence == 0, "train.batch_tokens",
                      absl::StrCat("is ", tokens, ", which is not a multiple of sequence_length = ",
                                   sequence, "; ", below > 0 ? below : sequence, " is one"))) {
    return;
  }
  if (!check->Require(ranks * sequence <= kMicroTokensMax, "train.micro_batch",
                      absl::StrCat("of a row a rank is ", ranks * sequence, " tokens; at most ",
                                   kMicroTokensMax, " are possible, so shorten the sequence"))) {
    return;
  }
  check->Require(!MicroBatchChoices(spec).empty(), "train.batch_tokens",
                 absl::StrCat("is ", tokens / sequence, " rows for ", ranks,
                              " ranks, and no micro-batch of at least a row a rank and at most ",
                              kMicroTokensMax,
                              " tokens divides them; give ranks * sequence_length "
                              "times a whole number, such as ",
                              std::max<int64_t>(1, tokens / sequence / ranks) * ranks * sequence));
}

void CheckBatch(const v1::JobSpec& spec, Checker* check) {
  const v1::TrainSpec& train = spec.train();
  if (IsAutoMicroBatch(train)) return CheckAutoBatch(spec, check);
  const int64_t sequence = spec.data().sequence_length();
  const bool rows = check->Integer("train.micro_batch", train.micro_batch(), {1, kMicroBatchMax});
  const bool batch =
      check->Integer("train.batch_tokens", train.batch_tokens(), {1, kBatchTokensMax});
  if (!rows || sequence < 1 || sequence > kSequenceMax) return;
  const int64_t micro_tokens = int64_t{train.micro_batch()} * sequence;
  check->Require(micro_tokens <= kMicroTokensMax, "train.micro_batch",
                 absl::StrCat("times data.sequence_length is ", micro_tokens, " tokens; at most ",
                              kMicroTokensMax, " are possible, so give fewer rows"));
  if (batch) {
    const int64_t below = train.batch_tokens() / micro_tokens * micro_tokens;
    check->Require(train.batch_tokens() % micro_tokens == 0, "train.batch_tokens",
                   absl::StrCat("is ", train.batch_tokens(),
                                ", which is not a multiple of "
                                "micro_batch * sequence_length = ",
                                micro_tokens, "; ", below > 0 ? below : micro_tokens, " is one"));
  }
  const int32_t ranks = spec.resources().ranks();
  check->Require(ranks > kRanksMax || train.micro_batch() >= ranks, "train.micro_batch",
                 absl::StrCat("is ", train.micro_batch(), " rows for ", ranks,
                              " ranks; every rank needs at least one row"));
}

void CheckTrain(const v1::JobSpec& spec, Checker* check) {
  const v1::TrainSpec& train = spec.train();
  check->Integer("train.steps", train.steps(), {1, kStepsMax});
  CheckBatch(spec, check);
  check->Choice("train.precision", train.precision());
  check->Choice("train.recompute", train.recompute());
  check->Real("train.gradient_clip", train.gradient_clip(), {0, 1e9});
  check->Choice("train.bad_batches", train.bad_batches());
  if (check->Real("train.loss_spike", train.loss_spike(), {0, 1e9})) {
    check->Require(train.loss_spike() == 0 || train.loss_spike() > 1, "train.loss_spike",
                   "is how many times the average a spike is; give more than 1, or 0 for none");
  }
}

void CheckOptimizer(const v1::OptimizerSpec& optimizer, Checker* check) {
  const bool known = check->Choice("optimizer.kind", optimizer.kind());
  const bool muon = known && optimizer.kind() == v1::OPTIMIZER_KIND_MUON;
  if (optimizer.has_learning_rate()) {
    check->Require(!muon, "optimizer.learning_rate",
                   "belongs to kind: adamw; with muon give matrix_lr, embedding_lr, "
                   "unembedding_lr and gate_lr");
    check->Real("optimizer.learning_rate", optimizer.learning_rate(), {0, kRateMax});
  }
  check->Real("optimizer.matrix_lr", optimizer.matrix_lr(), {0, kRateMax});
  check->Real("optimizer.embedding_lr", optimizer.embedding_lr(), {0, kRateMax});
  check->Real("optimizer.unembedding_lr", optimizer.unembedding_lr(), {0, kRateMax});
  check->Real("optimizer.gate_lr", optimizer.gate_lr(), {0, kRateMax});
  check->Real("optimizer.weight_decay", optimizer.weight_decay(), {0, kRateMax});
  if (muon) {
    check->Require(optimizer.weight_decay() == 0, "optimizer.weight_decay",
                   "belongs to kind: adamw; remove it");
  }
  check->BelowOne("optimizer.beta1", optimizer.beta1());
  check->BelowOne("optimizer.beta2", optimizer.beta2());
  check->Real("optimizer.epsilon", optimizer.epsilon(), {1e-30, 1});
  const bool up = check->Real("optimizer.warmup", optimizer.warmup(), {0, 1});
  const bool down = check->Real("optimizer.warmdown", optimizer.warmdown(), {0, 1});
  if (up && down) {
    check->Require(optimizer.warmup() + optimizer.warmdown() <= 1, "optimizer.warmdown",
                   "and warmup are together more than 1, the whole run; make one smaller");
  }
}

void CheckResources(const v1::ResourceSpec& resources, Checker* check) {
  check->Choice("resources.device", resources.device());
  const bool ranks = check->Integer("resources.ranks", resources.ranks(), {1, kRanksMax});
  // By default it is `ranks`: a wrong one is named once.
  if (ranks && check->Integer("resources.min_ranks", resources.min_ranks(), {1, kRanksMax})) {
    check->Require(resources.min_ranks() <= resources.ranks(), "resources.min_ranks",
                   absl::StrCat("is ", resources.min_ranks(), ", more than the ", resources.ranks(),
                                " of resources.ranks; make it smaller"));
  }
  check->Integer("resources.threads", resources.threads(), {1, kThreadsMax});
}

// Every worker refuses what leads out of its data roots: known here, it need not queue first. The
// first of a list is named: hundreds would not fit into an answer.
void CheckPathsStay(const v1::JobSpec& spec, Checker* check) {
  constexpr size_t kShownMax = 200;  // bytes: an error is small, whatever was sent
  const auto stays = [check](const std::string& field, const std::string& path) {
    const std::filesystem::path parts(path);
    return check->Require(
        std::find(parts.begin(), parts.end(), "..") == parts.end(), field,
        absl::StrCat("is `", path.substr(0, kShownMax),
                     "`, but `..` is not accepted here; name the file by its path below one of "
                     "the worker's data roots"));
  };
  const v1::DataSpec& data = spec.data();
  for (int i = 0; i < std::min(data.train_size(), kDataFilesMax); ++i) {
    if (!stays(absl::StrCat("data.train[", i, "]"), data.train(i))) break;
  }
  for (int i = 0; i < std::min(data.validation_size(), kDataFilesMax); ++i) {
    if (!stays(absl::StrCat("data.validation[", i, "]"), data.validation(i))) break;
  }
  stays("data.tokenizer", data.tokenizer());
  stays("init.from", spec.init().from());
}

void CheckInit(const v1::InitSpec& init, Checker* check) {
  if (!init.has_from()) return;
  check->Path("init.from", init.from());
  // "<job id>@<step>"; a file of that name can still be given as ./name.
  const std::string& from = init.from();
  const size_t at = from.find('@');
  if (at == std::string::npos || at == 0 || from.find_first_of("/.") != std::string::npos) return;
  const std::string step = from.substr(at + 1);
  const bool is_number = !step.empty() && step.find_first_not_of("0123456789") == std::string::npos;
  check->Require(false, "init.from",
                 absl::StrCat("is `", from,
                              "`, a checkpoint of a job, but only the path of a safetensors file "
                              "under a data root can be given; write one with `sinkforge "
                              "checkpoints export ",
                              from.substr(0, at), " FILE.safetensors",
                              is_number ? absl::StrCat(" --step ", step) : "", "`"));
}

}  // namespace

std::string NameProblem(const std::string& name) {
  // A leading dash would make it an option of the command line.
  bool valid =
      !name.empty() && static_cast<int>(name.size()) <= kNameLengthMax && name.front() != '-';
  for (char c : name) {
    valid = valid && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-');
  }
  if (valid) return "";
  return absl::StrCat(name.empty() ? "is missing" : "is not a valid name", "; give 1 to ",
                      kNameLengthMax, " characters of a-z, 0-9 and -, the first no -");
}

std::vector<Violation> Validate(const v1::JobSpec& spec) {
  Checker check;
  check.Name("name", spec.name());
  check.Name("namespace", spec.namespace_());
  CheckModel(spec.model(), &check);
  CheckHeadBalance(spec, &check);
  CheckData(spec, &check);
  CheckTrain(spec, &check);
  CheckOptimizer(spec.optimizer(), &check);
  check.Integer("evaluation.every_steps", spec.evaluation().every_steps(), {0, kStepsMax});
  check.Integer("evaluation.tokens", spec.evaluation().tokens(), {0, kEvaluationTokensMax});
  check.Integer("checkpoint.every_steps", spec.checkpoint().every_steps(), {0, kStepsMax});
  check.Integer("checkpoint.keep", spec.checkpoint().keep(), {1, kKeepMax});
  check.Integer("checkpoint.keep_best", spec.checkpoint().keep_best(), {0, kKeepMax});
  check.Integer("checkpoint.keep_every", spec.checkpoint().keep_every(), {0, kStepsMax});
  CheckResources(spec.resources(), &check);
  check.Real("deadline_hours", spec.deadline_hours(), {0, kDeadlineHoursMax});
  check.Integer("priority", spec.priority(), {-kPriorityMax, kPriorityMax});
  CheckInit(spec.init(), &check);
  return check.Take();
}

std::vector<Violation> ValidateNew(const v1::JobSpec& spec) {
  std::vector<Violation> violations = Validate(spec);
  Checker check;
  CheckPathsStay(spec, &check);
  CheckDataOnce(spec.data(), &check);
  for (Violation& violation : check.Take()) violations.push_back(std::move(violation));
  return violations;
}

}  // namespace sinkforge::jobspec
