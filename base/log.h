// Structured logs: one JSON object a line on stderr ("time", "severity", "component", "message",
// the process's own fields, then those of the line), or plain text where stderr is a terminal. What
// is about a job has "job", "attempt", "rank", "worker" and "trace_id", so that one search follows
// a submission through coordinator, worker and trainer. Thread-safe; a line is written by one
// write(2).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace sinkforge::base {

enum class Severity { kInfo, kWarning, kError };

struct LogField {
  std::string key;  // "job", "attempt", "rank", "worker", "error"
  std::variant<std::string, int64_t, double> value;
};

using LogFields = std::vector<LogField>;

// Set once at the start of main: the program's name goes into every line as "component".
void SetLogComponent(const std::string& name);
// Go into every later line: {"worker", name} of a worker daemon, a trainer's rank.
void SetLogContext(LogFields fields);

void Log(Severity severity, const std::string& message,
         std::initializer_list<LogField> fields = {});
// With `about` before the line's own fields: those of a rank, which several lines share.
void Log(Severity severity, const std::string& message, const LogFields& about,
         std::initializer_list<LogField> fields);
inline void LogInfo(const std::string& message, std::initializer_list<LogField> fields = {}) {
  Log(Severity::kInfo, message, fields);
}
inline void LogWarning(const std::string& message, std::initializer_list<LogField> fields = {}) {
  Log(Severity::kWarning, message, fields);
}
inline void LogError(const std::string& message, std::initializer_list<LogField> fields = {}) {
  Log(Severity::kError, message, fields);
}

}  // namespace sinkforge::base
