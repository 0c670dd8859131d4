// The table of every op but attention.
#include <array>
#include <cstring>
#include <initializer_list>
#include <string>

#include "tests/conformance/op_case.h"

namespace sinkforge::kernels::conformance {
namespace {

constexpr double kEpsilon = 1.1920929e-7;

struct LinearShapeCase {
  int64_t rows, inputs, outputs;
};
const LinearShapeCase kLinearShapes[] = {{1, 1, 1},    {1, 33, 17},   {7, 256, 8},
                                         {129, 40, 3}, {130, 64, 96}, {257, 100, 260}};

std::string Name(const std::string& op, std::initializer_list<int64_t> sizes, WriteMode mode) {
  std::string name = op;
  for (int64_t size : sizes) name.append("_").append(std::to_string(size));
  return name + (mode == WriteMode::kAssign ? "_Assign" : "_Accumulate");
}

Field Written(const std::string& name, const std::vector<int64_t>& shape, WriteMode mode,
              FieldType type = FieldType::kReal) {
  return {.name = name,
          .shape = shape,
          .fill = mode == WriteMode::kAssign ? Fill::kNaN : Fill::kNormal,
          .role = Role::kOutput,
          .type = type};
}

// What is kept as parameters and statistics are.
Field WrittenStatistic(const std::string& name, const std::vector<int64_t>& shape, WriteMode mode) {
  return Written(name, shape, mode, FieldType::kStatistic);
}

void AddLinear(std::vector<OpCase>* cases) {
  for (const auto& [n, i, o] : kLinearShapes) {
    for (WriteMode mode : {WriteMode::kAssign, WriteMode::kAccumulate}) {
      cases->push_back({.name = Name("Linear", {n, i, o}, mode),
                        .fields = {{.name = "x", .shape = {n, i}},
                                   {.name = "w", .shape = {o, i}},
                                   Written("y", {n, o}, mode)},
                        .run = [mode](Backend* backend, const TensorMap& t) {
                          backend->Linear(t.at("x"), t.at("w"), t.at("y"), mode);
                        }});
      cases->push_back({.name = Name("LinearBackwardInput", {n, i, o}, mode),
                        .fields = {{.name = "d_y", .shape = {n, o}},
                                   {.name = "w", .shape = {o, i}},
                                   Written("d_x", {n, i}, mode)},
                        .run = [mode](Backend* backend, const TensorMap& t) {
                          backend->LinearBackwardInput(t.at("d_y"), t.at("w"), t.at("d_x"), mode);
                        }});
    }
    cases->push_back({.name = Name("LinearBackwardWeight", {n, i, o}, WriteMode::kAccumulate),
                      .fields = {{.name = "d_y", .shape = {n, o}},
                                 {.name = "x", .shape = {n, i}},
                                 WrittenStatistic("d_w", {o, i}, WriteMode::kAccumulate)},
                      .run = [](Backend* backend, const TensorMap& t) {
                        backend->LinearBackwardWeight(t.at("d_y"), t.at("x"), t.at("d_w"));
                      }});
  }
}

void AddEmbedding(std::vector<OpCase>* cases) {
  struct Shape {
    int64_t rows, width, vocabulary;
  };
  for (const auto& [n, c, v] : {Shape{1, 5, 3}, Shape{130, 64, 7}, Shape{300, 90, 257}}) {
    const Field tokens = {
        .name = "tokens", .shape = {n}, .fill = Fill::kToken, .type = FieldType::kInt, .limit = v};
    cases->push_back({.name = Name("Embedding", {n, c, v}, WriteMode::kAssign),
                      .fields = {tokens,
                                 {.name = "table", .shape = {v, c}},
                                 Written("out", {n, c}, WriteMode::kAssign)},
                      .run = [](Backend* backend, const TensorMap& t) {
                        backend->Embedding(t.at("tokens"), t.at("table"), t.at("out"));
                      }});
    cases->push_back({.name = Name("EmbeddingBackward", {n, c, v}, WriteMode::kAccumulate),
                      .fields = {tokens,
                                 {.name = "d_out", .shape = {n, c}},
                                 WrittenStatistic("d_table", {v, c}, WriteMode::kAccumulate)},
                      .run = [](Backend* backend, const TensorMap& t) {
                        backend->EmbeddingBackward(t.at("tokens"), t.at("d_out"), t.at("d_table"));
                      }});
  }
}

void AddRmsNorm(std::vector<OpCase>* cases) {
  struct Shape {
    int64_t rows, width;
  };
  for (const auto& [n, c] : {Shape{1, 1}, Shape{1, 250}, Shape{129, 64}, Shape{300, 97}}) {
    cases->push_back({.name = Name("RmsNorm", {n, c}, WriteMode::kAssign),
                      .fields = {{.name = "x", .shape = {n, c}},
                                 Written("y", {n, c}, WriteMode::kAssign),
                                 WrittenStatistic("rstd", {n}, WriteMode::kAssign)},
                      .run = [](Backend* backend, const TensorMap& t) {
                        backend->RmsNorm(t.at("x"), kEpsilon, t.at("y"), t.at("rstd"));
                      }});
    for (WriteMode mode : {WriteMode::kAssign, WriteMode::kAccumulate}) {
      cases->push_back({.name = Name("RmsNormBackward", {n, c}, mode),
                        .fields = {{.name = "d_y", .shape = {n, c}},
                                   {.name = "y", .shape = {n, c}},
                                   {.name = "rstd", .shape = {n}, .type = FieldType::kStatistic},
                                   Written("d_x", {n, c}, mode)},
                        .run = [mode](Backend* backend, const TensorMap& t) {
                          backend->RmsNormBackward(t.at("d_y"), t.at("y"), t.at("rstd"),
                                                   t.at("d_x"), mode);
                        }});
    }
  }
}

void AddRopeNorm(std::vector<OpCase>* cases) {
  struct Shape {
    int64_t batch, sequence, heads, head_dim;
  };
  for (const auto& [b, s, h, d] :
       {Shape{1, 1, 1, 2}, Shape{2, 7, 3, 8}, Shape{1, 129, 4, 32}, Shape{3, 40, 1, 130}}) {
    const int64_t sequence = s;
    const int64_t heads = h;
    const std::vector<int64_t> shape = {b * s, h * d};
    cases->push_back({.name = Name("RopeNorm", {b, s, h, d}, WriteMode::kAssign),
                      .fields = {{.name = "x", .shape = shape, .role = Role::kOutput},
                                 WrittenStatistic("rstd", {b * s, h}, WriteMode::kAssign)},
                      .run = [sequence, heads](Backend* backend, const TensorMap& t) {
                        backend->RopeNorm(t.at("x"), sequence, heads, 10000.0, kEpsilon,
                                          t.at("rstd"));
                      }});
    cases->push_back(
        {.name = Name("RopeNormBackward", {b, s, h, d}, WriteMode::kAssign),
         .fields = {{.name = "d_y", .shape = shape, .role = Role::kOutput},
                    {.name = "y", .shape = shape},
                    {.name = "rstd", .shape = {b * s, h}, .type = FieldType::kStatistic}},
         .run = [sequence, heads](Backend* backend, const TensorMap& t) {
           backend->RopeNormBackward(t.at("d_y"), t.at("y"), t.at("rstd"), sequence, heads,
                                     10000.0);
         }});
  }
}

// Apart, and with outputs in the place of inputs.
void AddSwiGlu(int64_t n, std::vector<OpCase>* cases) {
  const Field gate = {.name = "gate", .shape = {n}};
  const Field up = {.name = "up", .shape = {n}};
  const Field d_act = {.name = "d_act", .shape = {n}};
  const auto written = [n](const char* name) { return Written(name, {n}, WriteMode::kAssign); };
  const auto changed = [](Field field) {
    field.role = Role::kOutput;
    return field;
  };
  cases->push_back({.name = Name("SwiGlu", {n}, WriteMode::kAssign),
                    .fields = {gate, up, written("act")},
                    .run = [](Backend* backend, const TensorMap& t) {
                      backend->SwiGlu(t.at("gate"), t.at("up"), t.at("act"));
                    }});
  cases->push_back({.name = Name("SwiGluInPlace", {n}, WriteMode::kAssign),
                    .fields = {changed(gate), up},
                    .run = [](Backend* backend, const TensorMap& t) {
                      backend->SwiGlu(t.at("gate"), t.at("up"), t.at("gate"));
                    }});
  cases->push_back({.name = Name("SwiGluBackward", {n}, WriteMode::kAssign),
                    .fields = {d_act, gate, up, written("d_gate"), written("d_up"), written("act")},
                    .run = [](Backend* backend, const TensorMap& t) {
                      backend->SwiGluBackward({t.at("d_act"), t.at("gate"), t.at("up"),
                                               t.at("d_gate"), t.at("d_up"), t.at("act")});
                    }});
  cases->push_back({.name = Name("SwiGluBackwardInPlace", {n}, WriteMode::kAssign),
                    .fields = {changed(d_act), changed(gate), changed(up)},
                    .run = [](Backend* backend, const TensorMap& t) {
                      backend->SwiGluBackward({t.at("d_act"), t.at("gate"), t.at("up"),
                                               t.at("gate"), t.at("up"), t.at("d_act")});
                    }});
}

// The backward's act must have the bits of the forward's; where it has not, what is compared is
// zeroed and fails.
void AddSwiGluTwice(std::vector<OpCase>* cases) {
  constexpr int64_t kCount = 1001;
  const auto written = [](const char* name) { return Written(name, {kCount}, WriteMode::kAssign); };
  cases->push_back({.name = Name("SwiGluTwice", {kCount}, WriteMode::kAssign),
                    .fields = {{.name = "d_act", .shape = {kCount}},
                               {.name = "gate", .shape = {kCount}},
                               {.name = "up", .shape = {kCount}},
                               written("act"),
                               written("d_gate"),
                               written("d_up"),
                               written("again")},
                    .run = [](Backend* backend, const TensorMap& t) {
                      const Tensor& act = t.at("act");
                      backend->SwiGlu(t.at("gate"), t.at("up"), act);
                      backend->SwiGluBackward({t.at("d_act"), t.at("gate"), t.at("up"),
                                               t.at("d_gate"), t.at("d_up"), t.at("again")});
                      std::array<double, kCount> first{};
                      std::array<double, kCount> second{};
                      backend->CopyToHost(first.data(), act);
                      backend->CopyToHost(second.data(), t.at("again"));
                      if (std::memcmp(first.data(), second.data(), sizeof first) != 0)
                        backend->Zero(act);
                    }});
}

void AddElementwise(std::vector<OpCase>* cases) {
  AddSwiGluTwice(cases);
  for (int64_t n : {int64_t{1}, int64_t{1001}, int64_t{70'003}}) {
    cases->push_back(
        {.name = Name("ReluSquared", {n}, WriteMode::kAssign),
         .fields = {{.name = "x", .shape = {n}}, Written("y", {n}, WriteMode::kAssign)},
         .run = [](Backend* backend, const TensorMap& t) {
           backend->ReluSquared(t.at("x"), t.at("y"));
         }});
    cases->push_back({.name = Name("ReluSquaredBackward", {n}, WriteMode::kAssign),
                      .fields = {{.name = "d_y", .shape = {n}},
                                 {.name = "y", .shape = {n}, .fill = Fill::kSquare},
                                 Written("d_x", {n}, WriteMode::kAssign)},
                      .run = [](Backend* backend, const TensorMap& t) {
                        backend->ReluSquaredBackward(t.at("d_y"), t.at("y"), t.at("d_x"));
                      }});
    AddSwiGlu(n, cases);
    cases->push_back(
        {.name = Name("Zero", {n}, WriteMode::kAssign),
         .fields = {Written("x", {n}, WriteMode::kAssign)},
         .run = [](Backend* backend, const TensorMap& t) { backend->Zero(t.at("x")); }});
    cases->push_back(
        {.name = Name("Copy", {n}, WriteMode::kAssign),
         .fields = {{.name = "x", .shape = {n}}, Written("y", {n}, WriteMode::kAssign)},
         .run = [](Backend* backend, const TensorMap& t) { backend->Copy(t.at("x"), t.at("y")); }});
    cases->push_back(
        {.name = Name("Sums", {n}, WriteMode::kAssign),
         .fields = {{.name = "x", .shape = {n}, .type = FieldType::kStatistic},
                    {.name = "sums",
                     .shape = {2},
                     .fill = Fill::kNaN,
                     .role = Role::kOutput,
                     .type = FieldType::kDouble}},
         .run = [](Backend* backend, const TensorMap& t) {
           const double sums[2] = {backend->Sum(t.at("x")), backend->SumOfSquares(t.at("x"))};
           backend->CopyFromHost(t.at("sums"), sums);
         }});
  }
}

void AddCounts(std::vector<OpCase>* cases) {
  struct Shape {
    int64_t batch, heads, sequence;
  };
  for (const auto& [b, h, s] : {Shape{1, 1, 1}, Shape{2, 3, 129}, Shape{3, 8, 64}}) {
    cases->push_back(
        {.name = Name("GateArgmaxCounts", {b, h, s}, WriteMode::kAccumulate),
         .fields =
             {{.name = "gate", .shape = {b, h, s}, .type = FieldType::kStatistic},
              {.name = "counts", .shape = {h}, .role = Role::kOutput, .type = FieldType::kDouble}},
         .run = [](Backend* backend, const TensorMap& t) {
           backend->GateArgmaxCounts(t.at("gate"), t.at("counts"));
         }});
  }
}

OpCase CrossEntropyCase(int64_t n, int64_t c, int64_t v, double softcap, bool gradient) {
  OpCase op;
  op.name = Name("CrossEntropy", {n, c, v}, WriteMode::kAccumulate) +
            (softcap > 0 ? "_Capped" : "_Plain") + (gradient ? "_Gradient" : "_LossOnly");
  op.fields = {
      {.name = "x", .shape = {n, c}},
      {.name = "w", .shape = {v, c}},
      {.name = "targets", .shape = {n}, .fill = Fill::kTarget, .type = FieldType::kInt, .limit = v},
      WrittenStatistic("losses", {n}, WriteMode::kAssign)};
  if (gradient) {
    op.fields.push_back(Written("d_x", {n, c}, WriteMode::kAssign));
    op.fields.push_back(WrittenStatistic("d_w", {v, c}, WriteMode::kAccumulate));
  }
  op.run = [softcap, gradient](Backend* backend, const TensorMap& t) {
    CrossEntropyArgs args;
    args.x = t.at("x");
    args.w = t.at("w");
    args.targets = t.at("targets");
    args.softcap = softcap;
    args.loss_scale = 0.75;
    args.losses = t.at("losses");
    if (gradient) {
      args.d_x = t.at("d_x");
      args.d_w = t.at("d_w");
    }
    backend->CrossEntropy(args);
  };
  return op;
}

void AddCrossEntropy(std::vector<OpCase>* cases) {
  for (double softcap : {0.0, 15.0}) {
    for (bool gradient : {false, true}) {
      cases->push_back(CrossEntropyCase(1, 8, 3, softcap, gradient));
      cases->push_back(CrossEntropyCase(129, 24, 257, softcap, gradient));
      cases->push_back(CrossEntropyCase(300, 4, 30'011, softcap, gradient));
    }
  }
}

void AddOptimizers(std::vector<OpCase>* cases) {
  for (int64_t n : {int64_t{1}, int64_t{1003}, int64_t{40'001}}) {
    cases->push_back(
        {.name = Name("AdamW", {n}, WriteMode::kAccumulate),
         .fields =
             {{.name = "p", .shape = {n}, .role = Role::kOutput, .type = FieldType::kStatistic},
              {.name = "g", .shape = {n}, .type = FieldType::kStatistic},
              {.name = "m",
               .shape = {n},
               .fill = Fill::kSmall,
               .role = Role::kOutput,
               .type = FieldType::kStatistic},
              {.name = "v",
               .shape = {n},
               .fill = Fill::kSquare,
               .role = Role::kOutput,
               .type = FieldType::kStatistic}},
         .run = [](Backend* backend, const TensorMap& t) {
           AdamWArgs args;
           args.parameter = t.at("p");
           args.gradient = t.at("g");
           args.m = t.at("m");
           args.v = t.at("v");
           args.learning_rate = 0.01;
           args.weight_decay = 0.1;
           args.step = 3;
           args.gradient_scale = 0.5;
           backend->AdamW(args);
         }});
  }
  struct Shape {
    int64_t rows, cols;
  };
  for (const auto& [r, c] : {Shape{1, 1}, Shape{33, 20}, Shape{20, 33}, Shape{96, 160}}) {
    cases->push_back(
        {.name = Name("Muon", {r, c}, WriteMode::kAccumulate),
         .fields =
             {{.name = "p", .shape = {r, c}, .role = Role::kOutput, .type = FieldType::kStatistic},
              {.name = "g", .shape = {r, c}, .type = FieldType::kStatistic},
              {.name = "m", .shape = {r, c}, .role = Role::kOutput, .type = FieldType::kStatistic}},
         .run = [](Backend* backend, const TensorMap& t) {
           MuonArgs args;
           args.parameter = t.at("p");
           args.gradient = t.at("g");
           args.momentum_buffer = t.at("m");
           args.learning_rate = 0.02;
           args.gradient_scale = 0.5;
           backend->Muon(args);
         }});
  }
}

}  // namespace

std::vector<OpCase> AllOpCases() {
  std::vector<OpCase> cases = AttentionCases();
  AddLinear(&cases);
  AddEmbedding(&cases);
  AddRmsNorm(&cases);
  AddRopeNorm(&cases);
  AddElementwise(&cases);
  AddCounts(&cases);
  AddCrossEntropy(&cases);
  AddOptimizers(&cases);
  return cases;
}

}  // namespace sinkforge::kernels::conformance
