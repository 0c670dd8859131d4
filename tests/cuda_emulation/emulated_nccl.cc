// Communicators, groups and transfers between the ranks of one process.
#include "tests/cuda_emulation/emulated_nccl.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace {

using sinkforge::base::CondVar;
using sinkforge::base::Mutex;
using sinkforge::base::MutexLock;

// NCCL says so, too, while its own thread works; a caller that does not ask again is found out.
constexpr int kPollsInProgress = 2;

enum class Kind { kReduce, kBroadcast, kAllReduce };

// What every rank must say of an operation.
struct Signature {
  Kind kind = Kind::kReduce;
  size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  ncclRedOp_t reduction = ncclSum;
  int root = 0;
  uint64_t group = 0;  // the rank's groups are numbered; a call outside of any is one of its own

  bool operator==(const Signature&) const = default;
};

struct Operation {
  Signature signature;
  const void* from = nullptr;
  void* to = nullptr;
  cudaStream_t stream = nullptr;
};

[[noreturn]] void EndProgram(const std::string& why) {
  std::fprintf(stderr, "emulated NCCL: %s\n", why.c_str());
  std::abort();
}

std::string Describe(const Signature& operation) {
  static const char* const kNames[] = {"ncclReduce", "ncclBroadcast", "ncclAllReduce"};
  return std::string(kNames[static_cast<int>(operation.kind)]) + " of " +
         std::to_string(operation.count) + " elements of type " + std::to_string(operation.type) +
         " by " + std::to_string(operation.reduction) + ", root " + std::to_string(operation.root) +
         ", in group " + std::to_string(operation.group);
}

size_t SizeOf(ncclDataType_t type) {
  switch (type) {
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclFloat64:
      return 8;
  }
  EndProgram("no such type: " + std::to_string(type));
}

// In the order of the ranks, each element read from all before it is written: `to` may be `from`.
template <typename T>
void Reduce(const std::vector<Operation>& sides) {
  const Signature& what = sides[0].signature;
  for (size_t i = 0; i < what.count; ++i) {
    T result = static_cast<const T*>(sides[0].from)[i];
    for (size_t rank = 1; rank < sides.size(); ++rank) {
      const T value = static_cast<const T*>(sides[rank].from)[i];
      result = what.reduction == ncclSum ? result + value : std::max(result, value);
    }
    for (size_t rank = 0; rank < sides.size(); ++rank) {
      const bool takes = what.kind == Kind::kAllReduce || what.root == static_cast<int>(rank);
      if (takes) static_cast<T*>(sides[rank].to)[i] = result;
    }
  }
}

void Broadcast(const std::vector<Operation>& sides) {
  const Signature& what = sides[0].signature;
  const void* from = sides[static_cast<size_t>(what.root)].from;
  for (const Operation& side : sides) {
    if (side.to != from) std::memcpy(side.to, from, what.count * SizeOf(what.type));
  }
}

// `sides`: every rank's, of the same signature.
void Carry(const std::vector<Operation>& sides) {
  const Signature& what = sides[0].signature;
  if (what.kind == Kind::kBroadcast) return Broadcast(sides);
  switch (what.type) {
    case ncclFloat32:
      return Reduce<float>(sides);
    case ncclFloat64:
      return Reduce<double>(sides);
    case ncclInt64:
      return Reduce<int64_t>(sides);
    case ncclInt32:
    case ncclBfloat16:
      break;
  }
  EndProgram("this type cannot be reduced here: " + Describe(what));
}

std::atomic<emulation::LostRank> lost_rank = emulation::LostRank::kIsReported;

// The ranks that meet by one identifier.
class World {
 public:
  // False: a rank of another world, or one that is there already.
  bool Join(int size, int rank) {
    const MutexLock lock(&mutex_);
    if (members_.empty()) members_.resize(static_cast<size_t>(size));
    if (members_.size() != static_cast<size_t>(size) || At(rank).joined) return false;
    At(rank).joined = true;
    return true;
  }
  bool AllJoined() {
    const MutexLock lock(&mutex_);
    return std::all_of(members_.begin(), members_.end(),
                       [](const Member& member) { return member.joined; });
  }
  // At the first operation of every rank they connect.
  bool AllConnect(int rank) {
    const MutexLock lock(&mutex_);
    At(rank).connects = true;
    return std::all_of(members_.begin(), members_.end(),
                       [](const Member& member) { return member.connects; });
  }

  // Ends this rank's transfers before it returns.
  void Abort(int rank) {
    MutexLock lock(&mutex_);
    At(rank).aborted = true;
    lost_ = true;
    changed_.NotifyAll();
    while (At(rank).in_transfer) changed_.Wait(&lock);
  }

  // This rank is done with the communicator. True when every rank is, and the first `operations`
  // operations are done.
  bool Finalize(int rank, uint64_t operations) {
    const MutexLock lock(&mutex_);
    At(rank).finalized = true;
    return done_ >= operations &&
           std::all_of(members_.begin(), members_.end(),
                       [](const Member& member) { return member.finalized; });
  }

  // `operations`: how many the rank has put on its stream. What is done stays done.
  bool ReportsLoss(uint64_t operations) {
    const MutexLock lock(&mutex_);
    return lost_ && reported_ && operations > done_;
  }

  // On the stream of `rank`: waits for the others, unless the rank aborts.
  void Transfer(int rank, uint64_t number, const Operation& operation) {
    MutexLock lock(&mutex_);
    if (At(rank).aborted) return;
    Exchange& exchange = exchanges_[number];
    if (exchange.sides.empty()) {
      exchange.signature = operation.signature;
      exchange.sides.resize(members_.size());
    }
    if (exchange.signature != operation.signature) {
      EndProgram("ranks do different things: " + Describe(exchange.signature) + ", but rank " +
                 std::to_string(rank) + " " + Describe(operation.signature));
    }
    exchange.sides[static_cast<size_t>(rank)] = operation;
    // An aborted rank's memory may be gone already.
    if (++exchange.arrived == members_.size() && !lost_) {
      Carry(exchange.sides);
      exchange.done = true;
      ++done_;
      changed_.NotifyAll();
    }
    At(rank).in_transfer = true;
    while (!exchange.done && !At(rank).aborted) changed_.Wait(&lock);
    At(rank).in_transfer = false;
    if (++exchange.left == members_.size()) exchanges_.erase(number);
    changed_.NotifyAll();
  }

 private:
  struct Member {
    bool joined = false;
    bool connects = false;
    bool in_transfer = false;
    bool finalized = false;
    bool aborted = false;
  };
  struct Exchange {
    Signature signature;
    std::vector<Operation> sides;
    size_t arrived = 0;
    size_t left = 0;
    bool done = false;
  };

  Member& At(int rank) REQUIRES_LOCK(mutex_) { return members_[static_cast<size_t>(rank)]; }

  const bool reported_ = lost_rank == emulation::LostRank::kIsReported;
  Mutex mutex_;
  CondVar changed_;
  std::vector<Member> members_ GUARDED_BY(mutex_);
  std::map<uint64_t, Exchange> exchanges_ GUARDED_BY(mutex_);  // by number, those under way
  uint64_t done_ GUARDED_BY(mutex_) = 0;                       // every rank does them in order
  bool lost_ GUARDED_BY(mutex_) = false;                       // a rank has aborted
};

// Whoever comes when all others are gone finds an empty world.
std::shared_ptr<World> WorldOf(const ncclUniqueId& id) {
  static Mutex mutex;
  static std::map<std::string, std::weak_ptr<World>> worlds;
  const MutexLock lock(&mutex);
  std::weak_ptr<World>& known = worlds[std::string(id.internal, sizeof(id.internal))];
  std::shared_ptr<World> world = known.lock();
  if (world == nullptr) {
    world = std::make_shared<World>();
    known = world;
  }
  return world;
}

// The calling thread's open group.
struct Group {
  int depth = 0;
  ncclResult_t error = ncclSuccess;  // the first one
  std::vector<ncclComm_t> communicators;
};
thread_local Group group;

thread_local std::map<emulation::NcclCall, ncclResult_t> failures;

// ncclSuccess: the call is to do its work.
ncclResult_t Failure(emulation::NcclCall call) {
  const auto found = failures.find(call);
  if (found == failures.end()) return ncclSuccess;
  const ncclResult_t result = found->second;
  failures.erase(found);
  return result;
}

}  // namespace

// Belongs to the thread that calls NCCL with it.
struct ncclComm {
 public:
  ncclComm(std::shared_ptr<World> world, int size, int rank)
      : world_(std::move(world)), size_(size), rank_(rank) {}

  // As ncclCommGetAsyncError has it; goes on with what is in progress.
  ncclResult_t Poll() {
    if (state_ != ncclSuccess && state_ != ncclInProgress) return state_;
    // What is in progress counts as an operation: it needs the others, too.
    if (world_->ReportsLoss(operations_ + (state_ == ncclInProgress ? 1 : 0))) {
      return state_ = ncclRemoteError;
    }
    if (state_ != ncclInProgress || polls_-- > 0) return state_;
    if (const ncclResult_t failure = Failure(emulation::NcclCall::kInBackground);
        failure != ncclSuccess) {
      return state_ = failure;
    }
    if (!world_->AllJoined()) return state_;
    if (!gathered_.empty()) {
      if (!world_->AllConnect(rank_)) return state_;
      Launch();
    }
    if (finalizing_ && !world_->Finalize(rank_, operations_)) return state_;
    return state_ = ncclSuccess;
  }

  ncclResult_t Gather(Operation operation) {
    if (const ncclResult_t state = Poll(); state != ncclSuccess) {
      return state == ncclInProgress ? ncclInvalidArgument : state;
    }
    if (finalizing_ || operation.signature.root < 0 || operation.signature.root >= size_) {
      return ncclInvalidArgument;
    }
    operation.signature.group = groups_;
    gathered_.push_back(operation);
    return ncclSuccess;
  }

  // The group has ended.
  void Begin(ncclResult_t error) {
    if (error == ncclSuccess) {
      state_ = ncclInProgress;
      polls_ = kPollsInProgress;
    } else {
      state_ = error;
      gathered_.clear();
    }
  }

  ncclResult_t Finalize() {
    if (const ncclResult_t state = Poll(); state != ncclSuccess) {
      return state == ncclInProgress ? ncclInvalidArgument : state;
    }
    if (finalizing_) return ncclInvalidArgument;
    finalizing_ = true;
    Begin(ncclSuccess);
    return ncclInProgress;
  }
  bool IsFinalized() const { return finalizing_ && state_ == ncclSuccess; }

  void Abort() { world_->Abort(rank_); }

 private:
  void Launch() {
    for (const Operation& operation : gathered_) {
      emulation::Enqueue(operation.stream,
                         [world = world_, rank = rank_, number = operations_, operation] {
                           world->Transfer(rank, number, operation);
                         });
      ++operations_;
    }
    gathered_.clear();
    ++groups_;
  }

  const std::shared_ptr<World> world_;
  const int size_;
  const int rank_;
  ncclResult_t state_ = ncclInProgress;
  int polls_ = kPollsInProgress;     // that still say so
  std::vector<Operation> gathered_;  // not on their streams yet
  uint64_t operations_ = 0;          // on their streams
  uint64_t groups_ = 0;
  bool finalizing_ = false;
};

namespace {

// A call outside of any group is a group of its own.
ncclResult_t Call(emulation::NcclCall call, ncclComm_t comm, const Operation& operation) {
  ncclGroupStart();
  ncclResult_t result = Failure(call);
  if (result == ncclSuccess)
    result = comm == nullptr ? ncclInvalidArgument : comm->Gather(operation);
  if (group.error == ncclSuccess) group.error = result;
  if (comm != nullptr &&
      std::count(group.communicators.begin(), group.communicators.end(), comm) == 0) {
    group.communicators.push_back(comm);
  }
  const ncclResult_t ended = ncclGroupEnd();
  return group.depth > 0 ? result : ended;
}

}  // namespace

namespace {

std::atomic<int> destroyed = 0;
std::atomic<int> aborted = 0;

void MustBeOutsideOfGroups(const char* what) {
  if (group.depth > 0) EndProgram(std::string("a communicator is ") + what + " inside a group");
}

}  // namespace

namespace emulation {

CommunicatorEnds EndsOfCommunicators() { return {destroyed, aborted}; }

void SetLostRank(LostRank lost) { lost_rank = lost; }

void FailNext(NcclCall call, ncclResult_t result) { failures[call] = result; }

}  // namespace emulation

const char* ncclGetErrorString(ncclResult_t result) {
  static const char* const kTexts[] = {
      "no error",         "a CUDA call failed", "a system call failed", "internal error",
      "invalid argument", "invalid usage",      "remote process lost",  "in progress"};
  return kTexts[result];
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> made = 0;
  if (const ncclResult_t failure = Failure(emulation::NcclCall::kGetUniqueId);
      failure != ncclSuccess) {
    return failure;
  }
  *id = {};
  std::snprintf(id->internal, sizeof(id->internal), "emulated %d", ++made);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  *comm = nullptr;
  if (const ncclResult_t failure = Failure(emulation::NcclCall::kCommInitRankConfig);
      failure != ncclSuccess) {
    return failure;
  }
  if (config->blocking != 0) EndProgram("only communicators that do not block are known here");
  if (ranks < 1 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  std::shared_ptr<World> world = WorldOf(id);
  if (!world->Join(ranks, rank)) return ncclInvalidUsage;
  *comm = new ncclComm(std::move(world), ranks, rank);
  return ncclInProgress;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  if (comm == nullptr) return ncclInvalidArgument;
  MustBeOutsideOfGroups("finalized");
  const ncclResult_t failure = Failure(emulation::NcclCall::kCommFinalize);
  return failure == ncclSuccess ? comm->Finalize() : failure;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  MustBeOutsideOfGroups("destroyed");
  if (!comm->IsFinalized()) EndProgram("a communicator is destroyed that is not finalized yet");
  const ncclResult_t failure = Failure(emulation::NcclCall::kCommDestroy);
  delete comm;
  ++destroyed;
  return failure;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  MustBeOutsideOfGroups("aborted");
  comm->Abort();
  delete comm;
  ++aborted;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  if (comm == nullptr) return ncclInvalidArgument;
  *state = comm->Poll();
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return ncclInvalidUsage;
  if (--group.depth > 0) return ncclSuccess;
  const Group ended = std::exchange(group, Group());
  const ncclResult_t failure = Failure(emulation::NcclCall::kGroupEnd);
  const ncclResult_t error = ended.error == ncclSuccess ? failure : ended.error;
  for (ncclComm_t comm : ended.communicators) comm->Begin(error);
  if (error != ncclSuccess) return error;
  return ended.communicators.empty() ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                        ncclRedOp_t reduction, int root, ncclComm_t comm, cudaStream_t stream) {
  return Call(emulation::NcclCall::kReduce, comm,
              {{Kind::kReduce, count, type, reduction, root}, from, to, stream});
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return Call(emulation::NcclCall::kBroadcast, comm,
              {{Kind::kBroadcast, count, type, ncclSum, root}, from, to, stream});
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t reduction, ncclComm_t comm, cudaStream_t stream) {
  return Call(emulation::NcclCall::kAllReduce, comm,
              {{Kind::kAllReduce, count, type, reduction, 0}, from, to, stream});
}
