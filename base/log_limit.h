// Keeps a log readable where the same thing goes wrong again and again.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace sinkforge::base {

// Admits a text once a minute, and at most a hundred different ones.
class LogLimit {
 public:
  // How often the text was left out since it was last admitted; nullopt: leave it out now.
  std::optional<int64_t> Admit(const std::string& text, std::chrono::nanoseconds now);

 private:
  struct Said {
    std::chrono::nanoseconds last{0};
    int64_t left_out = 0;
  };
  std::map<std::string, Said> said_;
};

}  // namespace sinkforge::base
