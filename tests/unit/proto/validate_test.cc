// Resolve and Validate: presets, defaults, lengths of training, and every rule with the job that
// breaks it.
#include "proto/jobspec/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "google/protobuf/util/message_differencer.h"
#include "proto/jobspec/job_file.h"
#include "proto/jobspec/micro_batch.h"
#include "proto/jobspec/resolve.h"

namespace sinkforge::jobspec {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::HasSubstr;
using testing::IsEmpty;

v1::JobSpec Minimal() {
  v1::JobSpec spec;
  spec.set_name("a");
  spec.mutable_data()->add_train("t.txt");
  spec.mutable_train()->set_steps(10);
  return spec;
}

// The violations of Minimal() with overrides, one line each.
std::string ViolationsWith(const std::vector<std::string>& overrides) {
  v1::JobSpec spec = Minimal();
  for (const std::string& assignment : overrides) {
    const absl::Status status = ApplyOverride(&spec, assignment);
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  std::string lines;
  for (const Violation& violation : ResolveAndValidateNew(&spec)) {
    lines += violation.field + ": " + violation.message + "\n";
  }
  return lines;
}

TEST(ResolveTest, MinimalJobIsValidAndComplete) {
  v1::JobSpec spec = Minimal();
  EXPECT_THAT(ResolveAndValidate(&spec), IsEmpty());
  EXPECT_EQ(spec.namespace_(), "default");
  EXPECT_EQ(spec.model().mlp(), v1::MLP_RELU_SQUARED);
  EXPECT_EQ(spec.model().mlp_width(), 1024);
  EXPECT_EQ(spec.train().batch_tokens(), 8192);
  EXPECT_EQ(spec.resources().min_ranks(), 1);
  EXPECT_EQ(spec.optimizer().matrix_lr(), 0.02);
}

TEST(ResolveTest, EveryFieldOfAResolvedJobIsSet) {
  v1::JobSpec spec = Minimal();
  ASSERT_THAT(Resolve(&spec), IsEmpty());
  // These say nothing in a resolved job: the preset has become numbers, tokens have become steps,
  // and learning_rate belongs to the other optimizer.
  const std::vector<std::string> absent = {"init", "preset", "tokens", "tokens_per_parameter",
                                           "learning_rate"};
  const auto is_absent = [&](const std::string& name) {
    return std::find(absent.begin(), absent.end(), name) != absent.end();
  };
  for (int i = 0; i < v1::JobSpec::descriptor()->field_count(); ++i) {
    const auto* field = v1::JobSpec::descriptor()->field(i);
    if (is_absent(field->name())) continue;
    EXPECT_TRUE(spec.GetReflection()->HasField(spec, field)) << field->name();
    if (field->message_type() == nullptr) continue;
    const auto& group = spec.GetReflection()->GetMessage(spec, field);
    for (int k = 0; k < field->message_type()->field_count(); ++k) {
      const auto* key = field->message_type()->field(k);
      if (key->is_repeated() || is_absent(key->name())) continue;
      EXPECT_TRUE(group.GetReflection()->HasField(group, key))
          << field->name() << "." << key->name();
    }
  }
}

TEST(ResolveTest, SwiGluIsTwoThirdsAsWide) {
  for (int32_t width = 2; width <= 4096; width += 2) {
    v1::JobSpec spec = Minimal();
    spec.mutable_model()->set_width(width);
    spec.mutable_model()->set_heads(1);
    spec.mutable_model()->set_mlp(v1::MLP_SWIGLU);
    ASSERT_THAT(Resolve(&spec), IsEmpty());
    const int32_t mlp = spec.model().mlp_width();
    ASSERT_EQ(mlp % 64, 0) << width;
    ASSERT_TRUE(3 * mlp >= 8 * width && 3 * (mlp - 64) < 8 * width) << width << " " << mlp;
  }
  v1::JobSpec given = Minimal();
  given.mutable_model()->set_mlp(v1::MLP_SWIGLU);
  given.mutable_model()->set_mlp_width(100);
  ASSERT_THAT(ResolveAndValidate(&given), IsEmpty());
  EXPECT_EQ(given.model().mlp_width(), 100);
}

// Jobs from before there was a choice.
TEST(ResolveTest, AStoredModelWithoutTheKindOfItsMlpIsReluSquared) {
  v1::JobSpec spec = Minimal();
  ASSERT_THAT(ResolveAndValidate(&spec), IsEmpty());
  v1::JobSpec stored = spec;
  stored.mutable_model()->clear_mlp();
  EXPECT_EQ(ParameterCount(stored.model()), ParameterCount(spec.model()));
  ASSERT_THAT(ResolveAndValidate(&stored), IsEmpty());
  EXPECT_TRUE(MessageDifferencer::Equals(stored, spec));
}

TEST(ResolveTest, AnAutomaticMicroBatchStaysOneAndMayBeAnyDivisorOfAStep) {
  v1::JobSpec spec = Minimal();
  ASSERT_TRUE(ApplyOverride(&spec, "train.micro_batch=auto").ok());
  ASSERT_TRUE(ApplyOverride(&spec, "data.sequence_length=300").ok());
  ASSERT_TRUE(ApplyOverride(&spec, "resources.ranks=3").ok());
  EXPECT_THAT(ResolveAndValidateNew(&spec), IsEmpty());
  EXPECT_TRUE(IsAutoMicroBatch(spec.train()));
  EXPECT_EQ(spec.train().batch_tokens(), 8400) << "28 rows, the fewest of at least 8,192 tokens";
  EXPECT_THAT(MicroBatchChoices(spec), testing::ElementsAre(4, 7, 14, 28));

  ASSERT_TRUE(ApplyOverride(&spec, "train.micro_batch=4").ok());
  EXPECT_FALSE(IsAutoMicroBatch(spec.train()));
  ASSERT_TRUE(ApplyOverride(&spec, "train.batch_tokens=8401").ok());
  EXPECT_THAT(MicroBatchChoices(spec), IsEmpty());
}

TEST(ResolveTest, NoChoiceOfAMicroBatchIsBeyondItsLimits) {
  v1::JobSpec spec = Minimal();
  ASSERT_TRUE(ApplyOverride(&spec, "train.micro_batch=auto").ok());
  ASSERT_TRUE(ApplyOverride(&spec, "data.sequence_length=1024").ok());
  ASSERT_TRUE(ApplyOverride(&spec, "train.batch_tokens=1073741824").ok());
  EXPECT_THAT(ResolveAndValidateNew(&spec), IsEmpty());
  EXPECT_EQ(MicroBatchChoices(spec).back() * 1024, kMicroTokensMax);
  EXPECT_EQ(NoMoreRowsText(spec, 16384),
            ", the most into which a step can be divided within the 16777216 tokens that a "
            "micro-batch may have");
  EXPECT_EQ(NoMoreRowsText(spec, 8192), "") << "for lack of memory";
  ASSERT_TRUE(ApplyOverride(&spec, "data.sequence_length=1").ok());
  EXPECT_EQ(MicroBatchChoices(spec).back(), kMicroBatchMax);
  EXPECT_THAT(NoMoreRowsText(spec, kMicroBatchMax), HasSubstr("within the 1048576 rows that"));
  ASSERT_TRUE(ApplyOverride(&spec, "train.batch_tokens=16").ok());
  EXPECT_EQ(NoMoreRowsText(spec, 16), ", a whole step");
  EXPECT_EQ(RowsText(1), "1 row");
  EXPECT_EQ(RowsText(16), "16 rows");
}

TEST(ResolveTest, ResolvingTwiceChangesNothing) {
  for (const char* preset : {"d4", "d20"}) {
    v1::JobSpec once = Minimal();
    once.mutable_model()->set_preset(preset);
    once.mutable_train()->clear_steps();
    once.mutable_train()->set_tokens_per_parameter(20);
    ASSERT_THAT(ResolveAndValidate(&once), IsEmpty());
    v1::JobSpec twice = once;
    ASSERT_THAT(ResolveAndValidate(&twice), IsEmpty());
    EXPECT_TRUE(MessageDifferencer::Equals(once, twice));
  }
}

TEST(ResolveTest, EveryPresetIsAValidModel) {
  // Deeper presets have more than 100 billion parameters; some of them pass a limit.
  for (int depth = 1; depth <= 128; ++depth) {
    EXPECT_EQ(ViolationsWith({"model.preset=d" + std::to_string(depth)}), "") << depth;
  }
}

TEST(ResolveTest, PresetFillsOnlyWhatIsAbsent) {
  v1::JobSpec spec = Minimal();
  spec.mutable_model()->set_preset("d20");
  spec.mutable_model()->set_layers(3);
  ASSERT_THAT(Resolve(&spec), IsEmpty());
  EXPECT_EQ(spec.model().layers(), 3);
  EXPECT_EQ(spec.model().width(), 1280);
  EXPECT_EQ(spec.model().heads(), 10);
}

TEST(ResolveTest, UnknownPresetsAreRefused) {
  for (const char* preset : {"d0", "d", "x4", "d-1", "d04", "d513", "d99999999999", "d4x", ""}) {
    v1::JobSpec spec = Minimal();
    spec.mutable_model()->set_preset(preset);
    const std::vector<Violation> violations = Resolve(&spec);
    ASSERT_EQ(violations.size(), 1U) << preset;
    EXPECT_EQ(violations[0].field, "model.preset");
  }
}

v1::ModelSpec Preset(const std::string& preset, v1::AttentionVariant attention,
                     v1::GateGranularity gate) {
  v1::JobSpec spec = Minimal();
  spec.mutable_model()->set_preset(preset);
  spec.mutable_model()->set_vocab_size(65536);
  spec.mutable_model()->set_attention(attention);
  spec.mutable_model()->set_gate(gate);
  EXPECT_THAT(ResolveAndValidate(&spec), IsEmpty());
  return spec.model();
}

TEST(ParameterCountTest, EqualsThePapersSizes) {
  const auto vanilla = [](const std::string& preset) {
    return ParameterCount(Preset(preset, v1::ATTENTION_VARIANT_VANILLA, v1::GATE_GRANULARITY_HEAD));
  };
  EXPECT_EQ(vanilla("d20"), 560'988'160);
  EXPECT_EQ(vanilla("d26"), 1'081'999'360);
  EXPECT_EQ(vanilla("d32"), 1'879'048'192);
}

TEST(ParameterCountTest, CountsSinksAndGates) {
  EXPECT_EQ(ParameterCount(Preset("d20", v1::ATTENTION_VARIANT_SINK, v1::GATE_GRANULARITY_HEAD)),
            560'988'160 + 20 * 10);
  EXPECT_EQ(ParameterCount(Preset("d20", v1::ATTENTION_VARIANT_GATED, v1::GATE_GRANULARITY_HEAD)),
            560'988'160 + 20 * 10 * 1280);
  EXPECT_EQ(
      ParameterCount(Preset("d20", v1::ATTENTION_VARIANT_GATED, v1::GATE_GRANULARITY_ELEMENT)),
      560'988'160 + 20 * 1280 * 1280);
}

TEST(ParameterCountTest, CountsThreeMatricesOfSwiGlu) {
  v1::ModelSpec model = Preset("d12", v1::ATTENTION_VARIANT_VANILLA, v1::GATE_GRANULARITY_HEAD);
  const std::optional<int64_t> relu_squared = ParameterCount(model);
  model.set_mlp(v1::MLP_SWIGLU);
  model.set_mlp_width(2048);  // 8/3 of 768: as many parameters as 4 times
  EXPECT_EQ(ParameterCount(model), relu_squared);
  model.set_mlp_width(2049);
  EXPECT_EQ(ParameterCount(model), *relu_squared + 12 * 3 * 768);
}

TEST(ParameterCountTest, IsAbsentOutsideTheLimits) {
  v1::ModelSpec model = Preset("d4", v1::ATTENTION_VARIANT_VANILLA, v1::GATE_GRANULARITY_HEAD);
  model.set_width(std::numeric_limits<int32_t>::max());
  EXPECT_EQ(ParameterCount(model), std::nullopt);
  model.set_width(0);
  EXPECT_EQ(ParameterCount(model), std::nullopt);
}

TEST(ResolveTest, StepsFollowFromTokens) {
  v1::JobSpec spec = Minimal();
  spec.mutable_model()->set_preset("d20");
  spec.mutable_model()->set_vocab_size(65536);
  spec.mutable_data()->set_sequence_length(2048);
  spec.mutable_train()->set_batch_tokens(524288);
  spec.mutable_train()->clear_steps();
  spec.mutable_train()->set_tokens_per_parameter(20);
  ASSERT_THAT(ResolveAndValidate(&spec), IsEmpty());
  EXPECT_EQ(spec.train().steps(), 21'400);  // the paper's
  EXPECT_FALSE(spec.train().has_tokens_per_parameter());

  v1::JobSpec rounded = Minimal();
  rounded.mutable_train()->clear_steps();
  rounded.mutable_train()->set_tokens(8193);
  ASSERT_THAT(ResolveAndValidate(&rounded), IsEmpty());
  EXPECT_EQ(rounded.train().steps(), 2);
}

TEST(ResolveTest, LengthOfTrainingMustBeGivenOnce) {
  v1::JobSpec none = Minimal();
  none.mutable_train()->clear_steps();
  EXPECT_THAT(Resolve(&none)[0].message, HasSubstr("says not how long"));
  v1::JobSpec two = Minimal();
  two.mutable_train()->set_tokens(5);
  EXPECT_THAT(Resolve(&two)[0].message, HasSubstr("more than once"));
  for (const double share : {-1.0, 0.0, 1e300, std::nan(""), HUGE_VAL}) {
    v1::JobSpec odd = Minimal();
    odd.mutable_train()->clear_steps();
    odd.mutable_train()->set_tokens_per_parameter(share);
    ASSERT_EQ(Resolve(&odd).size(), 1U) << share;
    EXPECT_EQ(Resolve(&odd)[0].field, "train.tokens_per_parameter");
  }
}

TEST(ResolveTest, AnEmptyJobLearnsAtOnceWhatItNeeds) {
  v1::JobSpec empty;
  std::vector<std::string> fields;
  for (const Violation& violation : ResolveAndValidateNew(&empty)) {
    fields.push_back(violation.field);
  }
  EXPECT_THAT(fields, testing::ElementsAre("name", "data.train", "train"));
  v1::JobSpec twice = Minimal();
  twice.mutable_train()->set_tokens(5);
  twice.mutable_model()->set_heads(7);
  const std::vector<Violation> both = ResolveAndValidate(&twice);
  ASSERT_EQ(both.size(), 2U);
  EXPECT_EQ(both[0].field, "model.heads");
  EXPECT_THAT(both[1].message, HasSubstr("more than once"));
  v1::JobSpec unknown;
  unknown.mutable_model()->set_preset("x4");
  EXPECT_EQ(ResolveAndValidate(&unknown).size(), 1U) << "no other rule can be judged";
}

TEST(ResolveTest, AdamwGroupsTakeTheLearningRate) {
  v1::JobSpec spec = Minimal();
  spec.mutable_optimizer()->set_kind(v1::OPTIMIZER_KIND_ADAMW);
  spec.mutable_optimizer()->set_gate_lr(0.5);
  ASSERT_THAT(ResolveAndValidate(&spec), IsEmpty());
  EXPECT_EQ(spec.optimizer().learning_rate(), 3e-4);
  EXPECT_EQ(spec.optimizer().matrix_lr(), 3e-4);
  EXPECT_EQ(spec.optimizer().embedding_lr(), 3e-4);
  EXPECT_EQ(spec.optimizer().gate_lr(), 0.5);
}

struct RuleCase {
  std::vector<std::string> overrides;
  std::string field;
  std::string says;
};

void PrintTo(const RuleCase& rule, std::ostream* out) {
  *out << testing::PrintToString(rule.overrides);
}

class RuleTest : public testing::TestWithParam<RuleCase> {};

TEST_P(RuleTest, NamesFieldAndNextStep) {
  const std::string violations = ViolationsWith(GetParam().overrides);
  EXPECT_THAT(violations, testing::StartsWith(GetParam().field + ": "));
  EXPECT_THAT(violations, HasSubstr(GetParam().says));
  EXPECT_EQ(std::count(violations.begin(), violations.end(), '\n'), 1) << violations;
}

INSTANTIATE_TEST_SUITE_P(
    Rules, RuleTest,
    testing::Values(
        RuleCase{{"name=null"}, "name", "is missing"},
        RuleCase{{"name=A_b"}, "name", "a-z, 0-9 and -"},
        RuleCase{{"name=" + std::string(41, 'a')}, "name", "1 to 40"},
        RuleCase{{"namespace=../x"}, "namespace", "a-z"},
        RuleCase{{"model.layers=0"}, "model.layers", "from 1 to 512"},
        RuleCase{{"model.layers=513"}, "model.layers", "from 1 to 512"},
        RuleCase{{"model.width=65537"}, "model.width", "from 2 to 65536"},
        RuleCase{{"model.width=-4"}, "model.width", "from 2"},
        RuleCase{{"model.heads=7"}, "model.heads", "divisor"},
        RuleCase{{"model.heads=0"}, "model.heads", "from 1"},
        RuleCase{{"model.width=24", "model.heads=8"}, "model.heads", "even"},
        RuleCase{{"model.width=1024", "model.heads=2"}, "model.heads", "more heads"},
        RuleCase{{"model.layers=512", "model.width=1024", "model.heads=512"},
                 "model.heads",
                 "times layers"},
        RuleCase{{"model.vocab_size=1048577"}, "model.vocab_size", "to 1048576"},
        RuleCase{{"model.vocab_size=255"}, "model.vocab_size", "bytes tokenizer"},
        RuleCase{{"model.layers=512", "model.width=65536", "model.heads=256", "model.layers=200"},
                 "model",
                 "parameters"},
        RuleCase{{"model.attention=sink", "model.head_norm=rms"},
                 "model.head_norm",
                 "would cancel the gate"},
        RuleCase{{"model.gate=element"}, "model.gate", "attention: gated"},
        RuleCase{{"model.attention=sink", "model.gate_init=0.1"}, "model.gate_init", "gated"},
        RuleCase{{"model.attention=gated", "model.gate_init=-1"}, "model.gate_init", "from 0"},
        RuleCase{{"model.attention=gated", "model.sink_init=3"}, "model.sink_init", "sink"},
        RuleCase{{"model.attention=sink", "model.sink_init=[8, 0]"},
                 "model.sink_init",
                 "larger end first"},
        RuleCase{{"model.rope_base=0"}, "model.rope_base", "finite"},
        RuleCase{{"model.logit_softcap=-1"}, "model.logit_softcap", "from 0"},
        RuleCase{{"head_balance.coefficient=-1"}, "head_balance.coefficient", "from 0"},
        RuleCase{{"head_balance.loss=cv", "head_balance.shared_heads=7"},
                 "head_balance.shared_heads",
                 "from 0 to 6"},
        RuleCase{{"head_balance.loss=cv", "head_balance.shared_heads=-1"},
                 "head_balance.shared_heads",
                 "from 0 to 6"},
        RuleCase{{"head_balance.loss=switch", "head_balance.shared_heads=1"},
                 "head_balance.shared_heads",
                 "no shared heads"},
        RuleCase{{"head_balance.loss=cv", "model.heads=1"}, "head_balance.loss", "2 heads"},
        RuleCase{{"data.train=null"}, "data.train", "names no file"},
        RuleCase{{"data.train=[a, '']"}, "data.train[1]", "not a path"},
        RuleCase{{"data.tokenizer=bpe"}, "data.tokenizer", "`bytes`"},
        RuleCase{{"data.tokenizer=''"}, "data.tokenizer", "tokenizer.json"},
        RuleCase{{"data.sequence_length=0"}, "data.sequence_length", "from 1"},
        RuleCase{{"data.sequence_length=2097152", "train.batch_tokens=16777216"},
                 "data.sequence_length",
                 "to 1048576"},
        RuleCase{{"train.steps=0"}, "train.steps", "from 1"},
        RuleCase{{"train.batch_tokens=3000"}, "train.batch_tokens", "2048 is one"},
        RuleCase{{"train.micro_batch=-1"}, "train.micro_batch", "from 1"},
        RuleCase{{"train.micro_batch=auto", "train.batch_tokens=3000"},
                 "train.batch_tokens",
                 "sequence_length = 256; 2816 is one"},
        RuleCase{
            {"train.micro_batch=auto", "train.batch_tokens=0"}, "train.batch_tokens", "from 1"},
        RuleCase{{"train.micro_batch=auto", "train.batch_tokens=512", "resources.ranks=3"},
                 "train.batch_tokens",
                 "2 rows for 3 ranks"},
        // 65,537 rows, a prime and one too many for a micro-batch.
        RuleCase{{"train.micro_batch=auto", "train.batch_tokens=16777472", "resources.ranks=2"},
                 "train.batch_tokens",
                 "no micro-batch"},
        RuleCase{{"train.micro_batch=auto", "data.sequence_length=1048576", "resources.ranks=17",
                  "train.batch_tokens=17825792"},
                 "train.micro_batch",
                 "shorten the sequence"},
        RuleCase{{"train.micro_batch=131072", "train.batch_tokens=33554432"},
                 "train.micro_batch",
                 "fewer rows"},
        RuleCase{{"resources.ranks=9"}, "train.micro_batch", "9 ranks"},
        RuleCase{{"train.gradient_clip=-1"}, "train.gradient_clip", "from 0"},
        RuleCase{{"optimizer.learning_rate=1e-3"}, "optimizer.learning_rate", "kind: adamw"},
        RuleCase{{"optimizer.matrix_lr=1e9"}, "optimizer.matrix_lr", "to 1000"},
        RuleCase{{"optimizer.weight_decay=0.1"}, "optimizer.weight_decay", "adamw"},
        RuleCase{{"optimizer.beta1=1"}, "optimizer.beta1", "is 1; it must be in [0, 1)"},
        RuleCase{{"optimizer.beta2=-0.1"}, "optimizer.beta2", "is -0.1; it must be in [0, 1)"},
        RuleCase{{"optimizer.beta2=1.5"}, "optimizer.beta2", "[0, 1)"},
        RuleCase{{"data.validation=t.txt"}, "data.validation[0]", "`t.txt`, which data.train"},
        RuleCase{{"data.train=[a/*.bin, b.bin]", "data.validation=[c.bin, ./a//*.bin]"},
                 "data.validation[1]",
                 "hold some text back"},
        RuleCase{{"optimizer.epsilon=0"}, "optimizer.epsilon", "finite"},
        RuleCase{{"optimizer.warmup=0.9"}, "optimizer.warmdown", "together more than 1"},
        RuleCase{{"evaluation.every_steps=-1"}, "evaluation.every_steps", "from 0"},
        RuleCase{{"evaluation.tokens=-1"}, "evaluation.tokens", "from 0"},
        RuleCase{{"checkpoint.every_steps=-1"}, "checkpoint.every_steps", "from 0"},
        RuleCase{{"checkpoint.keep=0"}, "checkpoint.keep", "from 1"},
        RuleCase{{"checkpoint.keep_best=-1"}, "checkpoint.keep_best", "from 0"},
        RuleCase{{"checkpoint.keep_every=-1"}, "checkpoint.keep_every", "from 0"},
        RuleCase{{"train.loss_spike=-1"}, "train.loss_spike", "from 0"},
        RuleCase{{"train.loss_spike=0.5"}, "train.loss_spike", "more than 1"},
        RuleCase{
            {"resources.ranks=1025", "resources.min_ranks=1"}, "resources.ranks", "from 1 to 1024"},
        RuleCase{{"resources.min_ranks=2"}, "resources.min_ranks", "more than the 1"},
        RuleCase{{"resources.threads=0"}, "resources.threads", "from 1"},
        RuleCase{{"resources.ranks=0"}, "resources.ranks", "from 1 to 1024"},
        RuleCase{{"resources.ranks=0", "train.micro_batch=auto"}, "resources.ranks", "from 1"},
        RuleCase{{"deadline_hours=-1"}, "deadline_hours", "from 0"},
        RuleCase{{"priority=1000001"}, "priority", "from -1000000"},
        RuleCase{{"init.from=other-job-3@200"},
                 "init.from",
                 "checkpoints export other-job-3 FILE.safetensors --step 200`"},
        RuleCase{{"init.from=other-job-3@last"}, "init.from", "path of a safetensors file"}));

TEST(ValidateTest, SharedValuesWithoutEffectAreAccepted) {
  // One file serves a sweep over variants.
  EXPECT_EQ(ViolationsWith({"model.attention=vanilla", "model.gate=head", "model.gate_init=0",
                            "model.sink_init=0"}),
            "");
  EXPECT_EQ(ViolationsWith({"head_balance.loss=none", "head_balance.coefficient=1e-3"}), "");
  EXPECT_EQ(ViolationsWith({"model.attention=gated", "model.head_norm=rms"}), "");
}

TEST(ValidateTest, APathThatIsTrainedOnTwiceIsNamed) {
  EXPECT_EQ(ViolationsWith({"data.train=[a.txt, b/*.txt, ./b//*.txt]"}),
            "data.train[2]: is `./b//*.txt`, which data.train[1] names already; remove one of "
            "them\n");
  EXPECT_EQ(ViolationsWith({"data.train=[a.txt, b.txt]"}), "");
}

TEST(ValidateTest, APathThatLeavesTheDataRootsIsRefusedBeforeItQueues) {
  const std::string why =
      "`, but `..` is not accepted here; name the file by its path below one of the worker's data "
      "roots\n";
  EXPECT_EQ(ViolationsWith({"init.from=../x"}), "init.from: is `../x" + why);
  EXPECT_EQ(ViolationsWith({"data.train=[a.txt, b/../../c.txt]"}),
            "data.train[1]: is `b/../../c.txt" + why);
  EXPECT_EQ(ViolationsWith({"data.validation=[..]"}), "data.validation[0]: is `.." + why);
  EXPECT_EQ(ViolationsWith({"data.train=[a..txt, ..b/c.txt]"}), "");
}

TEST(ValidateTest, AStoredJobGoesOnUnderTheRulesForNewOnes) {
  v1::JobSpec spec = Minimal();
  spec.mutable_data()->add_validation("t.txt");
  EXPECT_THAT(ResolveAndValidate(&spec), IsEmpty());
  ASSERT_EQ(ValidateNew(spec).size(), 1U);
  EXPECT_EQ(ValidateNew(spec)[0].field, "data.validation[0]");
}

TEST(ValidateTest, UnknownEnumValuesFromTheWireAreRefused) {
  v1::JobSpec spec = Minimal();
  ASSERT_THAT(Resolve(&spec), IsEmpty());
  spec.mutable_model()->set_attention(static_cast<v1::AttentionVariant>(77));
  spec.mutable_train()->set_precision(v1::PRECISION_UNSPECIFIED);
  const std::vector<Violation> violations = Validate(spec);
  ASSERT_EQ(violations.size(), 2U);
  EXPECT_EQ(violations[0].field, "model.attention");
  EXPECT_THAT(violations[0].message, HasSubstr("unknown value 77; choose one of vanilla, sink"));
  EXPECT_EQ(violations[1].field, "train.precision");
}

TEST(ValidateTest, NotFiniteNumbersFromTheWireAreRefused) {
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    v1::JobSpec spec = Minimal();
    ASSERT_THAT(Resolve(&spec), IsEmpty());
    spec.mutable_head_balance()->set_coefficient(bad);
    spec.mutable_optimizer()->set_gate_lr(bad);
    spec.mutable_model()->set_attention(v1::ATTENTION_VARIANT_SINK);
    spec.mutable_model()->mutable_sink_init()->set_high(bad);
    EXPECT_EQ(Validate(spec).size(), 3U) << bad;
  }
}

// Whatever numbers a client sends, resolving and validating neither crashes nor overflows.
TEST(ValidateTest, RandomSpecsFromTheWireNeverCrash) {
  std::mt19937_64 random(7);  // fixed, so that a failure repeats
  const std::vector<int64_t> integers = {0,   1,     -1,      2,          7,
                                         256, 65536, 1 << 20, 2147483647, -2147483648LL};
  const std::vector<double> reals = {0, 1, -1, 1e-300, 1e300, HUGE_VAL, std::nan(""), 0.5};
  const auto pick = [&](const auto& list) { return list[random() % list.size()]; };
  for (int round = 0; round < 3000; ++round) {
    v1::JobSpec spec = Minimal();
    for (int i = 0; i < v1::JobSpec::descriptor()->field_count(); ++i) {
      const auto* field = v1::JobSpec::descriptor()->field(i);
      if (field->message_type() == nullptr) continue;
      auto* group = spec.GetReflection()->MutableMessage(&spec, field);
      const auto* reflection = group->GetReflection();
      for (int k = 0; k < field->message_type()->field_count(); ++k) {
        const auto* key = field->message_type()->field(k);
        if (key->is_repeated() || random() % 3 != 0) continue;
        switch (key->cpp_type()) {
          case google::protobuf::FieldDescriptor::CPPTYPE_INT32:
            reflection->SetInt32(group, key, static_cast<int32_t>(pick(integers)));
            break;
          case google::protobuf::FieldDescriptor::CPPTYPE_INT64:
            reflection->SetInt64(group, key, pick(integers) * pick(integers));
            break;
          case google::protobuf::FieldDescriptor::CPPTYPE_DOUBLE:
            reflection->SetDouble(group, key, pick(reals));
            break;
          case google::protobuf::FieldDescriptor::CPPTYPE_ENUM:
            reflection->SetEnumValue(group, key, static_cast<int>(pick(integers)));
            break;
          default:
            break;
        }
      }
    }
    for (const Violation& violation : ResolveAndValidate(&spec)) {
      ASSERT_FALSE(violation.field.empty());
      ASSERT_FALSE(violation.message.empty());
    }
  }
}

}  // namespace
}  // namespace sinkforge::jobspec
