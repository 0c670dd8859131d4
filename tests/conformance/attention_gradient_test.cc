// The reference's attention in float64 against a direct transcription of method.md section 1, and
// its backward against central differences of that transcription, at random non-zero inputs, for
// every configuration: the loss itself where the gradient is exact, the surrogate with the LSE
// frozen where it is detached. The loss is sum(c o out) + sum_h g_h sum_{i,t} G; once only the
// second part, which a wrong small term could not hide behind.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>
#include <string>

#include "kernels/ref/ref_backend.h"
#include "tests/conformance/central_differences.h"
#include "tests/conformance/op_case.h"

namespace sinkforge::kernels::conformance {
namespace {

constexpr AttentionShape kShape = {
    .batch = 2, .sequence = 6, .heads = 4, .kv_heads = 2, .head_dim = 6};
constexpr int64_t kRows = kShape.batch * kShape.sequence;
constexpr int64_t kWidth = kShape.heads * kShape.head_dim;
constexpr int64_t kKvWidth = kShape.kv_heads * kShape.head_dim;
constexpr int64_t kStats = kShape.batch * kShape.heads * kShape.sequence;

using Values = std::vector<double>;
using Inputs = std::map<std::string, Values>;  // q, k, v, sinks, gate_logits

double SigmoidOf(double x) { return 1 / (1 + std::exp(-x)); }

Values Normal(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Values values(count);
  for (double& value : values) value = normal(random);
  return values;
}

// method.md section 1 as it stands, with plain probabilities in memory.
struct Naive {
  Values out = Values(kRows * kWidth);
  Values gate = Values(kStats);
  Values lse = Values(kStats);  // L, without the sink
};

struct HeadRow {
  int64_t b, h, t;
  size_t stat() const { return static_cast<size_t>((b * kShape.heads + h) * kShape.sequence + t); }
  size_t query() const {
    return static_cast<size_t>(((b * kShape.sequence + t) * kShape.heads + h) * kShape.head_dim);
  }
  size_t head_gate() const {
    return static_cast<size_t>((b * kShape.sequence + t) * kShape.heads + h);
  }
  size_t key(int64_t j) const {
    const int64_t kv_head = h / (kShape.heads / kShape.kv_heads);
    return static_cast<size_t>(((b * kShape.sequence + j) * kShape.kv_heads + kv_head) *
                               kShape.head_dim);
  }
};

// One row. `frozen` replaces L wherever the gate uses it.
void NaiveRow(const AttentionConfig& config, const Inputs& in, const Values* frozen,
              const HeadRow& row, Naive* result) {
  const size_t d = static_cast<size_t>(kShape.head_dim);
  Values z(static_cast<size_t>(row.t + 1));
  double total = 0;
  for (size_t j = 0; j < z.size(); ++j) {
    for (size_t c = 0; c < d; ++c) {
      z[j] += in.at("q")[row.query() + c] * in.at("k")[row.key(static_cast<int64_t>(j)) + c];
    }
    z[j] /= std::sqrt(static_cast<double>(d));
    total += std::exp(z[j]);
  }
  const double lse = std::log(total);
  result->lse[row.stat()] = lse;
  const double gate_lse = frozen != nullptr ? (*frozen)[row.stat()] : lse;
  Values u(d);
  for (size_t j = 0; j < z.size(); ++j) {
    for (size_t c = 0; c < d; ++c) {
      u[c] += std::exp(z[j] - lse) * in.at("v")[row.key(static_cast<int64_t>(j)) + c];
    }
  }
  double gate = 0;
  if (config.variant == AttentionVariant::kVanilla) {
    // The detached gate of row 0 is the constant 0.
    gate = row.t == 0 ? 0 : 1 - std::exp(z[0] - gate_lse);
  } else if (config.variant == AttentionVariant::kSink) {
    gate = SigmoidOf(gate_lse - in.at("sinks")[static_cast<size_t>(row.h)]);
    for (double& value : u) value *= gate;
  }
  if (config.head_norm == HeadNorm::kRms) {
    double square = 0;
    for (double value : u) square += value * value;
    const double rms = std::sqrt(square / static_cast<double>(d) + config.epsilon);
    for (double& value : u) value /= rms;
  }
  if (config.variant == AttentionVariant::kGated) {
    for (size_t c = 0; c < d; ++c) {
      const size_t at = config.gate == GateGranularity::kHead ? row.head_gate() : row.query() + c;
      const double channel_gate = SigmoidOf(in.at("gate_logits")[at]);
      u[c] *= channel_gate;
      gate += channel_gate / static_cast<double>(d);
    }
  }
  result->gate[row.stat()] = gate;
  for (size_t c = 0; c < d; ++c) result->out[row.query() + c] = u[c];
}

Naive RunNaive(const AttentionConfig& config, const Inputs& in, const Values* frozen) {
  Naive result;
  for (int64_t b = 0; b < kShape.batch; ++b) {
    for (int64_t h = 0; h < kShape.heads; ++h) {
      for (int64_t t = 0; t < kShape.sequence; ++t) {
        NaiveRow(config, in, frozen, {.b = b, .h = h, .t = t}, &result);
      }
    }
  }
  return result;
}

// What the reference backend gives, forward and backward.
struct Reference {
  Values out = Values(kRows * kWidth), lse = Values(kStats), gate = Values(kStats);
  Values normed = Values(kRows * kWidth), head_rstd = Values(kStats);
  Values importance_sum = Values(kShape.heads, 0.5);
  Inputs gradients;
};

Reference RunReference(const AttentionConfig& config, Inputs in, Values d_out, Values g) {
  Reference r;
  const bool gated = config.variant == AttentionVariant::kGated;
  const int64_t gate_width = config.gate == GateGranularity::kHead ? kShape.heads : kWidth;
  AttentionForwardArgs f;
  f.q = ViewOf(in.at("q"), {kRows, kWidth});
  f.k = ViewOf(in.at("k"), {kRows, kKvWidth});
  f.v = ViewOf(in.at("v"), {kRows, kKvWidth});
  if (in.count("sinks") != 0) f.sinks = ViewOf(in.at("sinks"), {kShape.heads});
  if (gated) f.gate_logits = ViewOf(in.at("gate_logits"), {kRows, gate_width});
  f.out = ViewOf(r.out, {kRows, kWidth});
  f.lse = ViewOf(r.lse, {kShape.batch, kShape.heads, kShape.sequence});
  f.gate = ViewOf(r.gate, {kShape.batch, kShape.heads, kShape.sequence});
  f.normed = ViewOf(r.normed, {kRows, kWidth});
  f.head_rstd = ViewOf(r.head_rstd, {kShape.batch, kShape.heads, kShape.sequence});
  f.importance_sum = ViewOf(r.importance_sum, {kShape.heads});
  const auto backend = MakeRefBackend(DType::kF64);
  backend->AttentionForward(config, kShape, f);
  for (const auto& [name, values] : in) r.gradients[name] = Values(values.size());
  AttentionBackwardArgs b;
  b.q = f.q;
  b.k = f.k;
  b.v = f.v;
  b.sinks = f.sinks;
  b.gate_logits = f.gate_logits;
  b.out = f.out;
  b.lse = f.lse;
  b.gate = f.gate;
  b.normed = f.normed;
  b.head_rstd = f.head_rstd;
  b.d_out = ViewOf(d_out, {kRows, kWidth});
  b.importance_gradient = ViewOf(g, {kShape.heads});
  b.d_q = ViewOf(r.gradients.at("q"), {kRows, kWidth});
  b.d_k = ViewOf(r.gradients.at("k"), {kRows, kKvWidth});
  b.d_v = ViewOf(r.gradients.at("v"), {kRows, kKvWidth});
  if (in.count("sinks") != 0) b.d_sinks = ViewOf(r.gradients.at("sinks"), {kShape.heads});
  if (gated) b.d_gate_logits = ViewOf(r.gradients.at("gate_logits"), {kRows, gate_width});
  backend->AttentionBackward(config, kShape, b);
  return r;
}

class AttentionGradientTest : public ::testing::TestWithParam<NamedAttentionConfig> {
 protected:
  AttentionGradientTest() : config_(GetParam().config) {
    // Large enough that the norm's own terms show in the gradient.
    config_.epsilon = 0.125F;
    in_["q"] = Normal(kRows * kWidth, 1);
    in_["k"] = Normal(kRows * kKvWidth, 2);
    in_["v"] = Normal(kRows * kKvWidth, 3);
    if (config_.variant == AttentionVariant::kSink) in_["sinks"] = Normal(kShape.heads, 4);
    if (config_.variant == AttentionVariant::kGated) {
      const bool by_head = config_.gate == GateGranularity::kHead;
      in_["gate_logits"] =
          Normal(static_cast<size_t>(kRows * (by_head ? kShape.heads : kWidth)), 5);
    }
  }

  void ExpectGradients(const Values& d_out, const Values& g) {
    std::optional<Values> frozen;
    if (config_.lse_gradient == LseGradient::kDetached) {
      frozen = RunNaive(config_, in_, nullptr).lse;
    }
    const auto loss = [&](const Inputs& in) {
      const Naive naive = RunNaive(config_, in, frozen.has_value() ? &*frozen : nullptr);
      double sum = 0;
      for (size_t i = 0; i < d_out.size(); ++i) sum += d_out[i] * naive.out[i];
      for (size_t i = 0; i < naive.gate.size(); ++i) {
        const size_t head = i / kShape.sequence % kShape.heads;
        sum += g[head] * naive.gate[i];
      }
      return sum;
    };
    const Reference reference = RunReference(config_, in_, d_out, g);
    for (const auto& [name, values] : in_) {
      Inputs moved = in_;
      const Values numeric = CentralDifferences(
          [&, &key = name](const Values& x) {
            moved.at(key) = x;
            return loss(moved);
          },
          values);
      double norm = 0;
      for (double value : numeric) norm += value * value;
      const Values& analytic = reference.gradients.at(name);
      if (norm == 0) {
        // The importance of a gate that this input does not enter.
        for (double value : analytic) EXPECT_EQ(value, 0.0) << name;
      } else {
        EXPECT_LE(RelativeError(analytic, numeric), 1e-6) << name;
        ++nonzero_gradients_;
      }
    }
  }

  AttentionConfig config_;
  Inputs in_;
  int nonzero_gradients_ = 0;
};

TEST_P(AttentionGradientTest, ForwardIsTheTranscription) {
  const Reference reference =
      RunReference(config_, in_, Normal(kRows * kWidth, 6), Normal(kShape.heads, 7));
  const Naive naive = RunNaive(config_, in_, nullptr);
  EXPECT_LE(RelativeError(reference.out, naive.out), 1e-13);
  EXPECT_LE(RelativeError(reference.gate, naive.gate), 1e-13);
  Values sums(kShape.heads, 0.5);
  for (size_t i = 0; i < naive.gate.size(); ++i) {
    sums[i / kShape.sequence % kShape.heads] += naive.gate[i];
  }
  EXPECT_LE(RelativeError(reference.importance_sum, sums), 1e-13);
}

TEST_P(AttentionGradientTest, BackwardOfOutputsAndImportance) {
  ExpectGradients(Normal(kRows * kWidth, 6), Normal(kShape.heads, 7));
  EXPECT_EQ(nonzero_gradients_, static_cast<int>(in_.size()));
}

TEST_P(AttentionGradientTest, BackwardOfImportanceAlone) {
  ExpectGradients(Values(kRows * kWidth), Normal(kShape.heads, 7));
  EXPECT_GE(nonzero_gradients_, 1);
}

INSTANTIATE_TEST_SUITE_P(Configs, AttentionGradientTest, ::testing::ValuesIn(AttentionConfigs()),
                         [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace sinkforge::kernels::conformance
