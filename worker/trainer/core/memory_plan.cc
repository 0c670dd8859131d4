// The plans of the parts that the trainer is made of, without their memory.
#include "worker/trainer/core/memory_plan.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <map>
#include <memory>

#include "worker/trainer/core/model.h"
#include "worker/trainer/core/optimizer.h"
#include "worker/trainer/core/shard_plan.h"
#include "worker/trainer/core/trainer.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::Tensor;

namespace {

std::string ShapeText(const Tensor& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.rank; ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(tensor.dim(i));
  }
  return text + "]";
}

MemoryPlan::Group GroupOf(const std::string& name, const Arena& arena) {
  MemoryPlan::Group group{name, {}, arena.bytes()};
  for (const Arena::Allocation& allocation : arena.table()) {
    group.entries.push_back(
        {allocation.name, ShapeText(allocation.tensor), allocation.tensor.bytes()});
  }
  return group;
}

MemoryPlan::Group WorkspaceOf(const TrainingConfig& config, const ModelPlan& plan,
                              const ParameterSet& parameters, const kernels::Backend& backend) {
  kernels::StepShape step;
  step.attention = AttentionConfigOf(config.model);
  step.shape = {plan.rows_max, plan.sequence, config.model.heads, config.model.heads,
                config.model.head_dim()};
  step.vocabulary = config.model.vocab_size;
  step.channels = std::max(config.model.width, config.model.mlp_width);
  for (const Parameter& parameter : parameters.all()) {
    if (config.optimizer.kind != OptimizerKind::kMuon) break;
    if (parameter.spec.role != ParameterRole::kMatrix) continue;
    step.muon_elements = std::max(step.muon_elements, parameter.spec.elements());
    step.muon_elements_all += parameter.spec.elements();
    step.muon_side =
        std::max(step.muon_side, std::min(parameter.spec.rows, parameter.spec.columns));
  }
  MemoryPlan::Group group{"workspace", {}, 0};
  for (const kernels::Workspace& workspace : backend.PlanWorkspace(step)) {
    if (workspace.bytes == 0) continue;
    group.entries.push_back({workspace.name, "", workspace.bytes});
    group.bytes += workspace.bytes;
  }
  return group;
}

// "layer12/q" and "transformer.h.12.attn.c_q.weight" with a star for the layer's number.
std::string WithoutLayer(const std::string& name) {
  for (const char* prefix : {"layer", "transformer.h."}) {
    const size_t at = name.find(prefix);
    if (at == std::string::npos) continue;
    const size_t first = at + std::string(prefix).size();
    size_t last = first;
    while (last < name.size() && std::isdigit(static_cast<unsigned char>(name[last])) != 0) ++last;
    if (last > first) return name.substr(0, first) + "*" + name.substr(last);
  }
  return name;
}

std::string Line(const std::string& name, const std::string& shape, int64_t count, int64_t bytes) {
  char line[256];
  const std::string times = count > 1 ? std::to_string(count) + " x " + shape : shape;
  std::snprintf(line, sizeof line, "%-58.80s %26.60s %12.2f\n", name.c_str(), times.c_str(),
                static_cast<double>(bytes) / (1 << 20));
  return line;
}

}  // namespace

int64_t MemoryPlan::bytes() const {
  int64_t sum = 0;
  for (const Group& group : groups) sum += group.bytes;
  return sum;
}

Result<MemoryPlan> PlanMemory(const TrainingConfig& config, int64_t ranks,
                              kernels::Backend* backend) {
  const Result<ModelPlan> plan = ModelPlanOf(config, ranks);
  if (!plan.ok()) return plan.status();
  const auto model = Model::CreateUnallocated(config.model, plan.value(), backend);
  ShardOptions shards;
  shards.kind = config.optimizer.kind;
  shards.world_size = static_cast<int>(ranks);
  const ShardPlan owners(model->parameters(), shards);
  const auto optimizer = Optimizer::CreateUnallocated(config.optimizer, config.model.width,
                                                      model->parameters(), owners, backend);
  MemoryPlan memory;
  memory.groups = {GroupOf("parameters", model->parameters().values()),
                   GroupOf("working copies", model->parameters().working_copies()),
                   GroupOf("gradients", model->parameters().gradients()),
                   GroupOf("optimizer state", optimizer->arena()),
                   GroupOf("activations", model->activations()),
                   WorkspaceOf(config, plan.value(), model->parameters(), *backend)};
  return memory;
}

std::string FormatMemoryPlan(const MemoryPlan& plan) {
  std::string text = Line("name", "shape", 1, 0);
  text.replace(text.rfind("0.00") - 1, 5, "  MiB");
  for (const MemoryPlan::Group& group : plan.groups) {
    if (group.entries.empty()) continue;
    text += Line(group.name, "", 1, group.bytes);
    struct Sum {
      int64_t count = 0, bytes = 0;
    };
    std::map<std::pair<std::string, std::string>, Sum> sums;
    for (const MemoryPlan::Entry& entry : group.entries) {
      Sum& sum = sums[{WithoutLayer(entry.name), entry.shape}];
      ++sum.count;
      sum.bytes += entry.bytes;
    }
    // In the order of their first appearance.
    for (const MemoryPlan::Entry& entry : group.entries) {
      const auto found = sums.find({WithoutLayer(entry.name), entry.shape});
      if (found == sums.end()) continue;
      text +=
          Line("  " + found->first.first, entry.shape, found->second.count, found->second.bytes);
      sums.erase(found);
    }
  }
  return text + Line("all", "", 1, plan.bytes());
}

}  // namespace sinkforge::trainer
