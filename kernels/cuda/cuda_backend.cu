// CudaBackend: checks shapes, launches, keeps workspaces.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "kernels/cuda/attention_op.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_list.h"
#include "kernels/cuda/graphs.h"
#include "kernels/cuda/matrix_product.h"
#include "kernels/cuda/muon_op.h"
#include "kernels/cuda/ops.h"
#include "kernels/op_checks.h"

namespace sinkforge::kernels {
namespace cuda {
namespace {

// Cosines and sines in float64 on the host, so that late positions keep their digits; one table for
// every (sequence, head size, base) that was used.
class RopeTables {
 public:
  const float2* Find(int64_t sequence, int64_t head_dim, double base, Stream* stream) {
    const int64_t half = head_dim / 2;
    const std::tuple<int64_t, int64_t, double> key = {sequence, head_dim, base};
    if (tables_.count(key) == 0 && RefuseCapture("a table of angles", "it is not there yet")) {
      return nullptr;
    }
    const auto [at, inserted] = tables_.try_emplace(key);
    auto* table = at->second.Reserve<float2>(sequence * half, stream);
    if (!inserted) return table;
    std::vector<float2> values(static_cast<size_t>(sequence * half));
    for (int64_t t = 0; t < sequence; ++t) {
      for (int64_t i = 0; i < half; ++i) {
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
        const double angle = static_cast<double>(t) * std::pow(base, exponent);
        values[static_cast<size_t>(t * half + i)] = {static_cast<float>(std::cos(angle)),
                                                     static_cast<float>(std::sin(angle))};
      }
    }
    CheckCuda(cudaMemcpyAsync(table, values.data(), values.size() * sizeof(float2),
                              cudaMemcpyHostToDevice, stream->get()),
              "table of angles");
    stream->Wait();
    return table;
  }

 private:
  std::map<std::tuple<int64_t, int64_t, double>, Workspace> tables_;
};

// T is what activations are kept in: float, or Bf16.
template <typename T>
class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaBackendOptions& options)
      : logits_max_(options.logits_max),
        graphs_(options.graphs, &stream_, options.warn),
        products_(stream()),
        attention_(options, &stream_),
        muon_(&products_, &graphs_, &stream_) {}
  ~CudaBackend() override { cudaStreamSynchronize(stream()); }

  std::string_view name() const override { return "cuda"; }
  DType compute_dtype() const override { return DType::kF32; }
  DType activation_dtype() const override { return kActivation; }

  void* Allocate(int64_t bytes) override {
    SINKFORGE_CHECK(bytes >= 0);
    void* memory = nullptr;
    const size_t size = static_cast<size_t>(bytes) + 16;  // never zero bytes
    const cudaError_t error = cudaMalloc(&memory, size);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // The caller reports it; later launches must not.
      return nullptr;
    }
    CheckCuda(error, "allocation");
    CheckCuda(cudaMemsetAsync(memory, 0, size, stream()), "allocation");
    Wait();
    return memory;
  }
  void Free(void* memory) override {
    Wait();
    stream_.MemoryFreed();
    CheckCuda(cudaFree(memory), "freeing memory");
  }
  std::optional<int64_t> FreeDeviceBytes() const override {
    size_t free = 0;
    size_t total = 0;
    CheckCuda(cudaMemGetInfo(&free, &total), "reading how much memory is free");
    return static_cast<int64_t>(free);
  }
  std::vector<kernels::Workspace> PlanWorkspace(const StepShape& step) const override {
    const auto bytes = [](int64_t count, size_t size) {
      return count * static_cast<int64_t>(size);
    };
    const int64_t positions = step.shape.batch * step.shape.sequence;
    const int64_t logits = LogitRows(positions, step.vocabulary) * step.vocabulary;
    const bool in_place = std::is_same_v<T, float>;
    std::vector<kernels::Workspace> plan = {
        {"order of the tokens", bytes(2 * positions, sizeof(int32_t))},
        {"table of angles", bytes(step.shape.sequence * (step.shape.head_dim / 2), sizeof(float2))},
        {"attention", attention_.WorkspaceBytes(step.attention, step.shape)},
        {"cross-entropy logits", bytes(logits, sizeof(float) + (in_place ? 0 : sizeof(T)))},
        {"sums", bytes(kReductionBlocks + 1, sizeof(double))}};
    if (step.muon_elements > 0) {
      const int64_t together =
          std::max(step.muon_elements, std::min(kMuonElementsMax, step.muon_elements_all));
      plan.push_back(
          {"Newton-Schulz, at most", MuonOp<T>::WorkspaceBytesMax(step.muon_elements, together)});
    }
    return plan;
  }
  void CopyFromHost(const Tensor& to, const void* from) override {
    if (to.bytes() == 0) return;
    CheckCuda(cudaMemcpyAsync(to.data, from, static_cast<size_t>(to.bytes()),
                              cudaMemcpyHostToDevice, stream()),
              "copy to the device");
    Wait();
  }
  void CopyToHost(void* to, const Tensor& from) override {
    if (from.bytes() == 0) return;
    CheckCuda(cudaMemcpyAsync(to, from.data, static_cast<size_t>(from.bytes()),
                              cudaMemcpyDeviceToHost, stream()),
              "copy from the device");
    Wait();
  }
  void Replay(const WorkKey& key, const std::function<void()>& work) override {
    graphs_.Run(key, work);
  }
  void Zero(const Tensor& x) override {
    CheckCuda(cudaMemsetAsync(x.data, 0, static_cast<size_t>(x.bytes()), stream()), "zeroing");
  }
  void Copy(const Tensor& from, const Tensor& to) override {
    SINKFORGE_CHECK(from.elements() == to.elements());
    if (from.dtype == to.dtype) {
      CheckCuda(cudaMemcpyAsync(to.data, from.data, static_cast<size_t>(to.bytes()),
                                cudaMemcpyDeviceToDevice, stream()),
                "copy on the device");
      return;
    }
    SINKFORGE_CHECK(from.dtype == DType::kF32 && to.dtype == DType::kBF16);
    LaunchRound(from.as<float>(), from.elements(), to.as<Bf16>(), stream());
  }

  void Embedding(const Tensor& tokens, const Tensor& table, const Tensor& out) override {
    CheckEmbedding(tokens, table, out);
    LaunchEmbedding(tokens.as<int32_t>(), tokens.elements(), Wide(table),
                    static_cast<int>(MatrixOf(table).cols), Wide(out), stream());
  }
  void EmbeddingBackward(const Tensor& tokens, const Tensor& d_out,
                         const Tensor& d_table) override {
    CheckEmbedding(tokens, d_table, d_out);
    const int64_t n = tokens.elements();
    const MatrixShape table = MatrixOf(d_table);
    LaunchEmbeddingBackward(tokens.as<int32_t>(), n, static_cast<int>(table.rows), Wide(d_out),
                            static_cast<int>(table.cols), Float(d_table),
                            token_order_.Reserve<int32_t>(n, &stream_),
                            token_scratch_.Reserve<int32_t>(n, &stream_), stream());
  }

  void RmsNorm(const Tensor& x, double epsilon, const Tensor& y, const Tensor& rstd) override {
    CheckRmsNorm(x, y, rstd);
    const MatrixShape shape = MatrixOf(x);
    LaunchRmsNorm(Wide(x), shape.rows, static_cast<int>(shape.cols), static_cast<float>(epsilon),
                  Wide(y), Float(rstd), stream());
  }
  void RmsNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd, const Tensor& d_x,
                       WriteMode mode) override {
    CheckRmsNorm(d_y, y, rstd);
    CheckSameElements(d_x, d_y);
    const MatrixShape shape = MatrixOf(d_y);
    LaunchRmsNormBackward(Wide(d_y), Wide(y), Float(rstd), shape.rows, static_cast<int>(shape.cols),
                          mode, Wide(d_x), stream());
  }

  void Linear(const Tensor& x, const Tensor& w, const Tensor& y, WriteMode mode) override {
    const LinearShape shape = CheckLinear(x, w, y);
    ProductArgs product = Product(x, w, y, mode);
    product.m = shape.rows;
    product.n = shape.outputs;
    product.k = shape.inputs;
    product.b_form = Operand::kTransposed;
    products_.Multiply(product);
  }
  void LinearBackwardInput(const Tensor& d_y, const Tensor& w, const Tensor& d_x,
                           WriteMode mode) override {
    const LinearShape shape = CheckLinear(d_x, w, d_y);
    ProductArgs product = Product(d_y, w, d_x, mode);
    product.m = shape.rows;
    product.n = shape.inputs;
    product.k = shape.outputs;
    products_.Multiply(product);
  }
  void LinearBackwardWeight(const Tensor& d_y, const Tensor& x, const Tensor& d_w) override {
    const LinearShape shape = CheckLinear(x, d_w, d_y);
    ProductArgs product = Product(d_y, x, d_w, WriteMode::kAccumulate);
    product.m = shape.outputs;
    product.n = shape.inputs;
    product.k = shape.rows;
    product.a_form = Operand::kTransposed;
    products_.Multiply(product);
  }

  void RopeNorm(const Tensor& x, int64_t sequence, int64_t heads, double rope_base, double epsilon,
                const Tensor& rstd) override {
    CheckRopeNorm(x, rstd, sequence, heads);
    const RopeShape shape = RopeShapeOf(x, sequence, heads);
    LaunchRopeNorm(Wide(x), shape, Angles(shape, rope_base), static_cast<float>(epsilon),
                   Float(rstd), stream());
  }
  void RopeNormBackward(const Tensor& d_y, const Tensor& y, const Tensor& rstd, int64_t sequence,
                        int64_t heads, double rope_base) override {
    CheckRopeNorm(y, rstd, sequence, heads);
    CheckSameElements(d_y, y);
    const RopeShape shape = RopeShapeOf(y, sequence, heads);
    LaunchRopeNormBackward(Wide(d_y), Wide(y), shape, Angles(shape, rope_base), Float(rstd),
                           stream());
  }

  void AttentionForward(const AttentionConfig& config, const AttentionShape& shape,
                        const AttentionForwardArgs& args) override {
    CheckAttentionForward(config, shape, args, kActivation);
    attention_.Forward(config, shape, args);
  }
  void AttentionBackward(const AttentionConfig& config, const AttentionShape& shape,
                         const AttentionBackwardArgs& args) override {
    CheckAttentionBackward(config, shape, args, kActivation);
    attention_.Backward(config, shape, args);
  }
  void GateArgmaxCounts(const Tensor& gate, const Tensor& counts) override {
    CheckGateArgmaxCounts(gate, counts);
    LaunchGateArgmaxCounts(Float(gate), static_cast<int>(gate.dim(0)),
                           static_cast<int>(gate.dim(1)), static_cast<int>(gate.dim(2)),
                           counts.as<double>(), stream());
  }

  void ReluSquared(const Tensor& x, const Tensor& y) override {
    CheckSameElements(x, y);
    LaunchReluSquared(Wide(x), x.elements(), Wide(y), stream());
  }
  void ReluSquaredBackward(const Tensor& d_y, const Tensor& y, const Tensor& d_x) override {
    CheckSameElements(d_y, y);
    CheckSameElements(d_x, y);
    LaunchReluSquaredBackward(Wide(d_y), Wide(y), y.elements(), Wide(d_x), stream());
  }

  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& act) override {
    CheckSwiGlu(gate, up, act);
    LaunchSwiGlu<T>(Wide(gate), Wide(up), act.elements(), Wide(act), stream());
  }
  void SwiGluBackward(const SwiGluBackwardArgs& args) override {
    CheckSwiGluBackward(args);
    LaunchSwiGluBackward<T>({Wide(args.d_act), Wide(args.gate), Wide(args.up), Wide(args.d_gate),
                             Wide(args.d_up), Wide(args.act), args.act.elements()},
                            stream());
  }

  void CrossEntropy(const CrossEntropyArgs& args) override {
    CheckCrossEntropy(args);
    const int64_t rows = MatrixOf(args.x).rows;
    const int64_t vocabulary = MatrixOf(args.w).rows;
    const int64_t block = LogitRows(rows, vocabulary);
    float* logits = logits_.Reserve<float>(block * vocabulary, &stream_);
    T* d_logits = nullptr;
    if (!args.d_x.empty()) {
      // The gradient of float32 logits takes their place.
      if constexpr (std::is_same_v<T, float>) {
        d_logits = logits;
      } else {
        d_logits = d_logits_.Reserve<T>(block * vocabulary, &stream_);
      }
    }
    for (int64_t first = 0; first < rows; first += block) {
      CrossEntropyBlock(args, first, std::min(block, rows - first), logits, d_logits);
    }
  }

  double SumOfSquares(const Tensor& x) override { return Reduce(Reduction::kSumOfSquares, x); }
  double Sum(const Tensor& x) override { return Reduce(Reduction::kSum, x); }

  void AdamW(const AdamWArgs& args) override { AdamWAll({&args, 1}); }
  void AdamWAll(std::span<const AdamWArgs> all) override {
    std::vector<AdamWTensor> tensors;
    tensors.reserve(all.size());
    for (const AdamWArgs& args : all) {
      CheckAdamW(args);
      tensors.push_back({Float(args.parameter), Float(args.gradient), Float(args.m), Float(args.v),
                         args.parameter.elements(), MakeAdamWScalars(args)});
    }
    LaunchAdamW(tensors.data(), static_cast<int>(tensors.size()), stream());
  }

  void Muon(const MuonArgs& args) override { MuonAll({&args, 1}); }
  void MuonAll(std::span<const MuonArgs> all) override {
    // Matrices of one shape go together, as many as the workspace's limit allows.
    std::map<std::pair<int64_t, int64_t>, std::vector<MuonArgs>> by_shape;
    for (const MuonArgs& args : all) {
      CheckMuon(args);
      by_shape[{args.parameter.dim(0), args.parameter.dim(1)}].push_back(args);
    }
    for (const auto& [shape, group] : by_shape) {
      const int64_t together =
          std::max<int64_t>(1, kMuonElementsMax / (shape.first * shape.second));
      const std::span<const MuonArgs> matrices = group;
      for (size_t first = 0; first < group.size(); first += static_cast<size_t>(together)) {
        const size_t count = std::min(static_cast<size_t>(together), group.size() - first);
        muon_.Update(matrices.subspan(first, count));
      }
    }
  }

 private:
  static constexpr DType kActivation = std::is_same_v<T, float> ? DType::kF32 : DType::kBF16;
  // Two workspaces of this many elements hold the matrices of a batch.
  static constexpr int64_t kMuonElementsMax = int64_t{64} << 20;

  // Whose logits are held at once.
  int64_t LogitRows(int64_t rows, int64_t vocabulary) const {
    return std::min(rows, std::max<int64_t>(1, logits_max_ / vocabulary));
  }

  cudaStream_t stream() const { return stream_.get(); }
  void Wait() {
    SINKFORGE_CHECK(!graphs_.running());  // what Replay was given waits for the device
    stream_.Wait();
  }

  static T* Wide(const Tensor& x) {
    SINKFORGE_CHECK(!x.empty() && x.dtype == kActivation);
    return x.as<T>();
  }
  static float* Float(const Tensor& x) {
    SINKFORGE_CHECK(!x.empty() && x.dtype == DType::kF32);
    return x.as<float>();
  }

  static ProductArgs Product(const Tensor& a, const Tensor& b, const Tensor& c, WriteMode mode) {
    ProductArgs product;
    product.a = Wide(a);
    product.b = Wide(b);
    product.c = c.data;
    product.input = kActivation;
    product.output = c.dtype;
    SINKFORGE_CHECK(c.dtype == kActivation || c.dtype == DType::kF32);
    product.beta = mode == WriteMode::kAssign ? 0.0F : 1.0F;
    return product;
  }

  static RopeShape RopeShapeOf(const Tensor& x, int64_t sequence, int64_t heads) {
    const MatrixShape shape = MatrixOf(x);
    return {shape.rows, static_cast<int>(sequence), static_cast<int>(heads),
            static_cast<int>(shape.cols / heads)};
  }
  const float2* Angles(const RopeShape& shape, double base) {
    return rope_tables_.Find(shape.sequence, shape.head_dim, base, &stream_);
  }

  void CrossEntropyBlock(const CrossEntropyArgs& args, int64_t first, int64_t rows, float* logits,
                         T* d_logits) {
    const int64_t width = MatrixOf(args.x).cols;
    const int64_t vocabulary = MatrixOf(args.w).rows;
    ProductArgs product;
    product.m = rows;
    product.n = vocabulary;
    product.k = width;
    product.a = Wide(args.x) + first * width;
    product.b = Wide(args.w);
    product.b_form = Operand::kTransposed;
    product.c = logits;
    product.input = kActivation;
    products_.Multiply(product);

    CrossEntropyKernelArgs<T> kernel;
    kernel.logits = logits;
    kernel.targets = args.targets.as<int32_t>() + first;
    kernel.rows = rows;
    kernel.vocabulary = static_cast<int>(vocabulary);
    kernel.softcap = static_cast<float>(args.softcap);
    kernel.loss_scale = static_cast<float>(args.loss_scale);
    kernel.losses = Float(args.losses) + first;
    kernel.d_logits = d_logits;
    LaunchCrossEntropy(kernel, stream());
    if (d_logits == nullptr) return;

    product.n = width;
    product.k = vocabulary;
    product.a = d_logits;
    product.b_form = Operand::kPlain;
    product.c = Wide(args.d_x) + first * width;
    product.output = kActivation;
    products_.Multiply(product);
    product.m = vocabulary;
    product.n = width;
    product.k = rows;
    product.a_form = Operand::kTransposed;
    product.b = Wide(args.x) + first * width;
    product.c = Float(args.d_w);
    product.output = DType::kF32;
    product.beta = 1.0F;
    products_.Multiply(product);
  }

  double Reduce(Reduction reduction, const Tensor& x) {
    double* sums = reduction_.Reserve<double>(kReductionBlocks + 1, &stream_);
    double* total = sums + kReductionBlocks;
    if (x.dtype == DType::kF32) {
      LaunchReduction(reduction, x.as<float>(), x.elements(), sums, total, stream());
    } else {
      LaunchReduction(reduction, Wide(x), x.elements(), sums, total, stream());
    }
    double value = 0;
    CheckCuda(cudaMemcpyAsync(&value, total, sizeof(value), cudaMemcpyDeviceToHost, stream()),
              "a sum");
    Wait();
    return value;
  }

  const int64_t logits_max_;
  Stream stream_;
  Graphs graphs_;
  MatrixProducts products_;
  AttentionOp<T> attention_;
  MuonOp<T> muon_;
  RopeTables rope_tables_;
  Workspace token_order_, token_scratch_;
  Workspace logits_, d_logits_;
  Workspace reduction_;
};

Status NoDevice(const std::string& why) {
  return Status(StatusCode::kFailedPrecondition,
                "resources.device cuda: " + why +
                    "; run the job on a machine with an NVIDIA GPU of compute capability 8.0 or "
                    "more and a driver for it, or use device: cpu");
}

}  // namespace
}  // namespace cuda

bool HasHopperKernels(int device) {
  int major = 0;
  int minor = 0;
  // Code for 9.0a runs on exactly that capability.
  return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
         major == 9 && minor == 0;
}

Result<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& asked) {
  CudaBackendOptions options = asked;
  const Result<CudaDevice> device = UseCudaDevice(options.device);
  if (!device.ok()) return cuda::NoDevice(device.status().message());
  const bool has_hopper = HasHopperKernels(options.device);
  if (options.attention == CudaAttention::kHopper && !has_hopper) {
    return cuda::NoDevice("device " + std::to_string(options.device) +
                          " is not of compute capability 9.0, whose attention kernels were asked "
                          "for");
  }
  if (options.attention == CudaAttention::kDefault) {
    options.attention =
        kHopperByDefault && has_hopper ? CudaAttention::kHopper : CudaAttention::kTensorCores;
  }
  if (!options.warn) {
    options.warn = [](const std::string& message) {
      std::fprintf(stderr, "warning: %s\n", message.c_str());
    };
  }
  if (options.precision == CudaPrecision::kFloat32) {
    return std::unique_ptr<Backend>(std::make_unique<cuda::CudaBackend<float>>(options));
  }
  return std::unique_ptr<Backend>(std::make_unique<cuda::CudaBackend<cuda::Bf16>>(options));
}

}  // namespace sinkforge::kernels
