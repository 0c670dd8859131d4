// What the benchmarks' sides share: key=value arguments, and the process's peak memory.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace sinkforge::bench {

class KeyValues {
 public:
  // Ends the process with a message that `program` begins where an argument has no equals sign.
  KeyValues(std::string program, int argc, char** argv);
  // Ends the process where the key is missing.
  int64_t Number(const std::string& key) const;
  std::string Word(const std::string& key, const std::string& fallback) const;
  [[noreturn]] void Fail(const std::string& message) const;

 private:
  std::string program_;
  std::map<std::string, std::string> values_;
};

double PeakResidentMebibytes();

}  // namespace sinkforge::bench
