// A build without NCCL.
#include "worker/trainer/nccl_collective.h"

namespace sinkforge::trainer {

kernels::Result<std::unique_ptr<Collective>> MakeNcclCollective(const CollectiveOptions&,
                                                                RendezvousStore*) {
  return kernels::Status(
      kernels::StatusCode::kFailedPrecondition,
      "resources.ranks: this trainer was built without NCCL, which ranks on GPUs "
      "need; use ranks: 1, or install NCCL and build it anew");
}

}  // namespace sinkforge::trainer
