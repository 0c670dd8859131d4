// Reasons and texts of errors; see errors.h.
#include "server/rpc/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/rpc.h"

namespace sinkforge::server {
namespace {

// gRPC sends an error in trailing metadata, of which clients take 8 KiB by default; message and
// details both go there, the details base64-coded.
constexpr size_t kDetailBytesMax = 1900;
constexpr size_t kViolationBytes = 16;  // of each beside its texts
constexpr size_t kMessageBytesMax = 3000;
constexpr size_t kRequestIdBytesMax = 128;

const char* ReasonOfCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kNotFound:
      return "JOB_NOT_FOUND";
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_REQUEST";
    case absl::StatusCode::kFailedPrecondition:
      return "ILLEGAL_MOVE";
    case absl::StatusCode::kAlreadyExists:
      return "WORKER_NAME_TAKEN";
    case absl::StatusCode::kResourceExhausted:
      return "LIMIT_EXCEEDED";
    case absl::StatusCode::kUnavailable:
      return "STORE_UNAVAILABLE";
    case absl::StatusCode::kDataLoss:
      return "STORE_DAMAGED";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE";
    case absl::StatusCode::kAborted:
      return "REPLACED";
    default:
      return "INTERNAL";
  }
}

}  // namespace

std::string Shorten(const std::string& text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  size_t end = bytes_max;
  // Back to the first byte of a character.
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

absl::Status JobNotFound(const std::string& job_id) {
  return base::WithReason(
      absl::NotFoundError(absl::StrCat("job ", Shorten(job_id),
                                       ": no such job here; `sinkforge list` shows all of them")),
      "JOB_NOT_FOUND");
}

absl::Status CheckAttempt(const v1::Job& job, int64_t attempt) {
  const int64_t last = job.attempt();
  if (attempt >= 1 && attempt <= last) return absl::OkStatus();
  const std::string there = last == 0   ? "it has had none yet"
                            : last == 1 ? "it has had attempt 1 only"
                                        : absl::StrCat("it has had attempts 1 to ", last);
  return base::WithReason(
      absl::NotFoundError(
          absl::StrCat("job ", job.job_id(), ": there is no attempt ", attempt, "; ", there)),
      "ATTEMPT_NOT_FOUND");
}

absl::Status CheckRank(const v1::Job& job, int32_t rank) {
  const int32_t last = job.spec().resources().ranks() - 1;
  if (rank >= 0 && rank <= last) return absl::OkStatus();
  const std::string there =
      last == 0 ? "it has rank 0 only" : absl::StrCat("it has ranks 0 to ", last);
  return base::WithReason(absl::NotFoundError(absl::StrCat(
                              "job ", job.job_id(), ": there is no rank ", rank, "; ", there)),
                          "RANK_NOT_FOUND");
}

absl::Status InvalidField(const std::string& field, const std::string& message) {
  const absl::Status status = absl::InvalidArgumentError(absl::StrCat(field, ": ", message));
  return base::WithViolations(base::WithReason(status, "INVALID_REQUEST"),
                              {{field, Shorten(message)}});
}

absl::Status CheckRequestId(const std::string& request_id) {
  if (request_id.empty()) {
    return InvalidField("request_id", "missing; send a new UUID, and the same one when you repeat");
  }
  if (request_id.size() > kRequestIdBytesMax) {
    return InvalidField("request_id", absl::StrCat("longer than ", kRequestIdBytesMax, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status InvalidJob(const std::vector<jobspec::Violation>& violations) {
  std::vector<base::FieldViolation> sent;
  std::string message = "the job is not valid";
  size_t bytes = 0;
  for (const jobspec::Violation& violation : violations) {
    bytes += violation.field.size() + violation.message.size() + kViolationBytes;
    if (bytes > kDetailBytesMax) {
      absl::StrAppend(&message, "; and ", violations.size() - sent.size(), " more");
      break;
    }
    sent.push_back({violation.field, violation.message});
    absl::StrAppend(&message, "; ", violation.field, ": ", violation.message);
  }
  const absl::Status status = absl::InvalidArgumentError(message);
  return base::WithViolations(base::WithReason(status, "INVALID_JOB"), sent);
}

grpc::Status ToGrpcWithReason(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  absl::Status sent(status.code(), Shorten(std::string(status.message()), kMessageBytesMax));
  status.ForEachPayload(
      [&sent](absl::string_view url, const absl::Cord& payload) { sent.SetPayload(url, payload); });
  if (base::ReasonOf(sent).empty()) sent = base::WithReason(sent, ReasonOfCode(sent.code()));
  return base::ToGrpc(sent);
}

}  // namespace sinkforge::server
