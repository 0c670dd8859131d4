// Lines of the picture; see job_screen.h.
#include "client/job_screen.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/progress.h"

namespace sinkforge::client {
namespace {

constexpr int kLabelWidth = 11;   // "imbalance" and two spaces
constexpr int kNumberWidth = 10;  // before a sparkline
constexpr size_t kEventsKept = 50;
constexpr size_t kEventsShown = 5;  // at least so many, where there is room
constexpr size_t kValuesKept = 20'000;
constexpr char kNoRoom[] = "the map of the heads needs a taller terminal";
constexpr const char* kBars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};

double Mean(const std::vector<double>& values, size_t begin, size_t end) {
  double sum = 0;
  for (size_t i = begin; i < end; ++i) sum += values[i];
  return sum / static_cast<double>(end - begin);
}

std::string Labelled(const std::string& label, const std::string& text) {
  std::string line = label;
  line.resize(kLabelWidth, ' ');
  return line + text;
}

std::string CurveLine(const std::string& label, double now, const std::vector<double>& values,
                      int width) {
  std::string number = FormatNumber(now);
  number.resize(std::max<size_t>(number.size() + 1, kNumberWidth), ' ');
  const int room = width - kLabelWidth - kNumberWidth - 1;
  return Shorten(Labelled(label, number + Sparkline(values, room)), width);
}

std::string HeadLine(const v1::Job& job, int width, const Style& style) {
  const v1::JobProgress& progress = job.progress();
  std::string tail;
  if (progress.step() > 0) {
    const double share = progress.steps_total() > 0
                             ? 100.0 * static_cast<double>(progress.step()) /
                                   static_cast<double>(progress.steps_total())
                             : 0;
    tail = absl::StrCat(ProgressBar(progress.step(), progress.steps_total(), 22), "  ",
                        progress.step(), "/", progress.steps_total(),
                        absl::StrFormat("  %.0f%%", share));
    if (!IsSettled(job.state()) && progress.has_eta()) {
      absl::StrAppend(&tail, "  ETA ", FormatDuration(progress.eta()));
    }
  } else {
    tail = OneLine(job.message());
  }
  const std::string state = StateName(job.state());
  const int room = width - DisplayWidth(job.job_id()) - DisplayWidth(state) - 4;
  if (room <= 0) return Shorten(absl::StrCat(job.job_id(), "  ", state), width);
  return absl::StrCat(style.Bold(job.job_id()), "  ", style.State(job.state(), state), "  ",
                      Shorten(tail, room));
}

std::string NumbersLine(const JobPicture& picture) {
  const v1::JobProgress& progress = picture.job.progress();
  std::string line = absl::StrCat("importance ", FormatNumber(progress.importance_min()), "..",
                                  FormatNumber(progress.importance_max()));
  if (progress.validation_step() > 0 && progress.validation_bits_per_byte() > 0) {
    absl::StrAppend(&line, "   bits/byte ", FormatNumber(progress.validation_bits_per_byte()));
  }
  if (picture.last.step() > 0) {
    absl::StrAppend(&line, "   gradient norm ", FormatNumber(picture.last.gradient_norm()));
  }
  absl::StrAppend(&line, "   ", FormatCount(progress.tokens_per_second()), " tokens/s");
  return line;
}

// Mean of the records' heads in a block of layers and heads.
double BlockMean(const v1::StepRecord& record, int layer, int layers, int head, int heads) {
  double sum = 0;
  int count = 0;
  const int layer_count = record.importance_size() / record.heads();
  for (int l = layer; l < std::min(layer + layers, layer_count); ++l) {
    for (int h = head; h < std::min<int>(head + heads, record.heads()); ++h, ++count) {
      sum += static_cast<double>(record.importance(l * record.heads() + h));
    }
  }
  return sum / std::max(1, count);
}

}  // namespace

std::string Sparkline(const std::vector<double>& all, int width) {
  std::vector<double> values;
  std::copy_if(all.begin(), all.end(), std::back_inserter(values),
               [](double value) { return std::isfinite(value); });
  if (values.empty() || width <= 0) return "";
  const size_t columns = std::min(values.size(), static_cast<size_t>(width));
  std::vector<double> means;
  for (size_t i = 0; i < columns; ++i) {
    means.push_back(Mean(values, i * values.size() / columns, (i + 1) * values.size() / columns));
  }
  const auto [low, high] = std::minmax_element(means.begin(), means.end());
  std::string line;
  for (const double mean : means) {
    const double share = *high > *low ? (mean - *low) / (*high - *low) : 0.5;
    line += kBars[std::clamp(static_cast<int>(share * 8), 0, 7)];
  }
  return line;
}

std::vector<std::string> HeadMap(const v1::StepRecord& record, ScreenSize room,
                                 const Style& style) {
  if (record.heads() <= 0 || record.importance().empty() || room.height < 2) return {};
  const int layers = record.importance_size() / record.heads();
  const int columns_max = std::max(1, room.width - 4);
  const int cell_width = record.heads() * 2 <= columns_max ? 2 : 1;
  const int heads_a_cell = (record.heads() * cell_width + columns_max - 1) / columns_max;
  const int rows_max = room.height - 1;
  const int layers_a_cell = (layers + rows_max - 1) / rows_max;
  std::string title = "importance of every head: rows are layers, columns heads";
  if (heads_a_cell > 1 || layers_a_cell > 1) {
    title = absl::StrCat("importance: a cell is the mean of ", layers_a_cell, " layer(s) x ",
                         heads_a_cell, " head(s)");
  }
  std::vector<std::string> lines = {Shorten(title, room.width)};
  for (int layer = 0; layer < layers; layer += layers_a_cell) {
    std::string line = absl::StrFormat("%3d ", layer);
    for (int head = 0; head < record.heads(); head += heads_a_cell) {
      line += style.Heat(BlockMean(record, layer, layers_a_cell, head, heads_a_cell), cell_width);
    }
    lines.push_back(line);
  }
  return lines;
}

std::vector<std::string> RenderJob(const JobPicture& picture, ScreenSize size, const Style& style) {
  // The last column stays free: writing it wraps the cursor on some terminals. The last line is the
  // cursor's.
  const int width = size.width - 1;
  const auto height = static_cast<size_t>(std::max(1, size.height - 1));
  std::vector<std::string> lines = {HeadLine(picture.job, width, style)};
  if (picture.job.progress().step() > 0) {
    lines.push_back(CurveLine("loss", picture.job.progress().loss(), picture.loss, width));
    lines.push_back(
        CurveLine("imbalance", picture.job.progress().imbalance(), picture.imbalance, width));
    lines.push_back(Shorten(NumbersLine(picture), width));
    const size_t events = std::min(picture.events.size(), kEventsShown);
    const int left = static_cast<int>(height) - static_cast<int>(lines.size() + events);
    std::vector<std::string> map = HeadMap(picture.last, {width, left}, style);
    if (map.empty() && !picture.last.importance().empty()) map = {Shorten(kNoRoom, width)};
    for (std::string& line : map) lines.push_back(std::move(line));
  }
  const size_t room = height > lines.size() ? height - lines.size() : 0;
  const size_t first =
      picture.events.size() - std::min({room, picture.events.size(), kEventsShown});
  for (size_t i = first; i < picture.events.size(); ++i) {
    lines.push_back(style.Dim(Shorten(picture.events[i], width)));
  }
  lines.resize(std::min(lines.size(), height));
  return lines;
}

void JobScreen::SetHistory(const v1::QueryMetricsResponse& history) {
  for (const v1::Series& series : history.series()) {
    std::vector<double>& values = series.name() == "loss" ? picture_.loss : picture_.imbalance;
    for (const v1::Point& point : series.points()) values.push_back(point.value());
  }
}

void JobScreen::Show(const v1::WatchJobResponse& message) {
  picture_.job = message.job();
  for (const v1::StepRecord& record : message.steps()) {
    picture_.last = record;
    picture_.loss.push_back(record.loss());
    picture_.imbalance.push_back(record.imbalance());
  }
  // A watch may last for weeks: the older half makes room.
  for (std::vector<double>* values : {&picture_.loss, &picture_.imbalance}) {
    if (values->size() > kValuesKept) {
      values->erase(values->begin(), values->begin() + kValuesKept / 2);
    }
  }
  for (const v1::Event& event : message.events()) {
    picture_.events.push_back(EventLine(event));
    if (picture_.events.size() > kEventsKept) picture_.events.pop_front();
  }
  block_.Draw(RenderJob(picture_, screen_size_(), style_));
}

}  // namespace sinkforge::client
