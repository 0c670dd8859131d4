// Arguments of the programs of this folder: name=value, every name with a default.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

namespace sinkforge::gpu {

class Arguments {
 public:
  // Ends the program with the names that there are where one is not known.
  Arguments(int argc, char** argv, std::map<std::string, std::string> defaults)
      : values_(std::move(defaults)) {
    for (int i = 1; i < argc; ++i) {
      const std::string word = argv[i];
      const size_t equals = word.find('=');
      const std::string name = word.substr(0, equals);
      if (equals == std::string::npos || values_.count(name) == 0) {
        std::fprintf(stderr, "%s: not one of:", word.c_str());
        for (const auto& [known, value] : values_) {
          std::fprintf(stderr, " %s=%s", known.c_str(), value.c_str());
        }
        std::fprintf(stderr, "\n");
        std::exit(2);
      }
      values_[name] = word.substr(equals + 1);
    }
  }

  const std::string& Text(const std::string& name) const { return values_.at(name); }
  int64_t Integer(const std::string& name) const {
    return std::strtoll(Text(name).c_str(), nullptr, 10);
  }
  double Real(const std::string& name) const { return std::strtod(Text(name).c_str(), nullptr); }

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace sinkforge::gpu
