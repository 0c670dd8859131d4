// What the real program does with an exported model that is damaged, and where its output cannot
// go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "proto/safetensors/safetensors.h"
#include "tests/unit/trainer/child.h"
#include "tests/unit/trainer/temp_folder.h"

namespace sinkforge::trainer {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

constexpr char kJob[] = R"(name: small
model: {layers: 2, width: 32, heads: 4, attention: gated}
data: {train: train.txt, sequence_length: 32}
train: {steps: 1, batch_tokens: 256, micro_batch: 8}
evaluation: {every_steps: 0, tokens: 0}
)";
constexpr char kDamagedTensor[] = "transformer.h.0.attn.c_q.weight";
constexpr size_t kDamagedElement = 5;

class ExportedModelTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_.Write("train.txt", SampleText(20'000));
    folder_.Write("text.txt", SampleText(500));
    folder_.Write("job.yaml", kJob);
    ASSERT_EQ(Run({"train", "--job", folder_ / "job.yaml", "--work-dir", folder_ / "work"}), 0)
        << output_;
    Export("sound.safetensors", 0);
  }

  int Run(const std::vector<std::string>& arguments) {
    Child child(arguments, folder_ / "output");
    const int code = child.Wait();
    output_ = child.Output();
    return code;
  }

  // As `sinkforge checkpoints export` does, with `added` at one of the weights.
  void Export(const std::string& name, float added) {
    safetensors::Failure failure;
    const auto from =
        safetensors::Reader::Open(folder_ / "work/checkpoints/step-1.safetensors", &failure);
    ASSERT_NE(from, nullptr) << failure.message;
    std::vector<safetensors::TensorInfo> tensors;
    for (const auto& tensor : from->tensors()) {
      if (tensor.name.rfind("optimizer/", 0) != 0) tensors.push_back(tensor);
    }
    const auto to = safetensors::Writer::Create(folder_ / name, tensors,
                                                {{"sinkforge_job_file", kJob}}, &failure);
    ASSERT_NE(to, nullptr) << failure.message;
    for (const auto& tensor : tensors) {
      std::vector<float> values(static_cast<size_t>(tensor.bytes()) / sizeof(float));
      ASSERT_TRUE(from->Read(tensor, 0, tensor.bytes(), values.data(), &failure));
      if (tensor.name == kDamagedTensor) values[kDamagedElement] += added;
      ASSERT_TRUE(to->Append(values.data(), tensor.bytes(), &failure)) << failure.message;
    }
    ASSERT_TRUE(to->Finish(&failure)) << failure.message;
  }

  TempFolder folder_;
  std::string output_;
};

TEST_F(ExportedModelTest, LogitsThatAreNotFiniteEndASampleAsTheyEndAnEvaluation) {
  Export("nan.safetensors", std::numeric_limits<float>::quiet_NaN());
  const std::string model = folder_ / "nan.safetensors";
  EXPECT_EQ(Run({"evaluate", "--model", model, "--text", folder_ / "text.txt"}), 22) << output_;
  for (const char* temperature : {"0", "1"}) {
    EXPECT_EQ(Run({"sample", "--model", model, "--prompt", "head", "--temperature", temperature}),
              22);
    EXPECT_THAT(output_, EndsWith("error: after 4 tokens, the prompt's among them, the model's "
                                  "logits are not finite: its weights are not, or they overflow; "
                                  "choose an earlier checkpoint\n"));
  }
  EXPECT_EQ(Run({"sample", "--model", folder_ / "sound.safetensors", "--prompt", "head"}), 0)
      << output_;
  EXPECT_THAT(output_, HasSubstr("head"));
}

TEST_F(ExportedModelTest, WeightsThatAreNotFiniteStartNoTraining) {
  Export("nan.safetensors", std::numeric_limits<float>::quiet_NaN());
  Export("inf.safetensors", -std::numeric_limits<float>::infinity());
  const auto start_from = [&](const std::string& name) {
    return Run({"train", "--job", folder_ / "job.yaml", "--work-dir", folder_ / (name + ".work"),
                "--set", "init.from=" + name + ".safetensors"});
  };
  EXPECT_EQ(start_from("nan"), 21);
  EXPECT_THAT(output_, HasSubstr("init.from: " + (folder_ / "nan.safetensors") + ": tensor " +
                                 kDamagedTensor +
                                 " is not finite: element 5 is nan; start from "
                                 "another file\n"));
  EXPECT_EQ(start_from("inf"), 21);
  EXPECT_THAT(output_, HasSubstr("element 5 is -inf; start from another file"));
  EXPECT_EQ(start_from("sound"), 0) << output_;
}

TEST_F(ExportedModelTest, TrainingFromItWithSettingsThatTensorsDoNotShowIsAWarning) {
  const auto start_from = [&](const std::string& name, const std::vector<std::string>& settings) {
    std::vector<std::string> arguments = {"train",
                                          "--job",
                                          folder_ / "job.yaml",
                                          "--work-dir",
                                          folder_ / (name + ".work"),
                                          "--set",
                                          "init.from=sound.safetensors"};
    for (const std::string& setting : settings) {
      arguments.insert(arguments.end(), {"--set", setting});
    }
    return Run(arguments);
  };
  EXPECT_EQ(start_from("same", {}), 0) << output_;
  EXPECT_THAT(output_, Not(HasSubstr("other settings")));
  EXPECT_EQ(start_from("other", {"model.rope_base=500", "model.logit_softcap=0"}), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("its parameters were trained with other settings: "
                                 "model.rope_base is 10000 there and 500 in the job, "
                                 "model.logit_softcap 15 and 0; they compute something else"));
  EXPECT_EQ(start_from("norm", {"model.head_norm=rms"}), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("model.head_norm is none there and rms in the job"));
}

TEST_F(ExportedModelTest, OutputThatCannotBeWrittenIsAnError) {
  const std::string options = "--model '" + (folder_ / "sound.safetensors") + "'";
  const std::string evaluate = "evaluate " + options + " --text '" + (folder_ / "text.txt") + "'";
  const std::string sample = "sample " + options + " --prompt head --max-tokens 3";
  const std::string explain = "train --explain-memory --job '" + (folder_ / "job.yaml") + "'";
  for (const std::string& arguments : {evaluate, evaluate + " --format json", sample,
                                       sample + " --format json", explain, std::string("--help")}) {
    const std::string command =
        TRAINER_BINARY " " + arguments + " >/dev/full 2>'" + (folder_ / "output") + "'";
    const int status = std::system(command.c_str());
    ASSERT_TRUE(WIFEXITED(status)) << arguments;
    EXPECT_EQ(WEXITSTATUS(status), 24) << arguments;
    EXPECT_THAT(ReadWhole(folder_ / "output"),
                HasSubstr("error: the output could not be written whole"))
        << arguments;
  }
}

}  // namespace
}  // namespace sinkforge::trainer
