// The coordinator under load: a real coordinator process, simulated workers over gRPC. Prints a
// line for each figure; coordinator_load.sh makes all those of RESULTS.md.
//
// `starts`: fills the queue, connects the workers and counts job starts while the queue is kept
// full, with submissions measured beside it. `restart`: kills the coordinator while one job runs
// on each worker, others start and end beside them and many wait; starts it again, and waits until
// every worker has its work confirmed. Nothing may be started twice, nothing acknowledged be lost.
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "load_process.h"
#include "load_submitter.h"
#include "load_worker.h"

namespace sinkforge::bench {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

struct Options {
  std::string mode;
  std::string coordinator;  // the program
  std::string data_dir;
  int workers = 1000;
  int slots = 2;
  int queue = 10000;
  int measure_seconds = 20;
  // With 2,000 slots a load of 1,200 starts per second, if the coordinator keeps up.
  int job_milliseconds = 1660;
};

double SecondsSince(steady_clock::time_point begin) {
  return duration<double>(steady_clock::now() - begin).count();
}

// Milliseconds; `share` of the samples, which are seconds, are at most that.
double Quantile(std::vector<double> samples, double share) {
  if (samples.empty()) Die("nothing was measured; give more --seconds");
  std::sort(samples.begin(), samples.end());
  const auto index = static_cast<size_t>(share * static_cast<double>(samples.size() - 1) + 0.5);
  return samples[index] * 1e3;
}

// The workers, and the thread that pumps them.
class Fleet {
 public:
  Fleet(const Options& options, int port, int lasting_slots) {
    for (int i = 0; i < options.workers; ++i) {
      LoadWorkerOptions worker;
      worker.name = "w" + std::to_string(i);
      worker.coordinator = "127.0.0.1:" + std::to_string(port);
      worker.slots = options.slots;
      worker.lasting_slots = lasting_slots;
      worker.job_time = milliseconds(options.job_milliseconds);
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

  const LoadCounts& counts() const { return counts_; }
  std::vector<int64_t> confirmed_streams() const {
    std::vector<int64_t> confirmed;
    for (const auto& worker : workers_) confirmed.push_back(worker->confirmed_streams());
    return confirmed;
  }
  // Every worker has had its work confirmed on a stream that is later than that.
  bool IsConfirmedAfter(const std::vector<int64_t>& streams) const {
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (workers_[i]->confirmed_streams() <= streams[i]) return false;
    }
    return true;
  }

 private:
  LoadCounts counts_;
  std::vector<std::unique_ptr<LoadWorker>> workers_;
  std::jthread thread_;
};

void Await(const char* what, const std::function<bool()>& is_so) {
  const auto begin = steady_clock::now();
  while (!is_so()) {
    if (steady_clock::now() - begin > seconds(300)) Die(std::string(what) + ": not within 5 min");
    std::this_thread::sleep_for(milliseconds(2));
  }
}

void PrintSubmissions(const char* what, const std::vector<double>& times) {
  std::printf("%s: %zu submissions, p50 %.2f ms, p99 %.2f ms, worst %.2f ms\n", what, times.size(),
              Quantile(times, 0.5), Quantile(times, 0.99), Quantile(times, 1));
}

void CheckUndisturbed(const LoadCounts& counts) {
  if (counts.restarts + counts.taken_back != 0) Die("a healthy job was stopped or started again");
}

void MeasureStarts(const Options& options) {
  const std::vector<double> sync_before = SyncTimes(options.data_dir);
  CoordinatorProcess coordinator(options.coordinator, options.data_dir, 0);
  Submitter filler(coordinator.address(), "filler");
  const auto fill_begin = steady_clock::now();
  for (int i = 0; i < options.queue; ++i) filler.Submit();
  filler.Finish();
  std::printf("fill: queue %d, %.0f submissions per second, 32 at a time\n", options.queue,
              options.queue / SecondsSince(fill_begin));
  Fleet fleet(options, coordinator.port(), 0);
  const LoadCounts& counts = fleet.counts();
  const std::vector<int64_t> none(static_cast<size_t>(options.workers), 0);
  Await("workers", [&] { return fleet.IsConfirmedAfter(none); });
  auto refill = std::make_unique<Refill>(&filler, [&] { return counts.starts.load(); });
  // Past the burst in which all slots get their first job.
  Await("the first starts", [&] { return counts.starts >= 2 * options.workers * options.slots; });

  Submitter probe(coordinator.address(), "probe");
  filler.TakeTimes();
  const int64_t starts_before = counts.starts;
  const double cpu_before = coordinator.CpuSeconds();
  const auto begin = steady_clock::now();
  while (steady_clock::now() - begin < seconds(options.measure_seconds)) {
    probe.Submit();
    std::this_thread::sleep_for(milliseconds(20));
  }
  const double elapsed = SecondsSince(begin);
  const auto starts = static_cast<double>(counts.starts - starts_before);
  const double cpu = coordinator.CpuSeconds() - cpu_before;
  const std::vector<double> sync_beside = SyncTimes(options.data_dir);
  refill.reset();
  probe.Finish();
  filler.Finish();
  std::printf("starts: queue %d, %d workers: %.0f per second over %.0f s, %.0f us of CPU each\n",
              options.queue, options.workers, starts / elapsed, elapsed, cpu / starts * 1e6);
  PrintSubmissions("one every 20 ms", probe.TakeTimes());
  PrintSubmissions("one for each start", filler.TakeTimes());
  std::printf("disk: fdatasync of 4 KiB, p99 %.2f ms before, %.2f ms beside the load\n",
              Quantile(sync_before, 0.99), Quantile(sync_beside, 0.99));
  std::printf("memory: %.0f MiB at most\n", coordinator.PeakMebibytes());
  std::fflush(stdout);
  CheckUndisturbed(counts);
}

// Seconds after the kill.
struct Recovery {
  std::optional<double> serves;      // the process is there
  std::optional<double> confirmed;   // every worker has its work confirmed
  std::optional<double> submission;  // a client that keeps trying has an answer
  std::optional<double> start;       // another job starts
};

Recovery KillAndRecover(const Options& options, const Fleet& fleet,
                        std::unique_ptr<CoordinatorProcess>* coordinator) {
  const int port = (*coordinator)->port();
  Submitter client((*coordinator)->address(), "client");
  const std::vector<int64_t> streams = fleet.confirmed_streams();
  Recovery recovery;
  const auto begin = steady_clock::now();
  (*coordinator)->Kill();
  *coordinator = std::make_unique<CoordinatorProcess>(options.coordinator, options.data_dir, port);
  recovery.serves = SecondsSince(begin);
  const int64_t starts = fleet.counts().starts;
  const auto note = [&](bool is_so, std::optional<double>* when) {
    if (is_so && !when->has_value()) *when = SecondsSince(begin);
  };
  Await("recovery", [&] {
    if (!recovery.submission.has_value()) client.Submit();
    note(fleet.IsConfirmedAfter(streams), &recovery.confirmed);
    note(client.acknowledged_count() > 0, &recovery.submission);
    note(fleet.counts().starts > starts, &recovery.start);
    return recovery.confirmed && recovery.submission && recovery.start;
  });
  return recovery;
}

void MeasureRestart(const Options& options) {
  auto coordinator = std::make_unique<CoordinatorProcess>(options.coordinator, options.data_dir, 0);
  Submitter submitter(coordinator->address(), "filler");
  for (int i = 0; i < options.queue + options.workers; ++i) submitter.Submit();
  Fleet fleet(options, coordinator->port(), 1);
  const LoadCounts& counts = fleet.counts();
  auto refill = std::make_unique<Refill>(&submitter, [&] { return counts.starts.load(); });
  Await("lasting jobs", [&] { return counts.lasting_starts == options.workers; });
  // Some turnover on the other slots.
  const int64_t starts = counts.starts;
  Await("other jobs", [&] { return counts.starts >= starts + 2 * options.workers; });
  const Recovery recovery = KillAndRecover(options, fleet, &coordinator);
  // Longer than the lease: whoever was not adopted would have been taken back.
  std::this_thread::sleep_for(seconds(8));
  refill.reset();
  submitter.Finish();
  int64_t lost = 0;
  const std::set<std::string> known = ListJobs(coordinator->address());
  const std::set<std::string> acknowledged = submitter.acknowledged_jobs();
  for (const std::string& job : acknowledged) lost += known.contains(job) ? 0 : 1;
  std::printf(
      "restart: queue %d, %d workers: serves after %.2f s, a submission is answered after %.2f s, "
      "a job starts after %.2f s, all workers are confirmed after %.2f s\n",
      options.queue, options.workers, *recovery.serves, *recovery.submission, *recovery.start,
      *recovery.confirmed);
  std::printf(
      "restart: %lld jobs started again, %lld taken from their workers, %lld of %zu acknowledged "
      "ones lost\n",
      static_cast<long long>(counts.restarts), static_cast<long long>(counts.taken_back),
      static_cast<long long>(lost), acknowledged.size());
  std::fflush(stdout);
  CheckUndisturbed(counts);
  if (lost != 0) Die("an acknowledged submission was lost");
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
  app.add_option("--job-milliseconds", options.job_milliseconds, "on average, from start to end");
  CLI11_PARSE(app, argc, argv);
  if (options.mode == "starts") {
    sinkforge::bench::MeasureStarts(options);
  } else {
    sinkforge::bench::MeasureRestart(options);
  }
  return 0;
}
