// sinkforge checkpoints export: a checkpoint as a safetensors file, read from the workers that hold
// its parts; every chunk's checksum is verified.
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/checkpoint_export.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/final_checkpoint.h"
#include "client/format.h"
#include "client/json_text.h"
#include "client/output_file.h"
#include "client/session.h"

namespace sinkforge::client {
namespace {

struct ExportOptions {
  std::string job_id;
  std::string file;
  std::optional<int64_t> step;
  bool with_optimizer = false;
  bool force = false;
};

absl::StatusOr<int> Export(Session& session, const ExportOptions& options) {
  const absl::Status target =
      CheckOutputFile(options.file, options.force ? ExistingFile::kReplace : ExistingFile::kRefuse);
  if (!target.ok()) return target;
  StopSignal stop(StopSignal::Source::kSignals);
  const auto job = session.coordinator().GetJob(options.job_id);
  if (!job.ok()) return job.status();
  const auto checkpoint = ChooseCheckpoint(*job, options.step);
  if (!checkpoint.ok()) return checkpoint.status();
  const std::string older = options.step.has_value() ? "" : OlderWeightsWarning(*job);
  if (!older.empty()) session.Say(older);
  const ExportTarget file = {options.file, options.with_optimizer
                                               ? ExportContent::kParametersAndOptimizer
                                               : ExportContent::kParameters};
  const auto exported = ExportCheckpoint(session, *job, *checkpoint, file, &stop);
  if (!exported.ok()) return exported.status();
  if (session.json()) {
    nlohmann::ordered_json json;
    json["file"] = options.file;
    json["job_id"] = job->job_id();
    json["step"] = checkpoint->step();
    json["attempt"] = checkpoint->attempt();
    json["tensors"] = exported->tensors;
    json["bytes"] = exported->bytes;
    session.out() << JsonText(json);
  } else {
    session.out() << options.file << std::endl;
  }
  session.Say(absl::StrCat("exported ", exported->tensors, " tensors of step ", checkpoint->step(),
                           ", ", FormatBytes(exported->bytes), ", every checksum verified"));
  return kExitOk;
}

}  // namespace

Command CheckpointsExportCommand() {
  auto options = std::make_shared<ExportOptions>();
  Command command;
  command.name = "export";
  command.summary = "Write a checkpoint as a safetensors file";
  command.examples =
      "  sinkforge checkpoints export d4-gated-1 model.safetensors\n"
      "  sinkforge checkpoints export d4-gated-1 all.safetensors --step 100 --with-optimizer";
  command.arguments = {{.name = "JOB", .help = "The job's id", .target = &options->job_id},
                       {.name = "FILE",
                        .help = "The file to write",
                        .target = &options->file,
                        .completion = Argument::Completion::kFiles}};
  command.options = {
      {"--step", "N", "The checkpoint of step N (default: the newest)", &options->step},
      {"--with-optimizer", "", "The optimizer's state and the trainer's position as well",
       &options->with_optimizer},
      {"--force", "", "Replace the file where it exists", &options->force}};
  command.run = [options](Session& session) { return Export(session, *options); };
  return command;
}

}  // namespace sinkforge::client
