// One rank needs no network.
#include "worker/trainer/make_collective.h"

#include <string>

#include "worker/trainer/core/solo_collective.h"

namespace sinkforge::trainer {

using kernels::Status;
using kernels::StatusCode;

kernels::Result<std::unique_ptr<Collective>> MakeCollective(const CollectiveOptions& options) {
  if (options.world_size != 1) {
    return Status(StatusCode::kInvalidArgument,
                  "resources.ranks: this trainer was built without a network between ranks and "
                  "cannot run as one of " +
                      std::to_string(options.world_size) + "; use ranks: 1");
  }
  return std::unique_ptr<Collective>(std::make_unique<SoloCollective>());
}

}  // namespace sinkforge::trainer
