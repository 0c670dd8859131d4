// sinkforge checkpoints verify: reads every copy of every part and checks every chunk.
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "client/checkpoint_holders.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/json_text.h"
#include "client/session.h"
#include "client/stop_signal.h"
#include "client/table.h"
#include "proto/checkpoint_format/checkpoint_stream.h"

namespace sinkforge::client {
namespace {

struct VerifyOptions {
  std::string job_id;
  std::optional<int64_t> step;
};

// Reads copies, one after the other. A worker that has not answered once is not asked again: one
// that hangs would cost its time-out for every copy that it has.
class CopyReader {
 public:
  CopyReader(const v1::ListWorkersResponse& workers, const base::Tls* tls, StopSignal* stop)
      : workers_(workers), tls_(tls), stop_(*stop) {}

  // UNAVAILABLE: the worker did not answer, now or before.
  absl::Status Verify(const v1::CheckpointPart& part);

 private:
  absl::Status Read(const v1::CheckpointPart& part);

  const v1::ListWorkersResponse& workers_;
  const base::Tls* tls_;  // null: unencrypted
  StopSignal& stop_;
  std::map<std::string, absl::Status> silent_;  // by worker
};

// One copy, as it was found.
struct Finding {
  v1::CheckpointPart part;
  absl::Status status;
};

absl::Status CopyReader::Verify(const v1::CheckpointPart& part) {
  if (const auto silent = silent_.find(part.worker()); silent != silent_.end()) {
    return silent->second;
  }
  const absl::Status read = Read(part);
  if (absl::IsUnavailable(read)) silent_.emplace(part.worker(), read);
  return read;
}

absl::Status CopyReader::Read(const v1::CheckpointPart& part) {
  const auto address = AddressOf(workers_, part.worker());
  if (!address.ok()) return address.status();
  v1::ReadCheckpointRequest request;
  request.set_job_id(part.job_id());
  request.set_step(part.step());
  request.set_attempt(part.attempt());
  request.set_rank(part.rank());
  checkpoint::PartVerifier verifier;
  const absl::Status read =
      ReadCheckpointPart(*address, tls_, request, &stop_,
                         [&](const v1::CheckpointData& data) { return verifier.Accept(data); });
  return read.ok() ? verifier.Complete() : read;
}

void Print(Session& session, const std::vector<Finding>& findings) {
  if (session.json()) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Finding& finding : findings) {
      nlohmann::ordered_json item;
      item["step"] = finding.part.step();
      item["attempt"] = finding.part.attempt();
      item["rank"] = finding.part.rank();
      item["worker"] = finding.part.worker();
      item["ok"] = finding.status.ok();
      if (!finding.status.ok()) item["error"] = std::string(finding.status.message());
      list.push_back(item);
    }
    session.out() << JsonText(list);
    return;
  }
  Table table({{"STEP", Table::Align::kRight},
               {"RANK", Table::Align::kRight},
               {"WORKER"},
               {"SIZE", Table::Align::kRight},
               {"RESULT"}});
  for (const Finding& finding : findings) {
    table.AddRow({absl::StrCat(finding.part.step()), absl::StrCat(finding.part.rank()),
                  finding.part.worker(), FormatBytes(finding.part.bytes()),
                  finding.status.ok() ? "good" : std::string(finding.status.message())});
  }
  session.out() << table.Render(0);
}

absl::StatusOr<int> Verify(Session& session, const VerifyOptions& options) {
  const auto job = session.coordinator().GetJob(options.job_id);
  if (!job.ok()) return job.status();
  const auto workers = session.coordinator().ListWorkers();
  if (!workers.ok()) return workers.status();
  StopSignal stop(StopSignal::Source::kSignals);
  CopyReader reader(*workers, session.coordinator().tls(), &stop);
  std::vector<Finding> findings;
  int bad = 0;
  int unread = 0;
  for (const v1::Checkpoint& checkpoint : job->checkpoints()) {
    if (checkpoint.deleting()) continue;
    if (options.step.has_value() && checkpoint.step() != *options.step) continue;
    for (const v1::CheckpointPart& part : EveryCopy(checkpoint)) {
      findings.push_back({part, reader.Verify(part)});
      if (stop.stopped()) return absl::CancelledError("interrupted");
      const absl::Status& status = findings.back().status;
      if (!status.ok()) ++(absl::IsUnavailable(status) ? unread : bad);
    }
  }
  if (findings.empty()) {
    return absl::NotFoundError(absl::StrCat(
        job->job_id(), " has no such checkpoint; list them with `sinkforge checkpoints list ",
        job->job_id(), "`"));
  }
  Print(session, findings);
  session.Say(absl::StrCat(findings.size() - static_cast<size_t>(bad + unread), " of ",
                           findings.size(), " copies are good"));
  if (bad > 0) {
    session.Say(
        "a worker drops a corrupt copy once it is read, and fetches it anew from another that has "
        "it; verify again to see the repair");
  }
  if (unread > 0) {
    session.Say(absl::StrCat(unread,
                             " could not be read, which says nothing of what is on their disks: "
                             "start their workers, and verify again"));
  }
  return bad + unread == 0 ? kExitOk : kExitError;
}

}  // namespace

Command CheckpointsVerifyCommand() {
  auto options = std::make_shared<VerifyOptions>();
  Command command;
  command.name = "verify";
  command.summary = "Read every copy of a job's checkpoints and check every chunk";
  command.examples =
      "  sinkforge checkpoints verify d4-gated-1\n"
      "  sinkforge checkpoints verify d4-gated-1 --step 100";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = &options->job_id}};
  command.options = {{"--step", "N", "Only the checkpoint of step N", &options->step}};
  command.run = [options](Session& session) { return Verify(session, *options); };
  return command;
}

}  // namespace sinkforge::client
