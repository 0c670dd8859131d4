// The order matters: what is cheap to check and likely to be wrong comes first.
#include "worker/trainer/training_run.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "proto/jobspec/micro_batch.h"
#include "proto/jobspec/resolve.h"
#include "proto/jobspec/validate.h"
#include "tokenizer/byte_tokenizer.h"
#include "worker/trainer/checkpoint_file.h"
#include "worker/trainer/core/micro_batch.h"
#include "worker/trainer/core/model_difference.h"
#include "worker/trainer/core/trainer.h"
#include "worker/trainer/data_files.h"
#include "worker/trainer/exported_model.h"
#include "worker/trainer/job_config.h"
#include "worker/trainer/make_collective.h"
#include "worker/trainer/same_files.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

constexpr char kVersion[] = SINKFORGE_VERSION;

// kInvalidArgument: the job's batch is not the checkpoint's any more.
Status CheckKeptMicroBatch(int64_t rows, const std::vector<int64_t>& choices) {
  if (std::binary_search(choices.begin(), choices.end(), rows)) return Status();
  return Status(StatusCode::kInvalidArgument,
                "train.batch_tokens: the checkpoint was trained with micro-batches of " +
                    jobspec::RowsText(rows) +
                    ", which train.micro_batch: auto keeps, but a step of this job cannot be "
                    "divided into them; put the old batch and row length back or start a new job");
}

// What helps where the memory that was there when the rows were chosen is not there any more.
std::string AutoMicroBatchAdvice(int64_t rows, int64_t fewest, MicroBatchRequest::Use use) {
  const std::string text = jobspec::RowsText(rows);
  if (use == MicroBatchRequest::Use::kKeep) {
    return "; train.micro_batch: auto keeps the " + text +
           " of the checkpoint: free memory on this machine or have the job run on another one, "
           "then go on with it";
  }
  return "; train.micro_batch: auto chose " + text +
         " by the memory that was free then: free some again" +
         (rows > fewest ? ", or give train.micro_batch a number below " + std::to_string(rows)
                        : "");
}

// One run; its steps stop at the first failure, which `end_` then says.
class Run {
 public:
  Run(const RunRequest& request, RunHost& host) : request_(request), host_(host) {}

  RunEnd Execute() {
    const bool ready = CheckJob() && OpenData() && Connect() && LoadCheckpoint() &&
                       CompareMachines() && ChooseMicroBatch() && MakeModel() && Restore();
    return ready ? Train() : end_;
  }

 private:
  bool Fail(RunStage stage, const Status& status) {
    end_ = FailedRun(stage, status);
    return false;
  }

  bool CheckJob() {
    spec_ = request_.spec;
    const std::vector<jobspec::Violation> violations = jobspec::ResolveAndValidate(&spec_);
    if (violations.empty()) return true;
    std::string message;
    for (const jobspec::Violation& violation : violations) {
      message += (message.empty() ? "" : "\n") + violation.field + ": " + violation.message;
    }
    return Fail(RunStage::kJob, Status(StatusCode::kInvalidArgument, message));
  }

  bool Connect() {
    auto backend = MakeBackend(request_.spec, request_.backend);
    if (!backend.ok()) return Fail(RunStage::kDevice, backend.status());
    backend_ = std::move(backend).value();
    CollectiveOptions options;
    options.rank = request_.rank;
    options.world_size = request_.world_size;
    options.host = request_.collective_host;
    if (request_.spec.resources().device() == v1::DEVICE_CUDA) {
      options.memory = CollectiveOptions::Memory::kDevice;
    }
    auto collective = MakeCollective(options, host_.rendezvous());
    if (!collective.ok()) return Fail(RunStage::kConnect, collective.status());
    collective_ = std::move(collective).value();
    return true;
  }

  Result<std::unique_ptr<Dataset>> Open(const std::vector<std::string>& patterns,
                                        const std::string& field, std::vector<ResolvedFile>* files,
                                        DataTokenizer* tokenizer) const {
    Result<std::vector<ResolvedFile>> resolved =
        ResolveDataFiles(patterns, {request_.data_roots, field, request_.root_advice});
    if (!resolved.ok()) return resolved.status();
    DatasetOptions options;
    options.vocab_size = spec_.model().vocab_size();
    options.sequence_length = spec_.data().sequence_length();
    if (Status status = ReadSidecars(resolved.value(), &options, tokenizer); !status.ok()) {
      return status;
    }
    std::vector<DataFile> data;
    for (const ResolvedFile& file : resolved.value()) data.push_back({file.path});
    Result<std::unique_ptr<Dataset>> dataset = Dataset::Open(data, options);
    if (!dataset.ok()) {
      return Status(dataset.status().code(), field + ": " + dataset.status().message());
    }
    *files = std::move(resolved).value();
    return dataset;
  }

  bool OpenData() {
    const v1::DataSpec& data = request_.spec.data();
    TokenizerClaim claim;
    claim.job_tokenizer = data.tokenizer();
    claim.roots = request_.data_roots;
    claim.has_validation = data.validation_size() > 0;
    auto train =
        Open({data.train().begin(), data.train().end()}, "data.train", &train_files_, &claim.train);
    if (!train.ok()) return Fail(RunStage::kData, train.status());
    train_ = std::move(train).value();
    if (claim.has_validation) {
      auto validation = Open({data.validation().begin(), data.validation().end()},
                             "data.validation", &validation_files_, &claim.validation);
      if (!validation.ok()) return Fail(RunStage::kData, validation.status());
      validation_ = std::move(validation).value();
      overlap_ = DescribeOverlap(train_files_, validation_files_);
    }
    if (Status status = CheckTokenizer(claim); !status.ok()) return Fail(RunStage::kData, status);
    auto digests = DigestFiles(train_files_);
    if (!digests.ok()) return Fail(RunStage::kData, digests.status());
    context_.files = std::move(digests).value();
    context_.tokenizer = claim.train.fingerprint;
    return true;
  }

  bool LoadCheckpoint() {
    Result<std::optional<StoredCheckpoint>> loaded = host_.LoadCheckpoint();
    if (!loaded.ok()) return Fail(RunStage::kRestore, loaded.status());
    stored_ = std::move(loaded).value();
    if (!stored_) return true;
    // Before the machines are compared: it tells on which of them the data are not the job's.
    Status status = CompareDigests(stored_->record.files, context_.files);
    return status.ok() || Fail(RunStage::kRestore, status);
  }

  // That all ranks have the same files. A job of one rank reads nothing for it; one of several
  // reads whole, beside the training data, whose digests every checkpoint has: the sidecars, the
  // validation data, the tokenizer, and the file of init.from, which the system then still holds in
  // memory when it is loaded.
  bool CompareMachines() {
    if (collective_->world_size() == 1) return true;
    const Result<std::vector<FieldFiles>> fields = FilesOfFields();
    if (!fields.ok()) return Fail(RunStage::kData, fields.status());
    const Status status = CheckSameFiles(fields.value(), collective_.get());
    if (status.ok()) return true;
    if (status.code() == StatusCode::kUnavailable) return Fail(RunStage::kConnect, status);
    collective_->Finish();
    return Fail(RunStage::kData, status);
  }

  // The tokenizer first: where it differs, so do the sidecars of what was made with it.
  Result<std::vector<FieldFiles>> FilesOfFields() const {
    std::vector<FieldFiles> fields;
    const auto add = [&](const std::string& field, const Result<std::vector<ResolvedFile>>& files) {
      if (!files.ok()) return files.status();
      auto digests = DigestFiles(files.value());
      if (!digests.ok()) return digests.status();
      fields.push_back(ByGivenNames(field, files.value(), std::move(digests).value()));
      return Status();
    };
    const v1::DataSpec& data = request_.spec.data();
    Status status;
    if (data.tokenizer() != tokenizer::kBytesName) {
      status = add("data.tokenizer", Resolve(data.tokenizer(), "data.tokenizer"));
    }
    fields.push_back(ByGivenNames("data.train", train_files_, context_.files));
    if (status.ok()) status = add("data.train", SidecarsOf(train_files_));
    if (status.ok()) status = add("data.validation", validation_files_);
    if (status.ok()) status = add("data.validation", SidecarsOf(validation_files_));
    if (status.ok() && request_.spec.init().has_from() && !stored_) {
      status = add("init.from", Resolve(request_.spec.init().from(), "init.from"));
    }
    if (!status.ok()) return status;
    return fields;
  }

  // Of a field that is for one file.
  Result<std::vector<ResolvedFile>> Resolve(const std::string& pattern,
                                            const std::string& field) const {
    return ResolveDataFiles({pattern},
                            {request_.data_roots, field, request_.root_advice, FilesWanted::kOne});
  }

  bool ChooseMicroBatch() {
    if (jobspec::IsAutoMicroBatch(spec_.train())) {
      const Result<int64_t> rows = AutoMicroBatch();
      if (!rows.ok()) return Fail(RunStage::kConnect, rows.status());
      spec_.mutable_train()->set_micro_batch(static_cast<int32_t>(rows.value()));
    }
    config_ = ToTrainingConfig(spec_);
    config_.skip_batches = request_.skip_batches;
    return true;
  }

  // What the checkpoint was trained with; without one, the most rows that fit on every rank.
  Result<int64_t> AutoMicroBatch() {
    MicroBatchRequest request;
    request.choices = jobspec::MicroBatchChoices(spec_);
    // A host without a rendezvous runs one rank, whatever the job says.
    const bool alone = host_.rendezvous() == nullptr;
    request.ranks_min = alone ? 1 : std::min(spec_.resources().min_ranks(), request_.world_size);
    request.ranks_max = alone ? 1 : std::max(spec_.resources().ranks(), request_.world_size);
    const int64_t kept = stored_ ? stored_->record.environment.micro_batch : 0;
    if (kept > 0) {
      if (Status status = CheckKeptMicroBatch(kept, request.choices); !status.ok()) return status;
      request.choices = {kept};
      request.use = MicroBatchRequest::Use::kKeep;
    }
    const Result<FreeMemory> free = request_.read_memory(*backend_);
    if (!free.ok()) return free.status();
    request.free = free.value();
    const Result<MicroBatchChoice> choice =
        AgreeOnMicroBatch(ToTrainingConfig(spec_), request, backend_.get(), collective_.get());
    if (!choice.ok()) return choice.status();
    const int64_t rows = choice.value().rows;
    host_.Note("train.micro_batch: auto is " + jobspec::RowsText(rows) +
               (kept > 0 ? ", as in the checkpoint" : jobspec::NoMoreRowsText(spec_, rows)) + ": " +
               choice.value().reason);
    memory_advice_ = AutoMicroBatchAdvice(rows, request.choices.front(), request.use);
    return rows;
  }

  bool MakeModel() {
    context_.environment = {request_.spec.resources().threads(),
                            ProcessorModel(),
                            std::string(backend_->name()),
                            kVersion,
                            request_.world_size,
                            config_.micro_batch_rows};
    const TrainerEnvironment environment{backend_.get(), collective_.get(), train_.get(),
                                         validation_.get()};
    auto trainer = Trainer::Create(config_, environment);
    if (!trainer.ok()) {
      const Status& status = trainer.status();
      const bool advise = status.code() == StatusCode::kResourceExhausted;
      return Fail(RunStage::kModel,
                  Status(status.code(), status.message() + (advise ? memory_advice_ : "")));
    }
    trainer_ = std::move(trainer).value();
    return true;
  }

  bool Restore() {
    Status status = stored_ ? RestoreFrom(*stored_) : LoadInitialParameters();
    if (status.ok()) status = host_.Begin(context_, trainer_->steps_done());
    if (!status.ok()) return Fail(RunStage::kRestore, status);
    const std::string precision =
        ExplainPrecision(request_.spec, kernels::ProcessorMultipliesBfloat16());
    if (!precision.empty()) host_.Warn(precision);
    if (!overlap_.empty()) host_.Warn(overlap_);
    if (stored_) {
      const std::string difference =
          DescribeDifference(stored_->record.environment, context_.environment);
      if (!difference.empty()) {
        host_.Warn("not_bit_exact: resumed after step " + std::to_string(trainer_->steps_done()) +
                   " with " + difference);
      }
    }
    stored_.reset();  // it takes as much memory as parameters and optimizer state
    return true;
  }

  Status RestoreFrom(const StoredCheckpoint& stored) {
    if (Status status = CheckPosition(stored.record.state, config_); !status.ok()) return status;
    return trainer_->Restore(stored.snapshot);
  }

  Status LoadInitialParameters() {
    if (!request_.spec.init().has_from()) return Status();
    Result<std::vector<ResolvedFile>> files = Resolve(request_.spec.init().from(), "init.from");
    if (!files.ok()) return Status(StatusCode::kInvalidData, files.status().message());
    if (files.value().size() != 1) {
      return Status(StatusCode::kInvalidData, "init.from: names more than one file; give one");
    }
    Result<std::vector<SnapshotTensor>> tensors = ReadParameters(files.value()[0].path);
    if (!tensors.ok()) {
      return Status(tensors.status().code(), "init.from: " + tensors.status().message());
    }
    if (Status finite = CheckFinite(tensors.value()); !finite.ok()) {
      return Status(finite.code(), "init.from: " + files.value()[0].path + ": " + finite.message());
    }
    Status status = trainer_->LoadParameters(tensors.value());
    if (status.ok()) {
      WarnOfOtherSettings(files.value()[0].path);
      return status;
    }
    const std::string difference = DescribeModelDifference(config_.model, tensors.value());
    return Status(status.code(),
                  "init.from: " + files.value()[0].path + ": " +
                      (difference.empty() ? status.message()
                                          : "is of another model: " + difference +
                                                "; give the job the file's, or start from another "
                                                "file"));
  }

  // Where the file of initial parameters says how they were trained.
  void WarnOfOtherSettings(const std::string& path) {
    const Result<ExportedModel> file = OpenExportedModel(path);
    if (!file.ok() || request_.rank != 0) return;
    const std::string difference = DescribeSettingsDifference(config_.model, file.value().config);
    if (difference.empty()) return;
    host_.Warn("init.from: " + path + ": its parameters were trained with other settings: " +
               difference + "; they compute something else here, and may have to learn it anew");
  }

  RunEnd Train() {
    const Result<TrainingEnd> ended = RunTraining(*trainer_, config_, host_, *collective_);
    if (!ended.ok()) return FailedTraining(ended.status());
    switch (ended.value()) {
      case TrainingEnd::kCompleted:
        collective_->Finish();
        return {};
      case TrainingEnd::kStopped:
        collective_->Finish();
        return {ExitCode::kStopped, v1::RANK_OUTCOME_STOPPED, v1::REASON_UNSPECIFIED, ""};
      case TrainingEnd::kAbandoned:
        return {ExitCode::kAbandoned, v1::RANK_OUTCOME_KILLED, v1::REASON_UNSPECIFIED, ""};
    }
    return end_;
  }

  RunEnd FailedTraining(const Status& status) {
    v1::Reason reason = ReasonOf(RunStage::kTraining, status.code());
    // Both a lost rank and a refused checkpoint are "not now".
    if (host_.checkpoint_failed() && reason == v1::REASON_RANK_LOST) {
      reason = v1::REASON_CHECKPOINT_FAILED;
    }
    // A checkpoint that is still being written counts when it becomes durable.
    const Status finished = host_.FinishCheckpoints();
    if (!finished.ok()) host_.Warn("a checkpoint could not be made durable: " + finished.message());
    RunEnd end = FailedRun(reason, status.message());
    end.durable_step = host_.durable_step();
    return end;
  }

  const RunRequest& request_;
  RunHost& host_;
  RunEnd end_;
  v1::JobSpec spec_;
  std::optional<StoredCheckpoint> stored_;  // until it is restored
  TrainingConfig config_;
  std::string memory_advice_;  // of rows that were chosen here
  std::vector<ResolvedFile> train_files_;
  std::vector<ResolvedFile> validation_files_;
  std::string overlap_;  // between training and validation data; empty: none
  RunContext context_;
  std::unique_ptr<kernels::Backend> backend_;
  std::unique_ptr<Collective> collective_;
  std::unique_ptr<Dataset> train_;
  std::unique_ptr<Dataset> validation_;
  std::unique_ptr<Trainer> trainer_;  // uses all of the above
};

}  // namespace

RunEnd RunJob(const RunRequest& request, RunHost& host) { return Run(request, host).Execute(); }

}  // namespace sinkforge::trainer
