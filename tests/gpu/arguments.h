// Arguments of the programs of this folder: name=value, every name with a default.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "kernels/cuda/cuda_backend.h"

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
  // auto, hopper, tensor_cores or rows; ends the program where it is none of these.
  kernels::CudaAttention Kernels(const std::string& name) const {
    const std::map<std::string, kernels::CudaAttention> all = {
        {"auto", kernels::CudaAttention::kDefault},
        {"hopper", kernels::CudaAttention::kHopper},
        {"rows", kernels::CudaAttention::kRows},
        {"tensor_cores", kernels::CudaAttention::kTensorCores}};
    const auto at = all.find(Text(name));
    if (at != all.end()) return at->second;
    std::fprintf(stderr, "%s=%s: not one of auto, hopper, rows, tensor_cores\n", name.c_str(),
                 Text(name).c_str());
    std::exit(2);
  }
  // off or on; ends the program where it is neither.
  kernels::CudaGraphs Graphs(const std::string& name) const {
    if (Text(name) == "off") return kernels::CudaGraphs::kOff;
    if (Text(name) == "on") return kernels::CudaGraphs::kOn;
    std::fprintf(stderr, "%s=%s: not one of off, on\n", name.c_str(), Text(name).c_str());
    std::exit(2);
  }
  double Real(const std::string& name) const { return std::strtod(Text(name).c_str(), nullptr); }

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace sinkforge::gpu
