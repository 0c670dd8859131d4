// NcclCollective: the collective of ranks whose tensors lie on GPUs. Two files implement it, of
// which a build has one: nccl_collective.cc where CUDA and NCCL are there, else nccl_missing.cc.
#pragma once

#include <memory>

#include "worker/trainer/make_collective.h"

namespace sinkforge::trainer {

// On the thread's current device, which the backend has chosen. The ranks meet through `store`;
// NCCL finds the network itself (NCCL_SOCKET_IFNAME). kUnavailable: the other ranks did not come,
// with NCCL's reason; kFailedPrecondition: this build has no NCCL.
kernels::Result<std::unique_ptr<Collective>> MakeNcclCollective(const CollectiveOptions& options,
                                                                RendezvousStore* store);

}  // namespace sinkforge::trainer
