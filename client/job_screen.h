// JobScreen: one job as a picture that fills the terminal: progress and ETA, sparklines of loss and
// imbalance, every head's importance in colour, the last events. What it draws is a pure function
// of what it has been told (RenderJob).
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "client/line_block.h"
#include "client/screen_size.h"
#include "client/style.h"
#include "sinkforge/v1/job_service.pb.h"
#include "sinkforge/v1/metrics.pb.h"

namespace sinkforge::client {

struct JobPicture {
  v1::Job job;
  std::vector<double> loss;  // oldest first
  std::vector<double> imbalance;
  v1::StepRecord last;             // step 0: none yet
  std::deque<std::string> events;  // oldest first
};

// "▁▂▄█": values scaled to their own range, the mean of neighbours where there are more than
// `width` of them. Empty without a value that is a number.
std::string Sparkline(const std::vector<double>& values, int width);

// Rows of layers, columns of heads: colours, or without them the tenths ("0" to "9"). Where the
// terminal is too small, a cell is the mean of neighbours, and the first line says so.
std::vector<std::string> HeadMap(const v1::StepRecord& record, ScreenSize room, const Style& style);

// At most `size.height - 1` lines of at most `size.width - 1` columns.
std::vector<std::string> RenderJob(const JobPicture& picture, ScreenSize size, const Style& style);

class JobScreen {
 public:
  JobScreen(std::ostream* out, const ReadScreenSize& screen_size, Style style)
      : block_(out, screen_size), screen_size_(screen_size), style_(style) {}

  // What happened before the stream: series "loss" and "imbalance".
  void SetHistory(const v1::QueryMetricsResponse& history);
  void Show(const v1::WatchJobResponse& message);
  // A line that stays above the picture.
  void Say(const std::string& line) { block_.Say(line); }
  // Leaves the last picture on the screen.
  void Finish() { block_.Finish(); }

 private:
  LineBlock block_;
  const ReadScreenSize screen_size_;
  const Style style_;
  JobPicture picture_;
};

}  // namespace sinkforge::client
