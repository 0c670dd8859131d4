// Processes that outlive their starter, and the file that remembers them.
#include "client/process.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "client/local_instance.h"
#include "client/local_start.h"
#include "tests/unit/client/run_client.h"

namespace sinkforge::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

// False for a zombie as well: not every container's first process collects them.
bool IsAlive(int pid) {
  std::string text;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), text);
  const size_t close = text.rfind(')');
  return close != std::string::npos && text[close + 2] != 'Z' && text[close + 2] != 'X';
}

// Runs a shell script that says "ready" in its log once it listens to signals.
class ProcessTest : public testing::Test {
 protected:
  ProcessIdentity Start(const std::string& script) {
    const auto process = Spawn({.program = "/bin/sh",
                                .arguments = {"-c", script},
                                .log_file = log(),
                                .working_folder = folder_.path()});
    EXPECT_TRUE(process.ok()) << process.status();
    while (TailOfFile(log(), 100).find("ready") == std::string::npos) usleep(1000);
    return *process;
  }
  std::string log() const { return folder_.path() + "/log"; }

  TempFolder folder_;
};

TEST_F(ProcessTest, EndsInOrderWhereTheProcessObeys) {
  const ProcessIdentity process =
      Start("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done");
  EXPECT_TRUE(IsRunning(process));
  const auto result = EndProcess(process, seconds(20));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result, EndResult::kEnded);
  EXPECT_FALSE(IsRunning(process));
  EXPECT_THAT(TailOfFile(log(), 1), HasSubstr("bye"));
  EXPECT_EQ(*EndProcess(process, seconds(1)), EndResult::kNotRunning);
}

TEST_F(ProcessTest, KillsWhatDoesNotObeyAndWhatItLeavesBehind) {
  const ProcessIdentity process =
      Start("trap '' TERM; sleep 1000 & echo $! > child; echo ready; wait");
  int child = 0;
  std::ifstream(folder_.path() + "/child") >> child;
  ASSERT_GT(child, 0);
  const auto result = EndProcess(process, milliseconds(50));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result, EndResult::kKilled);
  EXPECT_FALSE(IsAlive(child));
}

TEST_F(ProcessTest, FindsLeftoversOfALeaderThatIsGone) {
  const ProcessIdentity process = Start("sleep 1000 & echo $! > child; echo ready");
  EXPECT_TRUE(WaitForExit(process, seconds(20)));
  int child = 0;
  std::ifstream(folder_.path() + "/child") >> child;
  ASSERT_TRUE(IsAlive(child));
  EXPECT_EQ(*EndProcess(process, seconds(1)), EndResult::kNotRunning);
  EXPECT_FALSE(IsAlive(child));
}

TEST_F(ProcessTest, NeverTouchesAnotherProcessWithTheSamePid) {
  const ProcessIdentity real = Start("echo ready; sleep 1000");
  ProcessIdentity other_start = real;
  other_start.start_ticks -= 1;
  ProcessIdentity other_boot = real;
  other_boot.boot_id = "another";
  for (const ProcessIdentity& stale : {other_start, other_boot}) {
    EXPECT_FALSE(IsRunning(stale));
    EXPECT_EQ(*EndProcess(stale, milliseconds(10)), EndResult::kNotRunning);
    EXPECT_TRUE(IsRunning(real));
  }
  EXPECT_EQ(*EndProcess(real, seconds(20)), EndResult::kEnded);
}

TEST_F(ProcessTest, AMissingProgramIsNamed) {
  const auto process = Spawn({"/nonexistent/x", {}, log(), "/"});
  EXPECT_TRUE(absl::IsNotFound(process.status()));
  EXPECT_THAT(std::string(process.status().message()), HasSubstr("/nonexistent/x"));
}

TEST_F(ProcessTest, NoDescriptorOfOursIsInherited) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);  // without close-on-exec, as a caller's may be
  const ProcessIdentity process = Start("echo ready; ls /proc/self/fd | wc -l > count; sleep 1000");
  std::string count;
  while (count.empty()) std::ifstream(folder_.path() + "/count") >> count;
  EXPECT_LE(std::stoi(count), 4);  // 0, 1, 2, and the folder that ls reads
  EXPECT_TRUE(EndProcess(process, seconds(20)).ok());
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST(TailOfFileTest, GivesTheLastLines) {
  TempFolder folder;
  EXPECT_EQ(TailOfFile(folder.Write("log", "a\nb\nc\n"), 2), "b\nc");
  EXPECT_EQ(TailOfFile(folder.Write("log", "a"), 5), "a");
  EXPECT_EQ(TailOfFile(folder.path() + "/none", 5), "");
}

TEST(IsPortTakenTest, SeesAListener) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  socklen_t size = sizeof(address);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  EXPECT_TRUE(IsPortTaken(ntohs(address.sin_port)));
  close(fd);
}

TEST(LocalInstanceTest, IsReadBackAsItWasWritten) {
  TempFolder folder;
  EXPECT_TRUE(absl::IsNotFound(ReadLocalInstance(folder.path()).status()));
  LocalInstance instance;
  instance.coordinator.process = {12, 345, "boot"};
  instance.coordinator.address = "127.0.0.1:7070";
  instance.worker_name = "local";
  instance.settings = {3, {"/a", "/b c"}};
  ASSERT_TRUE(WriteLocalInstance(folder.path(), instance).ok());
  const auto read = ReadLocalInstance(folder.path());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(LocalInstanceJson(*read), LocalInstanceJson(instance));
  EXPECT_EQ(StateOf(*read), LocalState::kDown);
}

TEST(LocalInstanceTest, RefusesANewerOrDamagedFile) {
  TempFolder folder;
  folder.Write("local.json", "{\"schema_version\": 2, \"coordinator\": {}, \"worker\": {}}");
  EXPECT_TRUE(absl::IsFailedPrecondition(ReadLocalInstance(folder.path()).status()));
  for (const char* text : {"", "{", "[]", "{\"schema_version\": 1}", "{\"coordinator\": 3}"}) {
    folder.Write("local.json", text);
    EXPECT_TRUE(absl::IsDataLoss(ReadLocalInstance(folder.path()).status())) << text;
  }
}

TEST(LocalSettingsTest, AreReadBackAndRefusedWhereTheFileIsNewerOrDamaged) {
  TempFolder folder;
  EXPECT_TRUE(absl::IsNotFound(ReadLocalSettings(folder.path()).status()));
  ASSERT_TRUE(WriteLocalSettings(folder.path(), {2, {"/a", "/b c"}}).ok());
  const auto read = ReadLocalSettings(folder.path());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->slots, 2);
  EXPECT_THAT(read->data_roots, testing::ElementsAre("/a", "/b c"));
  folder.Write("local-settings.json", "{\"schema_version\": 2}");
  EXPECT_TRUE(absl::IsFailedPrecondition(ReadLocalSettings(folder.path()).status()));
  for (const char* text : {"", "[]", "{\"slots\": \"two\"}", "{\"data_roots\": [3]}"}) {
    folder.Write("local-settings.json", text);
    EXPECT_TRUE(absl::IsDataLoss(ReadLocalSettings(folder.path()).status())) << text;
  }
}

TEST(LocalLockTest, OnlyOneHoldsIt) {
  TempFolder folder;
  auto first = LocalLock::Take(folder.path());
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(absl::IsUnavailable(LocalLock::Take(folder.path()).status()));
}

TEST(LocalCommandTest, WithoutAnInstanceSaysSo) {
  TempFolder folder;
  const ClientWorld world{.variables = {{"XDG_STATE_HOME", folder.path()}}};
  const ClientRun status = RunClient({"local", "status"}, world);
  EXPECT_EQ(status.code, 3);
  EXPECT_THAT(status.err, HasSubstr("sinkforge local up"));
  EXPECT_EQ(RunClient({"local", "down"}, world).code, 0);
  EXPECT_EQ(RunClient({"local", "up", "--slots", "0"}, world).code, 2);
  // The daemons are looked for beside the program; a test's is nowhere.
  const ClientRun up = RunClient({"local", "up"}, world);
  EXPECT_EQ(up.code, 3);
  EXPECT_THAT(up.err, HasSubstr("sinkforge-coordinator"));
}

}  // namespace
}  // namespace sinkforge::client
