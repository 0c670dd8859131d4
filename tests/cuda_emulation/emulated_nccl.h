// NCCL for ranks that are threads of one process, written from its documentation, with what a test
// can make of it: calls that fail, and ranks that are lost.
//
// As in NCCL: communicators never block. A call says ncclInProgress, its operations are on their
// stream only when ncclCommGetAsyncError has said ncclSuccess, and until then no other call is
// taken. The first operation of a communicator waits for every rank to come to it. A transfer runs
// on its rank's stream and ends when all ranks have come to it. A communicator that is aborted ends
// its own transfers and never completes another rank's.
//
// Stricter than NCCL, where that is undefined: ranks that do different things, and a communicator
// that is aborted inside a group, end the program with a message. Not as in NCCL: all ranks use the
// one device that the emulation has.
#pragma once

#include "tests/cuda_emulation/include/nccl.h"

namespace emulation {

// What the others hear of a rank that is lost, when they have something to do with it: an error,
// as over a network, or nothing, as between the devices of one machine.
enum class LostRank { kIsReported, kIsSilent };
// For the communicators whose first rank comes from now on.
void SetLostRank(LostRank lost);

enum class NcclCall {
  kGetUniqueId,
  kCommInitRankConfig,
  kReduce,
  kBroadcast,
  kAllReduce,
  kGroupEnd,
  kInBackground,  // of what a call left in progress
};
// The calling thread's next such call fails with `result`.
void FailNext(NcclCall call, ncclResult_t result);

}  // namespace emulation
