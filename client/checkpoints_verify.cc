// sinkforge checkpoints verify: reads every copy of every part and checks every chunk.
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

// One copy, as it was found.
struct Finding {
  v1::CheckpointPart part;
  absl::Status status;
};

absl::Status VerifyCopy(const v1::ListWorkersResponse& workers, const base::Tls* tls,
                        const v1::CheckpointPart& part, StopSignal* stop) {
  const auto address = AddressOf(workers, part.worker());
  if (!address.ok()) return address.status();
  v1::ReadCheckpointRequest request;
  request.set_job_id(part.job_id());
  request.set_step(part.step());
  request.set_attempt(part.attempt());
  request.set_rank(part.rank());
  checkpoint::PartVerifier verifier;
  const absl::Status read =
      ReadCheckpointPart(*address, tls, request, stop,
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
  const base::Tls* tls = session.coordinator().tls();
  StopSignal stop(StopSignal::Source::kSignals);
  std::vector<Finding> findings;
  int bad = 0;
  int unread = 0;
  for (const v1::Checkpoint& checkpoint : job->checkpoints()) {
    if (checkpoint.deleting()) continue;
    if (options.step.has_value() && checkpoint.step() != *options.step) continue;
    for (const v1::CheckpointPart& part : EveryCopy(checkpoint)) {
      findings.push_back({part, VerifyCopy(*workers, tls, part, &stop)});
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
