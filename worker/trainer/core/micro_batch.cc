// Each rank finds what fits on it; the least of that is the job's.
#include "worker/trainer/core/micro_batch.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <span>
#include <utility>

#include "worker/trainer/core/memory_plan.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

// Left to what no plan counts: the driver, libraries, threads, and whatever else runs beside.
constexpr int64_t kLeftOverShare = 10;  // one part in so many

std::string BytesText(int64_t bytes) {
  char text[32];
  const double mib = static_cast<double>(bytes) / (1 << 20);
  std::snprintf(text, sizeof text, mib < 1024 ? "%.1f MiB" : "%.2f GiB",
                mib < 1024 ? mib : mib / 1024);
  return text;
}

TrainingConfig WithRows(TrainingConfig config, int64_t rows) {
  const int64_t rows_of_step = config.micro_steps * config.micro_batch_rows;
  SINKFORGE_CHECK(rows > 0 && rows_of_step % rows == 0);
  config.micro_batch_rows = rows;
  config.micro_steps = rows_of_step / rows;
  return config;
}

// What one rank takes of its memory, part by part: its plan and, in a host's memory, copies of
// checkpoints.
class RankMemory {
 public:
  struct Part {
    std::string name;
    int64_t bytes = 0;
  };

  RankMemory(const TrainingConfig& config, const MicroBatchRequest& request,
             kernels::Backend* backend)
      : config_(config), request_(request), backend_(backend) {}

  Result<std::vector<Part>> Parts(const RankShape& shape) const {
    const Result<MemoryPlan> plan = Plan(shape);
    if (!plan.ok()) return plan.status();
    std::vector<Part> parts;
    for (const MemoryPlan::Group& group : plan.value().groups) {
      parts.push_back({group.name, group.bytes});
    }
    if (request_.free.kind == FreeMemory::Kind::kDevice ||
        request_.use == MicroBatchRequest::Use::kKeep) {
      return parts;
    }
    // Parameters and optimizer state of the whole job, which a rank reads to restore. While one
    // copy of its own part is written, the next one may be taken: of all, where it is alone.
    const Result<MemoryPlan> alone = Plan({request_.choices.front(), 1});
    if (!alone.ok()) return alone.status();
    Part copies{"copies for checkpoints", 0};
    for (const MemoryPlan::Group& group : alone.value().groups) {
      const bool stored = group.name == "parameters" || group.name == "optimizer state";
      if (stored) copies.bytes += (shape.ranks == 1 ? 2 : 1) * group.bytes;
    }
    parts.push_back(copies);
    return parts;
  }

  Result<int64_t> Bytes(const RankShape& shape) const {
    const Result<std::vector<Part>> parts = Parts(shape);
    if (!parts.ok()) return parts.status();
    int64_t bytes = 0;
    for (const Part& part : parts.value()) bytes += part.bytes;
    return bytes;
  }

  // "activations 3.10 GiB, gradients 512.0 MiB, parameters 512.0 MiB"
  std::string LargestParts(const RankShape& shape) const {
    Result<std::vector<Part>> found = Parts(shape);
    if (!found.ok()) return found.status().message();
    std::vector<Part> parts = std::move(found).value();
    std::stable_sort(parts.begin(), parts.end(),
                     [](const Part& a, const Part& b) { return a.bytes > b.bytes; });
    constexpr size_t kShown = 3;
    std::string text;
    for (size_t i = 0; i < std::min(kShown, parts.size()) && parts[i].bytes > 0; ++i) {
      text += (i > 0 ? ", " : "") + parts[i].name + " " + BytesText(parts[i].bytes);
    }
    return text;
  }

 private:
  Result<MemoryPlan> Plan(const RankShape& shape) const {
    return PlanMemory(WithRows(config_, shape.rows), shape.ranks, backend_);
  }

  const TrainingConfig& config_;
  const MicroBatchRequest& request_;
  kernels::Backend* backend_;
};

// What is there for each of `ranks` ranks, of which `ranks_here` share what is free.
MemoryLimit LimitOf(const MicroBatchRequest& request, int64_t ranks, int64_t ranks_here) {
  const bool chooses = request.use == MicroBatchRequest::Use::kChoose;
  const auto usable = [&](int64_t bytes) {
    return chooses ? bytes - bytes / kLeftOverShare : bytes;
  };
  MemoryLimit limit{ranks, usable(request.free.bytes) / ranks_here};
  const int64_t slot = usable(request.free.slot_bytes);
  if (chooses && slot < limit.bytes) limit = {ranks, slot, MemoryLimit::By::kSlot};
  const int64_t process = usable(request.free.process_bytes);
  if (process < limit.bytes) limit = {ranks, process, MemoryLimit::By::kProcess};
  return limit;
}

// Now, and with kChoose also where the job has shrunk, so that a rank has more rows, or has grown,
// so that more of them share a host.
std::vector<MemoryLimit> LimitsOf(const MicroBatchRequest& request, int64_t ranks,
                                  int64_t ranks_here) {
  std::vector<MemoryLimit> limits = {LimitOf(request, ranks, ranks_here)};
  if (request.use == MicroBatchRequest::Use::kKeep) return limits;
  SINKFORGE_CHECK(request.ranks_min <= ranks && ranks <= request.ranks_max);
  const bool shared = request.free.kind == FreeMemory::Kind::kHost;
  if (request.ranks_min < ranks) {
    // They may all be on this machine.
    limits.push_back(LimitOf(request, request.ranks_min, std::min(ranks_here, request.ranks_min)));
  }
  if (request.ranks_max > ranks && shared) {
    const int64_t grown = (ranks_here * request.ranks_max + ranks - 1) / ranks;
    limits.push_back(LimitOf(request, request.ranks_max, grown));
  }
  return limits;
}

// "10.57 GiB that are its slot's"
std::string LimitText(const MemoryLimit& limit, const char* that) {
  const std::string bytes = BytesText(limit.bytes) + that + " are ";
  switch (limit.by) {
    case MemoryLimit::By::kFree:
      break;
    case MemoryLimit::By::kSlot:
      return bytes + "its slot's";
    case MemoryLimit::By::kProcess:
      return bytes + "left by its process's limits (ulimit -v, -d)";
  }
  return bytes + "there for it";
}

// What whoever runs the worker can do, beside what the job can.
std::string WorkersRemedy(MemoryLimit::By by) {
  switch (by) {
    case MemoryLimit::By::kFree:
      break;
    case MemoryLimit::By::kSlot:
      return ", start its worker with fewer --slots";
    case MemoryLimit::By::kProcess:
      return ", raise these limits";
  }
  return "";
}

std::string NothingFits(const MicroBatchRequest& request, size_t rank, const MemoryFit& fit,
                        const RankMemory& memory) {
  const std::string rows =
      std::to_string(request.choices.front()) + (request.choices.front() == 1 ? " row" : " rows");
  const std::string would = "rank " + std::to_string(rank) + " would take " + BytesText(fit.bytes) +
                            " (" + memory.LargestParts({request.choices.front(), fit.limit.ranks}) +
                            "), and " + LimitText(fit.limit, "");
  if (request.use == MicroBatchRequest::Use::kKeep) {
    return "train.micro_batch: auto became " + rows +
           " when the job began, and it must go on with as many, but now " + would +
           (fit.limit.by == MemoryLimit::By::kProcess ? "; raise these limits"
                                                      : "; free memory on that machine") +
           " or have it run on another one, then go on with the job";
  }
  return "train.micro_batch: auto: there is no memory for even " + rows + ": " + would +
         "; shorten data.sequence_length, set train.recompute: block" +
         WorkersRemedy(fit.limit.by) + ", or spread more resources.ranks over more machines";
}

// `fits` are of all ranks. Fewer rows never take more, so that the least of them fits everywhere.
Result<MicroBatchChoice> Conclude(const MicroBatchRequest& request,
                                  const std::vector<MemoryFit>& fits, const RankMemory& memory) {
  const auto tightest = std::min_element(
      fits.begin(), fits.end(), [](const auto& a, const auto& b) { return a.rows < b.rows; });
  const auto rank = static_cast<size_t>(tightest - fits.begin());
  if (tightest->rows == 0) {
    return Status(StatusCode::kResourceExhausted, NothingFits(request, rank, *tightest, memory));
  }
  const bool all = tightest->rows == request.choices.back();
  const std::string who = all ? "a rank" : "rank " + std::to_string(rank);
  return MicroBatchChoice{tightest->rows, who + " takes " + BytesText(tightest->bytes) +
                                              " of the " + LimitText(tightest->limit, " that") +
                                              (all ? "" : ", which are too few for more rows")};
}

// Ranks of the same machine share its memory; `ranks_here` of `ranks` are there.
Result<MemoryFit> FindFit(const MicroBatchRequest& request, const RankMemory& memory, int64_t ranks,
                          int64_t ranks_here) {
  const bool shared = request.free.kind == FreeMemory::Kind::kHost;
  return LargestThatFits(request.choices, LimitsOf(request, ranks, shared ? ranks_here : 1),
                         [&](const RankShape& shape) { return memory.Bytes(shape); });
}

// Every rank writes into its own part of a vector of zeros, so that the sum is what all have said.
Result<std::vector<double>> Exchange(const std::vector<double>& own, Collective* collective) {
  std::vector<double> all(own.size() * static_cast<size_t>(collective->world_size()));
  std::copy(own.begin(), own.end(),
            all.begin() + static_cast<std::ptrdiff_t>(own.size()) * collective->rank());
  if (Status status = collective->AllReduceSum(std::span<double>(all)); !status.ok()) return status;
  return all;
}

}  // namespace

Result<MemoryFit> LargestThatFits(const std::vector<int64_t>& choices,
                                  const std::vector<MemoryLimit>& limits,
                                  const BytesOfRank& bytes_of) {
  SINKFORGE_CHECK(!choices.empty() && !limits.empty());
  MemoryFit fit;
  for (auto rows = choices.rbegin(); rows != choices.rend() && fit.rows == 0; ++rows) {
    bool fits = true;
    int64_t room = 0;
    for (const MemoryLimit& limit : limits) {
      const Result<int64_t> bytes = bytes_of({*rows, limit.ranks});
      if (!bytes.ok()) return bytes.status();
      fits = fits && bytes.value() <= limit.bytes;
      const int64_t left = limit.bytes - bytes.value();
      if (&limit != &limits.front() && left >= room) continue;
      room = left;
      fit = {0, bytes.value(), limit};
    }
    if (fits) fit.rows = *rows;
  }
  return fit;
}

Result<MicroBatchChoice> AgreeOnMicroBatch(const TrainingConfig& config,
                                           const MicroBatchRequest& request,
                                           kernels::Backend* backend, Collective* collective) {
  const int64_t ranks = collective->world_size();
  const auto own_machine = static_cast<double>(request.free.machine);
  const Result<std::vector<double>> machines = Exchange({own_machine}, collective);
  if (!machines.ok()) return machines.status();
  const int64_t ranks_here =
      std::count(machines.value().begin(), machines.value().end(), own_machine);
  const RankMemory memory(config, request, backend);
  const Result<MemoryFit> own = FindFit(request, memory, ranks, ranks_here);
  if (!own.ok()) return own.status();

  const MemoryFit& fit = own.value();
  const std::vector<double> told = {static_cast<double>(fit.rows), static_cast<double>(fit.bytes),
                                    static_cast<double>(fit.limit.ranks),
                                    static_cast<double>(fit.limit.bytes),
                                    static_cast<double>(fit.limit.by)};
  const Result<std::vector<double>> heard = Exchange(told, collective);
  if (!heard.ok()) return heard.status();
  std::vector<MemoryFit> fits;
  for (size_t i = 0; i < heard.value().size(); i += told.size()) {
    const auto number = [&](size_t at) { return static_cast<int64_t>(heard.value()[i + at]); };
    const auto by = static_cast<MemoryLimit::By>(number(4));
    fits.push_back({number(0), number(1), {number(2), number(3), by}});
  }
  return Conclude(request, fits, memory);
}

Result<MicroBatchChoice> ForeseeMicroBatch(const TrainingConfig& config,
                                           const MicroBatchRequest& request, int64_t ranks,
                                           kernels::Backend* backend) {
  const RankMemory memory(config, request, backend);
  const Result<MemoryFit> fit = FindFit(request, memory, ranks, ranks);
  if (!fit.ok()) return fit.status();
  return Conclude(request, {fit.value()}, memory);
}

}  // namespace sinkforge::trainer
