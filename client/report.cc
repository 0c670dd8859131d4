// sinkforge report: figures and tables of jobs in one file.
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/files.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
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
};

// By the file's ending where it was not given.
std::string FormatOf(const ReportOptions& options) {
  if (!options.format.empty()) return options.format;
  for (const char* format : {"png", "csv", "json"}) {
    if (absl::EndsWithIgnoreCase(options.output, absl::StrCat(".", format))) return format;
  }
  return "html";
}

absl::StatusOr<int> Report(Session& session, const ReportOptions& options) {
  if (options.job_ids.size() > kJobsMax) {
    return UsageError(absl::StrCat("at most ", kJobsMax, " jobs in one report"));
  }
  const std::string format = FormatOf(options);
  const std::string output =
      options.output.empty() ? absl::StrCat("report.", format) : options.output;
  if (format == "png" && output == kStdout) {
    return UsageError("a PNG goes to a file; give -o FILE.png");
  }
  const bool has_figures = format == "html" || format == "png";
  const auto jobs =
      CollectReport(session.coordinator(), options.job_ids,
                    has_figures ? ReportDetail::kForFigures : ReportDetail::kEveryStep);
  if (!jobs.ok()) return jobs.status();
  if (format == "png") {
    const absl::Status drawn = DrawFigure(FigureScript(*jobs, output));
    if (!drawn.ok()) return drawn;
  } else {
    const ReportStamp stamp = {FormatTime(base::ToProto(base::RealClock().Read().wall)),
                               SINKFORGE_VERSION};
    const std::string text = format == "csv"    ? RenderReportCsv(*jobs)
                             : format == "json" ? RenderReportJson(*jobs, stamp)
                                                : RenderReportHtml(*jobs, stamp);
    if (output == kStdout) {
      session.out() << text;
      return kExitOk;
    }
    const absl::Status written = base::WriteFileDurably(output, text);
    if (!written.ok()) return written;
  }
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
      "job files and environment. CSV and JSON have up to 10,000 points a series.";
  command.arguments = {{.name = "JOB", .help = "Ids of the jobs", .target = &options->job_ids}};
  command.options = {{"-o,--output", "FILE",
                      "Where to write it (default: report.FORMAT; - for stdout)", &options->output},
                     {"--format",
                      "FORMAT",
                      "html, png, csv or json (default: by the file's ending)",
                      &options->format,
                      {"html", "png", "csv", "json"}}};
  command.formats = {};
  command.run = [options](Session& session) { return Report(session, *options); };
  return command;
}

}  // namespace sinkforge::client
