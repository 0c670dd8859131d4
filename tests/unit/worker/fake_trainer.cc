// worker_fake_trainer: speaks TrainerService as a trainer does and trains nothing. The job's name
// says how it behaves: "good", "crash", "exit", "hang", "orphan", "patient" (as the real one, it
// sends a refused report again), "stubborn".
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

#include "base/rpc.h"
#include "sinkforge/v1/trainer_service.grpc.pb.h"
#include "tests/unit/worker/test_support.h"
#include "worker/token_variable.h"

namespace sinkforge::worker {
namespace {

constexpr int kElements = 1000;

class FakeTrainer {
 public:
  FakeTrainer(const std::string& socket, const std::string& token)
      : stub_(v1::TrainerService::NewStub(base::MakeChannel(socket))), token_(token) {}

  int Run() {
    grpc::ClientContext context;
    v1::GetAssignmentRequest request;
    request.set_token(token_);
    if (!stub_->GetAssignment(&context, request, &assignment_).ok()) return 4;
    const std::string& name = spec().name();
    std::printf("trainer of %s, pid %d\n", rank().job_id().c_str(), getpid());
    std::fflush(stdout);
    if (name == "orphan") prctl(PR_SET_PDEATHSIG, 0);
    if (name == "exit") return 9;
    int64_t step = rank().restore().step();
    if (step > 0) {
      const v1::Reason failure = Restore();
      if (failure != v1::REASON_UNSPECIFIED) return Fail(failure, "the checkpoint cannot be read");
    }
    v1::TrainerReport start = NewReport(step);
    start.mutable_start()->set_attempt(rank().attempt());
    start.mutable_start()->set_restored_step(step);
    if (!Report(start)) return 5;
    while (step < spec().train().steps()) {
      poll(nullptr, 0, 5);
      if (name == "hang" && step == 2) pause();
      if (name == "crash" && step == 3) {
        std::fprintf(stderr, "planned crash\n");
        signal(SIGSEGV, SIG_DFL);  // sanitizers have a handler of their own
        raise(SIGSEGV);
      }
      v1::TrainerReport report = NewReport(++step);
      v1::StepRecord& record = *report.add_steps();
      record.set_attempt(rank().attempt());
      record.set_step(step);
      record.set_loss(1.0 / static_cast<double>(step));
      record.set_step_seconds(0.005);
      record.set_tokens_total(step * 100);
      if (!Report(report)) return 6;
      NoteAcknowledged(step);
      if (run_ == v1::RUN_REQUEST_CHECKPOINT_AND_STOP && name != "stubborn") {
        return End(step, v1::RANK_OUTCOME_STOPPED);
      }
    }
    return End(step, v1::RANK_OUTCOME_COMPLETED);
  }

 private:
  const v1::DesiredRank& rank() const { return assignment_.rank(); }
  const v1::JobSpec& spec() const { return assignment_.rank().spec(); }

  v1::TrainerReport NewReport(int64_t step) const {
    v1::TrainerReport report;
    report.set_token(token_);
    report.set_phase(v1::RANK_PHASE_TRAINING);
    report.set_step(step);
    return report;
  }

  bool Report(const v1::TrainerReport& report) {
    grpc::ClientContext context;
    v1::TrainerCommand command;
    bool sent = stub_->Report(&context, report, &command).ok();
    while (!sent && spec().name() == "patient") {
      poll(nullptr, 0, 20);
      grpc::ClientContext again;
      sent = stub_->Report(&again, report, &command).ok();
    }
    if (sent) run_ = command.run();
    // An orphan outlives its daemon.
    if (!sent && spec().name() == "orphan") pause();
    return sent;
  }

  // From here on the worker answers for the record.
  void NoteAcknowledged(int64_t step) const {
    if (const char* path = std::getenv("SINKFORGE_TEST_ACKNOWLEDGED")) {
      std::ofstream(path, std::ios::app) << rank().attempt() << " " << step << std::endl;
    }
  }

  int Fail(v1::Reason reason, const std::string& message) {
    v1::TrainerReport report = NewReport(0);
    report.set_phase(v1::RANK_PHASE_ENDED);
    report.set_outcome(v1::RANK_OUTCOME_FAILED);
    report.set_reason(reason);
    report.set_message(message);
    return Report(report) ? 0 : 7;
  }

  int End(int64_t step, v1::RankOutcome outcome) {
    grpc::ClientContext context;
    v1::WriteCheckpointResponse response;
    const auto writer = stub_->WriteCheckpoint(&context, &response);
    v1::WriteCheckpointRequest request;
    request.mutable_header()->set_token(token_);
    *request.mutable_header()->mutable_part() =
        MakePart(rank().job_id(), rank().attempt(), step, rank().rank());
    request.mutable_header()->mutable_part()->set_job_uid(rank().job_uid());
    writer->Write(request);
    for (const v1::CheckpointData& data : MakeStream(kElements, static_cast<uint32_t>(step))) {
      *request.mutable_data() = data;
      writer->Write(request);
    }
    writer->WritesDone();
    const grpc::Status written = writer->Finish();
    if (!written.ok()) return Fail(v1::REASON_CHECKPOINT_FAILED, written.error_message());
    v1::TrainerReport report = NewReport(step);
    report.set_phase(v1::RANK_PHASE_ENDED);
    report.set_outcome(outcome);
    return Report(report) ? 0 : 8;
  }

  // Why it failed.
  v1::Reason Restore() {
    for (const v1::CheckpointPart& part : rank().restore().parts()) {
      grpc::ClientContext context;
      v1::ReadCheckpointRequest request;
      request.set_token(token_);
      request.set_job_id(part.job_id());
      request.set_attempt(part.attempt());
      request.set_step(part.step());
      request.set_rank(part.rank());
      const auto reader = stub_->ReadCheckpoint(&context, request);
      checkpoint::PartVerifier verifier;
      v1::CheckpointData data;
      bool good = true;
      while (reader->Read(&data)) good = good && verifier.Accept(data).ok();
      const grpc::Status status = reader->Finish();
      if (!status.ok()) std::fprintf(stderr, "%s\n", status.error_message().c_str());
      if (status.error_code() == grpc::StatusCode::UNAVAILABLE) return v1::REASON_WORKER_LOST;
      if (!good || !status.ok() || !verifier.Complete().ok()) return v1::REASON_CHECKPOINT_LOST;
    }
    return v1::REASON_UNSPECIFIED;
  }

  const std::unique_ptr<v1::TrainerService::Stub> stub_;
  const std::string token_;
  v1::Assignment assignment_;
  v1::RunRequest run_ = v1::RUN_REQUEST_TRAIN;
};

}  // namespace
}  // namespace sinkforge::worker

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 2; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  const char* token = std::getenv(sinkforge::kTokenVariable);
  return sinkforge::worker::FakeTrainer(options["--socket"], token == nullptr ? "" : token).Run();
}
