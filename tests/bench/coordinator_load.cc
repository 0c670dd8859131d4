// The coordinator under load: a real coordinator process, simulated workers over gRPC. Prints a
// line for each figure; RESULTS.md has some, coordinator_load.sh makes them all.
//
// `starts`: fills the queue, connects the workers and counts job starts while the queue is kept
// full, with submissions measured beside it. `restart`: kills the coordinator under 1,000 running
// and many queued jobs, starts it again, and waits until every worker has its work confirmed.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <semaphore>
#include <sstream>
#include <string>
#include <thread>

#include "base/rpc.h"
#include "load_worker.h"
#include "sinkforge/v1/job_service.grpc.pb.h"

namespace sinkforge::bench {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

struct Options {
  std::string mode = "starts";
  std::string coordinator;  // the program
  std::string data_dir;
  int workers = 1000;
  int slots = 2;
  int queue = 10000;
  int measure_seconds = 20;
  int job_milliseconds = 500;
};

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "coordinator_load: %s\n", message.c_str());
  std::exit(1);
}

double Seconds(steady_clock::duration time) { return duration<double>(time).count(); }

// Milliseconds; `share` of the samples are at most that.
double Quantile(std::vector<double> samples, double share) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  const auto index = static_cast<size_t>(share * static_cast<double>(samples.size() - 1) + 0.5);
  return samples[index] * 1e3;
}

// The coordinator's process.
class Process {
 public:
  Process(const Options& options, int port) {
    const std::string port_file = options.data_dir + "/port.json";
    std::filesystem::remove(port_file);
    const std::string listen = "127.0.0.1:" + std::to_string(port);
    const std::string data = options.data_dir + "/data";
    pid_ = fork();
    if (pid_ == 0) {
      const int log =
          open((options.data_dir + "/log").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0644);
      dup2(log, 1);
      dup2(log, 2);
      execl(options.coordinator.c_str(), "sinkforge-coordinator", "--listen", listen.c_str(),
            "--metrics-listen", "", "--data-dir", data.c_str(), "--port-file", port_file.c_str(),
            static_cast<char*>(nullptr));
      _exit(127);
    }
    while (port_ == 0) {
      if (waitpid(pid_, nullptr, WNOHANG) == pid_) Die("the coordinator does not start; see log");
      std::ifstream file(port_file);
      std::string line;
      if (std::getline(file, line)) std::sscanf(line.c_str(), "{\"port\": %d", &port_);
      std::this_thread::sleep_for(milliseconds(2));
    }
  }
  ~Process() { Kill(); }

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  int port() const { return port_; }

  // User and system time so far, seconds.
  double CpuSeconds() const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    std::istringstream fields(text.substr(text.rfind(')') + 2));
    std::string skipped;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    double user = 0;
    double system = 0;
    fields >> user >> system;
    return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  }
  double PeakMebibytes() const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
    std::string line;
    double kibibytes = 0;
    while (std::getline(file, line)) {
      if (line.rfind("VmHWM:", 0) == 0) kibibytes = std::atof(line.c_str() + 6);
    }
    return kibibytes / 1024;
  }

 private:
  pid_t pid_ = -1;
  int port_ = 0;
};

// What a synced write of 4 KiB takes on the disk of the data: milliseconds.
std::vector<double> SyncTimes(const std::string& folder) {
  const std::string path = folder + "/sync-probe";
  const int file = open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644);
  const std::string block(4096, 'x');
  std::vector<double> times;
  for (int i = 0; i < 500; ++i) {
    const auto begin = steady_clock::now();
    if (write(file, block.data(), block.size()) != 4096 || fdatasync(file) != 0) Die("disk");
    times.push_back(Seconds(steady_clock::now() - begin));
  }
  close(file);
  std::filesystem::remove(path);
  return times;
}

// Submissions; at most `kInFlight` at a time.
class Submitter {
 public:
  explicit Submitter(const std::string& address)
      : stub_(v1::JobService::NewStub(base::MakeChannel(address))) {}

  // Blocks while too many are under way.
  void Submit() {
    slots_.acquire();
    auto call = std::make_shared<Call>();
    call->request.set_request_id("r" + std::to_string(++count_) + "-" + std::to_string(getpid()));
    v1::JobSpec* spec = call->request.mutable_spec();
    spec->set_name("load");
    spec->mutable_data()->add_train("corpus/*.txt");
    spec->mutable_data()->add_validation("validation.txt");
    spec->mutable_train()->set_steps(100);
    spec->mutable_checkpoint()->set_keep(1);
    const auto begin = steady_clock::now();
    stub_->async()->SubmitJob(&call->context, &call->request, &call->response,
                              [this, call, begin](const grpc::Status& status) {
                                if (!status.ok()) Die("submit: " + status.error_message());
                                {
                                  const std::lock_guard<std::mutex> lock(mutex_);
                                  times_.push_back(Seconds(steady_clock::now() - begin));
                                }
                                slots_.release();
                              });
  }
  // All have been answered; their times, which are forgotten.
  std::vector<double> Finish() {
    for (int i = 0; i < kInFlight; ++i) slots_.acquire();
    for (int i = 0; i < kInFlight; ++i) slots_.release();
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(times_, {});
  }

 private:
  static constexpr int kInFlight = 32;
  struct Call {
    grpc::ClientContext context;
    v1::SubmitJobRequest request;
    v1::Job response;
  };
  std::unique_ptr<v1::JobService::Stub> stub_;
  std::counting_semaphore<kInFlight> slots_{kInFlight};
  int64_t count_ = 0;
  std::mutex mutex_;
  std::vector<double> times_;
};

// The workers, and the thread that pumps them.
class Fleet {
 public:
  Fleet(const Options& options, int port, milliseconds job_time) {
    for (int i = 0; i < options.workers; ++i) {
      LoadWorkerOptions worker;
      worker.name = "w" + std::to_string(i);
      worker.coordinator = "127.0.0.1:" + std::to_string(port);
      worker.slots = options.slots;
      worker.job_time = job_time;
      workers_.push_back(std::make_unique<LoadWorker>(worker, &counts_));
    }
    thread_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        for (const auto& worker : workers_) worker->Pump(steady_clock::now());
        std::this_thread::sleep_for(milliseconds(2));
      }
    });
  }
  ~Fleet() {
    thread_ = {};
    for (const auto& worker : workers_) worker->Close();
  }

  LoadCounts& counts() { return counts_; }
  int connected() const {
    return static_cast<int>(std::count_if(workers_.begin(), workers_.end(), [](const auto& worker) {
      return worker->is_connected();
    }));
  }

 private:
  LoadCounts counts_;
  std::vector<std::unique_ptr<LoadWorker>> workers_;
  std::jthread thread_;
};

void Await(const char* what, const std::function<bool()>& is_so) {
  const auto begin = steady_clock::now();
  while (!is_so()) {
    if (steady_clock::now() - begin > seconds(600)) Die(std::string(what) + ": not within 10 min");
    std::this_thread::sleep_for(milliseconds(2));
  }
}

void MeasureStarts(const Options& options) {
  const std::vector<double> idle_sync = SyncTimes(options.data_dir);
  Process coordinator(options, 0);
  Submitter filler("127.0.0.1:" + std::to_string(coordinator.port()));
  const auto fill_begin = steady_clock::now();
  for (int i = 0; i < options.queue; ++i) filler.Submit();
  const std::vector<double> fill_times = filler.Finish();
  const double fill_seconds = Seconds(steady_clock::now() - fill_begin);
  std::printf("fill: %d submissions, 32 at a time: %.0f per second, p50 %.2f ms, p99 %.2f ms\n",
              options.queue, options.queue / fill_seconds, Quantile(fill_times, 0.5),
              Quantile(fill_times, 0.99));
  Fleet fleet(options, coordinator.port(), milliseconds(options.job_milliseconds));
  Await("workers", [&] { return fleet.connected() == options.workers; });
  Await("the first starts", [&] { return fleet.counts().starts() >= options.workers; });
  // Submissions that refill the queue keep it as long as it was: one for each start.
  Submitter probe("127.0.0.1:" + std::to_string(coordinator.port()));
  std::vector<double> disk_sync;
  const int64_t starts_before = fleet.counts().starts();
  const double cpu_before = coordinator.CpuSeconds();
  const auto begin = steady_clock::now();
  std::jthread refill([&](const std::stop_token& stop) {
    int64_t submitted = starts_before;
    while (!stop.stop_requested()) {
      for (; submitted < fleet.counts().starts() && !stop.stop_requested(); ++submitted) {
        filler.Submit();
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  while (steady_clock::now() - begin < seconds(options.measure_seconds)) {
    probe.Submit();
    std::this_thread::sleep_for(milliseconds(20));
  }
  const double elapsed = Seconds(steady_clock::now() - begin);
  const int64_t starts = fleet.counts().starts() - starts_before;
  const double cpu = coordinator.CpuSeconds() - cpu_before;
  refill = {};
  const std::vector<double> probe_times = probe.Finish();
  filler.Finish();
  disk_sync = SyncTimes(options.data_dir);
  std::printf("starts: queue %d, %d workers: %.0f per second over %.0f s, %.0f us of CPU a start\n",
              options.queue, options.workers, static_cast<double>(starts) / elapsed, elapsed,
              cpu / static_cast<double>(starts) * 1e6);
  std::printf("submit beside the starts: p50 %.2f ms, p99 %.2f ms of %zu\n",
              Quantile(probe_times, 0.5), Quantile(probe_times, 0.99), probe_times.size());
  std::printf("disk: fdatasync of 4 KiB, p99 %.2f ms before, %.2f ms beside the load\n",
              Quantile(idle_sync, 0.99), Quantile(disk_sync, 0.99));
  std::printf("memory: %.0f MiB at most\n", coordinator.PeakMebibytes());
  std::fflush(stdout);
}

void MeasureRestart(const Options& options) {
  auto coordinator = std::make_unique<Process>(options, 0);
  const int port = coordinator->port();
  const int running = options.workers * options.slots;
  // Jobs that do not end: what is running now must be running afterwards.
  Fleet fleet(options, port, std::chrono::hours(10));
  Submitter submitter("127.0.0.1:" + std::to_string(port));
  for (int i = 0; i < options.queue + running; ++i) submitter.Submit();
  submitter.Finish();
  Await("all running", [&] { return fleet.counts().starts() == running; });
  // Every worker has reported what it runs.
  std::this_thread::sleep_for(seconds(2));
  coordinator->Kill();
  const auto begin = steady_clock::now();
  coordinator = std::make_unique<Process>(options, port);
  const double ready = Seconds(steady_clock::now() - begin);
  Await("no stream of the old one", [&] {
    return fleet.connected() < options.workers || steady_clock::now() - begin > seconds(2);
  });
  Await("workers", [&] { return fleet.connected() == options.workers; });
  const double connected = Seconds(steady_clock::now() - begin);
  // Longer than the lease: whoever was not adopted would have been taken back.
  std::this_thread::sleep_for(seconds(8));
  std::printf(
      "restart: %d running and %d queued jobs, %d workers: ready after %.2f s, all workers "
      "confirmed after %.2f s, %lld jobs restarted, %lld started anew\n",
      running, options.queue, options.workers, ready, connected,
      static_cast<long long>(fleet.counts().taken_back()),
      static_cast<long long>(fleet.counts().starts() - running));
  std::fflush(stdout);
  if (fleet.counts().taken_back() + fleet.counts().starts() - running != 0) {
    Die("a healthy job was restarted");
  }
}

}  // namespace
}  // namespace sinkforge::bench

int main(int argc, char** argv) {
  sinkforge::bench::Options options;
  CLI::App app("Measures a coordinator under load; see coordinator_load.sh.");
  app.add_option("mode", options.mode)->check(CLI::IsMember({"starts", "restart"}))->required();
  app.add_option("--coordinator", options.coordinator, "the program")->required();
  app.add_option("--data-dir", options.data_dir, "an empty folder")->required();
  app.add_option("--workers", options.workers);
  app.add_option("--slots", options.slots, "of each worker");
  app.add_option("--queue", options.queue, "jobs that wait");
  app.add_option("--seconds", options.measure_seconds);
  app.add_option("--job-milliseconds", options.job_milliseconds);
  CLI11_PARSE(app, argc, argv);
  if (options.mode == "starts") {
    sinkforge::bench::MeasureStarts(options);
  } else {
    sinkforge::bench::MeasureRestart(options);
  }
  return 0;
}
