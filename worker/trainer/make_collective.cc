// One rank needs no network.
#include "worker/trainer/make_collective.h"

#include "worker/trainer/core/solo_collective.h"
#include "worker/trainer/gloo_collective.h"
#include "worker/trainer/nccl_collective.h"

namespace sinkforge::trainer {

using kernels::Status;
using kernels::StatusCode;

kernels::Result<std::unique_ptr<Collective>> MakeCollective(const CollectiveOptions& options,
                                                            RendezvousStore* store) {
  if (options.world_size == 1) {
    return std::unique_ptr<Collective>(std::make_unique<SoloCollective>());
  }
  if (store == nullptr || options.rank < 0 || options.rank >= options.world_size) {
    return Status(StatusCode::kInvalidArgument,
                  "resources.ranks: rank " + std::to_string(options.rank) + " of " +
                      std::to_string(options.world_size) + " cannot be run here; use ranks: 1");
  }
  if (options.memory == CollectiveOptions::Memory::kDevice) {
    return MakeNcclCollective(options, store);
  }
  return MakeGlooCollective(options, store);
}

}  // namespace sinkforge::trainer
