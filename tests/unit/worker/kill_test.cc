// sinkforge-worker as a process of its own that is killed: what it answered for is not lost, what
// it left running does not stay, and the command line says what is wrong.
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/worker/fake_coordinator.h"
#include "tests/unit/worker/test_support.h"
#include "worker/process/child_process.h"
#include "worker/process/process_ledger.h"

namespace sinkforge::worker {
namespace {

using testing::HasSubstr;

constexpr int64_t kForever = 1'000'000;

class KillTest : public testing::Test {
 protected:
  ~KillTest() override {
    if (pid_ > 0) Kill(SIGKILL);
  }

  static std::string Bin(const std::string& name) {
    return std::string(std::getenv("SINKFORGE_BUILD_DIR")) + "/bin/" + name;
  }
  void Start(const std::vector<std::string>& more = {}) {
    ChildCommand command;
    command.arguments = {Bin("sinkforge-worker"),
                         "--name",
                         "node-1",
                         "--coordinator",
                         coordinator_.address(),
                         "--data-dir",
                         folder_.path() + "/data",
                         "--slots",
                         "2",
                         "--metrics-listen",
                         "127.0.0.1:0",
                         "--disk-reserve",
                         "0",
                         "--trainer",
                         Bin("worker_fake_trainer"),
                         "--port-file",
                         folder_.path() + "/ports.json"};
    for (const std::string& option : more) {  // instead of one above
      if (!option.starts_with("--")) continue;
      const auto given = std::find(command.arguments.begin(), command.arguments.end(),
                                   option.substr(0, option.find('=')));
      if (given != command.arguments.end()) command.arguments.erase(given, given + 2);
    }
    command.arguments.insert(command.arguments.end(), more.begin(), more.end());
    command.environment = CleanEnvironment(environ, 1);
    command.environment.push_back("SINKFORGE_TEST_ACKNOWLEDGED=" + folder_.path() +
                                  "/acknowledged");
    const auto child = StartChild(command, [](pid_t) { return absl::OkStatus(); });
    ASSERT_TRUE(child.ok()) << child.status();
    pid_ = child->pid;
    close(child->stdout_fd);
    stderr_fd_ = child->stderr_fd;
  }
  // Returns the exit code, or minus the signal.
  int Wait() {
    char buffer[4096];
    for (ssize_t got = 0; (got = read(stderr_fd_, buffer, sizeof(buffer))) > 0;) {
      said_.append(buffer, static_cast<size_t>(got));
    }
    close(stderr_fd_);
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  int Kill(int signal) {
    kill(pid_, signal);
    return Wait();
  }
  std::set<std::pair<int64_t, int64_t>> Acknowledged() const {
    std::set<std::pair<int64_t, int64_t>> steps;
    std::ifstream file(folder_.path() + "/acknowledged");
    int64_t attempt = 0;
    for (int64_t step = 0; file >> attempt >> step;) steps.emplace(attempt, step);
    return steps;
  }
  pid_t TrainerPid(const std::string& job) {
    pid_t pid = 0;
    EXPECT_TRUE(Eventually([&] {
      for (const std::string& line : coordinator_.logs(job)) {
        const size_t at = line.find("pid ");
        if (at != std::string::npos) pid = std::stoi(line.substr(at + 4));
      }
      return pid > 0;
    }));
    return pid;
  }
  void WantForever(const std::string& behaviour, int64_t attempt) {
    coordinator_.Want([&](v1::DesiredState* desired) {
      desired->clear_ranks();
      *desired->add_ranks() = FakeCoordinator::Rank("d4-1", behaviour, attempt, 0, kForever);
    });
  }

  TempFolder folder_;
  FakeCoordinator coordinator_;
  pid_t pid_ = 0;
  int stderr_fd_ = -1;
  std::string said_;
};

TEST_F(KillTest, EveryAcknowledgedRecordArrivesOverKills) {
  for (int64_t attempt = 1; attempt <= 3; ++attempt) {
    Start();
    WantForever("good", attempt);
    ASSERT_TRUE(Eventually([&] { return coordinator_.rank("d4-1", attempt).step() >= 10; }));
    // While the coordinator is away nothing is acknowledged by it, so everything must be in the
    // spool.
    coordinator_.Stop();
    const size_t before = Acknowledged().size();
    ASSERT_TRUE(Eventually([&] { return Acknowledged().size() > before + 20; }));
    EXPECT_EQ(Kill(SIGKILL), -SIGKILL);
    coordinator_.Want([](v1::DesiredState* desired) { desired->clear_ranks(); });
    coordinator_.Start();
  }
  Start();
  const auto acknowledged = Acknowledged();
  std::set<std::pair<int64_t, int64_t>> arrived;
  ASSERT_TRUE(Eventually([&] {
    const auto steps = coordinator_.steps("d4-1");
    arrived = {steps.begin(), steps.end()};
    return std::includes(arrived.begin(), arrived.end(), acknowledged.begin(), acknowledged.end());
  }));
  // Only a batch that was under way when the coordinator stopped may have come twice.
  EXPECT_LE(coordinator_.steps("d4-1").size(), arrived.size() + 3 * 512);
  // No holes: an attempt's records are 1, 2, ... up to its last.
  std::map<int64_t, std::pair<int64_t, int64_t>> attempts;  // last step and count
  for (const auto& [attempt, step] : arrived) {
    attempts[attempt].first = std::max(attempts[attempt].first, step);
    ++attempts[attempt].second;
  }
  EXPECT_EQ(attempts.size(), 3U);
  for (const auto& [attempt, last] : attempts) EXPECT_EQ(last.first, last.second) << attempt;
}

TEST_F(KillTest, ATrainerDiesWithItsDaemon) {
  Start();
  WantForever("good", 1);
  const pid_t trainer = TrainerPid("d4-1");
  Kill(SIGKILL);
  EXPECT_TRUE(Eventually([&] { return !ProcessStartTicks(trainer).ok(); }));
}

TEST_F(KillTest, ARestartKillsAnOrphanBeforeItOffersTheSlot) {
  Start();
  WantForever("orphan", 1);
  ASSERT_TRUE(Eventually([&] { return coordinator_.rank("d4-1", 1).step() >= 3; }));
  const pid_t orphan = TrainerPid("d4-1");
  Kill(SIGKILL);
  coordinator_.Want([](v1::DesiredState* desired) { desired->clear_ranks(); });
  ASSERT_TRUE(ProcessStartTicks(orphan).ok());
  const size_t incarnations = coordinator_.incarnations().size();
  Start();
  ASSERT_TRUE(Eventually([&] { return coordinator_.incarnations().size() > incarnations; }));
  EXPECT_FALSE(ProcessStartTicks(orphan).ok());
}

TEST_F(KillTest, SigtermDrainsAndExitsWithZero) {
  Start();
  WantForever("good", 1);
  ASSERT_TRUE(Eventually([&] { return coordinator_.rank("d4-1", 1).step() >= 3; }));
  EXPECT_EQ(Kill(SIGTERM), 0);
  EXPECT_EQ(coordinator_.rank("d4-1", 1).outcome(), v1::RANK_OUTCOME_STOPPED);
  EXPECT_EQ(coordinator_.snapshot().checkpoint_parts_size(), 1);
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/ports.json"));
}

TEST_F(KillTest, ASecondSignalKills) {
  Start({"--grace", "10m"});
  WantForever("stubborn", 1);
  ASSERT_TRUE(Eventually([&] { return coordinator_.rank("d4-1", 1).step() >= 3; }));
  kill(pid_, SIGTERM);
  ASSERT_TRUE(Eventually([&] { return coordinator_.snapshot().draining(); }));
  EXPECT_EQ(Kill(SIGINT), 0);
}

TEST_F(KillTest, PortFileNamesTheAddresses) {
  Start();
  const std::string path = folder_.path() + "/ports.json";
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(path); }));
  std::ifstream file(path);
  const auto ports = nlohmann::json::parse(file);
  EXPECT_EQ(ports["pid"], pid_);
  EXPECT_EQ(ports["worker"], "node-1");
  EXPECT_THAT(ports["address"].get<std::string>(), testing::StartsWith("127.0.0.1:"));
  EXPECT_THAT(ports["metrics_address"].get<std::string>(), testing::StartsWith("127.0.0.1:"));
}

TEST_F(KillTest, ExitCodesSayWhatIsWrong) {
  coordinator_.Refuse(
      {grpc::StatusCode::ALREADY_EXISTS,
       "worker node-1: another live worker has this name (127.0.0.1:7); stop it, or "
       "start this one with another --name"});
  Start();
  EXPECT_EQ(Wait(), 3);
  EXPECT_THAT(said_, HasSubstr("\"cannot start: worker node-1: another live worker"));
  EXPECT_THAT(said_, HasSubstr("127.0.0.1:7"));
  EXPECT_THAT(said_, HasSubstr("--name"));
  Start({"--slots", "many"});
  EXPECT_EQ(Wait(), 2);
  Start({"--data-root", "/nonexistent/folder"});
  EXPECT_EQ(Wait(), 2);
  EXPECT_THAT(said_, HasSubstr("/nonexistent/folder"));
  said_.clear();
  Start({"--metrics-listen", coordinator_.address()});
  EXPECT_EQ(Wait(), 5);
  EXPECT_THAT(said_, HasSubstr("\"cannot start: address " + coordinator_.address()));
}

TEST_F(KillTest, OptionsOutOfRangeAreRefused) {
  for (const auto& [option, message] :
       {std::pair("--grace=-1s", "--grace: is -1 s; it must be from 0 s to 720h"),
        std::pair("--grace=1e300h", "--grace"), std::pair("--no-progress=0", "--no-progress: is 0"),
        std::pair("--slots=two", "--slots: expects a whole number, not `two`"),
        std::pair("--slots=100000000000", "--slots: Value 100000000000 not in range 1 to 1024"),
        std::pair("--log-spool=-1", "--log-spool: is -1 bytes"),
        std::pair("--disk-reserve=-1", "--disk-reserve: is -1 bytes"),
        std::pair("--disk-reserve=99999999999999999999", "--disk-reserve"),
        std::pair("--coordinator=127.0.0.1",
                  "--coordinator 127.0.0.1: give host:port, with a port of 1 to 65535"),
        std::pair("--coordinator=127.0.0.1:0", "--coordinator 127.0.0.1:0: give host:port"),
        std::pair("--port-file=/nonexistent/ports.json", "there is no folder /nonexistent")}) {
    said_.clear();
    Start({option});
    EXPECT_EQ(Wait(), 2) << option;
    EXPECT_THAT(said_, HasSubstr(message));
  }
}

}  // namespace
}  // namespace sinkforge::worker
