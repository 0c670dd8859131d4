// What a worker makes of its trainer's answer about GPUs: programs that list some, hang, fail or
// say something else.
#include "worker/gpu_check.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/test_support.h"

namespace sinkforge::worker {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class GpuCheckTest : public testing::Test {
 protected:
  absl::Status Check(const std::string& script, int32_t gpus,
                     std::chrono::nanoseconds limit = std::chrono::minutes(1)) const {
    WriteScript(trainer_, script);
    return CheckGpus({trainer_, gpus, limit}, clock_);
  }
  // Expects a refusal that may be different later.
  std::string Refused(const std::string& script, int32_t gpus,
                      std::chrono::nanoseconds limit = std::chrono::minutes(1)) const {
    const absl::Status status = Check(script, gpus, limit);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    return std::string(status.message());
  }

  TempFolder folder_;
  base::RealClock clock_;
  const std::string trainer_ = folder_.path() + "/trainer.sh";
};

TEST_F(GpuCheckTest, TakesWhatTheTrainerCanUse) {
  const std::string two = R"(echo '[{"index": 0, "name": "A"}, {"index": 1}]')";
  EXPECT_TRUE(Check(two, 1).ok());
  EXPECT_TRUE(Check(two, 2).ok());
  EXPECT_TRUE(Check("test \"$*\" = 'gpus -o json' || exit 1\n" + two, 2).ok());
}

TEST_F(GpuCheckTest, CountsTheFirstOnesAlone) {
  // A rank's GPU is chosen by its slot's number.
  const std::string message = Refused(
      "echo 'warning: device 0 (Old) has compute capability 7.5, below 8.0' >&2\n"
      "echo '[{\"index\": 1}]'",
      1);
  EXPECT_THAT(message, StartsWith("--gpus 1: 0 of the first 1 GPUs can be used (warning: device 0 "
                                  "(Old) has compute capability 7.5, below 8.0); "));
  EXPECT_THAT(Refused("echo '[{\"index\": 0}, {\"index\": 1}]'", 4),
              AllOf(StartsWith("--gpus 4: 2 of the first 4 GPUs can be used; `" + trainer_),
                    EndsWith("offer fewer, or choose others with CUDA_VISIBLE_DEVICES")));
}

TEST_F(GpuCheckTest, PassesOnWhyThereIsNone) {
  EXPECT_EQ(Refused("echo 'error: no GPU can be used: no driver; install one' >&2\nexit 26", 1),
            "--gpus 1: `" + trainer_ +
                " gpus` ended with exit code 26: no GPU can be used: no driver; install one; or "
                "start the worker without --gpus");
  EXPECT_THAT(Refused("exit 3", 1), HasSubstr(" ended with exit code 3; or start"));
  EXPECT_THAT(Refused("printf 'two\\nlines \\377' >&2; kill -SEGV $$", 1),
              HasSubstr(" was ended by signal 11: two; lines \uFFFD; or start"));
}

TEST_F(GpuCheckTest, KillsATrainerThatHangs) {
  const std::string message = Refused("exec sleep 1000", 1, std::chrono::seconds(1));
  EXPECT_THAT(message, HasSubstr("hangs, and was killed after 1 s; see whether `nvidia-smi`"));
}

TEST_F(GpuCheckTest, RefusesAnAnswerThatIsNoList) {
  for (const char* answer : {"hello", "", "{}", "[1]", "[{\"name\": \"A\"}]"}) {
    EXPECT_THAT(Refused("echo '" + std::string(answer) + "'", 1),
                HasSubstr("printed no list of GPUs; give the right program with --trainer"));
  }
}

TEST_F(GpuCheckTest, NamesAProgramThatCannotBeExecuted) {
  const absl::Status status = CheckGpus({folder_.path() + "/none", 1}, clock_);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

}  // namespace
}  // namespace sinkforge::worker
