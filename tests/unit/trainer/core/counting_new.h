// Counts every call of operator new in a binary that links counting_new.cc.
#pragma once

#include <cstdint>

namespace sinkforge::trainer {

int64_t AllocationsSoFar();
// Of memory that came from operator new and has not been deleted.
int64_t LiveBytes();

}  // namespace sinkforge::trainer
