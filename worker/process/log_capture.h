// LogCapture: a trainer's output as log lines: split, made valid UTF-8, cut at 8 KiB, numbered, and
// bounded in rate. Pure: bytes and the time go in, lines come out.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "sinkforge/v1/log_service.pb.h"
#include "worker/keys.h"

namespace sinkforge::worker {

constexpr size_t kLogLineBytesMax = 8 << 10;

// Replaces what is not UTF-8, and zero bytes, by U+FFFD.
std::string RepairUtf8(std::string_view text);

// Bytes of one stream to lines without their newline. Longer ones are cut into pieces of at most
// kLogLineBytesMax, between characters.
class LineSplitter {
 public:
  // Appends every line that is complete now.
  void Add(std::string_view bytes, std::vector<std::string>* lines);
  // The last line, which has no newline.
  void Finish(std::vector<std::string>* lines);

 private:
  std::string partial_;
};

// How much a trainer may print: a burst, then so much a second. The rest is counted, and one line
// says how many were left out.
struct LogRate {
  double lines_per_second = 1000;
  double bytes_per_second = 1 << 20;
  double burst_seconds = 10;  // of both
};

// Not thread-safe.
class LogCapture {
 public:
  LogCapture(const RankKey& rank, const LogRate& rate, const base::Now& now);

  // Lines that are complete and within the rate, ready for the spool.
  std::vector<v1::LogLine> Add(v1::LogLine::Stream stream, std::string_view bytes,
                               const base::Now& now);
  // Both streams have ended.
  std::vector<v1::LogLine> Finish(const base::Now& now);
  // The last lines of stderr, oldest first, at most 10 lines of 512 bytes; these are kept whatever
  // the rate. Of structured lines (base/log.h) only warnings and errors, as people read them: these
  // lines explain a crash.
  std::vector<std::string> stderr_tail() const;

 private:
  void Emit(v1::LogLine::Stream stream, const std::vector<std::string>& texts, const base::Now& now,
            std::vector<v1::LogLine>* lines);
  void Push(v1::LogLine::Stream stream, std::string text, const base::Now& now,
            std::vector<v1::LogLine>* lines);
  void NoteLeftOut(const base::Now& now, std::vector<v1::LogLine>* lines);
  // Whether the rate allows a line of so many bytes now.
  bool Spend(double bytes, const base::Now& now);

  const RankKey rank_;
  const LogRate rate_;
  LineSplitter stdout_;
  LineSplitter stderr_;
  int64_t sequence_ = 0;
  int64_t left_out_ = 0;
  double lines_allowed_;
  double bytes_allowed_;
  std::chrono::nanoseconds filled_;  // when the allowances were last refilled
  std::deque<std::string> tail_;
};

}  // namespace sinkforge::worker
