// base/log.h as plain text, without what JSON needs: for the trainer's files that a GPU machine
// builds.
#include <cstdio>

#include "base/log.h"

namespace sinkforge::base {

void Log(Severity, const std::string& message, std::initializer_list<LogField> fields) {
  std::string line = message;
  for (const LogField& field : fields) {
    line += " " + field.key + "=";
    if (const auto* text = std::get_if<std::string>(&field.value)) line += *text;
    if (const auto* count = std::get_if<int64_t>(&field.value)) line += std::to_string(*count);
    if (const auto* real = std::get_if<double>(&field.value)) line += std::to_string(*real);
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace sinkforge::base
