// Calls and threads of the link; what is queued is ReportQueue's, checkpoints are in
// worker_checkpoint.cc.
#include "worker/trainer/worker_link.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/rpc.h"

namespace sinkforge::trainer {
namespace {

// Resident set of this process; 0 where the system does not say.
int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total_pages = 0;
  int64_t resident_pages = 0;
  file >> total_pages >> resident_pages;
  return file ? resident_pages * sysconf(_SC_PAGESIZE) : 0;
}

// Six digits are enough for a line that people read, too; the history has them all.
double Rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return std::strtod(text, nullptr);
}

void LogProgress(const StepReport& report, int64_t steps) {
  base::LogFields fields = {{"step", report.step},
                            {"steps", steps},
                            {"loss", Rounded(report.loss)},
                            {"aux_loss", Rounded(report.aux_loss)},
                            {"imbalance", Rounded(report.imbalance)}};
  if (!report.importance.empty()) {
    const auto [least, most] =
        std::minmax_element(report.importance.begin(), report.importance.end());
    fields.push_back({"importance_min", Rounded(*least)});
    fields.push_back({"importance_max", Rounded(*most)});
  }
  fields.push_back({"tokens_per_second", Rounded(report.tokens_per_second)});
  const double left = static_cast<double>(steps - report.step) * report.step_seconds;
  fields.push_back({"eta_seconds", Rounded(left)});
  if (report.validation_loss) {
    fields.push_back({"validation_loss", Rounded(*report.validation_loss)});
  }
  if (report.validation_bits_per_byte) {
    fields.push_back({"validation_bits_per_byte", Rounded(*report.validation_bits_per_byte)});
  }
  base::Log(base::Severity::kInfo, "progress", fields, {});
}

}  // namespace

v1::StepRecord ToRecord(const StepReport& report, int64_t attempt) {
  v1::StepRecord record;
  record.set_step(report.step);
  record.set_attempt(attempt);
  record.set_loss(report.loss);
  record.set_aux_loss(report.aux_loss);
  record.set_imbalance(report.imbalance);
  for (double cv : report.layer_cv) record.add_layer_cv(cv);
  for (double importance : report.importance) {
    record.add_importance(static_cast<float>(importance));
  }
  record.set_heads(static_cast<int32_t>(report.heads));
  record.set_learning_rate_scale(report.learning_rate_scale);
  record.set_gradient_norm(report.gradient_norm);
  record.set_step_seconds(report.step_seconds);
  record.set_tokens_per_second(report.tokens_per_second);
  record.set_tokens_total(report.tokens_total);
  if (report.validation_loss) record.set_validation_loss(*report.validation_loss);
  if (report.validation_bits_per_byte) {
    record.set_validation_bits_per_byte(*report.validation_bits_per_byte);
  }
  *record.mutable_time() = base::ToProto(base::RealClock().Read().wall);
  record.set_memory_bytes(ResidentBytes());
  record.set_checkpoint_stall_seconds(report.checkpoint_stall_seconds);
  record.set_data_seconds(report.data_seconds);
  return record;
}

WorkerLink::WorkerLink(LinkOptions options)
    : options_(std::move(options)),
      stub_(v1::TrainerService::NewStub(options_.channel)),
      queue_(options_.token) {
  queue_.SetPhase(v1::RANK_PHASE_LOADING);
  writer_ = std::make_unique<BackgroundWriter>(
      [this](const Snapshot& snapshot) { return UploadWithRetries(snapshot); });
}

WorkerLink::~WorkerLink() {
  queue_.Close();
  writer_.reset();
  if (reporter_.joinable()) reporter_.join();
}

std::unique_ptr<grpc::ClientContext> WorkerLink::Context() const {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + options_.call_timeout);
  return context;
}

bool WorkerLink::WaitToRetry(std::chrono::milliseconds* waited) {
  constexpr std::chrono::milliseconds kStepMax(2000);
  const std::chrono::milliseconds wait =
      std::min(std::max(*waited / 2, std::chrono::milliseconds(50)), kStepMax);
  *waited += wait;
  if (*waited > options_.patience) return false;
  // Returns early when the attempt is over.
  queue_.WaitForEnd(wait);
  return !queue_.closed();
}

absl::StatusOr<v1::Assignment> WorkerLink::Connect() {
  v1::GetAssignmentRequest request;
  request.set_token(options_.token);
  grpc::Status status;
  std::chrono::milliseconds waited(0);
  do {
    status = stub_->GetAssignment(Context().get(), request, &assignment_);
  } while (status.error_code() == grpc::StatusCode::UNAVAILABLE && WaitToRetry(&waited));
  if (status.error_code() == grpc::StatusCode::FAILED_PRECONDITION) queue_.Close();
  if (!status.ok()) return base::FromGrpc(status);
  wanted_ = assignment_.rank().run();
  reporter_ = std::thread([this] { ReportUntilClosed(); });
  return assignment_;
}

void WorkerLink::ReportUntilClosed() {
  constexpr std::chrono::milliseconds kSilenceMax(200);  // trainer_service.proto
  while (std::optional<v1::TrainerReport> report = queue_.Next(kSilenceMax)) SendReport(*report);
}

void WorkerLink::SendReport(const v1::TrainerReport& report) {
  constexpr std::chrono::milliseconds kRetry(100);
  while (!queue_.closed()) {
    v1::TrainerCommand command;
    const grpc::Status status = stub_->Report(Context().get(), report, &command);
    if (status.ok()) {
      if (command.run() != v1::RUN_REQUEST_UNSPECIFIED) wanted_ = command.run();
      queue_.Acknowledge(report);
      return;
    }
    if (status.error_code() == grpc::StatusCode::FAILED_PRECONDITION) {
      queue_.Close();
      return;
    }
    const bool answered = status.error_code() != grpc::StatusCode::UNAVAILABLE &&
                          status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED;
    if (answered) ++refusals_;
    // Whatever else it is, the records must reach the worker: the same report again.
    queue_.WaitForEnd(kRetry);
  }
}

kernels::Status WorkerLink::Begin(const RunContext& context, int64_t restored_step) {
  context_ = context;
  restored_step_ = restored_step;
  if (assignment_.rank().rank() == 0) {
    v1::AttemptStart start;
    start.set_attempt(assignment_.rank().attempt());
    start.set_restored_step(restored_step);
    start.set_micro_batch(static_cast<int32_t>(context.environment.micro_batch));
    queue_.SetStart(start);
  }
  queue_.SetStep(restored_step);
  queue_.SetPhase(v1::RANK_PHASE_TRAINING);
  return kernels::Status();
}

int64_t WorkerLink::durable_step() const {
  return std::max(restored_step_, writer_->durable_step());
}

void WorkerLink::OnStep(const StepReport& report) {
  queue_.SetStep(report.step);
  if (assignment_.rank().rank() != 0) return;
  queue_.AddRecord(ToRecord(report, assignment_.rank().attempt()));
  // The log needs no line for every step: the history has them all.
  const int64_t steps = assignment_.rank().spec().train().steps();
  const int64_t every = std::max<int64_t>(1, steps / 100);
  if (report.step == 1 || report.step == steps || report.step % every == 0 ||
      report.validation_loss) {
    LogProgress(report, steps);
  }
}

HostCommand WorkerLink::Poll() {
  if (queue_.closed()) return HostCommand::kAbandon;
  if (wanted_ != v1::RUN_REQUEST_CHECKPOINT_AND_STOP) return HostCommand::kTrain;
  if (!stopping_) {
    stopping_ = true;
    queue_.SetPhase(v1::RANK_PHASE_CHECKPOINTING_TO_STOP);
  }
  return HostCommand::kCheckpointAndStop;
}

kernels::Status WorkerLink::WriteCheckpoint(Snapshot snapshot) {
  return writer_->Submit(std::move(snapshot));
}

kernels::Status WorkerLink::FinishCheckpoints() { return writer_->Finish(); }

void WorkerLink::Note(const std::string& message) { base::LogInfo(message); }

void WorkerLink::Warn(const std::string& message) {
  base::LogWarning(message);
  queue_.AddWarning(message);
}

kernels::Status WorkerLink::Put(const std::string& key, const std::string& value) {
  v1::TrainerPutRendezvousRequest request;
  request.set_token(options_.token);
  request.set_key(key);
  request.set_value(value);
  v1::PutRendezvousResponse response;
  const grpc::Status status = stub_->PutRendezvous(Context().get(), request, &response);
  if (status.ok()) return kernels::Status();
  if (status.error_code() == grpc::StatusCode::FAILED_PRECONDITION) queue_.Close();
  return {kernels::StatusCode::kUnavailable,
          "rendezvous of " + key + ": " + status.error_message()};
}

kernels::Result<std::string> WorkerLink::Get(const std::string& key,
                                             std::chrono::milliseconds timeout) {
  v1::TrainerGetRendezvousRequest request;
  request.set_token(options_.token);
  request.set_key(key);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  v1::GetRendezvousResponse response;
  const grpc::Status status = stub_->GetRendezvous(&context, request, &response);
  if (status.ok()) return std::move(*response.mutable_value());
  if (status.error_code() == grpc::StatusCode::FAILED_PRECONDITION) queue_.Close();
  return kernels::Status(kernels::StatusCode::kUnavailable,
                         "rendezvous of " + key + ": " + status.error_message());
}

bool WorkerLink::End(const RunEnd& end) {
  queue_.SetEnd(end.outcome, end.reason, end.message);
  int64_t refusals = refusals_;
  while (!queue_.WaitForEnd(options_.patience)) {
    if (refusals_ == refusals) return false;
    refusals = refusals_;
  }
  return true;
}

}  // namespace sinkforge::trainer
