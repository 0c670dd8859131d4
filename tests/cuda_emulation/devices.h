// The GPUs that the emulated machine says it has. Kernels run on the first one, as on 9.0.
#pragma once

#include <string>
#include <vector>

namespace emulation {

struct Device {
  std::string name;
  int major = 9;
  int minor = 0;
};

// A test may change them, and puts them back.
inline std::vector<Device>& Devices() {
  static std::vector<Device> devices = {{"Emulated GPU"}};
  return devices;
}

}  // namespace emulation
