// The micro-batch of a job that leaves it to its ranks (train.micro_batch: auto): the most rows
// with which every rank's memory plan fits into the memory that is free. The head-balance loss is
// taken over the global micro-batch, so that the choice is part of what a run computes: the ranks
// agree on one, checkpoints keep it, and nothing but memory decides on it.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "worker/trainer/core/collective.h"
#include "worker/trainer/core/config.h"

namespace sinkforge::trainer {

// What a rank finds before it allocates anything.
struct FreeMemory {
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
  // A host's memory is shared by the ranks of the same machine, and holds also the copies that
  // checkpoints are written from and restored to. A device's is its one rank's.
  enum class Kind { kHost, kDevice };
  Kind kind = Kind::kHost;
  int64_t bytes = 0;
  uint32_t machine = 0;  // kHost: the same number on the same machine
  // kHost, of this rank alone: its slot's share of the machine, whatever is free there, and what
  // the limits of its process leave.
  int64_t slot_bytes = kUnlimited;
  int64_t process_bytes = kUnlimited;
};

// What a rank takes with micro-batches of `rows` where the job has `ranks` ranks.
struct RankShape {
  int64_t rows = 0;
  int64_t ranks = 1;
};
using BytesOfRank = std::function<kernels::Result<int64_t>(const RankShape&)>;

// A rank of a job of `ranks` ranks may take `bytes`.
struct MemoryLimit {
  // What sets it: the memory that is free, the share of the rank's slot, or its process's limits.
  enum class By { kFree, kSlot, kProcess };
  int64_t ranks = 1;
  int64_t bytes = 0;
  By by = By::kFree;
};

struct MemoryFit {
  int64_t rows = 0;  // 0: nothing fits
  // Of `rows`, or of the fewest rows where nothing fits: what a rank takes by the limit that is
  // nearest to being reached.
  int64_t bytes = 0;
  MemoryLimit limit;
};

// The most of `choices` (ascending, at least one) that keep every one of the limits (at least one).
// Errors are `bytes_of`'s.
kernels::Result<MemoryFit> LargestThatFits(const std::vector<int64_t>& choices,
                                           const std::vector<MemoryLimit>& limits,
                                           const BytesOfRank& bytes_of);

struct MicroBatchRequest {
  // Rows, ascending: divisors of a step's rows, of which every rank gets one at least.
  std::vector<int64_t> choices;
  int64_t ranks_min = 1;  // the fewest that the job may have, at most as many as it has
  int64_t ranks_max = 1;  // and the most, at least as many
  FreeMemory free;        // of this rank
  // kChoose leaves a tenth of the memory to what no plan counts. kKeep: `choices` is the one that
  // the job's checkpoint was trained with; only what cannot fit is refused, and a slot's share does
  // not count.
  enum class Use { kChoose, kKeep };
  Use use = Use::kChoose;
};

struct MicroBatchChoice {
  int64_t rows = 0;
  std::string reason;  // for people: whose memory allows no more, and how much it has
};

// Every rank calls it at once, with its own free memory. The choice is the same on all, and fits on
// each of them; with kChoose also where the job has shrunk to `ranks_min`, or grown to `ranks_max`
// of which each machine has a share as now. `config` gives a step's rows (micro_steps *
// micro_batch_rows); how they are divided there does not count.
//
// kResourceExhausted, on all ranks: not even the fewest rows fit; says by how much, what takes it,
// and what to do. kInvalidArgument: as PlanMemory's. kUnavailable: a rank was lost.
kernels::Result<MicroBatchChoice> AgreeOnMicroBatch(const TrainingConfig& config,
                                                    const MicroBatchRequest& request,
                                                    kernels::Backend* backend,
                                                    Collective* collective);

// The same of a job alone, all of whose `ranks` are on the machine that `request` speaks of; for
// people who ask beforehand.
kernels::Result<MicroBatchChoice> ForeseeMicroBatch(const TrainingConfig& config,
                                                    const MicroBatchRequest& request, int64_t ranks,
                                                    kernels::Backend* backend);

}  // namespace sinkforge::trainer
