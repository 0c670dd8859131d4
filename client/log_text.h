// ReadableLogLine: a trainer's line for people.
#pragma once

#include <string>

#include "client/style.h"

namespace sinkforge::client {

struct ReadableLog {
  bool has_time = false;  // `text` begins with the time at which the trainer wrote it
  std::string text;
};

// A structured line (JSON with "time", "severity" and "message", see base/log.h) as
// "2026-11-22 06:16:28.123Z WARNING message key=value ...", without the fields that every line of
// the job repeats (component, job, attempt, rank, worker, trace_id). Any other line is itself.
// Neither can steer a terminal.
ReadableLog ReadableLogLine(const std::string& line, const Style& style);

}  // namespace sinkforge::client
