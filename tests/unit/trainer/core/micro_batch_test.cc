// The automatic micro-batch: the most rows that fit and no more, agreed on by ranks whose memory
// differs, and refused with the figures where nothing fits.
#include "worker/trainer/core/micro_batch.h"

#include <random>

#include "gmock/gmock.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/unit/trainer/core/test_support.h"
#include "worker/trainer/core/memory_plan.h"

namespace sinkforge::trainer {
namespace {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;
using testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;

std::vector<int64_t> DivisorsOf(int64_t number) {
  std::vector<int64_t> divisors;
  for (int64_t i = 1; i <= number; ++i) {
    if (number % i == 0) divisors.push_back(i);
  }
  return divisors;
}

TEST(LargestThatFitsTest, NextChoiceWouldNotFit) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    const std::vector<int64_t> choices = DivisorsOf(1 + static_cast<int64_t>(random() % 360));
    const auto fixed = static_cast<int64_t>(random() % 1000);
    const auto per_row = static_cast<int64_t>(1 + random() % 100);
    const auto bytes_of = [&](const RankShape& shape) -> Result<int64_t> {
      return fixed + per_row * ((shape.rows + shape.ranks - 1) / shape.ranks);
    };
    std::vector<MemoryLimit> limits;
    for (uint64_t k = 0; k <= random() % 3; ++k) {
      limits.push_back(
          {1 + static_cast<int64_t>(random() % 4), static_cast<int64_t>(random() % 20'000)});
    }
    const auto fits = [&](int64_t rows) {
      return std::all_of(limits.begin(), limits.end(), [&](const MemoryLimit& limit) {
        return bytes_of({rows, limit.ranks}).value() <= limit.bytes;
      });
    };
    const Result<MemoryFit> found = LargestThatFits(choices, limits, bytes_of);
    ASSERT_TRUE(found.ok());
    const MemoryFit& fit = found.value();
    auto next = choices.begin();
    if (fit.rows > 0) {
      EXPECT_TRUE(fits(fit.rows));
      next = std::upper_bound(choices.begin(), choices.end(), fit.rows);
    }
    if (next != choices.end()) {
      EXPECT_FALSE(fits(*next)) << "choice " << *next;
    }
    const int64_t rows = fit.rows > 0 ? fit.rows : choices.front();
    EXPECT_EQ(fit.bytes, bytes_of({rows, fit.limit.ranks}).value());
    EXPECT_EQ(fit.bytes <= fit.limit.bytes, fit.rows > 0) << "the limit that decides is named";
  }
}

TEST(LargestThatFitsTest, PassesErrorsOn) {
  const auto found = LargestThatFits({1, 2}, {{1, 1000}}, [](const RankShape&) -> Result<int64_t> {
    return Status(StatusCode::kInvalidArgument, "no such model");
  });
  EXPECT_EQ(found.status().code(), StatusCode::kInvalidArgument);
}

// A job of 24 rows a step whose activations are most of what it takes.
TrainingConfig Job() {
  TrainingConfig config = SmallJob();
  config.sequence_length = 64;
  config.micro_batch_rows = 24;
  config.micro_steps = 1;
  return config;
}

int64_t PlannedBytes(TrainingConfig config, int64_t rows, int64_t ranks) {
  config.micro_steps = 24 / rows;
  config.micro_batch_rows = rows;
  const auto cpu = kernels::MakeCpuBackend(1);
  const auto plan = PlanMemory(config, ranks, cpu.get());
  SINKFORGE_CHECK(plan.ok());
  return plan.value().bytes();
}

// Just enough for `rows`, of which a tenth is left over, on a device.
FreeMemory DeviceFor(int64_t rows, int64_t ranks) {
  FreeMemory memory;
  memory.kind = FreeMemory::Kind::kDevice;
  memory.bytes = (PlannedBytes(Job(), rows, ranks) * 10 + 8) / 9;
  return memory;
}

MicroBatchRequest RequestOf(const FreeMemory& free) {
  MicroBatchRequest request;
  request.choices = DivisorsOf(24);
  request.free = free;
  return request;
}

using Choices = std::vector<Result<MicroBatchChoice>>;

// What each rank is told; all are threads of this process.
Choices Agree(const std::vector<MicroBatchRequest>& requests) {
  Choices choices(requests.size(), Status(StatusCode::kInternal, "not asked"));
  RunRanks(static_cast<int>(requests.size()),
           [&](int rank, std::unique_ptr<Collective> collective) {
             const auto cpu = kernels::MakeCpuBackend(1);
             const auto at = static_cast<size_t>(rank);
             choices[at] = AgreeOnMicroBatch(Job(), requests[at], cpu.get(), collective.get());
           });
  return choices;
}

int64_t AgreedRows(const std::vector<MicroBatchRequest>& requests) {
  const Choices choices = Agree(requests);
  for (const auto& choice : choices) {
    EXPECT_TRUE(choice.ok()) << choice.status().message();
    if (!choice.ok()) return -1;
    EXPECT_EQ(choice.value().rows, choices.front().value().rows);
    EXPECT_EQ(choice.value().reason, choices.front().value().reason);
  }
  return choices.front().value().rows;
}

TEST(AgreeOnMicroBatchTest, PlansGrowWithTheRowsAndTheChoiceIsTheLastThatFits) {
  int64_t before = 0;
  for (const int64_t rows : DivisorsOf(24)) {
    const int64_t bytes = PlannedBytes(Job(), rows, 1);
    EXPECT_GT(bytes, before);
    before = bytes;
    FreeMemory memory = DeviceFor(rows, 1);
    EXPECT_EQ(AgreedRows({RequestOf(memory)}), rows);
    memory.bytes += kMiB / 64;  // not enough for the next
    EXPECT_EQ(AgreedRows({RequestOf(memory)}), rows);
    memory.bytes -= kMiB / 32;
    EXPECT_TRUE(rows == 1 || AgreedRows({RequestOf(memory)}) < rows) << rows;
  }
}

TEST(AgreeOnMicroBatchTest, TheRankWithTheLeastMemoryDecides) {
  for (const int ranks : {2, 3, 4}) {
    std::vector<MicroBatchRequest> requests;
    const int64_t least = ranks == 4 ? 8 : 6;  // with one more for a rank 12 would fit
    for (int rank = 0; rank < ranks; ++rank) {
      const int64_t rows = rank == ranks / 2 ? least : 24;
      MicroBatchRequest request = RequestOf(DeviceFor(rows, ranks));
      request.ranks_min = request.ranks_max = ranks;
      std::erase_if(request.choices, [&](int64_t choice) { return choice < ranks; });
      requests.push_back(request);
    }
    EXPECT_EQ(AgreedRows(requests), least) << ranks << " ranks";
    const std::string reason = Agree(requests)[0].value().reason;
    EXPECT_THAT(reason, HasSubstr("rank " + std::to_string(ranks / 2) + " takes"));
    EXPECT_THAT(reason, HasSubstr("too few for more rows"));
  }
}

FreeMemory Host(int64_t bytes, uint32_t machine) {
  return {FreeMemory::Kind::kHost, bytes, machine};
}

TEST(AgreeOnMicroBatchTest, RanksOfOneMachineShareItsMemory) {
  // Enough for one rank, with the copies for checkpoints, but not for four.
  const int64_t bytes = 2 * PlannedBytes(Job(), 24, 4);
  std::vector<MicroBatchRequest> requests(4, RequestOf(Host(bytes, 1)));
  for (MicroBatchRequest& request : requests) {
    request.ranks_min = request.ranks_max = 4;
    request.choices = {4, 6, 8, 12, 24};
  }
  const int64_t together = AgreedRows(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].free.machine = static_cast<uint32_t>(i);
  }
  EXPECT_LT(together, 24);
  EXPECT_EQ(AgreedRows(requests), 24);
}

// The least of a host's memory with which one rank has all rows.
int64_t HostBytesForAllRows() {
  MicroBatchRequest request = RequestOf(Host(DeviceFor(24, 1).bytes, 1));
  while (AgreedRows({request}) < 24) request.free.bytes += 1000;
  return request.free.bytes;
}

TEST(AgreeOnMicroBatchTest, EveryRankTakesItsSlotsShareAtMost) {
  const int64_t enough = HostBytesForAllRows();
  MicroBatchRequest request = RequestOf(Host(2 * enough, 1));
  request.free.slot_bytes = enough;
  EXPECT_EQ(AgreedRows({request}), 24);
  request.free.slot_bytes = enough - 2000;
  const int64_t alone = AgreedRows({request});
  EXPECT_LT(alone, 24);
  EXPECT_THAT(Agree({request})[0].value().reason, HasSubstr("that are its slot's, which are too"));
  // Where less is free, that counts.
  request.free.bytes = enough / 2;
  EXPECT_LT(AgreedRows({request}), alone);
  EXPECT_THAT(Agree({request})[0].value().reason, HasSubstr("that are there for it"));

  // Two ranks on one worker, with all the memory that they want together but not in their slots;
  // one that is on a worker with fewer slots does not help the other.
  std::vector<MicroBatchRequest> requests(2, RequestOf(Host(8 * enough, 1)));
  for (MicroBatchRequest& one : requests) one.ranks_min = one.ranks_max = 2;
  requests[1].free.slot_bytes = enough / 2;
  const int64_t together = AgreedRows(requests);
  EXPECT_LT(together, 24);
  EXPECT_THAT(Agree(requests)[0].value().reason, HasSubstr("rank 1 takes"));
  EXPECT_THAT(Agree(requests)[0].value().reason, HasSubstr("that are its slot's"));
  requests[0].free.slot_bytes = enough / 2;
  EXPECT_EQ(AgreedRows(requests), together);
}

TEST(AgreeOnMicroBatchTest, AProcessTakesNoMoreThanItsLimitsLeave) {
  const int64_t enough = HostBytesForAllRows();
  MicroBatchRequest request = RequestOf(Host(4 * enough, 1));
  request.free.process_bytes = enough;
  EXPECT_EQ(AgreedRows({request}), 24);
  request.free.process_bytes = enough - 2000;
  EXPECT_LT(AgreedRows({request}), 24);
  EXPECT_THAT(Agree({request})[0].value().reason,
              HasSubstr("that are left by its process's limits (ulimit -v, -d)"));
  request.free.process_bytes = 1000;
  const std::string message = Agree({request})[0].status().message();
  EXPECT_THAT(message, HasSubstr("and 0.0 MiB are left by its process's limits (ulimit -v, -d);"));
  EXPECT_THAT(message, HasSubstr("raise these limits, or spread"));
  request.free.process_bytes = FreeMemory::kUnlimited;
  request.free.slot_bytes = 1000;
  EXPECT_THAT(Agree({request})[0].status().message(),
              HasSubstr("are its slot's; shorten data.sequence_length, set train.recompute: block, "
                        "start its worker with fewer --slots, or spread"));
}

TEST(AgreeOnMicroBatchTest, ACheckpointsCopiesCountInAHostsMemoryOnly) {
  FreeMemory memory = DeviceFor(24, 1);
  EXPECT_EQ(AgreedRows({RequestOf(memory)}), 24);
  memory.kind = FreeMemory::Kind::kHost;
  EXPECT_LT(AgreedRows({RequestOf(memory)}), 24);
}

TEST(AgreeOnMicroBatchTest, AJobThatMayShrinkFitsOnItsFewestRanksToo) {
  std::vector<MicroBatchRequest> requests(2, RequestOf(DeviceFor(12, 2)));
  for (MicroBatchRequest& request : requests) request.ranks_min = request.ranks_max = 2;
  EXPECT_EQ(AgreedRows(requests), 12);
  for (MicroBatchRequest& request : requests) request.ranks_min = 1;
  const int64_t rows = AgreedRows(requests);
  EXPECT_LT(rows, 12);
  EXPECT_LE(PlannedBytes(Job(), rows, 1), DeviceFor(12, 2).bytes);
}

TEST(AgreeOnMicroBatchTest, AJobThatMayGrowFitsWithMoreRanksOnItsMachinesToo) {
  MicroBatchRequest request = RequestOf(Host(HostBytesForAllRows(), 1));
  request.choices = {6, 8, 12, 24};
  request.ranks_max = 3;
  const int64_t rows = AgreedRows({request});
  EXPECT_LT(rows, 24) << "each rank has parameters and copies of its own";
  // As where all of them had been there at once.
  const auto cpu = kernels::MakeCpuBackend(1);
  const auto foreseen = ForeseeMicroBatch(Job(), request, 3, cpu.get());
  ASSERT_TRUE(foreseen.ok()) << foreseen.status().message();
  EXPECT_EQ(foreseen.value().rows, rows);
  // A device is not shared.
  request.free = DeviceFor(24, 1);
  EXPECT_EQ(AgreedRows({request}), 24);
}

TEST(AgreeOnMicroBatchTest, WhereNothingFitsAllRanksSayWhichOneAndWhy) {
  std::vector<MicroBatchRequest> requests(3, RequestOf(DeviceFor(24, 1)));
  requests[1].free.bytes = 5000;
  for (MicroBatchRequest& request : requests) {
    request.choices = {3, 6, 12, 24};
    request.ranks_max = 3;
  }
  for (const auto& choice : Agree(requests)) {
    EXPECT_EQ(choice.status().code(), StatusCode::kResourceExhausted);
    const std::string message = choice.status().message();
    EXPECT_THAT(
        message,
        HasSubstr("train.micro_batch: auto: there is no memory for even 3 rows: rank 1 would"));
    EXPECT_THAT(message, HasSubstr("(activations "));
    EXPECT_THAT(message, HasSubstr("shorten data.sequence_length, set train.recompute: block"));
  }
}

TEST(AgreeOnMicroBatchTest, AKeptChoiceIsRefusedOnlyWhereItCannotFit) {
  MicroBatchRequest request = RequestOf(DeviceFor(8, 1));
  request.use = MicroBatchRequest::Use::kKeep;
  request.choices = {8};
  request.free.bytes = PlannedBytes(Job(), 8, 1);  // nothing is left over
  EXPECT_EQ(AgreedRows({request}), 8);
  request.free.kind = FreeMemory::Kind::kHost;
  EXPECT_EQ(AgreedRows({request}), 8);
  --request.free.bytes;
  const Choices refused = Agree({request});
  EXPECT_EQ(refused[0].status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(refused[0].status().message(), HasSubstr("auto became 8 rows when the job began"));
  EXPECT_THAT(refused[0].status().message(), HasSubstr("free memory on that machine"));
  // A share was for choosing; a process's limit would be met.
  ++request.free.bytes;
  request.free.slot_bytes = 1000;
  EXPECT_EQ(AgreedRows({request}), 8);
  request.free.process_bytes = 1000;
  EXPECT_THAT(Agree({request})[0].status().message(),
              HasSubstr("limits (ulimit -v, -d); raise these limits or have it run on another"));
}

TEST(ForeseeMicroBatchTest, PutsAllRanksOnThisMachine) {
  const auto cpu = kernels::MakeCpuBackend(1);
  MicroBatchRequest request = RequestOf(Host(2 * PlannedBytes(Job(), 24, 1), 1));
  request.ranks_min = request.ranks_max = 4;
  request.choices = {4, 6, 8, 12, 24};
  const auto foreseen = ForeseeMicroBatch(Job(), request, 4, cpu.get());
  ASSERT_TRUE(foreseen.ok()) << foreseen.status().message();
  EXPECT_EQ(foreseen.value().rows, AgreedRows(std::vector<MicroBatchRequest>(4, request)));
}

}  // namespace
}  // namespace sinkforge::trainer
