// Cases that a part of the device's conformance has run, and how many of them failed.
#pragma once

namespace sinkforge::kernels::conformance {

struct Counts {
  int run = 0;
  int failed = 0;
};

}  // namespace sinkforge::kernels::conformance
