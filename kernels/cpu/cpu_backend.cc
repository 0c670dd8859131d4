// The ops whose loops are short; attention, cross-entropy and Muon have files of their own. Every
// element or row is computed by one task, so that results do not depend on the slices.
#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/attention_baseline.h"
#include "kernels/cpu/cpu_attention.h"
#include "kernels/cpu/cpu_cross_entropy.h"
#include "kernels/cpu/cpu_optimizer.h"
#include "kernels/cpu/parallel_ranges.h"
#include "kernels/cpu/rope_table.h"
#include "kernels/host_backend.h"
#include "kernels/op_checks.h"

namespace sinkforge::kernels {
namespace {

// Elements of one partial sum of Sum and SumOfSquares: fixed, so that the threads do not matter.
constexpr int64_t kSumBlock = 65'536;

class CpuBackend final : public HostBackend {
 public:
  CpuBackend(const CpuBackendOptions& options, const SimdKernels& kernels,
             AttentionStatistics statistics)
      : kernels_(kernels),
        pool_(options.threads),
        products_(options.products, kernels, &pool_),
        attention_(AttentionOf(options, kernels), statistics, &pool_),
        cross_entropy_(kernels, &pool_, &products_),
        muon_(kernels, &pool_, &products_) {}

  std::string_view name() const override { return "cpu"; }
  DType compute_dtype() const override { return DType::kF32; }

  std::vector<Workspace> PlanWorkspace(const StepShape& step) const override {
    const int64_t rows = step.shape.batch * step.shape.sequence;
    const int64_t width = step.shape.heads * step.shape.head_dim;
    const int64_t logits = CpuCrossEntropy::WorkspaceBytes(rows, step.vocabulary);
    const int64_t logit_rows = logits / SizeOf(DType::kF32) / step.vocabulary;
    std::vector<ProductShape> products;
    const auto add_linear = [&](int64_t positions, int64_t inputs, int64_t outputs) {
      products.push_back({positions, outputs, inputs});
      products.push_back({positions, inputs, outputs});  // gradient of the inputs
      products.push_back({outputs, inputs, positions});  // and of the weight
    };
    add_linear(rows, width, width);
    add_linear(rows, width, step.channels);
    add_linear(rows, step.channels, width);
    add_linear(logit_rows, width, step.vocabulary);
    if (step.muon_elements > 0) {
      const int64_t side = step.muon_side;
      const int64_t longer = step.muon_elements / side;
      products.push_back({side, side, longer});
      products.push_back({side, side, side});
      products.push_back({longer, side, side});
      products.push_back({side, longer, side});
    }
    return {{"attention", attention_.WorkspaceBytes(step.attention, step.shape)},
            {"cross-entropy logits", logits},
            {"bfloat16 operands", products_.WorkspaceBytes(products)},
            {"muon", CpuMuon::WorkspaceBytes(step.muon_elements, step.muon_side)},
            {"rotary table", RopeTable::WorkspaceBytes(step.shape.sequence, step.shape.head_dim)}};
  }

  void Zero(const Tensor& x) override {
    unsigned char* bytes = x.as<unsigned char>();
    ForRanges(&pool_, x.bytes() / 4 + 1, 1, [&](int64_t begin, int64_t end) {
      const int64_t last = std::min(end * 4, x.bytes());
      if (begin * 4 < last)
        std::memset(bytes + begin * 4, 0, static_cast<size_t>(last - begin * 4));
    });
  }

  void Embedding(const Tensor& tokens, const Tensor& table, const Tensor& out) override {
    CheckEmbedding(tokens, table, out);
    const MatrixShape shape = MatrixOf(table);
    const float* from = DataOf<float>(table);
    float* to = DataOf<float>(out);
    ForRanges(&pool_, tokens.elements(), shape.cols, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        std::copy_n(from + Token(tokens, n, shape.rows) * shape.cols, shape.cols,
                    to + n * shape.cols);
      }
    });
  }

  void EmbeddingBackward(const Tensor& tokens, const Tensor& d_out,
                         const Tensor& d_table) override {
    CheckEmbedding(tokens, d_table, d_out);
    const MatrixShape shape = MatrixOf(d_table);
    const float* from = DataOf<float>(d_out);
    float* to = DataOf<float>(d_table);
    // Sliced by columns: every column adds its tokens in order.
    const int64_t rows = tokens.elements();
    ForRanges(&pool_, (shape.cols + 15) / 16, rows * 16, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * 16;
      const int64_t count = std::min(end * 16, shape.cols) - first;
      for (int64_t n = 0; n < rows; ++n) {
        kernels_.add(from + n * shape.cols + first, count,
                     to + Token(tokens, n, shape.rows) * shape.cols + first);
      }
    });
  }

  void RmsNorm(const Tensor& x, double epsilon, const Tensor& y, const Tensor& rstd) override {
    CheckRmsNorm(x, y, rstd);
    const MatrixShape shape = MatrixOf(x);
    ForRanges(&pool_, shape.rows, shape.cols, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        DataOf<float>(rstd)[n] =
            kernels_.normalise_row(DataOf<float>(x) + n * shape.cols, shape.cols,
                                   static_cast<float>(epsilon), DataOf<float>(y) + n * shape.cols);
      }
    });
  }

  void RmsNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd, const Tensor& d_x,
                       WriteMode mode) override {
    CheckRmsNorm(d_y, y, rstd);
    CheckSameElements(d_x, d_y);
    const MatrixShape shape = MatrixOf(d_y);
    ForRanges(&pool_, shape.rows, shape.cols, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        kernels_.normalise_row_backward(DataOf<float>(d_y) + n * shape.cols,
                                        DataOf<float>(y) + n * shape.cols, DataOf<float>(rstd)[n],
                                        shape.cols, mode == WriteMode::kAccumulate,
                                        DataOf<float>(d_x) + n * shape.cols);
      }
    });
  }

  void Linear(const Tensor& x, const Tensor& w, const Tensor& y, WriteMode mode) override {
    const LinearShape shape = CheckLinear(x, w, y);
    MatrixProduct product;
    product.transpose_b = Transpose::kYes;
    product.m = shape.rows;
    product.n = shape.outputs;
    product.k = shape.inputs;
    product.a = DataOf<float>(x);
    product.lda = shape.inputs;
    product.b = DataOf<float>(w);
    product.ldb = shape.inputs;
    product.beta = mode == WriteMode::kAccumulate ? 1.0F : 0.0F;
    product.c = DataOf<float>(y);
    product.ldc = shape.outputs;
    products_.Run(product);
  }

  void LinearBackwardInput(const Tensor& d_y, const Tensor& w, const Tensor& d_x,
                           WriteMode mode) override {
    const LinearShape shape = CheckLinear(d_x, w, d_y);
    MatrixProduct product;
    product.m = shape.rows;
    product.n = shape.inputs;
    product.k = shape.outputs;
    product.a = DataOf<float>(d_y);
    product.lda = shape.outputs;
    product.b = DataOf<float>(w);
    product.ldb = shape.inputs;
    product.beta = mode == WriteMode::kAccumulate ? 1.0F : 0.0F;
    product.c = DataOf<float>(d_x);
    product.ldc = shape.inputs;
    products_.Run(product);
  }

  void LinearBackwardWeight(const Tensor& d_y, const Tensor& x, const Tensor& d_w) override {
    const LinearShape shape = CheckLinear(x, d_w, d_y);
    MatrixProduct product;
    product.transpose_a = Transpose::kYes;
    product.m = shape.outputs;
    product.n = shape.inputs;
    product.k = shape.rows;
    product.a = DataOf<float>(d_y);
    product.lda = shape.outputs;
    product.b = DataOf<float>(x);
    product.ldb = shape.inputs;
    product.beta = 1;
    product.c = DataOf<float>(d_w);
    product.ldc = shape.inputs;
    products_.Run(product);
  }

  void RopeNorm(const Tensor& x, int64_t sequence, int64_t heads, double rope_base, double epsilon,
                const Tensor& rstd) override {
    CheckRopeNorm(x, rstd, sequence, heads);
    const int64_t d = MatrixOf(x).cols / heads;
    rope_.Prepare(rope_base, sequence, d);
    ForRanges(&pool_, MatrixOf(x).rows, heads * d, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin * heads; row < end * heads; ++row) {
        float* head = DataOf<float>(x) + row * d;
        const int64_t t = row / heads % sequence;
        kernels_.rotate(head, rope_.Cosines(t), rope_.Sines(t), d / 2, 1.0F);
        DataOf<float>(rstd)[row] =
            kernels_.normalise_row(head, d, static_cast<float>(epsilon), head);
      }
    });
  }

  void RopeNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd, int64_t sequence,
                        int64_t heads, double rope_base) override {
    CheckRopeNorm(y, rstd, sequence, heads);
    CheckSameElements(d_y, y);
    const int64_t d = MatrixOf(y).cols / heads;
    rope_.Prepare(rope_base, sequence, d);
    ForRanges(&pool_, MatrixOf(y).rows, heads * d, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin * heads; row < end * heads; ++row) {
        float* head = DataOf<float>(d_y) + row * d;
        const int64_t t = row / heads % sequence;
        kernels_.normalise_row_backward(head, DataOf<float>(y) + row * d, DataOf<float>(rstd)[row],
                                        d, false, head);
        kernels_.rotate(head, rope_.Cosines(t), rope_.Sines(t), d / 2, -1.0F);
      }
    });
  }

  void AttentionForward(const AttentionConfig& config, const AttentionShape& shape,
                        const AttentionForwardArgs& args) override {
    CheckAttentionForward(config, shape, args, DType::kF32);
    attention_.Forward(config, shape, args);
  }

  void AttentionBackward(const AttentionConfig& config, const AttentionShape& shape,
                         const AttentionBackwardArgs& args) override {
    CheckAttentionBackward(config, shape, args, DType::kF32);
    attention_.Backward(config, shape, args);
  }

  void GateArgmaxCounts(const Tensor& gate, const Tensor& counts) override {
    CheckGateArgmaxCounts(gate, counts);
    const int64_t heads = gate.dim(1);
    const int64_t sequence = gate.dim(2);
    for (int64_t b = 0; b < gate.dim(0); ++b) {
      for (int64_t t = 0; t < sequence; ++t) {
        const float* gates = DataOf<float>(gate) + b * heads * sequence + t;
        int64_t best = 0;
        for (int64_t h = 1; h < heads; ++h) {
          if (gates[h * sequence] > gates[best * sequence]) best = h;
        }
        DataOf<double>(counts)[best] += 1;
      }
    }
  }

  void ReluSquared(const Tensor& x, const Tensor& y) override {
    CheckSameElements(x, y);
    ForRanges(&pool_, x.elements(), 1, [&](int64_t begin, int64_t end) {
      kernels_.relu_squared(DataOf<float>(x) + begin, end - begin, DataOf<float>(y) + begin);
    });
  }

  void ReluSquaredBackward(const Tensor& d_y, const Tensor& y, const Tensor& d_x) override {
    CheckSameElements(d_y, y);
    CheckSameElements(d_x, y);
    ForRanges(&pool_, y.elements(), 1, [&](int64_t begin, int64_t end) {
      kernels_.relu_squared_backward(DataOf<float>(d_y) + begin, DataOf<float>(y) + begin,
                                     end - begin, DataOf<float>(d_x) + begin);
    });
  }

  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& act) override {
    CheckSwiGlu(gate, up, act);
    ForRanges(&pool_, act.elements(), 3, [&](int64_t begin, int64_t end) {
      kernels_.swiglu(DataOf<float>(gate) + begin, DataOf<float>(up) + begin, end - begin,
                      DataOf<float>(act) + begin);
    });
  }

  void SwiGluBackward(const SwiGluBackwardArgs& args) override {
    CheckSwiGluBackward(args);
    ForRanges(&pool_, args.act.elements(), 6, [&](int64_t begin, int64_t end) {
      kernels_.swiglu_backward(DataOf<float>(args.d_act) + begin, DataOf<float>(args.gate) + begin,
                               DataOf<float>(args.up) + begin, end - begin,
                               DataOf<float>(args.d_gate) + begin, DataOf<float>(args.d_up) + begin,
                               DataOf<float>(args.act) + begin);
    });
  }

  void CrossEntropy(const CrossEntropyArgs& args) override {
    CheckCrossEntropy(args);
    SINKFORGE_CHECK(args.x.dtype == DType::kF32);
    cross_entropy_.Run(args);
  }

  double SumOfSquares(const Tensor& x) override { return BlockedSum(x, kernels_.sum_of_squares); }
  double Sum(const Tensor& x) override { return BlockedSum(x, kernels_.sum); }

  void AdamW(const AdamWArgs& args) override {
    CheckAdamW(args);
    const double step = static_cast<double>(args.step);
    const AdamWCoefficients coefficients = {
        .beta1 = static_cast<float>(args.beta1),
        .one_minus_beta1 = static_cast<float>(1.0 - args.beta1),
        .beta2 = static_cast<float>(args.beta2),
        .one_minus_beta2 = static_cast<float>(1.0 - args.beta2),
        .m_correction = static_cast<float>(1.0 - std::pow(args.beta1, step)),
        .v_correction = static_cast<float>(1.0 - std::pow(args.beta2, step)),
        .rate = static_cast<float>(args.learning_rate),
        .decay = static_cast<float>(args.learning_rate * args.weight_decay),
        .epsilon = static_cast<float>(args.epsilon),
        .gradient_scale = static_cast<float>(args.gradient_scale)};
    ForRanges(&pool_, args.parameter.elements(), 4, [&](int64_t begin, int64_t end) {
      kernels_.adamw(coefficients, DataOf<float>(args.gradient) + begin, end - begin,
                     DataOf<float>(args.parameter) + begin, DataOf<float>(args.m) + begin,
                     DataOf<float>(args.v) + begin);
    });
  }

  void Muon(const MuonArgs& args) override {
    CheckMuon(args);
    SINKFORGE_CHECK(args.parameter.dtype == DType::kF32);
    muon_.Step(args);
  }

 private:
  static const AttentionKernels& AttentionOf(const CpuBackendOptions& options,
                                             const SimdKernels& kernels) {
    const bool rounded = options.products == ProductPrecision::kBfloat16;
    return rounded && kernels.attention_bfloat16 != nullptr ? *kernels.attention_bfloat16
                                                            : kernels.attention;
  }

  static int64_t Token(const Tensor& tokens, int64_t n, int64_t vocabulary) {
    const int32_t token = DataOf<int32_t>(tokens)[n];
    SINKFORGE_CHECK(token >= 0 && token < vocabulary);
    return token;
  }

  double BlockedSum(const Tensor& x, double (*sum_range)(const float*, int64_t)) {
    const int64_t blocks = (x.elements() + kSumBlock - 1) / kSumBlock;
    if (static_cast<int64_t>(sums_.size()) < blocks) sums_.resize(static_cast<size_t>(blocks));
    ForRanges(&pool_, blocks, kSumBlock, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t count = std::min(kSumBlock, x.elements() - i * kSumBlock);
        sums_[static_cast<size_t>(i)] = sum_range(DataOf<float>(x) + i * kSumBlock, count);
      }
    });
    double sum = 0;
    for (int64_t i = 0; i < blocks; ++i) sum += sums_[static_cast<size_t>(i)];
    return sum;
  }

  const SimdKernels& kernels_;
  ThreadPool pool_;
  MatrixProducts products_;
  RopeTable rope_;
  CpuAttention attention_;
  CpuCrossEntropy cross_entropy_;
  CpuMuon muon_;
  std::vector<double> sums_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(int threads) {
  CpuBackendOptions options;
  options.threads = threads;
  return MakeCpuBackend(options);
}

std::unique_ptr<Backend> MakeCpuBackend(const CpuBackendOptions& options) {
  const SimdKernels* kernels =
      options.level.has_value() ? FindSimdKernels(*options.level) : &BestSimdKernels();
  SINKFORGE_CHECK(kernels != nullptr);
  return std::make_unique<CpuBackend>(options, *kernels, AttentionStatistics::kImportance);
}

std::unique_ptr<Backend> MakeCpuBackendWithoutImportance(int threads) {
  CpuBackendOptions options;
  options.threads = threads;
  return std::make_unique<CpuBackend>(options, BestSimdKernels(), AttentionStatistics::kNone);
}

}  // namespace sinkforge::kernels
