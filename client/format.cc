// Formatting for people: pure functions.
#include "client/format.h"

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sinkforge::client {
namespace {

// "JOB_STATE_RUNNING" without "JOB_STATE_", in lower case, with spaces.
std::string ShortName(const std::string& name, const std::string& prefix, int number) {
  if (name.size() <= prefix.size()) return absl::StrCat("unknown (", number, ")");
  std::string text = absl::AsciiStrToLower(name.substr(prefix.size()));
  for (char& c : text) {
    if (c == '_') c = ' ';
  }
  return text;
}

bool StartsCodePoint(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

}  // namespace

std::string FormatDuration(std::chrono::nanoseconds duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  if (seconds < 0) return "-";
  if (seconds < 9.95) return absl::StrFormat("%.1f s", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return absl::StrFormat("%d s", whole);
  if (whole < 3600) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  if (whole < 86400) return absl::StrFormat("%dh%02dm", whole / 3600, whole / 60 % 60);
  return absl::StrFormat("%dd%02dh", whole / 86400, whole / 3600 % 24);
}

std::string FormatDuration(const google::protobuf::Duration& duration) {
  return FormatDuration(std::chrono::seconds(duration.seconds()) +
                        std::chrono::nanoseconds(duration.nanos()));
}

std::string FormatBytes(int64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  const char* const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  // 1023.95 would be printed as 1024.0.
  while (value >= 1023.95 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, units[unit]);
}

std::string FormatCount(double count) {
  if (!std::isfinite(count)) return FormatNumber(count);
  const double size = std::fabs(count);
  if (size < 999.5) return absl::StrFormat("%.0f", count);
  const char* const units[] = {"k", "M", "B", "T"};
  double value = count / 1000;
  int unit = 0;
  while (std::fabs(value) >= 999.5 && unit < 3) {
    value /= 1000;
    ++unit;
  }
  const int digits = std::fabs(value) < 9.995 ? 2 : std::fabs(value) < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f%s", digits, value, units[unit]);
}

std::string FormatNumber(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (value == 0) return "0";
  const double size = std::fabs(value);
  if (size < 1e-3 || size >= 1e6) return absl::StrFormat("%.3g", value);
  if (size >= 1000) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.4f", value);
}

std::string FormatExact(double value) { return absl::StrFormat("%.17g", value); }

std::string FormatTime(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0 && time.nanos() == 0) return "-";
  const auto seconds = static_cast<std::time_t>(time.seconds());
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%SZ", &parts);
  return text;
}

std::string StateName(v1::JobState state) {
  return ShortName(v1::JobState_Name(state), "JOB_STATE_", state);
}

std::string ReasonName(v1::Reason reason) {
  return ShortName(v1::Reason_Name(reason), "REASON_", reason);
}

std::string EventKindName(v1::EventKind kind) {
  return ShortName(v1::EventKind_Name(kind), "EVENT_KIND_", kind);
}

std::string WorkerStateName(v1::WorkerState state) {
  return ShortName(v1::WorkerState_Name(state), "WORKER_STATE_", state);
}

std::string OneLine(const std::string& text) {
  std::string clean = text;
  for (char& c : clean) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) c = ' ';
  }
  return clean;
}

int DisplayWidth(const std::string& text) {
  int width = 0;
  for (char c : text) width += StartsCodePoint(c) ? 1 : 0;
  return width;
}

std::string Shorten(const std::string& text, int width) {
  if (DisplayWidth(text) <= width) return text;
  if (width <= 0) return "";
  size_t end = 0;
  for (int columns = 0; end < text.size(); ++end) {
    if (StartsCodePoint(text[end]) && ++columns == width) break;
  }
  return absl::StrCat(text.substr(0, end), "…");
}

}  // namespace sinkforge::client
