// Numbers, times and names as people read them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "sinkforge/v1/job.pb.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge::client {

// "0.4 s", "12 s", "4m05s", "2h03m", "3d04h"; "-" for a negative one.
std::string FormatDuration(std::chrono::nanoseconds duration);
std::string FormatDuration(const google::protobuf::Duration& duration);
// "512 B", "1.5 KiB", "3.2 MiB", "1.0 GiB".
std::string FormatBytes(int64_t bytes);
// "950", "51.2k", "1.31M", "2.10B".
std::string FormatCount(double count);
// Digits that follow a value's size: "2.4312", "0.0312", "1.2e-05"; "nan", "inf".
std::string FormatNumber(double value);
// Every digit of a binary64, for machines.
std::string FormatExact(double value);
// "2026-11-22 06:16:28Z"; "-" where it is not set.
std::string FormatTime(const google::protobuf::Timestamp& time);

// "running", "waiting for slots", "checkpoint committed", "live".
std::string StateName(v1::JobState state);
std::string ReasonName(v1::Reason reason);
std::string EventKindName(v1::EventKind kind);
std::string WorkerStateName(v1::WorkerState state);

// Takes the place of control characters (but not of UTF-8), which must not reach a terminal from
// elsewhere.
std::string OneLine(const std::string& text);
// Columns on a terminal: code points of UTF-8.
int DisplayWidth(const std::string& text);
// At most `width` columns; a cut is marked with "…".
std::string Shorten(const std::string& text, int width);

}  // namespace sinkforge::client
