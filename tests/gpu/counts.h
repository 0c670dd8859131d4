// Which cases a part of the device's conformance runs, and how many of them failed.
#pragma once

#include <string>

#include "kernels/cuda/cuda_backend.h"

namespace sinkforge::kernels::conformance {

// The kernels for compute capability 9.0 come last: where one of them hangs, all else is tested.
enum class PathChoice { kOthers, kHopper };

struct Selection {
  std::string name_part;  // of the cases' names
  PathChoice paths = PathChoice::kOthers;

  bool Has(const std::string& name) const { return name.find(name_part) != std::string::npos; }
  bool Has(CudaAttention path) const {
    return (path == CudaAttention::kHopper) == (paths == PathChoice::kHopper);
  }
};

struct Counts {
  int run = 0;
  int failed = 0;
};

}  // namespace sinkforge::kernels::conformance
