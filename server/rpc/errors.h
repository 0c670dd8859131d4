// Errors of the coordinator's services: their reasons (google.rpc.ErrorInfo) and common texts.
//
// Reasons: INVALID_JOB, INVALID_REQUEST, JOB_NOT_FOUND, ATTEMPT_NOT_FOUND, RANK_NOT_FOUND,
// CHECKPOINT_NOT_FOUND, ILLEGAL_MOVE, WORKER_NAME_TAKEN, LIMIT_EXCEEDED, STORE_UNAVAILABLE,
// STORE_DAMAGED, DEADLINE, REPLACED.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/jobspec/violation.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server {

// At most `bytes_max` bytes of a text that a client may have made; valid UTF-8 stays valid.
std::string Shorten(const std::string& text, size_t bytes_max = 100);

absl::Status JobNotFound(const std::string& job_id);
// NOT_FOUND unless the job has had this attempt; the message says which ones it has had.
absl::Status CheckAttempt(const v1::Job& job, int64_t attempt);
// NOT_FOUND unless the job has this rank; the message says which ones it has.
absl::Status CheckRank(const v1::Job& job, int32_t rank);
// INVALID_REQUEST, for one field of a request.
absl::Status InvalidField(const std::string& field, const std::string& message);
// INVALID_REQUEST where it is missing, or longer than any id.
absl::Status CheckRequestId(const std::string& request_id);
// INVALID_JOB with the field violations; as many as fit into an error's few kilobytes.
absl::Status InvalidJob(const std::vector<jobspec::Violation>& violations);

// Adds the reason that belongs to the code where there is none, and cuts a message that would not
// fit into an error.
grpc::Status ToGrpcWithReason(const absl::Status& status);

}  // namespace sinkforge::server
