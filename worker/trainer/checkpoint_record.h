// CheckpointRecord: what is stored beside a checkpoint's tensors, as one JSON document: where the
// run stands, the data it reads, and the machine on which its bits are exact.
#pragma once

#include <string>
#include <vector>

#include "kernels/status.h"
#include "worker/trainer/core/config.h"
#include "worker/trainer/core/host.h"
#include "worker/trainer/data_files.h"

namespace sinkforge::trainer {

// A resume in another environment trains on, but not to the same bits.
struct RunEnvironment {
  int64_t threads = 0;    // of one rank
  std::string processor;  // model name
  std::string backend;
  std::string version;  // of this program
  int64_t ranks = 0;
  int64_t micro_batch = 0;  // rows of the global micro-batch; 0: made before this was kept
};

struct CheckpointRecord {
  TrainerState state;
  double loss = 0;
  double imbalance = 0;
  std::vector<FileDigest> files;  // of data.train
  RunEnvironment environment;
  std::string tokenizer;  // fingerprint of the one that made data.train; empty: not known
};

inline constexpr int kRecordSchemaVersion = 1;

std::string ToJson(const CheckpointRecord& record);
// kDataLoss: not such a document. kFailedPrecondition: a newer schema version.
kernels::Result<CheckpointRecord> ParseRecord(const std::string& json);

// Model name of this machine's processor.
std::string ProcessorModel();

// Empty where both give the same bits; else for people: "threads 2 -> 4, processor ...".
std::string DescribeDifference(const RunEnvironment& stored, const RunEnvironment& now);

// kInvalidArgument: the job's seed, batch or row length is not what the checkpoint was made with,
// so that the position in the data would mean something else.
kernels::Status CheckPosition(const TrainerState& state, const TrainingConfig& config);

}  // namespace sinkforge::trainer
