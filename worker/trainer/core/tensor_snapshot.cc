// Slices of tensors: cut, check, put together.
#include "worker/trainer/core/tensor_snapshot.h"

#include <algorithm>
#include <map>
#include <string_view>

namespace sinkforge::trainer {

using kernels::DType;
using kernels::Status;
using kernels::StatusCode;
using kernels::Tensor;

namespace {

constexpr std::string_view kOptimizerPrefix = "optimizer/";

using SlicesByName = std::map<std::string, std::vector<const SnapshotTensor*>, std::less<>>;

std::string SafetensorsName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF64:
      return "F64";
    case DType::kBF16:
      return "BF16";
    case DType::kI32:
      return "I32";
  }
  return "";
}

int64_t ElementsOf(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  return count;
}

std::string ToText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

// The elements `share` of the whole, all of which are held.
Tensor Slice(const TensorPart& held, const Share& share) {
  return FlatSlice(held.part, {share.first - held.share.first, share.size});
}

Status Invalid(const std::string& name, const std::string& what) {
  return Status(StatusCode::kInvalidArgument,
                "tensor " + name + ": " + what +
                    "; use a checkpoint of a job with the same model and optimizer");
}

Status CheckSlice(const TensorPart& wanted, const SnapshotTensor& slice) {
  const std::string dtype = SafetensorsName(wanted.dtype);
  if (slice.shape != wanted.shape) {
    return Invalid(wanted.name,
                   "shape " + ToText(slice.shape) + " where the job has " + ToText(wanted.shape));
  }
  if (slice.dtype != dtype) {
    return Invalid(wanted.name, "type " + slice.dtype + " where the job has " + dtype);
  }
  const int64_t elements = ElementsOf(wanted.shape);
  if (slice.offset < 0 || slice.length < 0 || slice.offset > elements ||
      slice.length > elements - slice.offset ||
      static_cast<int64_t>(slice.bytes.size()) != slice.length * kernels::SizeOf(wanted.dtype)) {
    return Invalid(wanted.name, "slice of " + std::to_string(slice.length) + " elements at " +
                                    std::to_string(slice.offset) + " in " +
                                    std::to_string(slice.bytes.size()) +
                                    " bytes lies outside the tensor or has the wrong size");
  }
  return Status();
}

// The slices, sorted by offset, must tile the tensor.
Status CheckCover(const TensorPart& wanted, std::vector<const SnapshotTensor*>* slices) {
  for (const SnapshotTensor* slice : *slices) {
    if (Status status = CheckSlice(wanted, *slice); !status.ok()) return status;
  }
  std::sort(slices->begin(), slices->end(), [](const auto* a, const auto* b) {
    return std::pair(a->offset, a->length) < std::pair(b->offset, b->length);
  });
  int64_t covered = 0;
  for (const SnapshotTensor* slice : *slices) {
    if (slice->offset < covered) {
      return Invalid(wanted.name, "element " + std::to_string(slice->offset) + " is given twice");
    }
    if (slice->offset > covered) break;
    covered += slice->length;
  }
  if (covered < ElementsOf(wanted.shape)) {
    return Invalid(wanted.name, "element " + std::to_string(covered) + " is missing");
  }
  return Status();
}

}  // namespace

TensorPart WholeOf(const NamedTensor& named) {
  const Tensor& tensor = named.tensor;
  return {named.name,
          {tensor.shape.begin(), tensor.shape.begin() + tensor.rank},
          tensor.dtype,
          {0, tensor.elements()},
          tensor};
}

SnapshotTensor CopyPart(kernels::Backend* backend, const TensorPart& held, const Share& share) {
  SnapshotTensor copy;
  copy.name = held.name;
  copy.dtype = SafetensorsName(held.dtype);
  copy.shape = held.shape;
  copy.offset = share.first;
  copy.length = share.size;
  const Tensor slice = Slice(held, share);
  copy.bytes.resize(static_cast<size_t>(slice.bytes()));
  backend->CopyToHost(copy.bytes.data(), slice);
  return copy;
}

SnapshotTensor CopyWhole(kernels::Backend* backend, const NamedTensor& named) {
  return CopyPart(backend, WholeOf(named), {0, named.tensor.elements()});
}

Status AssembleTensors(const std::vector<TensorPart>& wanted,
                       const std::vector<SnapshotTensor>& slices, ForeignTensors foreign,
                       kernels::Backend* backend) {
  SlicesByName by_name;
  for (const SnapshotTensor& slice : slices) by_name[slice.name].push_back(&slice);
  size_t known = 0;
  for (const TensorPart& named : wanted) {
    const auto found = by_name.find(named.name);
    if (found == by_name.end()) return Invalid(named.name, "missing");
    if (Status status = CheckCover(named, &found->second); !status.ok()) return status;
    ++known;
  }
  if (known != by_name.size()) {
    std::map<std::string_view, int> names;
    for (const TensorPart& named : wanted) names[named.name] = 1;
    for (const auto& [name, parts] : by_name) {
      const bool passed = foreign == ForeignTensors::kPassOptimizer &&
                          name.compare(0, kOptimizerPrefix.size(), kOptimizerPrefix) == 0;
      if (!passed && names.count(name) == 0) return Invalid(name, "unknown to the job");
    }
  }
  for (const TensorPart& named : wanted) {
    for (const SnapshotTensor* slice : by_name.find(named.name)->second) {
      const int64_t first = std::max(slice->offset, named.share.first);
      const int64_t end =
          std::min(slice->offset + slice->length, named.share.first + named.share.size);
      if (first >= end) continue;
      const int64_t skipped = (first - slice->offset) * kernels::SizeOf(named.dtype);
      backend->CopyFromHost(Slice(named, {first, end - first}), slice->bytes.data() + skipped);
    }
  }
  return Status();
}

}  // namespace sinkforge::trainer
