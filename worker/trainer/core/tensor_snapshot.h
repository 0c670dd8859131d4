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

// What a rank holds of a named tensor: the elements `share` of the flattened whole, in `part`.
struct TensorPart {
  std::string name;
  std::vector<int64_t> shape;  // of the whole
  kernels::DType dtype = kernels::DType::kF32;
  Share share;
  kernels::Tensor part;  // [share.size]; no data where that is 0
};
TensorPart WholeOf(const NamedTensor& named);
// A host copy of the elements `share`, which must be among those held.
SnapshotTensor CopyPart(kernels::Backend* backend, const TensorPart& held, const Share& share);

// A host copy of all of a tensor.
SnapshotTensor CopyWhole(kernels::Backend* backend, const NamedTensor& named);

enum class ForeignTensors { kRefuse, kPassOptimizer };

// Writes the slices into `wanted`, whose whole tensors they must cover, every element once. Errors
// (kInvalidArgument) name the tensor: missing, in part missing, given twice, of another shape or
// type, or unknown to the job. Nothing is written unless all of it fits.
kernels::Status AssembleTensors(const std::vector<TensorPart>& wanted,
                                const std::vector<SnapshotTensor>& slices, ForeignTensors foreign,
                                kernels::Backend* backend);

}  // namespace sinkforge::trainer
