// Knobs from seeds; see seeds.h.
#include "seeds.h"

#include "sim_cluster.h"

namespace sinkforge::sim {
namespace {

constexpr int kFaultTicks = 1500;
constexpr int kHealTicksMax = 6000;
constexpr int kRestoreTicks = 300;  // some leases

// Every knob comes from the seed; some runs have no faults of a kind at all.
Faults RandomFaults(Random* random) {
  const auto knob = [&](int64_t low, int64_t high) {
    return random->OneIn(3) ? 0 : random->Between(low, high);
  };
  Faults faults;
  faults.lose_message = knob(3, 50);
  faults.repeat_message = knob(2, 20);
  faults.delay_ticks_max = knob(1, 30);
  faults.break_stream = knob(50, 1000);
  faults.kill_worker = knob(100, 1000);
  faults.drain_worker = knob(200, 1500);
  faults.wipe_disk = knob(2, 10);
  faults.flip_disk = knob(100, 1000);
  faults.restart_coordinator = knob(50, 1000);
  faults.fail_store = knob(10, 200);
  faults.crash_after_store = knob(20, 400);
  faults.jump_clock = knob(100, 1000);
  faults.slow_worker = knob(2, 4);
  faults.trainer.load_ticks = random->Between(1, 10);
  faults.trainer.step_ticks = random->Between(1, 5);
  faults.trainer.checkpoint_every = random->Between(1, 10);
  faults.trainer.checkpoint_ticks_max = random->Between(1, 10);
  faults.trainer.crash_one_in = knob(200, 3000);
  faults.trainer.hang_one_in = knob(1000, 10000);
  faults.trainer.fatal_one_in = knob(5000, 50000);
  faults.trainer.bad_data_one_in = knob(20, 1000);
  return faults;
}

ClusterOptions RandomOptions(uint64_t seed, Random* random) {
  ClusterOptions options;
  options.seed = seed;
  options.worker_count = static_cast<int>(random->Between(1, 4));
  options.coordinator.start_timeout = std::chrono::seconds(30);
  options.coordinator.no_progress_timeout = std::chrono::seconds(20);
  options.coordinator.infrastructure_retries = 1000;
  options.coordinator.backoff_max = std::chrono::seconds(10);
  options.coordinator.stop_grace = std::chrono::seconds(random->Between(1, 10));
  options.coordinator.grow_after = std::chrono::seconds(random->Between(1, 20));
  options.coordinator.avoid_worker_for = std::chrono::seconds(random->Between(1, 60));
  return options;
}

}  // namespace

std::string RunSeed(uint64_t seed, std::map<std::string, int64_t>* counters) {
  Random knobs(seed * 7919 + 1);
  const Faults faults = RandomFaults(&knobs);
  SimCluster cluster(RandomOptions(seed, &knobs));
  const int backup_at = static_cast<int>(knobs.Below(kFaultTicks));
  for (int i = 0; i < kFaultTicks && cluster.violation().empty(); ++i) {
    if (i == backup_at) cluster.TakeBackup();
    cluster.Tick(faults, SimCluster::Clients::kAct);
  }
  if (!cluster.violation().empty()) return cluster.violation();
  Faults none;
  none.trainer = faults.trainer;
  none.trainer.crash_one_in = none.trainer.hang_one_in = 0;
  none.trainer.fatal_one_in = none.trainer.bad_data_one_in = 0;
  const bool restores = knobs.OneIn(2);
  if (restores) {
    const bool reuses = knobs.OneIn(2);
    if (reuses) cluster.SendHolderAway();
    cluster.RestoreBackup();
    if (reuses) cluster.ReuseNumbers();
    for (int i = 0; i < kRestoreTicks && cluster.violation().empty(); ++i) {
      cluster.Tick(none, SimCluster::Clients::kQuiet);
    }
    cluster.CheckRestored();
    if (!cluster.violation().empty()) return "after a restore: " + cluster.violation();
  }
  if (counters != nullptr) {
    for (const auto& [what, count] : cluster.counters()) (*counters)[what] += count;
  }
  cluster.Heal();
  for (int i = 0; i < kHealTicksMax && !cluster.AllJobsAreFinal(); ++i) {
    cluster.Tick(none, SimCluster::Clients::kQuiet);
    if (!cluster.violation().empty()) return "after the faults: " + cluster.violation();
  }
  if (cluster.AllJobsAreFinal()) return "";
  return "jobs have not ended though nothing fails any more:\n" + cluster.Summary();
}

}  // namespace sinkforge::sim
