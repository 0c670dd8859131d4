// Structured log lines as people read them; see log_text.h.
#include "client/log_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/format.h"

namespace sinkforge::client {
namespace {

using Json = nlohmann::ordered_json;

// What identifies the process that wrote the line: asked for by --attempt, --rank and --prefix, or
// the same on each of them.
constexpr const char* kContext[] = {"time",    "severity", "message", "component", "job",
                                    "attempt", "rank",     "worker",  "trace_id"};

bool IsContext(const std::string& key) {
  return std::any_of(std::begin(kContext), std::end(kContext),
                     [&key](const char* name) { return key == name; });
}

bool HasText(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string();
}

// "2026-11-22T06:16:28.123Z" as the other commands write times.
std::string Time(const std::string& rfc3339) {
  std::string text = rfc3339;
  const size_t separator = text.find('T');
  if (separator != std::string::npos) text[separator] = ' ';
  return OneLine(text);
}

std::string Severity(const std::string& severity, const Style& style) {
  return severity == "INFO" ? severity : style.Bold(severity);
}

// One word stays as it is; anything else is quoted, so that it is clear where it ends.
std::string Value(const Json& value) {
  const std::string quoted = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (!value.is_string()) return OneLine(quoted);
  const auto& text = value.get_ref<const std::string&>();
  const bool is_word = !text.empty() && text.find_first_of(" =") == std::string::npos &&
                       quoted.size() == text.size() + 2;  // nothing needed an escape
  return OneLine(is_word ? text : quoted);
}

}  // namespace

ReadableLog ReadableLogLine(const std::string& line, const Style& style) {
  ReadableLog plain{.has_time = false, .text = OneLine(line)};
  if (line.empty() || line.front() != '{') return plain;
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !HasText(json, "time") || !HasText(json, "severity") ||
      !HasText(json, "message")) {
    return plain;
  }
  std::string text = absl::StrCat(Time(json["time"].get<std::string>()), " ",
                                  Severity(OneLine(json["severity"].get<std::string>()), style),
                                  " ", OneLine(json["message"].get<std::string>()));
  for (const auto& [key, value] : json.items()) {
    if (!IsContext(key)) absl::StrAppend(&text, " ", OneLine(key), "=", Value(value));
  }
  return {.has_time = true, .text = text};
}

}  // namespace sinkforge::client
