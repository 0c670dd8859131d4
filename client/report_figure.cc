// gnuplot's commands; see report_figure.h.
#include "client/report_figure.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "base/files.h"
#include "client/format.h"

namespace sinkforge::client {
namespace {

constexpr size_t kColumns = 3;
constexpr int kPanelWidth = 560;
constexpr int kPanelHeight = 400;
constexpr int kGnuplotMissing = 127;  // of posix_spawnp's child
constexpr int64_t kMessageBytesMax = 1 << 16;
constexpr int64_t kPictureBytesMax = int64_t{1} << 30;
// The chunk that ends a PNG, with its checksum: PNG specification, 11.2.5.
constexpr absl::string_view kPngEnd("IEND\xae\x42\x60\x82");

// In gnuplot's single quotes only the quote itself means anything.
std::string Quoted(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "''"}}), "'");
}

struct Curve {
  size_t job = 0;
  std::string series;
  std::string title;
  std::string style;  // after the colour
};

std::string BlockName(size_t job, const std::string& series) {
  return absl::StrCat("$", series, "_", job);
}

void AddData(const JobReport& report, size_t job, std::string* script) {
  for (const v1::Series& series : report.history.series()) {
    absl::StrAppend(script, BlockName(job, series.name()), " << EOD\n");
    for (const v1::Point& point : series.points()) {
      if (!std::isfinite(point.value())) continue;
      absl::StrAppend(script, point.step(), " ", FormatExact(point.value()), "\n");
    }
    absl::StrAppend(script, "EOD\n");
  }
  for (size_t at = 0; at < report.heads.size(); ++at) {
    absl::StrAppend(script, "$heads", at, "_", job, " << EOD\n");
    for (const std::vector<double>& layer : report.heads[at].importance) {
      absl::StrAppend(
          script,
          absl::StrJoin(layer, " ",
                        [](std::string* out, double value) {
                          out->append(std::isfinite(value) ? FormatExact(value) : "NaN");
                        }),
          "\n");
    }
    absl::StrAppend(script, "EOD\n");
  }
}

// A series without points cannot be plotted; a panel of such says so.
void AddPanel(const std::vector<JobReport>& jobs, const std::string& title, const std::string& axis,
              const std::vector<Curve>& curves, std::string* script) {
  std::vector<std::string> plots;
  for (const Curve& curve : curves) {
    if (SeriesOf(jobs[curve.job].history, curve.series).points().empty()) continue;
    plots.push_back(absl::StrCat(BlockName(curve.job, curve.series), " using 1:2 ", curve.style,
                                 " lc ", curve.job + 1, " title ", Quoted(curve.title)));
  }
  absl::StrAppend(script, "set title ", Quoted(title), "\nset ylabel ", Quoted(axis), "\n");
  if (plots.empty()) {
    // Axes that show nothing: the line is outside of them.
    absl::StrAppend(script,
                    "set label 1 'no data' at graph 0.5,0.5 center\n"
                    "plot [0:1][0:1] 2 notitle\nunset label 1\n");
    return;
  }
  absl::StrAppend(script, "plot ", absl::StrJoin(plots, ", "), "\n");
}

void AddCurves(const std::vector<JobReport>& jobs, std::string* script) {
  std::vector<Curve> imbalance;
  std::vector<Curve> loss;
  std::vector<Curve> bits;
  for (size_t job = 0; job < jobs.size(); ++job) {
    const std::string& id = jobs[job].job.job_id();
    imbalance.push_back({job, "imbalance", "", "with lines lw 0.4"});
    imbalance.push_back({job, "imbalance", id, "smooth sbezier with lines lw 2"});
    loss.push_back({job, "loss", id, "with lines lw 1"});
    loss.push_back({job, "validation_loss", id + ", validation", "with linespoints lw 1.5 pt 7"});
    bits.push_back({job, "validation_bits_per_byte", id, "with linespoints lw 1.5 pt 7"});
  }
  // With gnuplot's own six digits, labels repeat where a curve hardly moves.
  absl::StrAppend(script,
                  "set xlabel 'step'\nset format y '%.10g'\nset grid\nset key noenhanced\n");
  AddPanel(jobs, "Imbalance, raw and smoothed", "imbalance", imbalance, script);
  AddPanel(jobs, "Loss", "nats per token", loss, script);
  AddPanel(jobs, "Validation", "bits per byte", bits, script);
}

void AddHeatmaps(const std::vector<JobReport>& jobs, std::string* script) {
  absl::StrAppend(script,
                  "unset grid\nset xlabel 'head'\nset ylabel 'layer'\nset cbrange [0:1]\n"
                  "set palette defined (0 '#440154', 1 '#3b528b', 2 '#21918c', 3 '#5ec962', "
                  "4 '#fde725')\nset xtics out nomirror\nset ytics out nomirror\nunset key\n");
  for (size_t job = 0; job < jobs.size(); ++job) {
    // Layer 0 on top, and no numbers between two heads or layers.
    const v1::ModelSpec& model = jobs[job].job.spec().model();
    absl::StrAppend(script, "set xrange [-0.5:", model.heads(), "-0.5]\nset yrange [",
                    model.layers(), "-0.5:-0.5]\nset xtics ", 1 + model.heads() / 16,
                    "\nset ytics ", 1 + model.layers() / 16, "\n");
    for (size_t at = 0; at < kColumns; ++at) {
      if (at >= jobs[job].heads.size()) {
        absl::StrAppend(script, "set multiplot next\n");
        continue;
      }
      absl::StrAppend(script, "set title ",
                      Quoted(absl::StrCat("Importance, ", jobs[job].job.job_id(), ", step ",
                                          jobs[job].heads[at].step)),
                      "\nplot $heads", at, "_", job, " matrix with image\n");
    }
  }
}

// gnuplot's commands with their data: curves on top, below a row of heatmaps for each job. The PNG
// goes to stdout.
std::string FigureScript(const std::vector<JobReport>& jobs) {
  const size_t rows = 1 + jobs.size();
  std::string script;
  for (size_t job = 0; job < jobs.size(); ++job) AddData(jobs[job], job, &script);
  absl::StrAppend(&script, "set terminal pngcairo noenhanced size ", kColumns * kPanelWidth, ",",
                  rows * kPanelHeight, " font 'sans,11'\nset multiplot layout ", rows, ",",
                  kColumns, "\n");
  AddCurves(jobs, &script);
  AddHeatmaps(jobs, &script);
  absl::StrAppend(&script, "unset multiplot\n");
  return script;
}

// A file of its own in the folder for temporary files, removed with this.
class TemporaryFile {
 public:
  TemporaryFile() : path_(std::filesystem::temp_directory_path() / "sinkforge-figure-XXXXXX") {
    fd_ = mkstemp(path_.data());
    if (fd_ >= 0) close(fd_);
  }
  ~TemporaryFile() {
    if (fd_ >= 0) unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  bool ok() const { return fd_ >= 0; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

// What gnuplot says is shown only where it fails: it warns of every curve that is flat.
absl::Status RunGnuplot(std::string script, const std::string& picture,
                        const std::string& messages) {
  std::string program = "gnuplot";
  char* const arguments[] = {program.data(), script.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, picture.c_str(), O_WRONLY | O_TRUNC, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, messages.c_str(), O_WRONLY | O_TRUNC,
                                   0);
  pid_t pid = 0;
  const int spawned = posix_spawnp(&pid, "gnuplot", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  int ended = 0;
  if (spawned == 0 && waitpid(pid, &ended, 0) != pid) {
    return absl::UnknownError(absl::StrCat("gnuplot: ", std::strerror(errno)));
  }
  if (spawned == ENOENT || (WIFEXITED(ended) && WEXITSTATUS(ended) == kGnuplotMissing)) {
    return absl::FailedPreconditionError(
        "a PNG is drawn by gnuplot, which is not there; install it (apt install gnuplot-nox), or "
        "give --format html, csv or json");
  }
  if (spawned != 0 || !WIFEXITED(ended) || WEXITSTATUS(ended) != 0) {
    const auto said = base::ReadFile(messages, kMessageBytesMax);
    return absl::UnknownError(
        absl::StrCat("gnuplot failed: ", said.ok() ? absl::StripAsciiWhitespace(*said) : "?"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> DrawFigure(const std::vector<JobReport>& jobs) {
  const TemporaryFile script;
  const TemporaryFile picture;
  const TemporaryFile messages;
  if (!script.ok() || !picture.ok() || !messages.ok()) {
    return absl::UnavailableError(absl::StrCat(script.path(), ": cannot be made"));
  }
  absl::Status status = base::WriteFileDurably(script.path(), FigureScript(jobs));
  if (status.ok()) status = RunGnuplot(script.path(), picture.path(), messages.path());
  if (!status.ok()) return status;
  auto content = base::ReadFile(picture.path(), kPictureBytesMax);
  // gnuplot ends with success where the disk was full.
  if (content.ok() && !absl::EndsWith(*content, kPngEnd)) {
    return absl::ResourceExhaustedError(
        absl::StrCat(picture.path(), ": gnuplot wrote no whole picture; is the disk full?"));
  }
  return content;
}

}  // namespace sinkforge::client
