// Names and shapes are those of parameters.cc.
#include "worker/trainer/core/model_difference.h"

#include <cstdio>
#include <map>

namespace sinkforge::trainer {

namespace {

using kernels::AttentionVariant;
using kernels::GateGranularity;
using kernels::HeadNorm;

using Shapes = std::map<std::string, std::vector<int64_t>>;

std::string NameOf(AttentionVariant attention) {
  switch (attention) {
    case AttentionVariant::kVanilla:
      return "vanilla";
    case AttentionVariant::kSink:
      return "sink";
    case AttentionVariant::kGated:
      return "gated";
  }
  return "";
}

std::string NameOf(GateGranularity gate) {
  return gate == GateGranularity::kHead ? "head" : "element";
}
std::string NameOf(MlpKind mlp) { return mlp == MlpKind::kSwiGlu ? "swiglu" : "relu_squared"; }
std::string NameOf(HeadNorm norm) { return norm == HeadNorm::kRms ? "rms" : "none"; }
std::string NameOf(int64_t number) { return std::to_string(number); }
std::string NameOf(double number) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", number);
  return text;
}

// Collects the keys that differ, in the order in which they are compared.
class Comparison {
 public:
  template <typename Value>
  void Compare(const char* key, const Value& file, const Value& job) {
    if (file == job) return;
    text_ += text_.empty() ? std::string(key) + " is " + NameOf(file) + " there and " +
                                 NameOf(job) + " in the job"
                           : ", " + std::string(key) + " " + NameOf(file) + " and " + NameOf(job);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string Layer(int64_t layer, const char* name) {
  return "transformer.h." + std::to_string(layer) + "." + name;
}

bool IsMatrix(const Shapes& shapes, const std::string& name) {
  const auto found = shapes.find(name);
  return found != shapes.end() && found->second.size() == 2;
}

void CompareAttention(const Shapes& shapes, const ModelConfig& model, Comparison* comparison) {
  const auto sinks = shapes.find(Layer(0, "attn.sinks"));
  const std::string gate_name = Layer(0, "attn.c_gate.weight");
  ModelConfig file = model;
  file.attention = AttentionVariant::kVanilla;
  if (sinks != shapes.end() && sinks->second.size() == 1) {
    file.attention = AttentionVariant::kSink;
    file.heads = sinks->second[0];
  } else if (IsMatrix(shapes, gate_name)) {
    const std::vector<int64_t>& gate = shapes.at(gate_name);
    file.attention = AttentionVariant::kGated;
    // A head has more than one channel.
    file.gate = gate[0] == gate[1] ? GateGranularity::kElement : GateGranularity::kHead;
    if (file.gate == GateGranularity::kHead) file.heads = gate[0];
  }
  comparison->Compare("model.heads", file.heads, model.heads);
  comparison->Compare("model.attention", file.attention, model.attention);
  if (file.attention == model.attention) comparison->Compare("model.gate", file.gate, model.gate);
}

}  // namespace

std::string DescribeModelDifference(const ModelConfig& model,
                                    const std::vector<SnapshotTensor>& tensors) {
  Shapes shapes;
  for (const SnapshotTensor& tensor : tensors) shapes[tensor.name] = tensor.shape;
  const std::string embedding = "transformer.wte.weight";
  const std::string mlp_out = Layer(0, "mlp.c_proj.weight");
  if (!IsMatrix(shapes, embedding) || !IsMatrix(shapes, mlp_out)) return "";
  int64_t layers = 0;
  while (shapes.contains(Layer(layers, "mlp.c_proj.weight"))) ++layers;
  const bool is_swiglu = shapes.contains(Layer(0, "mlp.c_gate.weight"));
  Comparison comparison;
  comparison.Compare("model.layers", layers, model.layers);
  comparison.Compare("model.width", shapes.at(embedding)[1], model.width);
  comparison.Compare("model.vocab_size", shapes.at(embedding)[0], model.vocab_size);
  CompareAttention(shapes, model, &comparison);
  comparison.Compare("model.mlp", is_swiglu ? MlpKind::kSwiGlu : MlpKind::kReluSquared, model.mlp);
  comparison.Compare("model.mlp_width", shapes.at(mlp_out)[1], model.mlp_width);
  return comparison.text();
}

std::string DescribeSettingsDifference(const ModelConfig& model, const ModelConfig& file) {
  Comparison comparison;
  comparison.Compare("model.heads", file.heads, model.heads);
  comparison.Compare("model.head_norm", file.head_norm, model.head_norm);
  comparison.Compare("model.rope_base", file.rope_base, model.rope_base);
  comparison.Compare("model.logit_softcap", file.logit_softcap, model.logit_softcap);
  return comparison.text();
}

}  // namespace sinkforge::trainer
