// What trainers ask for; see trainer_service.h.
#include "worker/rpc/trainer_service.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/rpc.h"

namespace sinkforge::worker {

TrainerService::TrainerService(Parts parts)
    : parts_(std::move(parts)), rendezvous_(v1::RendezvousService::NewStub(parts_.coordinator)) {}

grpc::Status TrainerService::GetAssignment(grpc::ServerContext*,
                                           const v1::GetAssignmentRequest* request,
                                           v1::Assignment* response) {
  auto assignment = parts_.agent->Assign(request->token());
  if (!assignment.ok()) return base::ToGrpc(assignment.status());
  *response = *std::move(assignment);
  return grpc::Status::OK;
}

grpc::Status TrainerService::Report(grpc::ServerContext*, const v1::TrainerReport* request,
                                    v1::TrainerCommand* response) {
  return base::ToGrpc(TakeReport(*request, response));
}

absl::Status TrainerService::TakeReport(const v1::TrainerReport& report,
                                        v1::TrainerCommand* command) {
  const auto key = parts_.agent->Authenticate(report.token());
  if (!key.ok()) return key.status();
  bool belongs = !report.has_start() || report.start().attempt() == key->attempt;
  for (const v1::StepRecord& step : report.steps()) {
    belongs = belongs && step.attempt() == key->attempt;
  }
  if (!belongs || (key->rank != 0 && (report.steps_size() > 0 || report.has_start()))) {
    return absl::InvalidArgumentError("rank " + ToString(*key) +
                                      ": step records are rank 0's, and of its own attempt");
  }
  // Before the spool, whose disk may let it wait: the trainer is not to blame for that.
  parts_.agent->OnReportArrived(report, parts_.clock->Read());
  // In the spool before the answer: from then on the daemon answers for them.
  const std::vector<v1::StepRecord> steps(report.steps().begin(), report.steps().end());
  const absl::Status kept =
      parts_.spool->Append(key->job_id, steps, report.has_start() ? &report.start() : nullptr);
  if (!kept.ok()) {
    parts_.agent->OnReportNotKept(report.token(), kept);
    return kept;
  }
  for (const v1::StepRecord& step : steps) parts_.on_step(step);
  auto answer = parts_.agent->Report(report, parts_.clock->Read());
  if (!answer.ok()) return answer.status();
  *command = *answer;
  return absl::OkStatus();
}

grpc::Status TrainerService::WriteCheckpoint(grpc::ServerContext*,
                                             grpc::ServerReader<v1::WriteCheckpointRequest>* reader,
                                             v1::WriteCheckpointResponse* response) {
  const auto started = parts_.clock->Read().monotonic;
  auto part = TakePart(reader);
  if (!part.ok()) {
    base::LogWarning("a checkpoint part was not kept",
                     {{"error", std::string(part.status().message())}});
    return base::ToGrpc(part.status());
  }
  parts_.on_checkpoint_written(
      std::chrono::duration<double>(parts_.clock->Read().monotonic - started).count());
  parts_.agent->OnStoreChange();
  *response->mutable_part() = *std::move(part);
  return grpc::Status::OK;
}

absl::StatusOr<v1::CheckpointPart> TrainerService::TakePart(
    grpc::ServerReader<v1::WriteCheckpointRequest>* reader) {
  v1::WriteCheckpointRequest request;
  if (!reader->Read(&request) || !request.has_header()) {
    return absl::InvalidArgumentError("WriteCheckpoint: the first message must be the header");
  }
  const v1::WriteCheckpointHeader header = request.header();
  const auto key = parts_.agent->Authenticate(header.token());
  if (!key.ok()) return key.status();
  const PartKey part = KeyOf(header.part());
  if (part.job_id != key->job_id || part.attempt != key->attempt || part.rank != key->rank) {
    return absl::InvalidArgumentError("rank " + ToString(*key) +
                                      " may not write the checkpoint of " + ToString(part));
  }
  // Sent again after a lost answer: what is here is what it sent.
  if (auto present = parts_.checkpoints->Find(part);
      present.ok() && present->job_uid() == header.part().job_uid()) {
    while (reader->Read(&request)) {
    }
    return present;
  }
  return StorePart(header, reader);
}

absl::StatusOr<v1::CheckpointPart> TrainerService::StorePart(
    const v1::WriteCheckpointHeader& header,
    grpc::ServerReader<v1::WriteCheckpointRequest>* reader) {
  auto writer = parts_.checkpoints->Begin(header.part());
  if (!writer.ok()) return writer.status();
  v1::WriteCheckpointRequest request;
  while (reader->Read(&request)) {
    if (!request.has_data()) {
      return absl::InvalidArgumentError("WriteCheckpoint: only data may follow the header");
    }
    // The attempt may have ended while this was under way.
    if (const auto key = parts_.agent->Authenticate(header.token()); !key.ok()) {
      return key.status();
    }
    parts_.agent->OnCheckpointBytes(header.token(), parts_.clock->Read());
    if (absl::Status added = (*writer)->Add(request.data()); !added.ok()) return added;
  }
  return (*writer)->Commit();
}

grpc::Status TrainerService::ReadCheckpoint(grpc::ServerContext* context,
                                            const v1::ReadCheckpointRequest* request,
                                            grpc::ServerWriter<v1::CheckpointData>* writer) {
  return base::ToGrpc(SendPart(*request, context, writer));
}

absl::Status TrainerService::SendPart(const v1::ReadCheckpointRequest& request,
                                      grpc::ServerContext* context,
                                      grpc::ServerWriter<v1::CheckpointData>* writer) {
  const auto assignment = parts_.agent->Assign(request.token());
  if (!assignment.ok()) return assignment.status();
  const auto visit = [&](const v1::CheckpointData& data) {
    parts_.agent->OnCheckpointBytes(request.token(), parts_.clock->Read());
    return !context->IsCancelled() && writer->Write(data);
  };
  const PartKey part{request.job_id(), request.attempt(), request.step(), request.rank()};
  const auto held = parts_.checkpoints->Find(part);
  // One that is not of this job, but of one that had its name and number, is about to be dropped.
  const bool is_stray =
      held.ok() && !held->job_uid().empty() && held->job_uid() != assignment->rank().job_uid();
  if (!is_stray) {
    const absl::Status local = ReadLocalPart(parts_.checkpoints, request, visit);
    if (!absl::IsNotFound(local)) return local;
  }
  return SendRemotePart(assignment->rank(), request, visit);
}

absl::Status TrainerService::SendRemotePart(const v1::DesiredRank& rank,
                                            const v1::ReadCheckpointRequest& request,
                                            const PartVisitor& visit) {
  const PartKey part{request.job_id(), request.attempt(), request.step(), request.rank()};
  std::vector<v1::CheckpointPart> holders(rank.restore().parts().begin(),
                                          rank.restore().parts().end());
  holders.insert(holders.end(), rank.restore().copies().begin(), rank.restore().copies().end());
  absl::Status last = absl::NotFoundError("checkpoint of " + ToString(part) + ": no worker has it");
  for (const v1::CheckpointPart& wanted : holders) {
    if (KeyOf(wanted) != part) continue;
    const auto address = rank.holder_addresses().find(wanted.worker());
    if (address == rank.holder_addresses().end()) {
      last = absl::UnavailableError("checkpoint of " + ToString(part) + ": its holder, worker " +
                                    wanted.worker() + ", is away");
      continue;
    }
    bool begun = false;
    grpc::ClientContext context;
    const absl::Status fetched = FetchPart(
        {wanted.worker(), address->second, parts_.tls}, request,
        [&](const v1::CheckpointData& data) {
          begun = true;
          return visit(data);
        },
        &context);
    // Once something was sent, only the trainer can begin anew.
    if (fetched.ok() || begun) return fetched;
    // That one has it no more does not say that another one, which is away, has lost it too.
    if (!absl::IsUnavailable(last)) last = fetched;
  }
  return last;
}

grpc::Status TrainerService::PutRendezvous(grpc::ServerContext* context,
                                           const v1::TrainerPutRendezvousRequest* request,
                                           v1::PutRendezvousResponse* response) {
  const auto key = parts_.agent->Authenticate(request->token());
  if (!key.ok()) return base::ToGrpc(key.status());
  v1::PutRendezvousRequest forwarded;
  forwarded.set_job_id(key->job_id);
  forwarded.set_attempt(key->attempt);
  forwarded.set_key(request->key());
  forwarded.set_value(request->value());
  const auto call = grpc::ClientContext::FromServerContext(*context);
  return rendezvous_->PutRendezvous(call.get(), forwarded, response);
}

grpc::Status TrainerService::GetRendezvous(grpc::ServerContext* context,
                                           const v1::TrainerGetRendezvousRequest* request,
                                           v1::GetRendezvousResponse* response) {
  const auto key = parts_.agent->Authenticate(request->token());
  if (!key.ok()) return base::ToGrpc(key.status());
  v1::GetRendezvousRequest forwarded;
  forwarded.set_job_id(key->job_id);
  forwarded.set_attempt(key->attempt);
  forwarded.set_key(request->key());
  // A little less than the trainer waits, so that the coordinator's answer, which names the key,
  // comes before the call's own end.
  constexpr std::chrono::milliseconds kReserve(50);
  const auto left = context->deadline() - parts_.clock->Read().wall - kReserve;
  *forwarded.mutable_timeout() =
      base::ToProto(std::chrono::nanoseconds(std::clamp<std::chrono::nanoseconds>(
          left, std::chrono::nanoseconds(0), std::chrono::hours(1))));
  const auto call = grpc::ClientContext::FromServerContext(*context);
  return rendezvous_->GetRendezvous(call.get(), forwarded, response);
}

}  // namespace sinkforge::worker
