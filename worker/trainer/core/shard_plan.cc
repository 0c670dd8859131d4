// ShardPlan: owners, buckets, and the runs of gradients that a rank owns.
#include "worker/trainer/core/shard_plan.h"

#include <algorithm>
#include <numeric>

namespace sinkforge::trainer {

using kernels::DType;
using kernels::Tensor;

namespace {

// Parts begin at a multiple of a cache line's float32 values, so that vector loops see the same
// alignment as on a whole tensor.
constexpr int64_t kGranule = 16;

int64_t OffsetInElements(const Arena& arena, size_t index) {
  const Arena::Allocation& allocation = arena.table()[index];
  return allocation.offset_bytes / kernels::SizeOf(allocation.tensor.dtype);
}

std::vector<Segment> EqualParts(int64_t elements, int world_size) {
  const int64_t granules = (elements + kGranule - 1) / kGranule;
  std::vector<Segment> parts;
  for (int rank = 0; rank < world_size; ++rank) {
    const Share share = ShareOf(granules, rank, world_size);
    const int64_t first = std::min(share.first * kGranule, elements);
    const int64_t end = std::min((share.first + share.size) * kGranule, elements);
    if (end > first) parts.push_back({first, end - first, rank});
  }
  return parts;
}

}  // namespace

double NewtonSchulzCost(int64_t rows, int64_t columns) {
  // With s = min, l = max: X X^T (2 s^2 l), A^2 (2 s^3) and B X (2 s^2 l) in each iteration.
  const auto shorter = static_cast<double>(std::min(rows, columns));
  const auto longer = static_cast<double>(std::max(rows, columns));
  return 5 * (4 * shorter * shorter * longer + 2 * shorter * shorter * shorter);
}

ShardPlan::ShardPlan(const ParameterSet& parameters, const ShardOptions& options)
    : options_(options) {
  SINKFORGE_CHECK(options.rank >= 0 && options.rank < options.world_size);
  AssignOwners(parameters);
  MakeBuckets(parameters);
  FindOwnedGradients(parameters);
}

void ShardPlan::AssignOwners(const ParameterSet& parameters) {
  const std::vector<Parameter>& all = parameters.all();
  owners_.resize(all.size());
  std::vector<size_t> matrices;
  for (size_t i = 0; i < all.size(); ++i) {
    const ParameterSpec& spec = all[i].spec;
    if (options_.kind == OptimizerKind::kMuon && spec.role == ParameterRole::kMatrix) {
      matrices.push_back(i);
    } else {
      owners_[i] = EqualParts(spec.elements(), options_.world_size);
    }
  }
  const auto cost = [&](size_t i) {
    return NewtonSchulzCost(all[i].spec.rows, all[i].spec.columns);
  };
  std::stable_sort(matrices.begin(), matrices.end(),
                   [&](size_t a, size_t b) { return cost(a) > cost(b); });
  std::vector<double> load(static_cast<size_t>(options_.world_size), 0.0);
  for (const size_t i : matrices) {
    const auto least = std::min_element(load.begin(), load.end());  // ties: the lowest rank
    *least += cost(i);
    owners_[i] = {{0, all[i].spec.elements(), static_cast<int>(least - load.begin())}};
  }
}

Share ShardPlan::owned(size_t parameter) const {
  for (const Segment& segment : owners_[parameter]) {
    if (segment.owner == options_.rank) return {segment.first, segment.size};
  }
  return {};
}

void ShardPlan::MakeBuckets(const ParameterSet& parameters) {
  const std::vector<Parameter>& all = parameters.all();
  size_t end = all.size();
  int64_t bytes = 0;
  for (size_t first = all.size(); first-- > 0;) {
    bytes += all[first].weight.gradient.bytes();
    if (bytes < options_.bucket_bytes_min && first > 0) continue;
    buckets_.push_back(MakeBucket(parameters, first, end));
    end = first;
    bytes = 0;
  }
}

ShardPlan::Bucket ShardPlan::MakeBucket(const ParameterSet& parameters, size_t first,
                                        size_t end) const {
  const Arena& gradients = parameters.gradients();
  const int64_t begin = OffsetInElements(gradients, first);
  // The two arenas have one layout.
  SINKFORGE_CHECK(begin == OffsetInElements(parameters.values(), first));
  Bucket bucket;
  bucket.first_parameter = first;
  bucket.end_parameter = end;
  int64_t size = 0;
  for (size_t i = first; i < end; ++i) {
    const int64_t offset = OffsetInElements(gradients, i) - begin;
    for (const Segment& part : owners_[i]) {
      bucket.segments.push_back({offset + part.first, part.size, part.owner});
    }
    size = offset + gradients.at(i).elements();
  }
  const DType dtype = gradients.at(first).dtype;
  bucket.gradients = FlatSlice(gradients.Flat(dtype), {begin, size});
  bucket.values = FlatSlice(parameters.values().Flat(dtype), {begin, size});
  return bucket;
}

void ShardPlan::FindOwnedGradients(const ParameterSet& parameters) {
  const Arena& gradients = parameters.gradients();
  const Tensor flat = gradients.Flat(gradients.at(0).dtype);
  Share run;
  bool reaches_end = false;  // of the parameter before
  const auto close = [&] {
    if (run.size > 0) owned_gradients_.push_back(FlatSlice(flat, run));
    run = {};
  };
  for (size_t i = 0; i < owners_.size(); ++i) {
    const Share part = owned(i);
    const int64_t first = OffsetInElements(gradients, i) + part.first;
    // Between neighbouring tensors lies nothing but zeros.
    const bool continues = run.size > 0 && reaches_end && part.first == 0 && part.size > 0;
    if (!continues) close();
    if (part.size > 0) {
      const int64_t begin = continues ? run.first : first;
      run = {begin, first + part.size - begin};
    }
    reaches_end = part.first + part.size == gradients.at(i).elements();
  }
  close();
}

}  // namespace sinkforge::trainer
