// Golden files as plain numbers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sinkforge::trainer {

struct GoldenTensor {
  std::vector<int64_t> shape;
  std::vector<double> values;  // whatever the file's dtype
};

using GoldenTensors = std::map<std::string, GoldenTensor>;

// tests/golden/data of the source tree.
std::string GoldenFolder();

// All tensors of a file in that folder. Stops the program where the file cannot be read: without it
// there is nothing to test.
GoldenTensors ReadGoldenFile(const std::string& name);

}  // namespace sinkforge::trainer
