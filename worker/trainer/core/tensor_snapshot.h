// Between a backend's tensors and the named slices of a snapshot.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "worker/trainer/core/host.h"
#include "worker/trainer/core/share.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::trainer {

// A host copy of the slice `share` of the flattened tensor.
SnapshotTensor CopySlice(kernels::Backend* backend, const NamedTensor& named, const Share& share);
SnapshotTensor CopyWhole(kernels::Backend* backend, const NamedTensor& named);

enum class ForeignTensors { kRefuse, kPassOptimizer };

// Writes the slices into `wanted`, all of which must be covered, every element once. Errors
// (kInvalidArgument) name the tensor: missing, in part missing, given twice, of another shape or
// type, or unknown to the job. Nothing is written unless all of it fits.
kernels::Status AssembleTensors(const std::vector<NamedTensor>& wanted,
                                const std::vector<SnapshotTensor>& slices, ForeignTensors foreign,
                                kernels::Backend* backend);

}  // namespace sinkforge::trainer
