// Formats and writes log lines; see log.h.
#include "base/log.h"

#include <unistd.h>

#include <algorithm>
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

// As JSON. Most texts need no escapes and go the short way: a coordinator writes thousands of lines
// a second when it starts many jobs.
std::string Json(const std::string& text) {
  const bool is_plain = std::all_of(text.begin(), text.end(), [](char c) {
    return c >= ' ' && c <= '~' && c != '"' && c != '\\';
  });
  if (is_plain) {
    std::string quoted = "\"";
    quoted += text;
    quoted += '"';
    return quoted;
  }
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}
std::string Json(int64_t value) { return std::to_string(value); }
std::string Json(double value) { return nlohmann::json(value).dump(); }

std::string Json(const LogField& field) {
  return std::visit([](const auto& value) { return Json(value); }, field.value);
}

// Each key once, with its last value.
void Put(const LogField& field, LogFields* fields) {
  const auto same = std::find_if(fields->begin(), fields->end(),
                                 [&](const LogField& other) { return other.key == field.key; });
  if (same == fields->end()) {
    fields->push_back(field);
  } else {
    *same = field;
  }
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
  for (const LogField& field : about) Put(field, &fields);
  for (const LogField& field : own) Put(field, &fields);
  static const bool is_terminal = isatty(STDERR_FILENO) == 1;
  std::string line;
  if (is_terminal) {
    line = Timestamp() + " " + Name(severity) + " " + message;
    for (const LogField& field : fields) line += " " + field.key + "=" + Json(field);
  } else {
    line = R"({"time":")";
    line += Timestamp();
    line += R"(","severity":")";
    line += Name(severity);
    line += R"(","component":)";
    line += Json(ComponentName());
    line += R"(,"message":)";
    line += Json(message);
    for (const LogField& field : fields) {
      line += ',';
      line += Json(field.key);
      line += ':';
      line += Json(field);
    }
    line += '}';
  }
  line += '\n';
  // One call, so that lines of several threads and processes do not mix; a lost log line stops
  // nothing.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace sinkforge::base
