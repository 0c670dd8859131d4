// Progress of jobs: as a line of text, and as a display that either redraws lines in place (a
// terminal) or prints few plain ones (a pipe, a log).
#pragma once

#include <chrono>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "client/screen_size.h"
#include "client/style.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::client {

// "[=======>     ]", `width` columns wide with its brackets.
std::string ProgressBar(int64_t step, int64_t steps_total, int width);

// One line of at most `width` columns; where it is narrow, the less important parts go first (the
// bar, then importance, rate). `name_width`: the columns that the job's name takes.
std::string TerminalProgressLine(const v1::Job& job, int name_width, int width, const Style& style);

// "d4-gated-1 running step=120/200 loss=2.4312 imbalance=0.0312 ...": the same for machines' logs.
// Why a job failed is not in it: the event that says so, and the command's end, have it.
std::string PlainProgressLine(const v1::Job& job);

// "14:03:07 d4-gated-1: checkpoint committed, step 100: ..."
std::string EventLine(const v1::Event& event);

class ProgressDisplay {
 public:
  virtual ~ProgressDisplay() = default;
  // The jobs, in the same order at each call.
  virtual void Show(const std::vector<v1::Job>& jobs, std::chrono::nanoseconds now) = 0;
  // A line that stays.
  virtual void Say(const std::string& line) = 0;
  // Leaves the last state on the screen.
  virtual void Finish() = 0;
};

std::unique_ptr<ProgressDisplay> MakeTerminalDisplay(std::ostream* out, ReadScreenSize screen_size,
                                                     Style style);
// A line for a job when its state or reason changes, and at most one a second for its progress.
std::unique_ptr<ProgressDisplay> MakePlainDisplay(std::ostream* out);

}  // namespace sinkforge::client
