// Counts every call of operator new in a binary that links counting_new.cc.
#pragma once

#include <cstdint>

namespace sinkforge::trainer {

int64_t AllocationsSoFar();

}  // namespace sinkforge::trainer
