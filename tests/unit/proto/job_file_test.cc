// Job files: what they say, what is wrong with them and where, and that they survive a round trip.
#include "proto/jobspec/job_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "google/protobuf/util/message_differencer.h"
#include "proto/jobspec/nearest_name.h"
#include "proto/jobspec/resolve.h"
#include "proto/jobspec/validate.h"

namespace sinkforge::jobspec {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kFullFile[] = R"(name: d4-gated
namespace: default
model: {preset: d4, layers: 4, width: 256, heads: 8, vocab_size: 256, attention: gated, gate: head,
        head_norm: none, lse_gradient: exact, sink_init: 0, gate_init: 0, mlp: relu_squared}
head_balance: {loss: cv, coefficient: 1.0e-3, shared_heads: 0}
data: {train: [a.txt, shards/*.bin], validation: [b.txt], tokenizer: bytes, sequence_length: 256}
train: {steps: 200, batch_tokens: 8192, micro_batch: 8, precision: fp32, seed: 1,
        bad_batches: skip, loss_spike: 3}
optimizer: {kind: muon, matrix_lr: 0.02, embedding_lr: 0.2, unembedding_lr: 0.004, gate_lr: 0.02,
            warmup: 0, warmdown: 0.2}
evaluation: {every_steps: 50, tokens: 65536}
checkpoint: {every_steps: 100, keep: 3, keep_best: 1, keep_every: 1000}
resources: {device: cpu, ranks: 1, min_ranks: 1, threads: 2}
priority: 0
deadline_hours: 0
init: {from: null}
)";

std::string ProblemsOf(const std::string& text) {
  return FormatProblems("job.yaml", ParseJobFile(text).problems);
}

TEST(JobFileTest, ReadsEveryKeyOfTheReference) {
  const ParsedJobFile parsed = ParseJobFile(kFullFile);

  ASSERT_TRUE(parsed.ok()) << FormatProblems("job.yaml", parsed.problems);
  EXPECT_EQ(parsed.spec.name(), "d4-gated");
  EXPECT_EQ(parsed.spec.model().heads(), 8);
  EXPECT_EQ(parsed.spec.model().attention(), v1::ATTENTION_VARIANT_GATED);
  EXPECT_EQ(parsed.spec.model().mlp(), v1::MLP_RELU_SQUARED);
  EXPECT_EQ(parsed.spec.head_balance().loss(), v1::BALANCE_LOSS_CV);
  EXPECT_EQ(parsed.spec.head_balance().coefficient(), 1.0e-3);
  EXPECT_THAT(parsed.spec.data().train(), ElementsAre("a.txt", "shards/*.bin"));
  EXPECT_EQ(parsed.spec.train().steps(), 200);
  EXPECT_EQ(parsed.spec.resources().device(), v1::DEVICE_CPU);
  EXPECT_FALSE(parsed.spec.init().has_from());
  EXPECT_EQ(parsed.positions.at("train.seed").line, 7);
}

TEST(JobFileTest, ReferenceIsAValidJob) {
  ParsedJobFile parsed = ParseJobFile(kFullFile);
  const std::vector<Violation> violations = ResolveAndValidate(&parsed.spec);
  EXPECT_THAT(violations, IsEmpty()) << violations[0].field << ": " << violations[0].message;
}

TEST(JobFileTest, UnknownKeyNamesPositionPathAndNearestKey) {
  EXPECT_EQ(ProblemsOf("name: a\nmodel:\n  widht: 3\n"),
            "job.yaml:3:3: model.widht: unknown key; did you mean `width`?");
}

TEST(JobFileTest, KeyOfAnotherGroupIsPointedAt) {
  EXPECT_EQ(ProblemsOf("width: 3\n"),
            "job.yaml:1:1: width: unknown key; did you mean `model.width`?");
}

TEST(JobFileTest, FarKeyListsTheValidOnes) {
  EXPECT_THAT(ProblemsOf("init: {zzzzzzzzzz: 1}\n"), HasSubstr("valid keys are from"));
}

TEST(JobFileTest, CollectsAllProblems) {
  const std::string problems = ProblemsOf(
      "name: [a]\n"
      "model: {layers: two, heads: \"8\", attention: gatde, sink_init: [1, 2, 3]}\n"
      "train: 7\n"
      "data: {train: {a: 1}, validation: [[x]], sequence_length: 1.5}\n"
      "head_balance:\n"
      "  coefficient: .nan\n"
      "  coefficient: 1\n"
      "train: {seed: -1, steps: 99999999999999999999}\n");

  EXPECT_EQ(problems,
            "job.yaml:1:7: name: expects a text, but got a list\n"
            "job.yaml:2:17: model.layers: expects a whole number, but got `two`\n"
            "job.yaml:2:29: model.heads: expects a whole number, but got the text `8`; remove the "
            "quotes\n"
            "job.yaml:2:45: model.attention: expects one of vanilla, sink, gated, but got `gatde`; "
            "did you mean `gated`?\n"
            "job.yaml:2:63: model.sink_init: expects a finite number, or a list of two such as "
            "`[0, 8]`, but got another list\n"
            "job.yaml:3:8: train: expects keys such as `steps: ...`, but got `7`\n"
            "job.yaml:4:15: data.train: expects a text or a list of texts, but got a group of "
            "keys\n"
            "job.yaml:4:36: data.validation[0]: expects a text, but got a list\n"
            "job.yaml:4:59: data.sequence_length: expects a whole number, but got `1.5`\n"
            "job.yaml:6:16: head_balance.coefficient: expects a finite number, but got `.nan`\n"
            "job.yaml:7:3: head_balance.coefficient: duplicate key; it is set at line 6 already; "
            "remove one of the two\n"
            "job.yaml:8:1: train: duplicate key; it is set at line 3 already; remove one of the "
            "two");
}

TEST(JobFileTest, TakesScalarsListsAndNumbersInEveryForm) {
  const ParsedJobFile parsed = ParseJobFile(
      "name: 123\n"
      "model: {sink_init: [0, 8], rope_base: 1e4, gate_init: +0.5}\n"
      "data: {train: one.txt}\n"
      "train: {tokens: 1.0e9, seed: 18446744073709551615}\n"
      "priority: -3\n");

  ASSERT_TRUE(parsed.ok()) << FormatProblems("f", parsed.problems);
  EXPECT_EQ(parsed.spec.name(), "123");
  EXPECT_EQ(parsed.spec.model().sink_init().low(), 0);
  EXPECT_EQ(parsed.spec.model().sink_init().high(), 8);
  EXPECT_EQ(parsed.spec.model().rope_base(), 10000);
  EXPECT_EQ(parsed.spec.model().gate_init(), 0.5);
  EXPECT_THAT(parsed.spec.data().train(), ElementsAre("one.txt"));
  EXPECT_EQ(parsed.spec.train().tokens(), 1'000'000'000);
  EXPECT_EQ(parsed.spec.train().seed(), 18446744073709551615U);
  EXPECT_EQ(parsed.spec.priority(), -3);
}

TEST(JobFileTest, TheMicroBatchMayBeAuto) {
  const ParsedJobFile parsed = ParseJobFile("train: {micro_batch: auto}\n");
  ASSERT_TRUE(parsed.ok()) << FormatProblems("f", parsed.problems);
  EXPECT_TRUE(parsed.spec.train().has_micro_batch());
  EXPECT_EQ(parsed.spec.train().micro_batch(), 0);
  EXPECT_EQ(FormatJobFile(parsed.spec), "train:\n  micro_batch: auto\n");
  EXPECT_TRUE(ParseJobFile(R"({"train": {"micro_batch": "auto"}})").spec.train().has_micro_batch());
  // A zero would mean something else than it says, and no other key may be auto.
  for (const char* wrong : {"micro_batch: 0", "micro_batch: 0.0", "micro_batch: aut",
                            "micro_batch: '8'", "batch_tokens: auto", "steps: auto"}) {
    const ParsedJobFile refused = ParseJobFile("train: {" + std::string(wrong) + "}\n");
    ASSERT_EQ(refused.problems.size(), 1U) << wrong;
    EXPECT_FALSE(refused.spec.train().has_micro_batch()) << wrong;
  }
  EXPECT_THAT(FormatProblems("f", ParseJobFile("train: {micro_batch: 0}\n").problems),
              HasSubstr("train.micro_batch: expects auto, or a whole number of at least 1, but got "
                        "`0`"));
}

TEST(JobFileTest, AWordThatIsNoNumberIsHeldAgainstAuto) {
  EXPECT_EQ(
      ProblemsOf("train: {micro_batch: atuo}\n"),
      "job.yaml:1:22: train.micro_batch: expects auto, or a whole number, but got `atuo`; did "
      "you mean `auto`?");
  EXPECT_THAT(ProblemsOf("train: {micro_batch: Auto}\n"), HasSubstr("did you mean `auto`?"));
  for (const char* other : {"many", "'8'", "1.5", "-"}) {
    EXPECT_THAT(ProblemsOf("train: {micro_batch: " + std::string(other) + "}\n"),
                testing::Not(HasSubstr("did you mean")))
        << other;
  }
}

// Every key whose values are a few words.
TEST(JobFileTest, AWordThatIsNearlyAcceptedIsNamedWithTheOthers) {
  const auto* job = v1::JobSpec::descriptor();
  int words = 0;
  for (int g = 0; g < job->field_count(); ++g) {
    const auto* group = job->field(g)->message_type();
    for (int k = 0; group != nullptr && k < group->field_count(); ++k) {
      const auto* type = group->field(k)->enum_type();
      for (int v = 1; type != nullptr && v < type->value_count(); ++v) {
        const std::string word = ShortEnumName(*type, type->value(v)->number());
        const std::string said = ProblemsOf(job->field(g)->name() + ": {" +
                                            group->field(k)->name() + ": " + word + "x}\n");
        EXPECT_THAT(said, HasSubstr("expects one of "));
        EXPECT_THAT(said, HasSubstr("but got `" + word + "x`; did you mean `" + word + "`?"));
        ++words;
      }
    }
  }
  EXPECT_GT(words, 20);
}

TEST(JobFileTest, AKeyWithoutAValueIsAMistakeAndNullIsTheDefault) {
  EXPECT_EQ(ProblemsOf("name: a\ntrain:\n  micro_batch:\n  steps: 3\n"),
            "job.yaml:3:3: train.micro_batch: has no value; give one, or null for the default");
  EXPECT_THAT(ProblemsOf("train: {steps: , seed: 1}\n"), HasSubstr("1:9: train.steps: has no"));
  EXPECT_THAT(ProblemsOf("train: {steps}\n"), HasSubstr("train.steps: has no value"));
  EXPECT_THAT(ProblemsOf("data:\n  train: # later\n"), HasSubstr("data.train: has no value"));
  EXPECT_THAT(ProblemsOf("evaluation:\n"), HasSubstr("evaluation: has no value"));
  EXPECT_THAT(ProblemsOf("model:\n  sink_init:\nname: nullable\n"),
              HasSubstr("2:3: model.sink_init: has no value"));
  for (const char* null : {"null", "~", "Null", "NULL"}) {
    for (const char* mark : {"", "\xEF\xBB\xBF"}) {
      const std::string word = null;
      const ParsedJobFile parsed =
          ParseJobFile(mark + ("name: " + word + "\r\ntrain: {micro_batch: " + word +
                               ", steps: 3}\nmodel: " + word + "\ninit:\n  from: " + word));
      EXPECT_TRUE(parsed.ok()) << FormatProblems(word, parsed.problems);
      EXPECT_FALSE(parsed.spec.has_name() || parsed.spec.train().has_micro_batch() ||
                   parsed.spec.has_model() || parsed.spec.init().has_from());
      EXPECT_EQ(parsed.spec.train().steps(), 3);
    }
  }
}

TEST(JobFileTest, OverflowingIntegerIsRefused) {
  EXPECT_THAT(ProblemsOf("model: {layers: 4294967297}\n"), HasSubstr("at most 2147483647"));
  EXPECT_THAT(ProblemsOf("train: {steps: 1e300}\n"), HasSubstr("expects a whole number"));
}

TEST(JobFileTest, SyntaxErrorHasItsPosition) {
  EXPECT_THAT(ProblemsOf("name: a\nmodel: {layers: 4\n"), testing::StartsWith("job.yaml:3:1: "));
  EXPECT_THAT(ProblemsOf("- a\n- b\n"), HasSubstr("expects keys such as"));
  EXPECT_THAT(ProblemsOf("name: a\n---\nname: b\n"), HasSubstr("second document"));
  EXPECT_THAT(ProblemsOf("? [a]\n: b\n"), HasSubstr("a key must be a plain word"));
}

TEST(JobFileTest, RefusesBombs) {
  EXPECT_THAT(ProblemsOf("name: &a x\nnamespace: *a\n"), HasSubstr("anchors"));
  EXPECT_THAT(ProblemsOf(std::string(100'000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(ProblemsOf(std::string(kYamlBytesMax + 1, ' ')), HasSubstr("more than 1048576"));
  std::string many = "data: {train: [";
  for (int i = 0; i < kYamlNodesMax; ++i) many += "a,";
  EXPECT_THAT(ProblemsOf(many + "]}"), HasSubstr("more than 100000 values"));
}

TEST(JobFileTest, RefusesBytesThatAreNotText) {
  EXPECT_THAT(ProblemsOf("name: a\nx\xff"), HasSubstr("job.yaml:2:2: byte 0xff"));
  EXPECT_THAT(ProblemsOf(std::string("name: a\0b", 9)), HasSubstr("byte 0x00"));
  EXPECT_THAT(ProblemsOf("\xff\xfe"), HasSubstr("UTF-8"));
}

TEST(JobFileTest, EmptyFileIsAnEmptySpec) {
  const ParsedJobFile parsed = ParseJobFile("# nothing yet\n");
  EXPECT_TRUE(parsed.ok());
  EXPECT_TRUE(MessageDifferencer::Equals(parsed.spec, v1::JobSpec()));
}

TEST(JobFileTest, FormatParsesBackToTheSameSpec) {
  v1::JobSpec spec = ParseJobFile(kFullFile).spec;
  for (const bool resolved : {false, true}) {
    if (resolved) {
      ASSERT_THAT(Resolve(&spec), IsEmpty());
    }
    const ParsedJobFile again = ParseJobFile(FormatJobFile(spec));
    ASSERT_TRUE(again.ok()) << FormatProblems("again", again.problems);
    EXPECT_TRUE(MessageDifferencer::Equals(again.spec, spec)) << FormatJobFile(spec);
  }
}

TEST(JobFileTest, FormatQuotesWhatYamlWouldTakeForSomethingElse) {
  v1::JobSpec spec;
  for (const char* text : {"*.bin", "null", "~", "- a", "a: b", "#x", "\"q\\", "tab\there", "1",
                           "true", "ü/ö.txt", "", "&x", "new\nline"}) {
    spec.mutable_data()->add_train(text);
  }
  spec.mutable_head_balance()->set_coefficient(0.1 + 0.2);
  spec.mutable_model()->mutable_sink_init()->set_low(-1e-300);
  const ParsedJobFile again = ParseJobFile(FormatJobFile(spec));
  ASSERT_TRUE(again.ok()) << FormatProblems("again", again.problems) << FormatJobFile(spec);
  EXPECT_TRUE(MessageDifferencer::Equals(again.spec, spec)) << FormatJobFile(spec);
}

// Random damage to a valid file: whatever comes, it is read or refused with a position, and what is
// accepted survives a round trip.
TEST(JobFileTest, RandomMutationsNeverCrash) {
  std::mt19937 random(20240601);  // fixed, so that a failure repeats
  const std::string alphabet = "{}[]:,-&*!|>'\"#%@`\n\t ?~0123456789.eE+abcdz\\\xc3\xbc";
  const auto pick = [&](size_t n) {
    return std::uniform_int_distribution<size_t>(0, n - 1)(random);
  };
  int accepted = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string text = kFullFile;
    const size_t edits = 1 + pick(3);
    for (size_t edit = 0; edit < edits; ++edit) {
      const size_t at = pick(text.size());
      switch (pick(4)) {
        case 0:
          text[at] = alphabet[pick(alphabet.size())];
          break;
        case 1:
          text.erase(at, 1 + pick(8));
          break;
        case 2:
          text.insert(at, 1 + pick(3), alphabet[pick(alphabet.size())]);
          break;
        default:
          text.insert(at, text.substr(pick(text.size()), pick(40)));
          break;
      }
    }
    ParsedJobFile parsed = ParseJobFile(text);
    for (const Problem& problem : parsed.problems) {
      ASSERT_GE(problem.position.line, 1) << text;
      ASSERT_GE(problem.position.column, 1) << text;
      ASSERT_FALSE(problem.message.empty()) << text;
    }
    if (!ResolveAndValidate(&parsed.spec).empty() || !parsed.ok()) continue;
    ++accepted;
    const ParsedJobFile again = ParseJobFile(FormatJobFile(parsed.spec));
    ASSERT_TRUE(again.ok()) << FormatJobFile(parsed.spec);
    ASSERT_TRUE(MessageDifferencer::Equals(again.spec, parsed.spec)) << text;
  }
  EXPECT_GT(accepted, 50);  // else the mutations are too coarse to say anything
}

TEST(OverrideTest, SetsValuesOfEveryType) {
  v1::JobSpec spec = ParseJobFile(kFullFile).spec;
  for (const char* assignment :
       {"model.width=128", "model.attention=sink", "model.mlp=swiglu", "model.sink_init=[0, 8]",
        "data.train=*.bin", "data.validation=[x.txt, 'y z.txt']", "head_balance.coefficient=1e-4",
        "init.from=w=1.st", "name=a"}) {
    const absl::Status status = ApplyOverride(&spec, assignment);
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  EXPECT_EQ(spec.model().width(), 128);
  EXPECT_EQ(spec.model().attention(), v1::ATTENTION_VARIANT_SINK);
  EXPECT_EQ(spec.model().mlp(), v1::MLP_SWIGLU);
  EXPECT_EQ(spec.model().sink_init().high(), 8);
  EXPECT_THAT(spec.data().train(), ElementsAre("*.bin"));
  EXPECT_THAT(spec.data().validation(), ElementsAre("x.txt", "y z.txt"));
  EXPECT_EQ(spec.head_balance().coefficient(), 1e-4);
  EXPECT_EQ(spec.init().from(), "w=1.st");
  EXPECT_EQ(spec.name(), "a");
  ASSERT_TRUE(ApplyOverride(&spec, "train.micro_batch=auto").ok());
  EXPECT_EQ(spec.train().micro_batch(), 0);
}

TEST(OverrideTest, NullClears) {
  v1::JobSpec spec = ParseJobFile(kFullFile).spec;
  ASSERT_TRUE(ApplyOverride(&spec, "data.validation=null").ok());
  ASSERT_TRUE(ApplyOverride(&spec, "model.width=null").ok());
  EXPECT_EQ(spec.data().validation_size(), 0);
  EXPECT_FALSE(spec.model().has_width());
}

TEST(OverrideTest, LastLengthOfTrainingWins) {
  v1::JobSpec spec = ParseJobFile(kFullFile).spec;
  ASSERT_TRUE(ApplyOverride(&spec, "train.tokens_per_parameter=20").ok());
  EXPECT_FALSE(spec.train().has_steps());
  ASSERT_TRUE(ApplyOverride(&spec, "train.steps=3").ok());
  EXPECT_FALSE(spec.train().has_tokens_per_parameter());
}

TEST(OverrideTest, APresetReplacesTheDimensionsOfTheFile) {
  v1::JobSpec spec = ParseJobFile(kFullFile).spec;
  ASSERT_TRUE(ApplyOverride(&spec, "model.preset=d6").ok());
  EXPECT_FALSE(spec.model().has_layers() || spec.model().has_width() || spec.model().has_heads());
  ASSERT_TRUE(ApplyOverride(&spec, "model.heads=12").ok());
  EXPECT_EQ(spec.model().heads(), 12);
}

TEST(OverrideTest, RefusedOverrideNamesKeyAndLeavesTheSpec) {
  const v1::JobSpec before = ParseJobFile(kFullFile).spec;
  v1::JobSpec spec = before;
  EXPECT_THAT(ApplyOverride(&spec, "model.widht=1").ToString(), HasSubstr("did you mean `width`"));
  EXPECT_THAT(ApplyOverride(&spec, "model.width=x").ToString(),
              HasSubstr("model.width: expects a"));
  EXPECT_THAT(ApplyOverride(&spec, "model.mlp=swigl").ToString(),
              HasSubstr("did you mean `swiglu`"));
  EXPECT_THAT(ApplyOverride(&spec, "model.width").ToString(), HasSubstr("key=value"));
  EXPECT_THAT(ApplyOverride(&spec, "model.width=").ToString(), HasSubstr("has no value"));
  EXPECT_THAT(ApplyOverride(&spec, "name= ").ToString(), HasSubstr("has no value"));
  EXPECT_THAT(ApplyOverride(&spec, "model.width=#8").ToString(), HasSubstr("has no value"));
  EXPECT_THAT(ApplyOverride(&spec, "model.width.x=1").ToString(), HasSubstr("no keys below"));
  EXPECT_THAT(ApplyOverride(&spec, "model={heads: 2, x: 1}").ToString(), HasSubstr("model.x"));
  EXPECT_THAT(ApplyOverride(&spec, "=1").ToString(), HasSubstr("unknown key"));
  EXPECT_THAT(ApplyOverride(&spec, "model.width=[").ToString(), HasSubstr("--set model.width"));
  EXPECT_TRUE(MessageDifferencer::Equals(spec, before));
}

TEST(EditDistanceTest, CountsEdits) {
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("same", "same"), 0);
}

class LoadJobTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "jobspecXXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Write(const std::string& text) {
    const std::string path = (folder_ / "job.yaml").string();
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  std::filesystem::path folder_;
};

TEST_F(LoadJobTest, ResolvesAFileWithOverrides) {
  const auto spec = LoadJob(Write(kFullFile), {"model.layers=2"});
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->model().layers(), 2);
  EXPECT_EQ(spec->model().mlp_width(), 1024);
}

TEST_F(LoadJobTest, SemanticErrorsHaveFileLineAndPath) {
  const std::string path =
      Write("name: a\ndata: {train: t.txt}\ntrain: {steps: 1}\nmodel:\n  heads: 7\n");
  const auto spec = LoadJob(path, {});
  EXPECT_THAT(std::string(spec.status().message()),
              HasSubstr(path + ":5:3: model.heads: is 7, which does not divide the width of 256"));
}

TEST_F(LoadJobTest, MissingFileAndFolderAreNamed) {
  EXPECT_THAT(LoadJob("/nonexistent/job.yaml", {}).status().ToString(),
              HasSubstr("/nonexistent/job.yaml: No such file"));
  EXPECT_THAT(LoadJob(folder_.string(), {}).status().ToString(), HasSubstr(folder_.string()));
}

}  // namespace
}  // namespace sinkforge::jobspec
