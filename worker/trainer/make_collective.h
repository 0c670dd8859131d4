// make_collective: how the ranks of one attempt reach one another.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "kernels/status.h"
#include "worker/trainer/core/collective.h"

namespace sinkforge::trainer {

// Keys and values that the ranks of one attempt leave for one another while they meet.
class RendezvousStore {
 public:
  virtual ~RendezvousStore() = default;
  // kUnavailable.
  virtual kernels::Status Put(const std::string& key, const std::string& value) = 0;
  // Waits for the key. kUnavailable: it did not come in time, or the store is away.
  virtual kernels::Result<std::string> Get(const std::string& key,
                                           std::chrono::milliseconds timeout) = 0;
};

struct CollectiveOptions {
  int rank = 0;
  int world_size = 1;
  // Where the tensors lie: the host's memory, or a GPU's.
  enum class Memory { kHost, kDevice };
  Memory memory = Memory::kHost;
  std::string host = "127.0.0.1";  // of this machine, for the other ranks
  // Until every rank has come: they load their data first.
  std::chrono::milliseconds meeting_timeout{120'000};
  // Of one operation, with a rank that hangs. One that dies is noticed at once, but where Gloo
  // begins a send at the very moment in which the connection ends: that it waits for until this is
  // over, unless the coordinator, which sees the other rank's end, ends this one before.
  std::chrono::milliseconds operation_timeout{300'000};
  // Of Finish, with a rank that is late with its last checkpoint or gone: nothing depends on it any
  // more, and this rank's end is not reported before.
  std::chrono::milliseconds finish_timeout{30'000};
};

// `store` may be null for a world of one. Waits for the other ranks. kInvalidArgument: no store for
// a larger world. kUnavailable: the other ranks did not come.
kernels::Result<std::unique_ptr<Collective>> MakeCollective(const CollectiveOptions& options,
                                                            RendezvousStore* store);

}  // namespace sinkforge::trainer
