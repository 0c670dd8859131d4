// Real child processes: crashes, exit codes, floods, stubbornness, and what a dead daemon leaves.
#include <signal.h>
#include <sys/wait.h>

#include "base/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/test_support.h"
#include "worker/process/child_answer.h"
#include "worker/process/child_process.h"
#include "worker/process/trainer_processes.h"

namespace sinkforge::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

bool IsGone(pid_t pid) { return !ProcessStartTicks(pid).ok(); }

// Runs shell scripts in the place of a trainer. Arguments: worker --socket S --parent-pid P
class ProcessTest : public testing::Test {
 protected:
  ProcessTest() : kv_(OpenKv(folder_.path() + "/store")), ledger_(kv_.get()) {}

  void Launch(const std::string& script) {
    const std::string path = folder_.path() + "/trainer.sh";
    WriteScript(path, script);
    LaunchPath(path);
  }
  void LaunchPath(const std::string& path) {
    TrainerProcessesOptions options;
    options.trainer = path;
    options.socket = "unix:/nowhere";
    TrainerProcesses::Sinks sinks;
    sinks.on_lines = [this](const RankKey&, const std::vector<v1::LogLine>& lines) {
      base::MutexLock lock(&mutex_);
      lines_.insert(lines_.end(), lines.begin(), lines.end());
    };
    sinks.on_exit = [this](const RankKey&, const TrainerExit& exit) {
      base::MutexLock lock(&mutex_);
      exits_.push_back(exit);
    };
    processes_ = std::make_unique<TrainerProcesses>(options, &ledger_, &clock_, sinks);
    processes_->Launch({kRank, "secret", 3});
  }
  bool HasLine(const std::string& text) {
    base::MutexLock lock(&mutex_);
    for (const v1::LogLine& line : lines_) {
      if (line.text().find(text) != std::string::npos) return true;
    }
    return false;
  }
  TrainerExit WaitForExit() {
    EXPECT_TRUE(Eventually([this] {
      base::MutexLock lock(&mutex_);
      return !exits_.empty();
    }));
    base::MutexLock lock(&mutex_);
    EXPECT_EQ(exits_.size(), 1U);
    return exits_.empty() ? TrainerExit() : exits_.front();
  }
  std::vector<std::string> Texts() {
    base::MutexLock lock(&mutex_);
    std::vector<std::string> texts;
    for (const v1::LogLine& line : lines_) texts.push_back(line.text());
    return texts;
  }
  int LedgerEntries() {
    int entries = 0;
    EXPECT_TRUE(kv_->Scan("process", "procest", [&](auto, auto) { return ++entries > 0; }).ok());
    return entries;
  }

  const RankKey kRank{"d4-1", 1, 0};
  TempFolder folder_;
  base::RealClock clock_;
  std::unique_ptr<base::KvStore> kv_;
  ProcessLedger ledger_;
  base::Mutex mutex_;
  std::vector<v1::LogLine> lines_;
  std::vector<TrainerExit> exits_;
  std::unique_ptr<TrainerProcesses> processes_;
};

TEST_F(ProcessTest, PassesArgumentsAndACleanEnvironment) {
  setenv("SECRET_OF_THE_DAEMON", "x", 1);
  setenv("SINKFORGE_TRAINER_TOKEN", "another", 1);
  Launch(
      "echo \"$@\"; echo \"token $SINKFORGE_TRAINER_TOKEN\"; echo \"threads $OMP_NUM_THREADS\"; "
      "echo \"secret <$SECRET_OF_THE_DAEMON>\"; pwd; wc -c; echo end >&2");
  const TrainerExit exit = WaitForExit();
  EXPECT_EQ(exit.how, TrainerExit::How::kExited);
  EXPECT_EQ(exit.code, 0);
  EXPECT_THAT(exit.stderr_tail, ElementsAre("end"));
  const auto texts = Texts();
  unsetenv("SINKFORGE_TRAINER_TOKEN");
  // Whoever lists processes sees these.
  EXPECT_THAT(texts, testing::Contains("worker --socket unix:/nowhere --parent-pid " +
                                       std::to_string(getpid())));
  EXPECT_THAT(texts, testing::Contains("token secret"));
  EXPECT_THAT(texts, testing::Contains("threads 3"));
  EXPECT_THAT(texts, testing::Contains("secret <>"));
  EXPECT_THAT(texts, testing::Contains("/"));
  EXPECT_THAT(texts, testing::Contains("0"));
  EXPECT_EQ(LedgerEntries(), 0);
}

TEST_F(ProcessTest, TellsTheExitCode) {
  Launch("exit 7");
  const TrainerExit exit = WaitForExit();
  EXPECT_EQ(exit.how, TrainerExit::How::kExited);
  EXPECT_EQ(exit.code, 7);
}

TEST_F(ProcessTest, TellsTheSignalOfACrash) {
  Launch("echo last words >&2; kill -SEGV $$");
  const TrainerExit exit = WaitForExit();
  EXPECT_EQ(exit.how, TrainerExit::How::kSignaled);
  EXPECT_EQ(exit.code, SIGSEGV);
  EXPECT_THAT(exit.stderr_tail, ElementsAre("last words"));
}

TEST_F(ProcessTest, SaysWhatCouldNotBeStarted) {
  LaunchPath(folder_.path() + "/none");
  const TrainerExit exit = WaitForExit();
  EXPECT_EQ(exit.how, TrainerExit::How::kNotStarted);
  EXPECT_THAT(exit.failure, HasSubstr("/none"));
  EXPECT_EQ(LedgerEntries(), 0);
}

TEST_F(ProcessTest, SurvivesAFloodOfOutput) {
  Launch("yes 'a line of a flood' | head -n 300000; printf 'odd \\377 bytes\\n' >&2");
  const TrainerExit exit = WaitForExit();
  EXPECT_EQ(exit.code, 0);
  EXPECT_THAT(exit.stderr_tail, ElementsAre("odd \xef\xbf\xbd bytes"));
  const auto texts = Texts();
  EXPECT_LT(texts.size(), 100'000U);
  EXPECT_TRUE(HasLine("lines left out"));
}

TEST_F(ProcessTest, KillsOneThatIgnoresEverythingElseAndItsChildren) {
  Launch("trap '' TERM INT HUP; sleep 1000 & echo child $!; while :; do sleep 1; done");
  ASSERT_TRUE(Eventually([this] { return HasLine("child "); }));
  const pid_t grandchild = std::stoi(Texts().front().substr(6));
  EXPECT_EQ(LedgerEntries(), 1);
  processes_->Kill(kRank);
  const TrainerExit exit = WaitForExit();
  EXPECT_EQ(exit.how, TrainerExit::How::kSignaled);
  EXPECT_EQ(exit.code, SIGKILL);
  EXPECT_TRUE(Eventually([&] { return IsGone(grandchild); }));
  EXPECT_EQ(LedgerEntries(), 0);
}

TEST_F(ProcessTest, LeavesNoChildrenOfOneThatEndsByItself) {
  Launch("sleep 1000 & echo child $!");
  EXPECT_EQ(WaitForExit().code, 0);
  const pid_t grandchild = std::stoi(Texts().front().substr(6));
  EXPECT_TRUE(Eventually([&] { return IsGone(grandchild); }));
}

TEST_F(ProcessTest, KillsWhatRunsWhenItGoesAway) {
  Launch("echo up $$; exec sleep 1000");
  ASSERT_TRUE(Eventually([this] { return HasLine("up "); }));
  const pid_t pid = std::stoi(Texts().front().substr(3));
  processes_.reset();
  EXPECT_TRUE(IsGone(pid));
  EXPECT_EQ(WaitForExit().code, SIGKILL);
}

TEST_F(ProcessTest, RunsManyAtTheSameTime) {
  Launch("exit 0");
  for (int rank = 1; rank <= 20; ++rank) processes_->Launch({{"d4-1", 1, rank}, "t", 1});
  EXPECT_TRUE(Eventually([this] {
    base::MutexLock lock(&mutex_);
    return exits_.size() == 21;
  }));
}

TEST_F(ProcessTest, LedgerKillsWhatAFormerLifeLeft) {
  ChildCommand command;
  command.arguments = {"/bin/sleep", "1000"};
  const auto child = StartChild(command, [&](pid_t pid) { return ledger_.Add(pid); });
  ASSERT_TRUE(child.ok());
  ProcessLedger next_life(kv_.get());
  const auto killed = next_life.KillLeftovers(std::chrono::seconds(30));
  ASSERT_TRUE(killed.ok()) << killed.status();
  EXPECT_EQ(*killed, 1);
  EXPECT_TRUE(IsGone(child->pid));
  EXPECT_EQ(LedgerEntries(), 0);
  waitpid(child->pid, nullptr, 0);
  close(child->stdout_fd);
  close(child->stderr_fd);
}

TEST_F(ProcessTest, LedgerLeavesAloneAProcessThatOnlyHasTheSamePid) {
  base::KvBatch batch;
  batch.Put(base::KeyBuilder("process").Number(getpid()).key(), "12345 some-other-boot");
  ASSERT_TRUE(kv_->Write(batch, base::Durability::kLogged).ok());
  EXPECT_EQ(ledger_.KillLeftovers(std::chrono::seconds(1)).value(), 0);
  EXPECT_EQ(LedgerEntries(), 0);
}

class AskChildTest : public testing::Test {
 protected:
  absl::StatusOr<ChildAnswer> Ask(const std::string& script, std::chrono::nanoseconds limit) const {
    return AskChild({{"/bin/sh", "-c", script}, {"PATH=/usr/bin:/bin"}}, limit, clock_);
  }

  base::RealClock clock_;
};

TEST_F(AskChildTest, HearsBothStreamsToTheirEndAndTheExitCode) {
  const auto answer = Ask("echo out; echo err >&2; exit 7", std::chrono::minutes(1));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->out, "out\n");
  EXPECT_EQ(answer->err, "err\n");
  EXPECT_EQ(answer->exit_code, 7);
  EXPECT_EQ(Ask("kill -SEGV $$", std::chrono::minutes(1))->exit_code, -SIGSEGV);
}

TEST_F(AskChildTest, KeepsTheBeginningOfAFlood) {
  const auto answer = Ask("yes | head -c 5000000", std::chrono::minutes(1));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->out.size(), size_t{1} << 20);
}

TEST_F(AskChildTest, LeavesNoChildrenOfOneThatEndsByItself) {
  const auto answer = Ask("sleep 1000 & echo $!", std::chrono::minutes(1));
  ASSERT_TRUE(answer.ok()) << answer.status();
  const pid_t grandchild = std::stoi(answer->out);
  EXPECT_TRUE(Eventually([&] { return IsGone(grandchild); }));
}

TEST_F(AskChildTest, KillsOneThatHangs) {
  // Closing its output is no end.
  const auto answer = Ask("exec >&- 2>&-; exec sleep 1000", std::chrono::milliseconds(200));
  EXPECT_TRUE(absl::IsDeadlineExceeded(answer.status())) << answer.status();
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "it is not reaped";
}

TEST_F(AskChildTest, DoesNotWaitForAProcessThatLeftTheGroup) {
  const TempFolder folder;
  const std::string left = folder.path() + "/left";
  const auto answer = Ask("setsid sh -c 'echo $$ > " + left + "; exec sleep 1000' &\n" +
                              "until test -s " + left + "; do :; done; cat " + left,
                          std::chrono::minutes(10));
  ASSERT_TRUE(answer.ok()) << answer.status();
  const pid_t grandchild = std::stoi(answer->out);
  EXPECT_FALSE(IsGone(grandchild));
  kill(grandchild, SIGKILL);
}

TEST(CleanEnvironmentTest, KeepsOnlyWhatIsNeeded) {
  const char* const ours[] = {"PATH=/bin", "AWS_SECRET=x",           "PATHOLOGY=1",
                              "LC_ALL=C",  "CUDA_VISIBLE_DEVICES=1", "OMP_NUM_THREADS=64",
                              nullptr};
  EXPECT_THAT(CleanEnvironment(ours, 2),
              ElementsAre("PATH=/bin", "LC_ALL=C", "CUDA_VISIBLE_DEVICES=1", "OMP_NUM_THREADS=2",
                          "OMP_WAIT_POLICY=PASSIVE"));
}

TEST(CleanEnvironmentTest, ShowsATrainerItsGpuAlone) {
  const char* const all[] = {"PATH=/bin", nullptr};
  EXPECT_THAT(CleanEnvironment(all, 1, 2), testing::Contains("CUDA_VISIBLE_DEVICES=2"));
  const char* const some[] = {"CUDA_VISIBLE_DEVICES=4,GPU-a1,7", nullptr};
  EXPECT_THAT(
      CleanEnvironment(some, 1, 1),
      ElementsAre("CUDA_VISIBLE_DEVICES=GPU-a1", "OMP_NUM_THREADS=1", "OMP_WAIT_POLICY=PASSIVE"));
}

}  // namespace
}  // namespace sinkforge::worker
