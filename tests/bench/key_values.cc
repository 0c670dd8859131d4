// See key_values.h.
#include "tests/bench/key_values.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <utility>

namespace sinkforge::bench {

KeyValues::KeyValues(std::string program, int argc, char** argv) : program_(std::move(program)) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    if (equals == std::string::npos) Fail("not key=value: " + argument);
    values_[argument.substr(0, equals)] = argument.substr(equals + 1);
  }
}

int64_t KeyValues::Number(const std::string& key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) Fail("no " + key + "= was given");
  return std::atoll(found->second.c_str());
}

std::string KeyValues::Word(const std::string& key, const std::string& fallback) const {
  const auto found = values_.find(key);
  return found == values_.end() ? fallback : found->second;
}

void KeyValues::Fail(const std::string& message) const {
  std::fprintf(stderr, "%s: %s\n", program_.c_str(), message.c_str());
  std::exit(1);
}

double PeakResidentMebibytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != "VmHWM:") continue;
    double kibibytes = 0;
    status >> kibibytes;
    return kibibytes / 1024;
  }
  return 0;
}

}  // namespace sinkforge::bench
