// Checkpoints over the link: parts are streamed to the worker and read back through it.
#include <algorithm>
#include <cstring>

#include "base/rpc.h"
#include "proto/checkpoint_format/checkpoint_stream.h"
#include "worker/trainer/worker_link.h"

namespace sinkforge::trainer {

using kernels::Result;
using kernels::Status;
using kernels::StatusCode;

namespace {

Status ToStatus(const grpc::Status& status, const std::string& what) {
  StatusCode code = StatusCode::kInternal;
  switch (status.error_code()) {
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      code = StatusCode::kResourceExhausted;
      break;
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::CANCELLED:
      code = StatusCode::kUnavailable;
      break;
    case grpc::StatusCode::DATA_LOSS:
    case grpc::StatusCode::NOT_FOUND:
      code = StatusCode::kDataLoss;
      break;
    case grpc::StatusCode::FAILED_PRECONDITION:
      code = StatusCode::kFailedPrecondition;
      break;
    default:
      break;
  }
  return Status(code, what + ": " + status.error_message());
}

v1::TensorSlice ToSlice(const SnapshotTensor& tensor) {
  v1::TensorSlice slice;
  slice.set_name(tensor.name);
  slice.set_dtype(tensor.dtype);
  for (int64_t dim : tensor.shape) slice.add_shape(dim);
  slice.set_offset(tensor.offset);
  slice.set_length(tensor.length);
  return slice;
}

// Collects the messages of a part into tensors, after the verifier has accepted each.
void Collect(const v1::CheckpointData& data, StoredCheckpoint* stored, std::string* record) {
  std::vector<SnapshotTensor>& tensors = stored->snapshot.tensors;
  if (data.has_slice()) {
    SnapshotTensor tensor;
    tensor.name = data.slice().name();
    tensor.dtype = data.slice().dtype();
    tensor.shape.assign(data.slice().shape().begin(), data.slice().shape().end());
    tensor.offset = data.slice().offset();
    tensor.length = data.slice().length();
    tensors.push_back(std::move(tensor));
  } else if (data.has_chunk()) {
    // Memory grows with what has come, not with what was announced.
    std::vector<std::byte>& bytes = tensors.back().bytes;
    const auto* begin = reinterpret_cast<const std::byte*>(data.chunk().data().data());
    bytes.insert(bytes.end(), begin, begin + data.chunk().data().size());
  } else {
    *record = data.trailer().trainer_state();
  }
}

}  // namespace

Status WorkerLink::UploadWithRetries(const Snapshot& snapshot) {
  // The steps before a checkpoint are never done again: a record that died with this process would
  // be missing for ever.
  queue_.WaitForRecords(snapshot.state.step);
  std::chrono::milliseconds waited(0);
  grpc::Status status;
  do {
    if (queue_.closed()) return Status();  // the attempt is over: nothing more is written
    status = Upload(snapshot);
  } while (status.error_code() == grpc::StatusCode::UNAVAILABLE && WaitToRetry(&waited));
  if (status.ok()) return Status();
  if (status.error_code() == grpc::StatusCode::FAILED_PRECONDITION) {
    queue_.Close();
    return Status();
  }
  return ToStatus(status, "checkpoint of step " + std::to_string(snapshot.state.step));
}

grpc::Status WorkerLink::Upload(const Snapshot& snapshot) {
  grpc::ClientContext context;
  v1::WriteCheckpointResponse response;
  const auto stream = stub_->WriteCheckpoint(&context, &response);
  v1::WriteCheckpointRequest request;
  v1::WriteCheckpointHeader* header = request.mutable_header();
  header->set_token(options_.token);
  v1::CheckpointPart* part = header->mutable_part();
  part->set_job_id(assignment_.rank().job_id());
  part->set_attempt(assignment_.rank().attempt());
  part->set_step(snapshot.state.step);
  part->set_rank(assignment_.rank().rank());
  part->set_world_size(assignment_.rank().world_size());
  part->set_loss(snapshot.loss);
  part->set_imbalance(snapshot.imbalance);
  if (snapshot.validation_loss) part->set_validation_loss(*snapshot.validation_loss);
  part->set_job_uid(assignment_.rank().job_uid());
  bool sent = stream->Write(request);
  checkpoint::PartWriter writer([&](const v1::CheckpointData& data) {
    if (queue_.closed()) return false;
    *request.mutable_data() = data;
    return stream->Write(request);
  });
  for (const SnapshotTensor& tensor : snapshot.tensors) {
    sent = sent && writer.AddSlice(ToSlice(tensor), tensor.bytes.data());
  }
  sent = sent && writer.Finish(ToJson(MakeRecord(context_, snapshot)));
  if (sent) {
    stream->WritesDone();
  } else if (queue_.closed()) {
    context.TryCancel();
  }
  // Where the worker has ended the call itself, this says why.
  return stream->Finish();
}

Result<std::optional<StoredCheckpoint>> WorkerLink::LoadCheckpoint() {
  if (!assignment_.rank().has_restore()) return std::optional<StoredCheckpoint>();
  StoredCheckpoint stored;
  const v1::Checkpoint& restore = assignment_.rank().restore();
  const std::string name = "checkpoint of step " + std::to_string(restore.step());
  for (const v1::CheckpointPart& part : restore.parts()) {
    const grpc::Status status = ReadPartWithRetries(part.rank(), &stored);
    if (status.ok()) continue;
    return ToStatus(status, name + ", part of rank " + std::to_string(part.rank()));
  }
  if (stored.record.state.step != restore.step()) {
    return Status(StatusCode::kDataLoss,
                  name + ": its state is of step " + std::to_string(stored.record.state.step));
  }
  stored.snapshot.state = stored.record.state;
  stored.snapshot.loss = stored.record.loss;
  stored.snapshot.imbalance = stored.record.imbalance;
  return std::optional<StoredCheckpoint>(std::move(stored));
}

grpc::Status WorkerLink::ReadPartWithRetries(int32_t rank, StoredCheckpoint* stored) {
  // A holder drops a part that it finds corrupt; the next try reads another holder's.
  constexpr int kHoldersMax = 3;
  std::chrono::milliseconds waited(0);
  const size_t tensors_before = stored->snapshot.tensors.size();
  int corrupt = 0;
  while (true) {
    stored->snapshot.tensors.resize(tensors_before);
    const grpc::Status status = ReadPart(rank, stored);
    switch (status.error_code()) {
      case grpc::StatusCode::UNAVAILABLE:
        if (WaitToRetry(&waited)) continue;
        return status;
      case grpc::StatusCode::DATA_LOSS:
        if (++corrupt < kHoldersMax) {
          Warn("part of rank " + std::to_string(rank) + " of the checkpoint to restore: " +
               status.error_message() + "; another holder is asked");
          continue;
        }
        return status;
      default:
        return status;
    }
  }
}

grpc::Status WorkerLink::ReadPart(int32_t rank, StoredCheckpoint* stored) {
  v1::ReadCheckpointRequest request;
  request.set_job_id(assignment_.rank().job_id());
  request.set_step(assignment_.rank().restore().step());
  request.set_attempt(assignment_.rank().restore().attempt());
  request.set_rank(rank);
  request.set_token(options_.token);
  grpc::ClientContext context;
  const auto stream = stub_->ReadCheckpoint(&context, request);
  checkpoint::PartVerifier verifier;
  v1::CheckpointData data;
  std::string record;
  absl::Status verified;
  while (verified.ok() && stream->Read(&data)) {
    verified = verifier.Accept(data);
    if (verified.ok()) Collect(data, stored, &record);
  }
  if (!verified.ok()) context.TryCancel();
  const grpc::Status status = stream->Finish();
  if (!verified.ok()) return base::ToGrpc(verified);
  if (!status.ok()) return status;
  verified = verifier.Complete();
  if (!verified.ok()) return base::ToGrpc(verified);
  Result<CheckpointRecord> parsed = ParseRecord(record);
  if (!parsed.ok()) {
    const bool newer = parsed.status().code() == StatusCode::kFailedPrecondition;
    return {newer ? grpc::StatusCode::FAILED_PRECONDITION : grpc::StatusCode::DATA_LOSS,
            parsed.status().message()};
  }
  stored->record = std::move(parsed).value();
  return grpc::Status::OK;
}

}  // namespace sinkforge::trainer
