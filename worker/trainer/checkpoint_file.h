// checkpoint_file: checkpoints of the standalone mode, one safetensors file each, under a folder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "worker/trainer/run_host.h"

namespace sinkforge::trainer {

// "step-30.safetensors" below `folder`.
std::string CheckpointPath(const std::string& folder, int64_t step);

// Steps of the whole checkpoints in `folder`, ascending; empty where there is no such folder.
std::vector<int64_t> ListCheckpoints(const std::string& folder);

// Durable when it returns. The tensors are whole (one rank). kResourceExhausted: the disk is full;
// kUnavailable: the system refused otherwise.
kernels::Status WriteCheckpointFile(const std::string& path, const Snapshot& snapshot,
                                    const CheckpointRecord& record);

// kDataLoss: the file is missing, cut short, or its digest differs. kFailedPrecondition: it was
// written by a newer version.
kernels::Result<StoredCheckpoint> ReadCheckpointFile(const std::string& path);

// The parameters of any safetensors file: F32 tensors as they are, F64 and BF16 as
// F32, "optimizer/..." left out. kInvalidData: it is not such a file.
kernels::Result<std::vector<SnapshotTensor>> ReadParameters(const std::string& path);

// kInvalidData names the first tensor of F32 that holds what is not finite.
kernels::Status CheckFinite(const std::vector<SnapshotTensor>& parameters);

// Deletes all but the last `keep`, and partial files of earlier crashes.
void RetainCheckpoints(const std::string& folder, int64_t keep);

}  // namespace sinkforge::trainer
