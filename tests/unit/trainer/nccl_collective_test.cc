// NcclCollective on an emulation of NCCL: the suite that every collective passes, its order with
// the backend, and every way in which ranks and calls can fail.
#include "worker/trainer/nccl_collective.h"

#include <cuda_runtime.h>
#include <gmock/gmock.h>

#include <future>
#include <latch>

#include "tests/cuda_emulation/emulated_nccl.h"
#include "tests/unit/trainer/core/collective_conformance.h"
#include "tests/unit/trainer/memory_store.h"

namespace sinkforge::trainer {
namespace {

using emulation::FailNext;
using emulation::NcclCall;
using kernels::Status;
using kernels::StatusCode;
using std::chrono::milliseconds;
using testing::HasSubstr;

// Far above what anything takes here, for what must not end by its deadline.
constexpr milliseconds kLong{120'000};
// For what can only end by its deadline; whatever is slow ends in the same way.
constexpr milliseconds kShort{300};

CollectiveOptions Options(int rank, int world_size, milliseconds timeout = kLong) {
  CollectiveOptions options;
  options.rank = rank;
  options.world_size = world_size;
  options.memory = CollectiveOptions::Memory::kDevice;
  options.meeting_timeout = kLong;
  options.operation_timeout = timeout;
  options.finish_timeout = timeout;
  return options;
}

void OnRanks(int world_size, const std::function<void(int rank)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) threads.emplace_back(body, rank);
  for (std::thread& thread : threads) thread.join();
}

std::vector<std::unique_ptr<Collective>> Make(int world_size, milliseconds timeout) {
  MemoryStore store;
  std::vector<std::unique_ptr<Collective>> collectives(static_cast<size_t>(world_size));
  OnRanks(world_size, [&](int rank) {
    auto made = MakeNcclCollective(Options(rank, world_size, timeout), &store);
    EXPECT_TRUE(made.ok()) << made.status().message();
    if (made.ok()) collectives[static_cast<size_t>(rank)] = std::move(made).value();
  });
  return collectives;
}

std::vector<std::unique_ptr<Collective>> MakeNccl(int world_size) {
  return Make(world_size, kLong);
}

INSTANTIATE_TEST_SUITE_P(Nccl, CollectiveConformanceTest,
                         ::testing::Values(CollectiveFactory{"Nccl2", 2, MakeNccl},
                                           CollectiveFactory{"Nccl3", 3, MakeNccl},
                                           CollectiveFactory{"Nccl4", 4, MakeNccl}),
                         [](const auto& tested) { return tested.param.name; });

// Sets what the survivors hear of a lost rank, for one test.
class LostRankIs {
 public:
  explicit LostRankIs(emulation::LostRank lost) { emulation::SetLostRank(lost); }
  ~LostRankIs() { emulation::SetLostRank(emulation::LostRank::kIsReported); }
  LostRankIs(const LostRankIs&) = delete;
  LostRankIs& operator=(const LostRankIs&) = delete;
};

// How every rank's meeting ended, each of which called `prepare` on its thread before.
std::vector<Status> Meet(
    int world_size, RendezvousStore* store, const std::function<void(int rank)>& prepare,
    const std::function<bool(int rank)>& comes = [](int) { return true; }) {
  std::vector<Status> ends(static_cast<size_t>(world_size));
  OnRanks(world_size, [&](int rank) {
    if (!comes(rank)) return;
    prepare(rank);
    CollectiveOptions options = Options(rank, world_size);
    options.meeting_timeout = kShort;
    ends[static_cast<size_t>(rank)] = MakeNcclCollective(options, store).status();
  });
  return ends;
}

void ExpectUnavailable(const Status& status, const std::string& why) {
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr(why));
}

TEST(NcclCollectiveTest, RankThatDoesNotComeEndsTheMeeting) {
  const LostRankIs silent(emulation::LostRank::kIsSilent);  // whoever gives up first
  MemoryStore store;
  const std::vector<Status> ends = Meet(
      3, &store, [](int) {}, [](int rank) { return rank != 1; });
  for (const int rank : {0, 2}) {
    ExpectUnavailable(ends[static_cast<size_t>(rank)],
                      "rank " + std::to_string(rank) +
                          " of 3 could not meet the others: NCCL: another rank did not answer "
                          "within 300 ms");
  }
}

TEST(NcclCollectiveTest, RankZeroThatDoesNotComeEndsTheMeeting) {
  MemoryStore store;
  const std::vector<Status> ends = Meet(
      2, &store, [](int) {}, [](int rank) { return rank != 0; });
  ExpectUnavailable(ends[1], "rank 1 of 2 could not meet the others: nccl-id did not come");
}

TEST(NcclCollectiveTest, FailedStartOfRankZeroEndsTheMeeting) {
  MemoryStore store;
  const std::vector<Status> ends = Meet(2, &store, [](int rank) {
    if (rank == 0) FailNext(NcclCall::kGetUniqueId, ncclSystemError);
  });
  ExpectUnavailable(ends[0], "could not meet the others: NCCL: a system call failed");
  ExpectUnavailable(ends[1], "nccl-id did not come");
}

TEST(NcclCollectiveTest, FailedStartOfAnyRankEndsTheMeeting) {
  const LostRankIs silent(emulation::LostRank::kIsSilent);
  for (const NcclCall call : {NcclCall::kCommInitRankConfig, NcclCall::kInBackground}) {
    MemoryStore store;
    const std::vector<Status> ends = Meet(3, &store, [call](int rank) {
      if (rank == 1) FailNext(call, ncclUnhandledCudaError);
    });
    ExpectUnavailable(ends[1], "rank 1 of 3 could not meet the others: NCCL: a CUDA call failed");
    // A rank that fails in the background was there, and the others may have met it.
    if (call == NcclCall::kInBackground) continue;
    for (const size_t rank : {0, 2}) ExpectUnavailable(ends[rank], "did not answer within 300 ms");
  }
}

// What rank 0 gives arrives in another form.
class ChangingStore final : public RendezvousStore {
 public:
  Status Put(const std::string& key, const std::string& value) override {
    return store_.Put(key, value.substr(0, 100));
  }
  kernels::Result<std::string> Get(const std::string& key, milliseconds timeout) override {
    return store_.Get(key, timeout);
  }

 private:
  MemoryStore store_;
};

TEST(NcclCollectiveTest, IdentifierOfAnotherVersionEndsTheMeeting) {
  ChangingStore store;
  const std::vector<Status> ends = Meet(2, &store, [](int) {});
  ExpectUnavailable(ends[0], "did not answer within 300 ms");
  ExpectUnavailable(ends[1], "identifier of 100 bytes in place of 128; run the same build");
}

class UnreachableStore final : public RendezvousStore {
 public:
  Status Put(const std::string&, const std::string&) override {
    return Status(StatusCode::kUnavailable, "the worker is away");
  }
  kernels::Result<std::string> Get(const std::string&, milliseconds) override {
    return Status(StatusCode::kUnavailable, "the worker is away");
  }
};

TEST(NcclCollectiveTest, UnreachableStoreEndsTheMeeting) {
  UnreachableStore store;
  for (const Status& end : Meet(2, &store, [](int) {})) {
    ExpectUnavailable(end, "of 2 could not meet the others: the worker is away");
  }
}

constexpr int64_t kElements = 1000;

// Elements of both ranks of a world of two or more.
std::vector<Segment> TwoSegments() { return {{0, 600, 0}, {600, 400, 1}}; }

// Sends and receives until it fails.
Status UseUntilItFails(Collective* collective) {
  std::vector<float> values(kElements, 1.0F);
  const std::vector<Segment> segments = TwoSegments();
  Status status;
  while (status.ok()) {
    collective->BeginReduceScatterSum(FlatTensor(values), segments);
    collective->BeginAllGather(FlatTensor(values), segments);
    status = collective->Wait();
    if (status.ok()) status = collective->Barrier();
  }
  return status;
}

// Rank 1 is in the middle of transfers that wait for rank 2.
void LoseARankInATransfer(milliseconds operation_timeout, const std::string& why) {
  auto collectives = Make(3, operation_timeout);
  std::latch lost(1);
  OnRanks(3, [&](int rank) {
    std::unique_ptr<Collective>& collective = collectives[static_cast<size_t>(rank)];
    std::vector<float> values(kElements, 1.0F);
    const std::vector<Segment> segments = TwoSegments();
    (void)collective->Barrier();  // may be late already; the end is the same
    if (rank != 2) collective->BeginAllGather(FlatTensor(values), segments);
    if (rank == 1) {
      collective.reset();
      lost.count_down();
      return;
    }
    lost.wait();
    if (rank == 2) collective->BeginAllGather(FlatTensor(values), segments);
    const Status status = collective->Wait();
    ExpectUnavailable(status, why);
    ExpectUnavailable(status, "the job goes on from its last checkpoint");
    ExpectUnavailable(collective->Barrier(), why);
  });
}

TEST(NcclCollectiveTest, RankLostInATransferIsReported) {
  LoseARankInATransfer(kLong, "NCCL: remote process lost");
}

TEST(NcclCollectiveTest, RankLostInSilenceEndsByTheDeadline) {
  const LostRankIs silent(emulation::LostRank::kIsSilent);
  LoseARankInATransfer(kShort, "NCCL: another rank did not answer within 300 ms");
}

TEST(NcclCollectiveTest, RankThatHangsEndsByTheDeadline) {
  auto collectives = Make(3, kShort);
  std::latch others_ended(2);
  OnRanks(3, [&](int rank) {
    Collective* collective = collectives[static_cast<size_t>(rank)].get();
    if (rank == 0) {
      std::vector<float> values(kElements, 1.0F);
      const std::vector<Segment> segments = TwoSegments();
      collective->BeginReduceScatterSum(FlatTensor(values), segments);
      others_ended.wait();
      return;
    }
    // Those who gave up last may hear of those who did so first.
    const Status status = UseUntilItFails(collective);
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(status.message(),
                testing::AnyOf(HasSubstr("another rank did not answer within 300 ms"),
                               HasSubstr("remote process lost")));
    others_ended.count_down();
  });
}

TEST(NcclCollectiveTest, FailedCallEndsEveryRank) {
  for (const NcclCall call : {NcclCall::kReduce, NcclCall::kBroadcast, NcclCall::kAllReduce,
                              NcclCall::kGroupEnd, NcclCall::kInBackground}) {
    auto collectives = MakeNccl(3);
    OnRanks(3, [&](int rank) {
      Collective* collective = collectives[static_cast<size_t>(rank)].get();
      EXPECT_TRUE(collective->Barrier().ok());
      if (rank == 1) FailNext(call, ncclInternalError);
      ExpectUnavailable(UseUntilItFails(collective),
                        rank == 1 ? "NCCL: internal error" : "NCCL: remote process lost");
    });
  }
}

// A thread whose group failed can make a new world.
TEST(NcclCollectiveTest, FailedCallLeavesNoGroupOpen) {
  MemoryStore stores[2];
  OnRanks(2, [&](int rank) {
    for (MemoryStore& store : stores) {
      auto collective = MakeNcclCollective(Options(rank, 2), &store);
      ASSERT_TRUE(collective.ok()) << collective.status().message();
      ASSERT_TRUE(collective.value()->Barrier().ok());
      FailNext(NcclCall::kReduce, ncclInternalError);
      EXPECT_FALSE(UseUntilItFails(collective.value().get()).ok());
    }
  });
}

constexpr char kNotInOrder[] = "did not end in order and was cut";

// What the ranks log while `body` runs on each of them.
std::string LogOf(int world_size, const std::function<void(int rank)>& body) {
  testing::internal::CaptureStderr();
  OnRanks(world_size, body);
  return testing::internal::GetCapturedStderr();
}

// How the communicators ended that `body` used.
emulation::CommunicatorEnds EndsIn(const std::function<void()>& body) {
  const emulation::CommunicatorEnds before = emulation::EndsOfCommunicators();
  body();
  const emulation::CommunicatorEnds after = emulation::EndsOfCommunicators();
  return {after.destroyed - before.destroyed, after.aborted - before.aborted};
}

TEST(NcclCollectiveTest, FinishedCommunicatorsAreDestroyedAndNotAborted) {
  const emulation::CommunicatorEnds ends = EndsIn([] {
    auto collectives = MakeNccl(3);
    const std::string log = LogOf(3, [&](int rank) {
      std::unique_ptr<Collective>& collective = collectives[static_cast<size_t>(rank)];
      std::vector<float> values(kElements, 1.0F);
      collective->BeginAllGather(FlatTensor(values), TwoSegments());
      EXPECT_TRUE(collective->Wait().ok());
      collective->Finish();
      collective.reset();
    });
    EXPECT_EQ(log, "");
  });
  EXPECT_EQ(ends.destroyed, 3);
  EXPECT_EQ(ends.aborted, 0);
}

// A rank that never used its communicator ends in the same way.
TEST(NcclCollectiveTest, UnusedCommunicatorsAreDestroyed) {
  const emulation::CommunicatorEnds ends = EndsIn([] {
    auto collectives = MakeNccl(2);
    OnRanks(2, [&](int rank) { collectives[static_cast<size_t>(rank)]->Finish(); });
  });
  EXPECT_EQ(ends.destroyed, 2);
}

TEST(NcclCollectiveTest, RankThatIsGoneAtTheEndIsReported) {
  const emulation::CommunicatorEnds ends = EndsIn([] {
    auto collectives = MakeNccl(3);
    const std::string log = LogOf(3, [&](int rank) {
      std::unique_ptr<Collective>& collective = collectives[static_cast<size_t>(rank)];
      EXPECT_TRUE(collective->Barrier().ok());
      if (rank != 2) collective->Finish();
      collective.reset();
    });
    EXPECT_THAT(log, HasSubstr(kNotInOrder));
    EXPECT_THAT(log, HasSubstr("remote process lost"));
  });
  EXPECT_EQ(ends.destroyed, 0);
  EXPECT_EQ(ends.aborted, 3);
}

// Gone in silence, or there but never at its end: the same for those who wait.
TEST(NcclCollectiveTest, RankThatDoesNotFinishEndsByTheDeadline) {
  const LostRankIs silent(emulation::LostRank::kIsSilent);
  const emulation::CommunicatorEnds ends = EndsIn([] {
    auto collectives = Make(3, kShort);
    std::latch others_ended(2);
    const std::string log = LogOf(3, [&](int rank) {
      if (rank == 1) return others_ended.wait();
      collectives[static_cast<size_t>(rank)]->Finish();
      others_ended.count_down();
    });
    EXPECT_THAT(log, HasSubstr(kNotInOrder));
    EXPECT_THAT(log, HasSubstr("another rank did not answer within 300 ms"));
  });
  EXPECT_EQ(ends.destroyed, 0);
  EXPECT_EQ(ends.aborted, 3);
}

TEST(NcclCollectiveTest, FailedFinalizationIsCut) {
  for (const NcclCall call : {NcclCall::kCommFinalize, NcclCall::kInBackground}) {
    const emulation::CommunicatorEnds ends = EndsIn([call] {
      auto collectives = MakeNccl(2);
      const std::string log = LogOf(2, [&](int rank) {
        if (rank == 0) FailNext(call, ncclInternalError);
        collectives[static_cast<size_t>(rank)]->Finish();
      });
      EXPECT_THAT(log, HasSubstr("NCCL: internal error"));
      EXPECT_THAT(log, HasSubstr("NCCL: remote process lost"));
    });
    EXPECT_EQ(ends.destroyed, 0);
    EXPECT_EQ(ends.aborted, 2);
  }
}

TEST(NcclCollectiveTest, FailedDestructionIsSaid) {
  auto collectives = MakeNccl(2);
  const std::string log = LogOf(2, [&](int rank) {
    if (rank == 0) FailNext(NcclCall::kCommDestroy, ncclSystemError);
    collectives[static_cast<size_t>(rank)]->Finish();
  });
  EXPECT_THAT(log, HasSubstr("NCCL: a system call failed"));
}

TEST(NcclCollectiveTest, CollectiveThatFailedHasNothingToFinish) {
  const emulation::CommunicatorEnds ends = EndsIn([] {
    auto collectives = MakeNccl(2);
    const std::string log = LogOf(2, [&](int rank) {
      std::unique_ptr<Collective>& collective = collectives[static_cast<size_t>(rank)];
      if (rank == 0) FailNext(NcclCall::kReduce, ncclInternalError);
      EXPECT_FALSE(UseUntilItFails(collective.get()).ok());
      collective->Finish();
    });
    EXPECT_EQ(log, "");
  });
  EXPECT_EQ(ends.destroyed, 0);
  EXPECT_EQ(ends.aborted, 2);
}

// As every line of a trainer, one object of JSON; the exit code is that of a failed device.
TEST(NcclCollectiveDeathTest, FailedCudaCallEndsTheProcessWithALine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto fail = [] {
    auto collectives = MakeNccl(2);
    OnRanks(2, [&](int rank) {
      if (rank == 0) emulation::FailNext(emulation::CudaCall::kMalloc, cudaErrorMemoryAllocation);
      (void)collectives[static_cast<size_t>(rank)]->Barrier();
    });
  };
  EXPECT_EXIT(fail(), testing::ExitedWithCode(26),
              "\\{.*\"severity\":\"ERROR\".*\"a CUDA call failed\".*"
              "\"call\":\"control values\".*\\}");
}

// A stream of the backend that stands still until it is told to go on, and then writes.
class HeldBackend {
 public:
  HeldBackend() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamDefault), cudaSuccess); }
  ~HeldBackend() { cudaStreamDestroy(stream_); }
  HeldBackend(const HeldBackend&) = delete;
  HeldBackend& operator=(const HeldBackend&) = delete;

  void Hold(std::vector<float>* values) {
    values_ = values;
    cudaLaunchHostFunc(
        stream_,
        [](void* self) {
          auto* held = static_cast<HeldBackend*>(self);
          held->released_.get_future().wait();
          std::fill(held->values_->begin(), held->values_->end(), 2.0F);
        },
        this);
  }
  void Release() { released_.set_value(); }

 private:
  cudaStream_t stream_ = nullptr;
  std::promise<void> released_;
  std::vector<float>* values_ = nullptr;
};

TEST(NcclCollectiveTest, TransferComesAfterWhatTheBackendWasToldBefore) {
  auto collectives = MakeNccl(2);
  std::vector<float> given(kElements, 1.0F);
  HeldBackend backend;
  backend.Hold(&given);
  std::latch begun(2);
  OnRanks(2, [&](int rank) {
    Collective* collective = collectives[static_cast<size_t>(rank)].get();
    std::vector<float> taken(kElements, 0.0F);
    const std::vector<Segment> segments = {{0, kElements, 0}};
    collective->BeginAllGather(FlatTensor(rank == 0 ? given : taken), segments);
    begun.arrive_and_wait();
    if (rank == 0) backend.Release();
    EXPECT_TRUE(collective->Wait().ok());
    EXPECT_THAT(rank == 0 ? given : taken, testing::Each(2.0F));
  });
}

TEST(NcclCollectiveTest, TransferDoesNotWaitForWhatTheBackendIsToldAfterwards) {
  auto collectives = MakeNccl(2);
  std::vector<float> other(kElements);
  HeldBackend backend;
  std::latch begun(2);
  OnRanks(2, [&](int rank) {
    Collective* collective = collectives[static_cast<size_t>(rank)].get();
    std::vector<float> values(kElements, static_cast<float>(rank));
    const std::vector<Segment> segments = {{0, kElements, 1}};
    collective->BeginAllGather(FlatTensor(values), segments);
    if (rank == 0) backend.Hold(&other);
    begun.arrive_and_wait();
    EXPECT_TRUE(collective->Wait().ok());
    EXPECT_TRUE(collective->Barrier().ok());
    EXPECT_THAT(values, testing::Each(1.0F));
  });
  backend.Release();
}

// Of all types that a backend has.
TEST(NcclCollectiveTest, GathersNarrowTypes) {
  auto collectives = MakeNccl(2);
  OnRanks(2, [&](int rank) {
    Collective* collective = collectives[static_cast<size_t>(rank)].get();
    const std::vector<Segment> segments = {{0, 2, 0}, {2, 1, 1}};
    std::vector<uint16_t> halves(3, static_cast<uint16_t>(0x3F80 + rank));
    std::vector<int32_t> integers(3, 7 + rank);
    collective->BeginAllGather({halves.data(), kernels::DType::kBF16, {3}}, segments);
    collective->BeginAllGather({integers.data(), kernels::DType::kI32, {3}}, segments);
    EXPECT_TRUE(collective->Wait().ok());
    EXPECT_EQ(halves, (std::vector<uint16_t>{0x3F80, 0x3F80, 0x3F81}));
    EXPECT_EQ(integers, (std::vector<int32_t>{7, 7, 8}));
  });
}

// What each of two ranks does with its collective, when the emulation must not let it pass.
void DoDifferentThings(const std::function<void(Collective*, int rank)>& body) {
  auto collectives = MakeNccl(2);
  OnRanks(2, [&](int rank) { body(collectives[static_cast<size_t>(rank)].get(), rank); });
}

void Gather(Collective* collective, std::vector<Segment> segments) {
  std::vector<float> values(kElements);
  collective->BeginAllGather(FlatTensor(values), segments);
  (void)collective->Wait();
}

TEST(EmulatedNcclDeathTest, FindsRanksThatDoDifferentThings) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const char* const found = "emulated NCCL: ranks do different things";
  EXPECT_DEATH(DoDifferentThings([](Collective* collective, int rank) {
                 double sum = 0;
                 int64_t most = 0;
                 (void)(rank == 0 ? collective->AllReduceSum({&sum, 1})
                                  : collective->AllReduceMax({&most, 1}));
               }),
               found);
  EXPECT_DEATH(DoDifferentThings([](Collective* collective, int rank) {
                 Gather(collective, {{0, 10, rank}});
               }),
               found);
  EXPECT_DEATH(DoDifferentThings([](Collective* collective, int rank) {
                 Gather(collective, {{0, 10 + rank, 0}});
               }),
               found);
  EXPECT_DEATH(DoDifferentThings([](Collective* collective, int rank) {
                 const Segment first{0, 10, 0};
                 const Segment second{10, 10, 0};
                 if (rank == 0) return Gather(collective, {first, second});
                 Gather(collective, {first});
                 Gather(collective, {second});
               }),
               found);
}

}  // namespace
}  // namespace sinkforge::trainer
