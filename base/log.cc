// Formats and writes log lines; see log.h.
#include "base/log.h"

#include <unistd.h>

#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/mutex.h"

namespace sinkforge::base {
namespace {

const char* Name(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "INFO";
    case Severity::kWarning:
      return "WARNING";
    case Severity::kError:
      return "ERROR";
  }
  return "INFO";
}

// RFC 3339 in UTC with milliseconds.
std::string Timestamp() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[48];
  const size_t length = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + length, sizeof(text) - length, ".%03dZ",
                static_cast<int>(millis.count() % 1000));
  return text;
}

// A leaked pointer: loggers may run while static objects are destroyed.
struct Component {
  Mutex mutex;
  std::string name GUARDED_BY(mutex);
  LogFields context GUARDED_BY(mutex);
};
Component& TheComponent() {
  static auto* component = new Component;
  return *component;
}

std::string ComponentName() {
  Component& component = TheComponent();
  MutexLock lock(&component.mutex);
  return component.name;
}

LogFields Context() {
  Component& component = TheComponent();
  MutexLock lock(&component.mutex);
  return component.context;
}

nlohmann::ordered_json ValueOf(const LogField& field) {
  return std::visit([](const auto& value) { return nlohmann::ordered_json(value); }, field.value);
}

std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

void SetLogComponent(const std::string& name) {
  Component& component = TheComponent();
  MutexLock lock(&component.mutex);
  component.name = name;
}

void SetLogContext(LogFields fields) {
  Component& component = TheComponent();
  MutexLock lock(&component.mutex);
  component.context = std::move(fields);
}

void Log(Severity severity, const std::string& message, std::initializer_list<LogField> fields) {
  Log(severity, message, LogFields(), fields);
}

void Log(Severity severity, const std::string& message, const LogFields& about,
         std::initializer_list<LogField> own) {
  LogFields fields = Context();
  fields.insert(fields.end(), about.begin(), about.end());
  fields.insert(fields.end(), own.begin(), own.end());
  static const bool is_terminal = isatty(STDERR_FILENO) == 1;
  std::string line;
  if (is_terminal) {
    line = Timestamp() + " " + Name(severity) + " " + message;
    for (const LogField& field : fields) line += " " + field.key + "=" + Dump(ValueOf(field));
  } else {
    nlohmann::ordered_json json;
    json["time"] = Timestamp();
    json["severity"] = Name(severity);
    json["component"] = ComponentName();
    json["message"] = message;
    for (const LogField& field : fields) json[field.key] = ValueOf(field);
    line = Dump(json);
  }
  line += '\n';
  // One call, so that lines of several threads and processes do not mix; a lost log line stops
  // nothing.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace sinkforge::base
