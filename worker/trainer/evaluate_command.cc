// Everything that can be wrong is found before the model computes anything.
#include "worker/trainer/evaluate_command.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "kernels/cpu/cpu_backend.h"
#include "worker/trainer/choice_task.h"
#include "worker/trainer/evaluation_progress.h"
#include "worker/trainer/evaluation_report.h"
#include "worker/trainer/evaluation_text.h"
#include "worker/trainer/exported_model.h"
#include "worker/trainer/make_backend.h"
#include "worker/trainer/model_tokenizer.h"
#include "worker/trainer/task_evaluation.h"

namespace sinkforge::trainer {
namespace {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

// Enough for the products to run at full speed; more only takes memory.
constexpr int64_t kBatchPositions = 2048;

ExitCode Fail(const Status& status) {
  std::fprintf(stderr, "error: %s\n", status.message().c_str());
  return ExitCodeOfModelCommand(status.code());
}

class EvaluateRun {
 public:
  explicit EvaluateRun(const EvaluateCommand& command) : command_(command) {}

  Status Run() {
    if (Status status = Open(); !status.ok()) return status;
    if (Status status = OpenTexts(); !status.ok()) return status;
    if (Status status = OpenTasks(); !status.ok()) return status;
    if (Status status = LoadModel(); !status.ok()) return status;
    ModelEvaluator evaluator({report_.context, plan_.rows_max * plan_.sequence}, network_.get());
    for (size_t i = 0; i < texts_.size(); ++i) {
      EvaluationProgress progress(command_.texts[i]);
      auto result = evaluator.EvaluateText(*texts_[i], Shown(&progress));
      if (!result.ok()) return About(command_.texts[i], result.status());
      report_.texts.push_back({command_.texts[i], std::move(result).value()});
    }
    for (const EncodedTask& task : tasks_) {
      EvaluationProgress progress(task.name);
      auto result = EvaluateTask(task, &evaluator, Shown(&progress));
      if (!result.ok()) return About(task.name, result.status());
      report_.tasks.push_back(std::move(result).value());
    }
    const std::string text =
        command_.format == EvaluateFormat::kJson ? ToJson(report_) : ToTable(report_);
    std::fputs(text.c_str(), stdout);
    return Status();
  }

 private:
  static OnEvaluated Shown(EvaluationProgress* progress) {
    return [progress](int64_t done, int64_t total) { progress->Show(done, total); };
  }
  static Status About(const std::string& name, const Status& status) {
    return Status(status.code(), name + ": " + status.message());
  }

  Status Open() {
    if (command_.texts.empty() && command_.tasks.empty()) {
      return Status(StatusCode::kInvalidArgument,
                    "there is nothing to evaluate on; give --text or --task");
    }
    auto model = OpenExportedModel(command_.model);
    if (!model.ok()) return model.status();
    model_ = std::move(model).value();
    const int64_t trained = model_.spec.data().sequence_length();
    report_.context = command_.context.value_or(trained);
    if (report_.context > trained) {
      return Status(StatusCode::kInvalidArgument,
                    "--context " + std::to_string(report_.context) +
                        ": the model was trained on rows of " + std::to_string(trained) +
                        " tokens and knows no position beyond them; give at most that many");
    }
    auto tokenizer = LoadModelTokenizer(model_, command_.tokenizer);
    if (!tokenizer.ok()) return tokenizer.status();
    tokenizer_ = std::move(tokenizer).value();
    report_.model = &model_;
    report_.tokenizer = tokenizer_.name;
    report_.threads = command_.threads;
    return Status();
  }

  Status OpenTexts() {
    const TextReader reader{&model_, &tokenizer_, static_cast<int>(command_.threads)};
    for (const std::string& path : command_.texts) {
      auto text = OpenEvaluationText(path, reader);
      if (!text.ok()) return text.status();
      texts_.push_back(std::move(text).value());
    }
    return Status();
  }

  Status OpenTasks() {
    const ChoiceEncoding encoding{tokenizer_.tokenizer.get(), tokenizer_.bos, command_.delimiter,
                                  report_.context};
    for (const std::string& path : command_.tasks) {
      const auto items = ReadChoiceTask(path, command_.items_max);
      if (!items.ok()) return items.status();
      auto task = EncodeTask(path, items.value(), encoding);
      if (!task.ok()) return task.status();
      tasks_.push_back(std::move(task).value());
    }
    return Status();
  }

  // In the precision of the training, where this processor has it: so the figures agree.
  Status LoadModel() {
    kernels::CpuBackendOptions options;
    options.threads = static_cast<int>(command_.threads);
    options.products =
        ProductsOnCpu(model_.spec.train().precision(), kernels::ProcessorMultipliesBfloat16());
    report_.precision = options.products == kernels::ProductPrecision::kBfloat16 ? "bf16" : "fp32";
    backend_ = kernels::MakeCpuBackend(options);
    plan_.sequence = report_.context;
    plan_.rows_max = std::max<int64_t>(1, kBatchPositions / report_.context);
    // Without a backward there is nothing to keep: one set of a layer's activations is enough.
    plan_.recompute = Recompute::kBlock;
    plan_.gradients = Gradients::kNone;
    auto network = Model::Create(model_.config, plan_, backend_.get());
    if (!network.ok()) return network.status();
    network_ = std::move(network).value();
    return LoadWeights(model_, backend_.get(), &network_->parameters());
  }

  const EvaluateCommand& command_;
  ExportedModel model_;
  ModelTokenizer tokenizer_;
  std::vector<std::unique_ptr<TokenStream>> texts_;
  std::vector<EncodedTask> tasks_;
  std::unique_ptr<kernels::Backend> backend_;  // outlives the model on it
  ModelPlan plan_;
  std::unique_ptr<Model> network_;
  EvaluationReport report_;
};

}  // namespace

ExitCode RunEvaluateCommand(const EvaluateCommand& command) {
  const Status status = EvaluateRun(command).Run();
  return status.ok() ? ExitCode::kCompleted : Fail(status);
}

}  // namespace sinkforge::trainer
