// NCCL for ranks that are threads of one process, written from its documentation, with what a test
// can make of it: calls that fail, and ranks that are lost.
//
// As in NCCL: communicators never block. A call says ncclInProgress, its operations are on their
// stream only when ncclCommGetAsyncError has said ncclSuccess, and until then no other call is
// taken. The first operation of a communicator waits for every rank to come to it. A transfer runs
// on its rank's stream and ends when all ranks have come to it. A communicator that is finalized is
// in progress until every rank's is and all transfers are done; then it can be destroyed. One that
// is aborted ends its own transfers, never completes another rank's, and is never finalized.
//
// Stricter than NCCL: ranks that do different things, and a communicator that is aborted, finalized
// or destroyed inside a group, which are undefined, end the program with a message; so does
// destroying one that is not finalized yet, which waits for the other ranks without an end. Not as
// in NCCL: all ranks use the one device that the emulation has.
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
  kCommFinalize,
  kCommDestroy,
  kInBackground,  // of what a call left in progress
};
// The calling thread's next such call fails with `result`.
void FailNext(NcclCall call, ncclResult_t result);

// How the communicators of the process have ended so far.
struct CommunicatorEnds {
  int destroyed = 0;
  int aborted = 0;
};
CommunicatorEnds EndsOfCommunicators();

}  // namespace emulation
