// The ledger's table: process pid -> "<start ticks> <boot id>".
#include "worker/process/process_ledger.h"

#include <poll.h>
#include <signal.h>

#include <sstream>
#include <vector>

#include "base/files.h"
#include "base/log.h"

namespace sinkforge::worker {
namespace {

constexpr char kTable[] = "process";
constexpr std::chrono::milliseconds kPollInterval{
    10};  // a killed process is gone in a few of these

std::string Row(pid_t pid) { return base::KeyBuilder(kTable).Number(pid).key(); }

absl::StatusOr<std::string> BootId() {
  auto text = base::ReadFile("/proc/sys/kernel/random/boot_id", 1024);
  if (text.ok() && !text->empty() && text->back() == '\n') text->pop_back();
  return text;
}

struct Leftover {
  pid_t pid = 0;
  std::string identity;
};

absl::StatusOr<std::string> Identity(pid_t pid) {
  const auto ticks = ProcessStartTicks(pid);
  if (!ticks.ok()) return ticks.status();
  const auto boot = BootId();
  if (!boot.ok()) return boot.status();
  return std::to_string(*ticks) + " " + *boot;
}

bool IsAlive(const Leftover& leftover) {
  const auto identity = Identity(leftover.pid);
  return identity.ok() && *identity == leftover.identity;
}

}  // namespace

absl::StatusOr<int64_t> ProcessStartTicks(pid_t pid) {
  const auto text = base::ReadFile("/proc/" + std::to_string(pid) + "/stat", 1 << 16);
  if (!text.ok()) return absl::NotFoundError("no process " + std::to_string(pid));
  // The second field is the program's name in parentheses and may hold anything; the rest follows
  // the last parenthesis: state, then 18 fields, then the start time.
  const size_t end = text->rfind(')');
  if (end == std::string::npos) return absl::NotFoundError("unreadable /proc entry");
  std::istringstream fields(text->substr(end + 1));
  std::string state;
  std::string skipped;
  fields >> state;
  for (int i = 0; i < 18; ++i) fields >> skipped;
  int64_t ticks = 0;
  if (!(fields >> ticks) || state == "Z" || state == "X") {
    return absl::NotFoundError("process " + std::to_string(pid) + " is dead");
  }
  return ticks;
}

absl::Status ProcessLedger::Add(pid_t pid) {
  const auto identity = Identity(pid);
  if (!identity.ok()) return identity.status();
  base::KvBatch batch;
  batch.Put(Row(pid), *identity);
  return store_->Write(batch, base::Durability::kLogged);
}

void ProcessLedger::Remove(pid_t pid) {
  base::KvBatch batch;
  batch.Delete(Row(pid));
  // A stale entry does no harm: its process is gone, and the next start finds that out.
  store_->Write(batch, base::Durability::kLogged).IgnoreError();
}

absl::Status ProcessLedger::Salvage(base::KvWreck* wreck) {
  const base::KeyBuilder table(kTable);
  return wreck->Copy(table.key(), table.PrefixEnd(), store_).status();
}

absl::StatusOr<int> ProcessLedger::KillLeftovers(std::chrono::milliseconds timeout) {
  std::vector<Leftover> leftovers;
  const base::KeyBuilder table(kTable);
  const absl::Status scanned = store_->Scan(
      table.key(), table.PrefixEnd(), [&](std::string_view row, std::string_view value) {
        base::KeyReader reader(row);
        std::string name;
        int64_t pid = 0;
        if (reader.Text(&name) && reader.Number(&pid)) {
          leftovers.push_back({static_cast<pid_t>(pid), std::string(value)});
        }
        return true;
      });
  if (!scanned.ok()) return scanned;
  int killed = 0;
  for (const Leftover& leftover : leftovers) {
    if (!IsAlive(leftover)) continue;
    ++killed;
    base::LogWarning("a trainer of this worker's former life is killed",
                     {{"pid", int64_t{leftover.pid}}});
    kill(-leftover.pid, SIGKILL);
    kill(leftover.pid, SIGKILL);
  }
  for (const Leftover& leftover : leftovers) {
    while (IsAlive(leftover)) {
      if (timeout <= std::chrono::milliseconds(0)) {
        return absl::DeadlineExceededError(
            "process " + std::to_string(leftover.pid) +
            " is a trainer of this worker's former life and does not die; end it, then start the "
            "worker again");
      }
      poll(nullptr, 0, static_cast<int>(kPollInterval.count()));
      timeout -= kPollInterval;
    }
    Remove(leftover.pid);
  }
  return killed;
}

}  // namespace sinkforge::worker
