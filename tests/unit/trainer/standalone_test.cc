// The standalone mode with the real program: exact resume, every bad input, dumps, signals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "proto/safetensors/safetensors.h"
#include "tests/unit/trainer/address_space.h"
#include "tests/unit/trainer/child.h"
#include "tests/unit/trainer/temp_folder.h"

namespace sinkforge::trainer {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Le;
using testing::Not;
using testing::SizeIs;

constexpr char kJob[] = R"(name: small
model: {layers: 2, width: 32, heads: 4, attention: gated}
head_balance: {loss: cv, coefficient: 1.0e-3}
data: {train: train.txt, validation: valid.txt, sequence_length: 32}
train: {steps: 60, batch_tokens: 512, micro_batch: 8}
evaluation: {every_steps: 20, tokens: 1024}
checkpoint: {every_steps: 10, keep: 3}
)";

class StandaloneTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_.Write("train.txt", SampleText(20'000));
    folder_.Write("valid.txt", SampleText(3'000));
    folder_.Write("job.yaml", kJob);
  }

  std::vector<std::string> Arguments(const std::string& work_dir,
                                     const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"train", "--job", folder_ / "job.yaml", "--work-dir",
                                          folder_ / work_dir};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  int Train(const std::string& work_dir, const std::vector<std::string>& more = {}) {
    Child child(Arguments(work_dir, more), folder_ / "stderr");
    const int code = child.Wait();
    output_ = child.Output();
    return code;
  }

  std::vector<json> Metrics(const std::string& work_dir) {
    std::istringstream lines(ReadWhole(folder_ / (work_dir + "/metrics.jsonl")));
    std::vector<json> metrics;
    for (std::string line; std::getline(lines, line);) {
      const json parsed = json::parse(line, nullptr, false);
      if (parsed.is_object()) metrics.push_back(parsed);
    }
    return metrics;
  }

  // Whole lines of metrics.jsonl.
  std::ptrdiff_t StepsDone(const std::string& work_dir) {
    const std::string text = ReadWhole(folder_ / (work_dir + "/metrics.jsonl"));
    return std::count(text.begin(), text.end(), '\n');
  }

  // What must be the same bits in two runs.
  std::vector<json> Curves(const std::string& work_dir) {
    std::vector<json> curves;
    for (json& line : Metrics(work_dir)) {
      for (const char* clock :
           {"step_seconds", "data_seconds", "checkpoint_stall_seconds", "tokens_per_second"}) {
        line.erase(clock);
      }
      curves.push_back(line);
    }
    return curves;
  }

  std::string Weights(const std::string& work_dir) {
    return ReadWhole(folder_ / (work_dir + "/checkpoints/step-60.safetensors"));
  }

  // Ends a run with `signal` once about half of it is done. A run that was faster than the test is
  // started again.
  int Interrupt(const std::string& work_dir, int signal) {
    for (int attempt = 0; attempt < 20; ++attempt) {
      std::filesystem::remove_all(folder_ / work_dir);
      Child child(Arguments(work_dir), folder_ / "stderr");
      while (child.Running() && StepsDone(work_dir) < 25) std::this_thread::yield();
      child.Signal(signal);
      const int code = child.Wait();
      if (code != 0 && StepsDone(work_dir) < 60) return code;
    }
    ADD_FAILURE() << "the run always ended before it was interrupted";
    return 0;
  }

  TempFolder folder_;
  std::string output_;
};

TEST_F(StandaloneTest, KilledAndResumedRunHasTheSameBits) {
  ASSERT_EQ(Train("whole"), 0) << output_;
  ASSERT_EQ(Interrupt("killed", SIGKILL), -SIGKILL);
  ASSERT_EQ(Train("killed", {"--resume"}), 0) << output_;

  EXPECT_EQ(Metrics("whole").size(), 60U);
  EXPECT_EQ(Curves("whole"), Curves("killed"));
  EXPECT_FALSE(Weights("whole").empty());
  EXPECT_EQ(Weights("whole"), Weights("killed"));
}

TEST_F(StandaloneTest, TerminatedRunCheckpointsStopsAndResumes) {
  ASSERT_EQ(Train("whole"), 0) << output_;
  ASSERT_EQ(Interrupt("stopped", SIGTERM), 10);
  const int64_t stopped_at = Metrics("stopped").back()["step"];
  EXPECT_TRUE(std::filesystem::exists(
      folder_ / ("stopped/checkpoints/step-" + std::to_string(stopped_at) + ".safetensors")));
  ASSERT_EQ(Train("stopped", {"--resume"}), 0) << output_;
  EXPECT_EQ(Curves("whole"), Curves("stopped"));
  EXPECT_EQ(Weights("whole"), Weights("stopped"));
}

TEST_F(StandaloneTest, ShowsProgressKeepsCheckpointsAndLearns) {
  // Without the subcommand's name, as the documentation writes it.
  std::vector<std::string> arguments = Arguments("work");
  arguments.erase(arguments.begin());
  Child child(arguments, folder_ / "stderr");
  ASSERT_EQ(child.Wait(), 0) << child.Output();
  EXPECT_THAT(child.Output(), HasSubstr("step 60/60 loss"));
  EXPECT_THAT(child.Output(), HasSubstr("bits per byte"));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "work/checkpoints")) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre("step-40.safetensors", "step-50.safetensors",
                                                   "step-60.safetensors"));
  const std::vector<json> metrics = Metrics("work");
  EXPECT_LT(metrics.back()["loss"].get<double>(), 0.7 * metrics.front()["loss"].get<double>());
  EXPECT_TRUE(metrics[19].contains("validation_bits_per_byte"));
  EXPECT_FALSE(metrics[20].contains("validation_loss"));
}

TEST_F(StandaloneTest, ResumeBeforeTheFirstCheckpointBeginsAnew) {
  std::filesystem::create_directories(folder_ / "work");
  folder_.Write("work/metrics.jsonl", "{\"step\":1,\"loss\":9}\n{\"step\":2,\"lo");
  ASSERT_EQ(Train("work", {"--resume", "--set", "train.steps=3"}), 0) << output_;
  EXPECT_EQ(Metrics("work").size(), 3U);
  EXPECT_NE(Metrics("work")[0]["loss"], 9);
  EXPECT_THAT(output_, HasSubstr("work: has no checkpoint to resume from; starting at step 1"));
}

TEST_F(StandaloneTest, CorruptCheckpointIsPassedOver) {
  ASSERT_EQ(Train("whole"), 0) << output_;
  ASSERT_EQ(Train("work", {"--set", "train.steps=60"}), 0) << output_;
  for (const char* step : {"60", "50"}) {
    const std::string path =
        folder_ / ("work/checkpoints/step-" + std::string(step) + ".safetensors");
    std::string bytes = ReadWhole(path);
    bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 1);
    std::ofstream(path, std::ios::binary) << bytes;
  }
  ASSERT_EQ(Train("work", {"--resume"}), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("step-50.safetensors: is corrupt"));
  EXPECT_EQ(Weights("whole"), Weights("work"));
  EXPECT_EQ(Curves("whole"), Curves("work"));
}

TEST_F(StandaloneTest, OtherThreadsAreToldToBeNotBitExact) {
  ASSERT_EQ(Train("work", {"--set", "train.steps=20", "--set", "resources.threads=1"}), 0);
  ASSERT_EQ(Train("work", {"--resume", "--set", "train.steps=20"}), 0);
  EXPECT_THAT(output_, HasSubstr("not_bit_exact: resumed after step 20 with threads 1 -> 2"));
}

TEST_F(StandaloneTest, ChangedDataRefuseToResume) {
  ASSERT_EQ(Train("work", {"--set", "train.steps=10"}), 0) << output_;
  folder_.Write("train.txt", SampleText(20'000) + "more");
  EXPECT_EQ(Train("work", {"--resume"}), 21);
  EXPECT_THAT(output_, HasSubstr("train.txt has changed since the checkpoint"));
}

TEST_F(StandaloneTest, ChangedSeedRefusesToResume) {
  ASSERT_EQ(Train("work", {"--set", "train.steps=10"}), 0) << output_;
  EXPECT_EQ(Train("work", {"--resume", "--set", "train.seed=5"}), 20);
  EXPECT_THAT(output_, HasSubstr("train.seed is 5, but the checkpoint has 1"));
  EXPECT_EQ(Train("work", {"--resume", "--set", "model.layers=3"}), 20) << output_;
}

TEST_F(StandaloneTest, UsedWorkFolderNeedsResume) {
  ASSERT_EQ(Train("work", {"--set", "train.steps=1"}), 0) << output_;
  EXPECT_EQ(Train("work"), 20);
  EXPECT_THAT(output_, HasSubstr("go on with --resume"));
}

TEST_F(StandaloneTest, FullDiskAtTheEndFailsAndBeforeWarns) {
  const std::string checkpoints = folder_ / "work/checkpoints";
  std::filesystem::create_directories(checkpoints);
  std::filesystem::create_symlink("/dev/full", checkpoints + "/step-10.safetensors.partial");
  std::filesystem::create_symlink("/dev/full", checkpoints + "/step-25.safetensors.partial");
  EXPECT_EQ(Train("work", {"--set", "train.steps=25", "--set", "checkpoint.keep=9"}), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("warning: a checkpoint could not be made durable"));
  EXPECT_THAT(output_, HasSubstr("No space left on device"));

  const std::string other = folder_ / "other/checkpoints";
  std::filesystem::create_directories(other);
  std::filesystem::create_symlink("/dev/full", other + "/step-5.safetensors.partial");
  EXPECT_EQ(Train("other", {"--set", "train.steps=5"}), 23);
  EXPECT_THAT(output_, HasSubstr("step 5: the last checkpoint could not be made durable"));
  EXPECT_THAT(output_, HasSubstr("there is no checkpoint"));
}

TEST_F(StandaloneTest, DumpStepThatNeverComesIsAnError) {
  EXPECT_EQ(Train("work", {"--dump-step", "99", "--set", "train.steps=3"}), 20);
  EXPECT_THAT(output_, HasSubstr("--dump-step 99: the job has 3 steps"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "work"));
  for (const auto& [none, why] :
       {std::pair("0", "0: steps are counted from 1"),
        std::pair("-1", "-1: steps are counted from 1"),
        std::pair("two", "--dump-step: expects a whole number, not `two`")}) {
    EXPECT_EQ(Train("work", {"--dump-step", none}), 2);
    EXPECT_THAT(output_, HasSubstr(why));
    EXPECT_THAT(output_, SizeIs(Le(160U))) << "one short line, not the range of a number";
  }
  ASSERT_EQ(Train("work"), 0) << output_;
  EXPECT_NE(Train("work", {"--resume", "--dump-step", "10"}), 0);
  EXPECT_THAT(output_, HasSubstr("goes on from the checkpoint of step 60; give a later step"));
}

TEST_F(StandaloneTest, MessagesNameOptionsOfThisProgram) {
  EXPECT_EQ(Train("work", {"--set", "data.train=absent.txt"}), 21);
  EXPECT_THAT(output_, HasSubstr("check the path, or give another --data-root"));
  EXPECT_THAT(output_, Not(HasSubstr("worker")));
}

TEST_F(StandaloneTest, DivergedLossStopsWithStepAndLastCheckpoint) {
  EXPECT_EQ(Train("work", {"--set",
                           "optimizer={kind: adamw, learning_rate: 1000, weight_decay: 1000, "
                           "warmdown: 0}",
                           "--set", "checkpoint.every_steps=1"}),
            22);
  EXPECT_THAT(output_, HasSubstr("step"));
  EXPECT_THAT(output_, HasSubstr("the last good checkpoint is of step"));
  const size_t steps = Metrics("work").size();
  EXPECT_TRUE(std::filesystem::exists(
      folder_ / ("work/checkpoints/step-" + std::to_string(steps) + ".safetensors")));
}

TEST_F(StandaloneTest, InitialParametersComeFromAFile) {
  ASSERT_EQ(Train("first", {"--set", "train.steps=20"}), 0) << output_;
  std::filesystem::copy(folder_ / "first/checkpoints/step-20.safetensors",
                        folder_ / "start.safetensors");
  ASSERT_EQ(Train("second", {"--set", "train.steps=1", "--set", "init.from=start.safetensors"}), 0)
      << output_;
  EXPECT_LT(Metrics("second")[0]["loss"].get<double>(), 4.0);  // ln 256 = 5.5 without
  EXPECT_EQ(Train("third", {"--set", "init.from=start.safetensors", "--set", "model.width=64"}),
            20);
  EXPECT_THAT(output_, HasSubstr("start.safetensors"));
  EXPECT_EQ(Train("fourth", {"--set", "init.from=train.txt"}), 21);
  EXPECT_THAT(output_, HasSubstr("init.from"));
  EXPECT_EQ(Train("fifth", {"--set", "init.from=start.safetensors", "--set", "model.mlp=swiglu"}),
            20);
  EXPECT_THAT(output_, HasSubstr("start.safetensors: is of another model: model.mlp is "
                                 "relu_squared there and swiglu in the job; give the job the "
                                 "file's, or start from another file"));
  // A glob is advice for a list of files, not where one is wanted.
  EXPECT_EQ(Train("sixth", {"--set", "init.from=first"}), 21);
  EXPECT_THAT(output_, HasSubstr("init.from: first is not a regular file; name the file itself\n"));
  EXPECT_EQ(Train("seventh", {"--set", "data.train=first"}), 21);
  EXPECT_THAT(output_, HasSubstr("name files, or a glob such as first/*.txt"));
}

TEST_F(StandaloneTest, SwiGluTrainsAndResumesWithTheSameBits) {
  const std::vector<std::string> swiglu = {"--set", "model.mlp=swiglu"};
  ASSERT_EQ(Train("whole", swiglu), 0) << output_;
  const std::vector<json> metrics = Metrics("whole");
  ASSERT_EQ(metrics.size(), 60U);
  EXPECT_LT(metrics.back()["loss"], metrics.front()["loss"]);
  // Back to step 50.
  std::filesystem::copy(folder_ / "whole", folder_ / "resumed",
                        std::filesystem::copy_options::recursive);
  std::filesystem::remove(folder_ / "resumed/checkpoints/step-60.safetensors");
  // Of the other kind it is no checkpoint to go on from.
  EXPECT_EQ(Train("resumed", {"--resume"}), 20);
  EXPECT_THAT(output_, HasSubstr("mlp.c_fc.weight"));
  ASSERT_EQ(Train("resumed", {"--resume", "--set", "model.mlp=swiglu"}), 0) << output_;
  EXPECT_FALSE(Weights("whole").empty());
  EXPECT_EQ(Weights("resumed"), Weights("whole"));
}

TEST_F(StandaloneTest, MemoryIsExplainedWithoutDataOrAWorkFolder) {
  std::filesystem::remove(folder_ / "train.txt");
  Child explained(
      {"--job", folder_ / "job.yaml", "--explain-memory", "--set", "train.recompute=attention"},
      folder_ / "stderr");
  EXPECT_EQ(explained.Wait(), 0);
  for (const char* name : {"parameters", "transformer.h.*.attn.c_q.weight", "gradients",
                           "optimizer/momentum/transformer.h.*.mlp.c_fc.weight", "recomputed/q ",
                           "layer*/act", "cross-entropy logits", "all"}) {
    EXPECT_THAT(explained.Output(), HasSubstr(name));
  }
  Child wrong({"--job", folder_ / "job.yaml", "--explain-memory", "--set", "resources.ranks=9"},
              folder_ / "stderr");
  EXPECT_EQ(wrong.Wait(), 20);
  EXPECT_THAT(wrong.Output(), HasSubstr("train.micro_batch"));
}

TEST_F(StandaloneTest, AnAutomaticMicroBatchIsForeseenToldAndTrainsToTheSameBits) {
  const std::vector<std::string> sets = {"--set", "train.micro_batch=auto"};
  Child explained({"--job", folder_ / "job.yaml", "--explain-memory", sets[0], sets[1]},
                  folder_ / "stderr");
  EXPECT_EQ(explained.Wait(), 0);
  EXPECT_THAT(explained.Output(), HasSubstr("train.micro_batch: auto would be 16 rows here and "
                                            "now, a whole step: a rank takes "));
  EXPECT_THAT(explained.Output(), HasSubstr("[512, 32]")) << "the plan of 16 rows of 32 tokens";

  ASSERT_EQ(Train("auto", sets), 0) << output_;
  EXPECT_THAT(output_, HasSubstr("train.micro_batch: auto is 16 rows, a whole step: a rank "));
  ASSERT_EQ(Train("given", {"--set", "train.micro_batch=16"}), 0) << output_;
  EXPECT_EQ(Curves("auto"), Curves("given"));
  EXPECT_EQ(Weights("auto"), Weights("given"));
}

#if SINKFORGE_ADDRESS_SPACE_CAN_BE_LIMITED
TEST_F(StandaloneTest, AnAutomaticMicroBatchKeepsToALimitOfTheAddressSpace) {
  // 4,096 rows, which take more than half a GiB.
  const std::vector<std::string> large = {"--set", "train.batch_tokens=131072", "--set",
                                          "train.steps=1"};
  std::vector<std::string> automatic = large;
  automatic.insert(automatic.end(), {"--set", "train.micro_batch=auto"});
  const AddressSpaceLimit limit(int64_t{500} << 20);
  std::vector<std::string> explain = {"--job", folder_ / "job.yaml", "--explain-memory"};
  explain.insert(explain.end(), automatic.begin(), automatic.end());
  Child explained(explain, folder_ / "stderr");
  EXPECT_EQ(explained.Wait(), 0);
  const char* chosen = " left by its process's limits (ulimit -v, -d), which are too few for more";
  EXPECT_THAT(explained.Output(), HasSubstr(chosen));

  EXPECT_EQ(Train("auto", automatic), 0) << output_;
  EXPECT_THAT(output_, HasSubstr(chosen));
  EXPECT_THAT(Metrics("auto"), SizeIs(1));
  std::vector<std::string> given = large;
  given.insert(given.end(), {"--set", "train.micro_batch=4096"});
  EXPECT_EQ(Train("given", given), 20);
  EXPECT_THAT(output_, HasSubstr("no memory for"));
}
#endif

TEST_F(StandaloneTest, MemoryOfAGpuThatIsNotHereNamesTheCpus) {
  setenv("CUDA_VISIBLE_DEVICES", "", 1);  // where the build has CUDA and the machine a GPU
  Child refused(
      {"--job", folder_ / "job.yaml", "--explain-memory", "--set", "resources.device=cuda"},
      folder_ / "stderr");
  EXPECT_EQ(refused.Wait(), 20);
  EXPECT_THAT(refused.Output(), HasSubstr("--set resources.device=cpu"));
  unsetenv("CUDA_VISIBLE_DEVICES");
}

TEST_F(StandaloneTest, Bfloat16TrainsOnEveryProcessor) {
  ASSERT_EQ(Train("work", {"--set", "train.precision=bf16"}), 0) << output_;
  const std::vector<json> metrics = Metrics("work");
  ASSERT_EQ(metrics.size(), 60U);
  EXPECT_LT(metrics.back()["loss"], metrics.front()["loss"]);
}

TEST_F(StandaloneTest, DumpHoldsTheStep) {
  ASSERT_EQ(Train("work", {"--dump-step", "3", "--set", "train.steps=4"}), 0) << output_;
  const std::string dump = folder_ / "work/dump/step-3/";
  safetensors::Failure failure;
  const auto batch = safetensors::Reader::Open(dump + "batch.safetensors", &failure);
  ASSERT_NE(batch, nullptr) << failure.message;
  EXPECT_EQ(batch->Find("inputs")->dtype, "I32");
  EXPECT_EQ(batch->Find("targets")->shape, (std::vector<int64_t>{2, 8, 32}));
  const auto parameters = safetensors::Reader::Open(dump + "parameters.safetensors", &failure);
  const auto gradients = safetensors::Reader::Open(dump + "gradients.safetensors", &failure);
  ASSERT_NE(parameters, nullptr);
  ASSERT_NE(gradients, nullptr);
  ASSERT_EQ(parameters->tensors().size(), gradients->tensors().size());
  for (const auto& tensor : parameters->tensors()) {
    ASSERT_NE(gradients->Find(tensor.name), nullptr) << tensor.name;
    EXPECT_EQ(gradients->Find(tensor.name)->shape, tensor.shape);
  }
  EXPECT_NE(parameters->Find("transformer.h.1.attn.c_gate.weight"), nullptr);
  const auto importance = safetensors::Reader::Open(dump + "importance.safetensors", &failure);
  ASSERT_NE(importance, nullptr);
  double first = 0;
  ASSERT_TRUE(importance->Read(*importance->Find("importance"), 0, 8, &first, &failure));
  const json metrics = Metrics("work")[2];
  EXPECT_EQ(metrics["importance"][0].get<double>(), first);
  const json losses = json::parse(ReadWhole(dump + "losses.json"));
  EXPECT_EQ(losses["base"], metrics["loss"]);
  EXPECT_EQ(losses["aux"], metrics["aux_loss"]);
  EXPECT_EQ(losses["layer_cv"], metrics["layer_cv"]);
}

struct BadCase {
  std::string what;
  std::vector<std::string> overrides;
  int exit_code;
  std::string says;
};
void PrintTo(const BadCase& bad, std::ostream* out) { *out << bad.what; }

class BadInputTest : public StandaloneTest, public testing::WithParamInterface<BadCase> {
 protected:
  // llm.c's header with `announced` tokens, then two bytes for each of `tokens`.
  static std::string Shard(int32_t announced, const std::vector<uint16_t>& tokens) {
    std::vector<int32_t> header(256, 0);
    header[0] = 20240520;
    header[1] = 1;
    header[2] = announced;
    std::string bytes(reinterpret_cast<const char*>(header.data()), 1024);
    bytes.append(reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size());
    return bytes;
  }
};

TEST_P(BadInputTest, IsRefusedByName) {
  folder_.Write("empty.txt", "");
  folder_.Write("short.txt", "abc");
  folder_.Write("truncated.bin", Shard(1000, std::vector<uint16_t>(100, 7)));
  folder_.Write("foreign.bin", std::string(4000, 'x'));
  std::vector<uint16_t> tokens(1000, 7);
  tokens[500] = 256;
  folder_.Write("outside.bin", Shard(1000, tokens));
  std::filesystem::create_symlink("/etc/passwd", folder_ / "link.txt");
  std::vector<std::string> more;
  for (const std::string& assignment : GetParam().overrides) {
    more.insert(more.end(), {"--set", assignment});
  }
  EXPECT_EQ(Train("work", more), GetParam().exit_code) << output_;
  EXPECT_THAT(output_, HasSubstr(GetParam().says));
  EXPECT_THAT(output_, HasSubstr("error: "));
}

INSTANTIATE_TEST_SUITE_P(
    Inputs, BadInputTest,
    testing::Values(
        BadCase{"unknown key", {"model.widht=3"}, 20, "did you mean `width`?"},
        BadCase{"wrong type", {"model.width=wide"}, 20, "expects a whole number"},
        BadCase{"heads", {"model.heads=5"}, 20, "job.yaml:2:31: model.heads: is 5"},
        BadCase{"sink and rms",
                {"model.attention=sink", "model.head_norm=rms"},
                20,
                "would cancel the gate"},
        BadCase{"device", {"resources.device=cuda"}, 26, "resources.device"},
        BadCase{"missing file", {"data.train=none.txt"}, 21, "no file matches none.txt"},
        BadCase{"missing validation", {"data.validation=none.txt"}, 21, "data.validation"},
        BadCase{"empty file", {"data.train=empty.txt"}, 21, "empty.txt"},
        BadCase{"truncated shard", {"data.train=truncated.bin"}, 21, "truncated.bin"},
        BadCase{"foreign shard", {"data.train=foreign.bin"}, 21, "foreign.bin"},
        BadCase{"token id", {"data.train=outside.bin"}, 21, "outside.bin"},
        BadCase{"sequence", {"data.train=short.txt"}, 21, "data.train"},
        BadCase{"absolute path", {"data.train=/etc/passwd"}, 21, "outside of the data roots"},
        BadCase{"parent path", {"data.train=../x.txt"}, 20, "`..` is not accepted here"},
        BadCase{"symlink", {"data.train=link.txt"}, 21, "outside of the data roots"}));

TEST_F(StandaloneTest, ErrorsOfTheJobFileHaveLines) {
  folder_.Write("job.yaml", "name: a\nmodel:\n  widht: 3\n  heads: x\n");
  EXPECT_EQ(Train("work"), 20);
  EXPECT_THAT(output_, HasSubstr("job.yaml:3:3: model.widht: unknown key"));
  EXPECT_THAT(output_, HasSubstr("job.yaml:4:10: model.heads: expects"));
}

TEST_F(StandaloneTest, ShardsWithASidecarHaveBitsPerByte) {
  std::vector<int32_t> header(256, 0);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = 4000;
  std::string bytes(reinterpret_cast<const char*>(header.data()), 1024);
  for (int i = 0; i < 4000; ++i) bytes += {static_cast<char>(i * i % 7), '\0'};
  for (const char* name : {"t.bin", "v.bin"}) folder_.Write(name, bytes);
  ASSERT_EQ(Train("without", {"--set", "train.steps=1", "--set", "data.train=t.bin", "--set",
                              "data.validation=v.bin"}),
            0)
      << output_;
  EXPECT_TRUE(Metrics("without")[0].contains("validation_loss"));
  EXPECT_FALSE(Metrics("without")[0].contains("validation_bits_per_byte"));
  folder_.Write("v.json", R"({"vocab_size": 7, "bos_id": 0, "bytes_per_token": [2,2,2,2,2,2,2]})");
  ASSERT_EQ(Train("with", {"--set", "train.steps=1", "--set", "data.train=t.bin", "--set",
                           "data.validation=v.bin"}),
            0)
      << output_;
  const json last = Metrics("with")[0];
  EXPECT_NEAR(last["validation_bits_per_byte"].get<double>(),
              last["validation_loss"].get<double>() / (2 * std::log(2.0)), 1e-12);
}

TEST_F(StandaloneTest, SaysWhyItCanUseNoGpu) {
  for (const auto& arguments :
       {std::vector<std::string>{"gpus"}, std::vector<std::string>{"gpus", "-o", "json"}}) {
    Child gpus(arguments, folder_ / "stderr");
    EXPECT_EQ(gpus.Wait(), 26);
    EXPECT_THAT(gpus.Output(), testing::StartsWith("error: no GPU can be used: "));
    EXPECT_THAT(gpus.Output(), testing::AnyOf(HasSubstr("; build it with"), HasSubstr("; see ")));
  }
  Child wrong({"gpus", "-o", "csv"}, folder_ / "stderr");
  EXPECT_EQ(wrong.Wait(), 2);
}

TEST_F(StandaloneTest, CommandLine) {
  Child version({"--version"}, folder_ / "stderr");
  EXPECT_EQ(version.Wait(), 0);
  EXPECT_THAT(version.Output(), HasSubstr("sinkforge-trainer 0."));
  Child help({"--help"}, folder_ / "stderr");
  EXPECT_EQ(help.Wait(), 0);
  EXPECT_THAT(help.Output(), HasSubstr("Exit codes:"));
  Child wrong({"train", "--jobb"}, folder_ / "stderr");
  EXPECT_EQ(wrong.Wait(), 2);
  Child nowhere({"train", "--job", folder_ / "job.yaml"}, folder_ / "stderr");
  EXPECT_EQ(nowhere.Wait(), 2);
  EXPECT_THAT(nowhere.Output(), HasSubstr("--work-dir"));
  Child short_version({"-V"}, folder_ / "stderr");
  EXPECT_EQ(short_version.Wait(), 0);
  EXPECT_THAT(short_version.Output(), HasSubstr("protocol sinkforge.v1"));
  Child by_hand(
      {"worker", "--socket", "unix:/nonexistent", "--parent-pid", std::to_string(getpid())},
      folder_ / "stderr");
  EXPECT_EQ(by_hand.Wait(), 2);
  EXPECT_THAT(by_hand.Output(), HasSubstr("SINKFORGE_TRAINER_TOKEN is not set"));
  Child orphan({"worker", "--socket", "unix:/nonexistent", "--parent-pid", "1"}, folder_ / "stderr",
               "t");
  EXPECT_EQ(orphan.Wait(), 24);
  EXPECT_THAT(orphan.Output(), HasSubstr("process 1 is not this one's parent"));
}

}  // namespace
}  // namespace sinkforge::trainer
