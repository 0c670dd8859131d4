// sinkforge report: figures and tables of jobs in one file.
#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/files.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/output_file.h"
#include "client/report_data.h"
#include "client/report_figure.h"
#include "client/report_text.h"
#include "client/session.h"

namespace sinkforge::client {
namespace {

constexpr char kStdout[] = "-";
constexpr size_t kJobsMax = 32;  // curves beyond that cannot be told apart

struct ReportOptions {
  std::vector<std::string> job_ids;
  std::string output;
  std::string format;
  bool force = false;
};

// By the file's ending where it was not given. INVALID_ARGUMENT: that ending has no format.
absl::StatusOr<std::string> FormatOf(const ReportOptions& options) {
  if (!options.format.empty()) return options.format;
  if (options.output.empty() || options.output == kStdout) return "html";
  for (const char* format : {"html", "png", "csv", "json"}) {
    if (absl::EndsWithIgnoreCase(options.output, absl::StrCat(".", format))) return format;
  }
  return UsageError(absl::StrCat(options.output,
                                 ": the ending tells no format; give --format html, png, csv or "
                                 "json, or such an ending"));
}

absl::StatusOr<std::string> Render(const std::vector<JobReport>& jobs, const std::string& format) {
  if (format == "png") return DrawFigure(jobs);
  const ReportStamp stamp = {FormatTime(base::ToProto(base::RealClock().Read().wall)),
                             SINKFORGE_VERSION};
  if (format == "csv") return RenderReportCsv(jobs);
  if (format == "json") return RenderReportJson(jobs, stamp);
  return RenderReportHtml(jobs, stamp);
}

// Each once, in the order in which they were given.
std::vector<std::string> Distinct(const std::vector<std::string>& job_ids) {
  std::vector<std::string> distinct;
  for (const std::string& id : job_ids) {
    if (std::find(distinct.begin(), distinct.end(), id) == distinct.end()) distinct.push_back(id);
  }
  return distinct;
}

absl::StatusOr<int> Report(Session& session, const ReportOptions& options) {
  const std::vector<std::string> job_ids = Distinct(options.job_ids);
  if (job_ids.size() > kJobsMax) {
    return UsageError(absl::StrCat("at most ", kJobsMax, " jobs in one report"));
  }
  const absl::StatusOr<std::string> found = FormatOf(options);
  if (!found.ok()) return found.status();
  const std::string& format = *found;
  const std::string output =
      options.output.empty() ? absl::StrCat("report.", format) : options.output;
  if (format == "png" && output == kStdout) {
    return UsageError("a PNG goes to a file; give -o FILE.png");
  }
  if (output != kStdout) {
    const absl::Status target =
        CheckOutputFile(output, options.force ? ExistingFile::kReplace : ExistingFile::kRefuse);
    if (!target.ok()) return target;
  }
  const bool has_figures = format == "html" || format == "png";
  const auto jobs =
      CollectReport(session.coordinator(), job_ids,
                    has_figures ? ReportDetail::kForFigures : ReportDetail::kEveryStep);
  if (!jobs.ok()) return jobs.status();
  const auto content = Render(*jobs, format);
  if (!content.ok()) return content.status();
  if (output == kStdout) {
    session.out() << *content;
    return kExitOk;
  }
  const absl::Status written = base::WriteFileDurably(output, *content);
  if (!written.ok()) return written;
  session.Say(absl::StrCat("written: ", output));
  return kExitOk;
}

}  // namespace

Command ReportCommand() {
  auto options = std::make_shared<ReportOptions>();
  Command command;
  command.name = "report";
  command.summary = "Write figures and tables of jobs into one file";
  command.examples =
      "  sinkforge report base-1 aux-2 -o report.html    # opens from disk, needs no network\n"
      "  sinkforge report base-1 aux-2 -o figures.png    # drawn by gnuplot\n"
      "  sinkforge report base-1 --format csv -o - | head\n"
      "HTML and PNG show imbalance, loss and validation over the steps, and the importance of\n"
      "every head at the first, middle and last step; HTML also compares the jobs and has their\n"
      "job files, micro-batch and environment. CSV and JSON have up to 10,000 points a series, "
      "and\n"
      "the micro-batch.";
  command.arguments = {{.name = "JOB", .help = "Ids of the jobs", .target = &options->job_ids}};
  command.options = {{"-o,--output", "FILE",
                      "Where to write it (default: report.FORMAT; - for stdout)", &options->output},
                     {"--format",
                      "FORMAT",
                      "html, png, csv or json (default: by the file's ending)",
                      &options->format,
                      {"html", "png", "csv", "json"}},
                     {"--force", "", "Replace the file where it exists", &options->force}};
  command.formats = {};
  command.run = [options](Session& session) { return Report(session, *options); };
  return command;
}

}  // namespace sinkforge::client
