// The program sinkforge-coordinator: flags, ports, signals, exit codes, /metrics, and kill -9.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/kv_store.h"
#include "base/rpc.h"
#include "sinkforge/v1/job_service.grpc.pb.h"
#include "tests/unit/http_get.h"
#include "tests/unit/server/records.h"

extern char** environ;

namespace sinkforge::server {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

int NumberAfter(const std::string& text, const std::string& key) {
  const size_t at = text.find(key);
  return at == std::string::npos ? 0 : std::atoi(text.c_str() + at + key.size());
}

// One run of the program; its output goes to files in the folder.
class Program {
 public:
  Program(const TempFolder& folder, std::vector<std::string> flags) : folder_(folder.path()) {
    const char* build = std::getenv("SINKFORGE_BUILD_DIR");
    std::string path = absl::StrCat(build == nullptr ? "." : build, "/bin/sinkforge-coordinator");
    std::filesystem::remove(port_file());
    if (std::find(flags.begin(), flags.end(), "--port-file") == flags.end()) {
      flags.insert(flags.begin(), {"--port-file", port_file()});
    }
    flags.insert(flags.begin(), path);
    std::vector<char*> arguments;
    for (std::string& flag : flags) arguments.push_back(flag.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    const int mode = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&actions, 1, (folder_ + "/stdout").c_str(), mode, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, (folder_ + "/stderr").c_str(), mode, 0600);
    EXPECT_EQ(posix_spawn(&pid_, path.c_str(), &actions, nullptr, arguments.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  ~Program() {
    if (pid_ > 0) Kill(SIGKILL);
  }

  // The port file is written last: the program serves when it is there. False: it ended instead.
  bool AwaitReady() {
    while (!std::filesystem::exists(port_file())) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = 0;
        return false;
      }
    }
    return true;
  }
  int port() const { return NumberAfter(ReadAll(port_file()), "\"port\": "); }
  int metrics_port() const { return NumberAfter(ReadAll(port_file()), "\"metrics_port\": "); }
  // The wait status.
  int Kill(int signal) {
    kill(pid_, signal);
    return Wait();
  }
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return status;
  }
  std::string out() const { return ReadAll(folder_ + "/stdout"); }
  std::string err() const { return ReadAll(folder_ + "/stderr"); }

 private:
  std::string port_file() const { return folder_ + "/ports.json"; }

  const std::string folder_;
  pid_t pid_ = 0;
};

std::vector<std::string> FlagsFor(const TempFolder& folder) {
  return {"--listen",         "127.0.0.1:0", "--data-dir", folder.path() + "/data",
          "--metrics-listen", "127.0.0.1:0"};
}

std::vector<std::string> With(std::vector<std::string> flags, std::vector<std::string> more) {
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

std::unique_ptr<v1::JobService::Stub> JobsAt(int port) {
  return v1::JobService::NewStub(base::MakeChannel(absl::StrCat("127.0.0.1:", port)));
}

TEST(ProcessTest, KeepsASubmissionOverKillRightAfterTheAnswer) {
  TempFolder folder;
  v1::Job job;
  {
    Program program(folder, FlagsFor(folder));
    ASSERT_TRUE(program.AwaitReady()) << program.err();
    const auto jobs = JobsAt(program.port());
    grpc::ClientContext context;
    const grpc::Status status = jobs->SubmitJob(&context, MakeSubmission("r1"), &job);
    const int ended = program.Kill(SIGKILL);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(WIFSIGNALED(ended));
  }
  Program program(folder, FlagsFor(folder));
  ASSERT_TRUE(program.AwaitReady()) << program.err();
  const auto jobs = JobsAt(program.port());
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_job_id(job.job_id());
  v1::Job kept;
  ASSERT_TRUE(jobs->GetJob(&context, request, &kept).ok());
  EXPECT_EQ(kept.spec().SerializeAsString(), job.spec().SerializeAsString());
  grpc::ClientContext again;
  v1::Job repeated;
  ASSERT_TRUE(jobs->SubmitJob(&again, MakeSubmission("r1"), &repeated).ok());
  EXPECT_EQ(repeated.job_id(), job.job_id());
}

TEST(ProcessTest, StopsGracefullyAndSaysWhatItDoes) {
  TempFolder folder;
  Program program(folder, FlagsFor(folder));
  ASSERT_TRUE(program.AwaitReady()) << program.err();
  const int status = program.Kill(SIGTERM);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(program.out(), "") << "what it says is structured, and on stderr";
  EXPECT_TRUE(absl::StrContains(program.err(), "\"message\":\"ready\""));
  EXPECT_TRUE(absl::StrContains(program.err(), "\"message\":\"stopped\""));
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/ports.json"));
}

TEST(ProcessTest, ShowsMetricsOfTheFleet) {
  TempFolder folder;
  Program program(folder, FlagsFor(folder));
  ASSERT_TRUE(program.AwaitReady()) << program.err();
  const auto jobs = JobsAt(program.port());
  grpc::ClientContext context;
  v1::Job job;
  ASSERT_TRUE(jobs->SubmitJob(&context, MakeSubmission("r1"), &job).ok());
  const std::string text = HttpGet(program.metrics_port(), "/metrics");
  for (const char* line :
       {"sinkforge_jobs{state=\"queued\"} 1", "sinkforge_jobs{state=\"running\"} 0",
        "sinkforge_workers{state=\"live\"} 0", "sinkforge_slots{device=\"cpu\",state=\"free\"} 0",
        "sinkforge_queue_oldest_seconds", "sinkforge_build_info{version=\"",
        "sinkforge_rpc_seconds_count{method=\"JobService/SubmitJob\"} 1",
        "sinkforge_store_write_seconds_count 1", "sinkforge_scheduling_seconds_count",
        "sinkforge_step_records_total 0",
        "sinkforge_job_attempts_total{reason=\"worker_lost\"} 0"}) {
    EXPECT_TRUE(absl::StrContains(text, line)) << line << "\n" << text;
  }
  // What no attempt ends by, and what is not ours.
  for (const char* word : {"reason=\"submitted\"", "reason=\"unspecified\"", "exposer_"}) {
    EXPECT_FALSE(absl::StrContains(text, word)) << word << "\n" << text;
  }
}

TEST(ProcessTest, NamesAnAddressInUse) {
  TempFolder first_folder;
  TempFolder second_folder;
  Program first(first_folder, FlagsFor(first_folder));
  ASSERT_TRUE(first.AwaitReady()) << first.err();
  for (const auto& [flag, port] : std::vector<std::pair<std::string, int>>{
           {"--listen", first.port()}, {"--metrics-listen", first.metrics_port()}}) {
    const std::string address = absl::StrCat("127.0.0.1:", port);
    std::vector<std::string> flags = {"--data-dir",
                                      second_folder.path() + "/data",
                                      flag,
                                      address,
                                      flag == "--listen" ? "--metrics-listen" : "--listen",
                                      "127.0.0.1:0"};
    Program second(second_folder, flags);
    EXPECT_EQ(WEXITSTATUS(second.Wait()), 5);
    EXPECT_TRUE(absl::StrContains(second.err(), address)) << second.err();
    EXPECT_TRUE(absl::StrContains(second.err(), flag)) << second.err();
  }
}

TEST(ProcessTest, NamesALockedDataDirectory) {
  TempFolder folder;
  Program first(folder, FlagsFor(folder));
  ASSERT_TRUE(first.AwaitReady()) << first.err();
  TempFolder other;
  Program second(other, FlagsFor(folder));
  EXPECT_EQ(WEXITSTATUS(second.Wait()), 4);
  EXPECT_TRUE(absl::StrContains(second.err(), "another process")) << second.err();
}

TEST(ProcessTest, RefusesDataOfANewerVersion) {
  TempFolder folder;
  base::KvOptions options;
  options.path = folder.path() + "/data/history";
  options.schema_version = 99;
  std::filesystem::create_directories(folder.path() + "/data");
  ASSERT_TRUE(base::KvStore::Open(options).ok());
  Program program(folder, FlagsFor(folder));
  EXPECT_EQ(WEXITSTATUS(program.Wait()), 4);
  EXPECT_TRUE(absl::StrContains(program.err(), "newer")) << program.err();
}

TEST(ProcessTest, RefusesWrongFlags) {
  TempFolder folder;
  for (const auto& more : std::vector<std::vector<std::string>>{{"--lease", "0"},
                                                                {"--lease", "-5"},
                                                                {"--lease", "nan"},
                                                                {"--lease", "1e300"},
                                                                {"--lease", "soon"},
                                                                {"--history-bytes", "7"},
                                                                {"--no-such-flag"},
                                                                {"--log-bytes", "-1"}}) {
    Program program(folder, With(FlagsFor(folder), more));
    EXPECT_EQ(WEXITSTATUS(program.Wait()), 2) << more[0] << program.err();
  }
  for (const char* flag : {"--listen", "--metrics-listen"}) {
    std::vector<std::string> flags = FlagsFor(folder);
    *(std::find(flags.begin(), flags.end(), flag) + 1) = "0.0.0.0:0";
    Program program(folder, flags);
    EXPECT_EQ(WEXITSTATUS(program.Wait()), 2);
    EXPECT_TRUE(absl::StrContains(program.err(), "--insecure-listen")) << program.err();
  }
  Program nowhere(folder, With(FlagsFor(folder), {"--port-file", "/nonexistent/ports.json"}));
  EXPECT_EQ(WEXITSTATUS(nowhere.Wait()), 2);
  EXPECT_TRUE(absl::StrContains(nowhere.err(), "there is no folder /nonexistent")) << nowhere.err();
  Program without(folder, {"--listen", "127.0.0.1:0"});
  EXPECT_EQ(WEXITSTATUS(without.Wait()), 2);
}

TEST(ProcessTest, ListensElsewhereWhenToldTo) {
  TempFolder folder;
  std::vector<std::string> flags = With(FlagsFor(folder), {"--insecure-listen"});
  *(std::find(flags.begin(), flags.end(), "--listen") + 1) = "0.0.0.0:0";
  Program program(folder, flags);
  EXPECT_TRUE(program.AwaitReady()) << program.err();
}

TEST(ProcessTest, PrintsItsVersion) {
  TempFolder folder;
  Program program(folder, {"--version"});
  EXPECT_EQ(WEXITSTATUS(program.Wait()), 0);
  EXPECT_TRUE(absl::StrContains(program.out(), "sinkforge-coordinator 0.")) << program.out();
}

}  // namespace
}  // namespace sinkforge::server
