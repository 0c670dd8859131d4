// Trains a model on one GPU with nothing but the trainer's core: for measurements and checks on a
// machine that has no gRPC, RocksDB or protobuf. Curves go to a CSV file; checkpoints are a plain
// dump of the snapshot, for this program alone. With `meet=FOLDER rank=R ranks=N` it is one of N
// ranks that meet through NCCL, each with a curve of its own. Prints the parameters and the device
// memory taken.
#include <cuda_runtime.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "kernels/cuda/cuda_backend.h"
#include "tests/gpu/arguments.h"
#include "tests/gpu/folder_store.h"
#include "tests/gpu/training_config.h"
#include "worker/trainer/core/solo_collective.h"
#include "worker/trainer/core/stopwatch.h"
#include "worker/trainer/core/trainer.h"
#include "worker/trainer/nccl_collective.h"

namespace sinkforge::gpu {
namespace {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;
using trainer::Collective;
using trainer::Snapshot;
using trainer::SnapshotTensor;
using trainer::TrainingConfig;

class SnapshotFile {
 public:
  SnapshotFile(const std::string& path, const char* mode) : file_(std::fopen(path.c_str(), mode)) {}
  ~SnapshotFile() {
    if (file_ != nullptr) std::fclose(file_);
  }
  SnapshotFile(const SnapshotFile&) = delete;
  SnapshotFile& operator=(const SnapshotFile&) = delete;

  bool open() const { return file_ != nullptr; }
  bool good() const { return good_; }
  void Put(const void* bytes, size_t size) {
    good_ = good_ && std::fwrite(bytes, 1, size, file_) == size;
  }
  void Get(void* bytes, size_t size) { good_ = good_ && std::fread(bytes, 1, size, file_) == size; }
  template <typename T>
  void PutValue(const T& value) {
    Put(&value, sizeof(value));
  }
  template <typename T>
  T GetValue() {
    T value{};
    Get(&value, sizeof(value));
    return value;
  }
  void PutText(const std::string& text) {
    PutValue(text.size());
    Put(text.data(), text.size());
  }
  std::string GetText() {
    std::string text(GetValue<size_t>(), '\0');
    Get(text.data(), text.size());
    return text;
  }

 private:
  std::FILE* file_;
  bool good_ = true;
};

Status Save(const Snapshot& snapshot, const std::string& path) {
  const std::string partial = path + ".partial";
  {
    SnapshotFile file(partial, "wb");
    if (!file.open()) return Status(StatusCode::kUnavailable, partial + ": cannot be written");
    file.PutValue(snapshot.state);
    file.PutValue(snapshot.tensors.size());
    for (const SnapshotTensor& tensor : snapshot.tensors) {
      file.PutText(tensor.name);
      file.PutText(tensor.dtype);
      file.PutValue(tensor.shape.size());
      file.Put(tensor.shape.data(), tensor.shape.size() * sizeof(int64_t));
      file.PutValue(tensor.bytes.size());
      file.Put(tensor.bytes.data(), tensor.bytes.size());
    }
    if (!file.good()) return Status(StatusCode::kUnavailable, partial + ": cannot be written");
  }
  if (std::rename(partial.c_str(), path.c_str()) == 0) return Status();
  return Status(StatusCode::kUnavailable, path + ": cannot be written");
}

Status Load(const std::string& path, Snapshot* snapshot) {
  SnapshotFile file(path, "rb");
  if (!file.open()) return Status(StatusCode::kNotFound, path + ": cannot be read");
  snapshot->state = file.GetValue<trainer::TrainerState>();
  const auto tensors = file.GetValue<size_t>();
  for (size_t i = 0; i < tensors && file.good(); ++i) {
    SnapshotTensor tensor;
    tensor.name = file.GetText();
    tensor.dtype = file.GetText();
    tensor.shape.resize(file.GetValue<size_t>());
    file.Get(tensor.shape.data(), tensor.shape.size() * sizeof(int64_t));
    tensor.bytes.resize(file.GetValue<size_t>());
    file.Get(tensor.bytes.data(), tensor.bytes.size());
    tensor.length = 1;
    for (const int64_t dim : tensor.shape) tensor.length *= dim;
    snapshot->tensors.push_back(std::move(tensor));
  }
  return file.good() ? Status() : Status(StatusCode::kDataLoss, path + ": is cut short");
}

struct HostOptions {
  std::string curve;       // CSV file
  std::string checkpoint;  // file, or empty
  double seconds = 0;      // 0: no limit
  int64_t kill_after = 0;  // step after which the process kills itself; 0: never
};

class CurveHost final : public trainer::TrainingHost {
 public:
  explicit CurveHost(const HostOptions& options) : options_(options) {
    curve_ = std::fopen(options.curve.c_str(), "w");
    if (curve_ == nullptr) {
      std::fprintf(stderr, "%s: cannot be written\n", options.curve.c_str());
      std::exit(1);
    }
    std::fprintf(curve_, "step,loss,aux_loss,imbalance,smallest,largest,gradient_norm,seconds\n");
  }
  ~CurveHost() override { std::fclose(curve_); }
  CurveHost(const CurveHost&) = delete;
  CurveHost& operator=(const CurveHost&) = delete;

  void OnStep(const trainer::StepReport& report) override {
    double smallest = 1;
    double largest = 0;
    for (const double importance : report.importance) {
      smallest = std::min(smallest, importance);
      largest = std::max(largest, importance);
    }
    std::fprintf(curve_, "%lld,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%.6f\n",
                 static_cast<long long>(report.step), report.loss, report.aux_loss,
                 report.imbalance, smallest, largest, report.gradient_norm, report.step_seconds);
    std::fflush(curve_);
    if (report.validation_loss) {
      std::printf("step %lld: validation loss %.6f\n", static_cast<long long>(report.step),
                  *report.validation_loss);
    }
    if (report.step == options_.kill_after) raise(SIGKILL);
  }
  trainer::HostCommand Poll() override {
    const bool late = options_.seconds > 0 && stopwatch_.Seconds() > options_.seconds;
    return late ? trainer::HostCommand::kCheckpointAndStop : trainer::HostCommand::kTrain;
  }
  Status WriteCheckpoint(Snapshot snapshot) override {
    return options_.checkpoint.empty() ? Status() : Save(snapshot, options_.checkpoint);
  }
  Status FinishCheckpoints() override { return {}; }
  void Warn(const std::string& message) override {
    std::fprintf(stderr, "warning: %s\n", message.c_str());
  }

 private:
  HostOptions options_;
  trainer::Stopwatch stopwatch_;
  std::FILE* curve_ = nullptr;
};

TrainingConfig ConfigOf(const Arguments& arguments) {
  TrainingConfig config = TrainingConfigOf(arguments);
  config.seed = static_cast<uint64_t>(arguments.Integer("seed"));
  config.checkpoint_every_steps = arguments.Integer("checkpoint_every");
  config.evaluation_tokens = int64_t{1} << 17;
  return config;
}

// One rank needs nobody, but meets itself through NCCL where there is a folder for it.
Result<std::unique_ptr<Collective>> Meet(const Arguments& arguments) {
  if (arguments.Text("meet").empty()) {
    return std::unique_ptr<Collective>(std::make_unique<trainer::SoloCollective>());
  }
  trainer::CollectiveOptions options;
  options.rank = static_cast<int>(arguments.Integer("rank"));
  options.world_size = static_cast<int>(arguments.Integer("ranks"));
  options.memory = trainer::CollectiveOptions::Memory::kDevice;
  options.meeting_timeout = std::chrono::seconds(60);
  options.operation_timeout = std::chrono::seconds(30);
  FolderStore store(arguments.Text("meet"));
  return trainer::MakeNcclCollective(options, &store);
}

int Fail(const Status& status) {
  std::fprintf(stderr, "error: %s\n", status.message().c_str());
  return 1;
}

int64_t FreeDeviceBytes() {
  size_t free = 0;
  size_t total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return 0;
  return static_cast<int64_t>(free);
}

int Run(const Arguments& arguments) {
  // Makes the driver's own context, which is not counted.
  const int64_t free_before = FreeDeviceBytes();
  const TrainingConfig config = ConfigOf(arguments);
  kernels::CudaBackendOptions options;
  const bool mixed = arguments.Text("precision") == "mixed";
  options.precision = mixed ? kernels::CudaPrecision::kMixed : kernels::CudaPrecision::kFloat32;
  options.attention = arguments.Kernels("kernels");
  options.graphs = arguments.Graphs("graphs");
  auto backend = kernels::MakeCudaBackend(options);
  if (!backend.ok()) return Fail(backend.status());
  trainer::DatasetOptions data;
  data.vocab_size = config.model.vocab_size;
  data.sequence_length = config.sequence_length;
  auto train = trainer::Dataset::Open({{arguments.Text("text")}}, data);
  if (!train.ok()) return Fail(train.status());
  std::unique_ptr<trainer::Dataset> validation;
  if (!arguments.Text("validation").empty()) {
    auto opened = trainer::Dataset::Open({{arguments.Text("validation")}}, data);
    if (!opened.ok()) return Fail(opened.status());
    validation = std::move(opened).value();
  }
  auto collective = Meet(arguments);
  if (!collective.ok()) return Fail(collective.status());
  trainer::TrainerEnvironment environment;
  environment.backend = backend.value().get();
  environment.collective = collective.value().get();
  environment.train = train.value().get();
  environment.validation = validation.get();
  auto made = trainer::Trainer::Create(config, environment);
  if (!made.ok()) return Fail(made.status());
  if (!arguments.Text("resume").empty()) {
    Snapshot snapshot;
    Status status = Load(arguments.Text("resume"), &snapshot);
    if (status.ok()) status = made.value()->Restore(snapshot);
    if (!status.ok()) return Fail(status);
  }
  HostOptions host_options;
  host_options.curve = arguments.Text("curve");
  host_options.checkpoint = arguments.Text("checkpoint");
  host_options.seconds = arguments.Real("seconds");
  host_options.kill_after = arguments.Integer("kill_after");
  CurveHost host(host_options);
  std::printf("%lld parameters\n", static_cast<long long>(made.value()->parameter_count()));
  const auto ended = trainer::RunTraining(*made.value(), config, host, *collective.value());
  if (ended.ok()) collective.value()->Finish();
  // Nothing is given back before the end, so what is taken now is the peak.
  std::printf("peak GiB: %.2f\n", static_cast<double>(free_before - FreeDeviceBytes()) / (1 << 30));
  return ended.ok() ? 0 : Fail(ended.status());
}

}  // namespace
}  // namespace sinkforge::gpu

int main(int argc, char** argv) {
  const sinkforge::gpu::Arguments arguments(
      argc, argv, {{"attention", "gated"},  {"checkpoint", ""},     {"checkpoint_every", "0"},
                   {"coefficient", "0"},    {"curve", "curve.csv"}, {"depth", "4"},
                   {"gate_init", "0"},      {"graphs", "off"},      {"head_dim", "64"},
                   {"kernels", "auto"},     {"kill_after", "0"},    {"meet", ""},
                   {"micro_steps", "1"},    {"precision", "mixed"}, {"rank", "0"},
                   {"ranks", "1"},          {"resume", ""},         {"rows", "8"},
                   {"seconds", "0"},        {"seed", "1"},          {"sequence", "256"},
                   {"sink_init_high", "0"}, {"steps", "200"},       {"text", ""},
                   {"validation", ""},      {"vocab", "256"}});
  return sinkforge::gpu::Run(arguments);
}
