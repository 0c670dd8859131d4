// Structured logs: one JSON object a line on stderr ("time", "severity", "message", then the
// fields), or plain text where stderr is a terminal. Thread-safe; a line is written by one
// write(2).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <variant>

namespace sinkforge::base {

enum class Severity { kInfo, kWarning, kError };

struct LogField {
  std::string key;  // "job", "attempt", "rank", "worker", "error"
  std::variant<std::string, int64_t, double> value;
};

// Set once at the start of main: the program's name goes into every line as "component".
void SetLogComponent(const std::string& name);

void Log(Severity severity, const std::string& message,
         std::initializer_list<LogField> fields = {});
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
