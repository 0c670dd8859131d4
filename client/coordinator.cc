// Coordinator over gRPC: deadlines, retries, streams that are opened again.
#include "client/coordinator.h"

#include <grpcpp/grpcpp.h>
#include <netdb.h>

#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/rpc.h"
#include "base/rpc_connection.h"
#include "client/exit_code.h"
#include "sinkforge/v1/checkpoint_service.grpc.pb.h"
#include "sinkforge/v1/job_service.grpc.pb.h"
#include "sinkforge/v1/log_service.grpc.pb.h"
#include "sinkforge/v1/metrics.grpc.pb.h"
#include "sinkforge/v1/worker_service.grpc.pb.h"

namespace sinkforge::client {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kCallTimeout(30);
constexpr std::chrono::milliseconds kFirstConnect(1500);
constexpr std::chrono::seconds kRetryCall(15);
constexpr std::chrono::seconds kRetryStream(60);
constexpr std::chrono::milliseconds kRetryPause(200);  // a restart takes about this long
constexpr std::chrono::seconds kAskWhy(1);             // there is no connection
constexpr int kPageSize = 500;
constexpr char kStoreFailureKey[] = "sinkforge-store-failure-bin";  // server/rpc/context.h

// Nobody answered. A server that answers UNAVAILABLE itself (its disk is full) gives a reason.
bool IsNoAnswer(const absl::Status& status) {
  return absl::IsUnavailable(status) && base::ReasonOf(status).empty();
}

const base::Tls* TlsOf(const CoordinatorOptions& options) {
  return options.tls.ok() ? options.tls->get() : nullptr;
}

// Where there was a connection in plain text, its end says nothing of encryption; an encrypted one
// is there for a moment before its other end has looked at this one's certificate.
std::string HintOf(const absl::Status& error, bool was_connected, bool is_encrypted) {
  if (was_connected && !is_encrypted) return "";
  return base::EncryptionHint(std::string(error.message()), is_encrypted);
}

}  // namespace

class Coordinator::Impl {
 public:
  Impl(const CoordinatorOptions& options, const std::function<void(const std::string&)>& tell,
       std::string* store_failure)
      : options_(options),
        tell_(tell),
        store_failure_(*store_failure),
        channel_(base::MakeChannel(options.address, TlsOf(options))),
        jobs(v1::JobService::NewStub(channel_)),
        logs(v1::LogService::NewStub(channel_)),
        metrics(v1::MetricsService::NewStub(channel_)),
        workers(v1::WorkerService::NewStub(channel_)) {}

  // Tries `call` until it gives anything but UNAVAILABLE, or the time is over, or `stop`.
  absl::Status Retry(nanoseconds retry_for, StopSignal* stop,
                     const std::function<absl::Status()>& call) {
    if (!options_.tls.ok()) return AsUsageError(options_.tls.status());
    if (!Connect()) return Unreachable(base::AskHealth(channel_, kAskWhy));
    auto end = steady_clock::now() + options_.retry_for.value_or(retry_for);
    bool said = false;
    while (true) {
      progress_ = false;
      absl::Status status = call();
      if (stop != nullptr && stop->stopped()) return absl::CancelledError("interrupted");
      // What it calls invalid is what the user gave: all else of a request is made here.
      if (absl::IsInvalidArgument(status)) return AsUsageError(status);
      if (!absl::IsUnavailable(status)) return status;
      const auto now = steady_clock::now();
      if (progress_) {
        // A stream that brought something was alive: its time to come back counts from here.
        end = now + options_.retry_for.value_or(retry_for);
        said = false;
      }
      if (now >= end) return IsNoAnswer(status) ? Unreachable(status) : status;
      if (!said && tell_) {
        // What it says of itself may concern the jobs too.
        tell_(IsNoAnswer(status) ? absl::StrCat("coordinator ", options_.address, " is away (",
                                                status.message(), "); jobs go on; trying again")
                                 : absl::StrCat("coordinator ", options_.address, ": ",
                                                status.message(), "; trying again"));
      }
      said = true;
      if ((stop == nullptr ? &never_ : stop)->WaitFor(kRetryPause)) {
        return absl::CancelledError("interrupted");
      }
    }
  }

  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub* stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request) {
    Response response;
    const absl::Status status = Retry(kRetryCall, nullptr, [&] {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
      response.Clear();
      const absl::Status result = base::FromGrpc((stub->*method)(&context, request, &response));
      const auto& metadata = context.GetServerTrailingMetadata();
      const auto failure = metadata.find(kStoreFailureKey);
      store_failure_ = failure == metadata.end()
                           ? std::string()
                           : std::string(failure->second.data(), failure->second.size());
      return result;
    });
    if (!status.ok()) return status;
    return response;
  }

  absl::StatusOr<v1::Job> Act(grpc::Status (v1::JobService::Stub::*method)(
                                  grpc::ClientContext*, const v1::JobActionRequest&, v1::Job*),
                              const std::string& job_id) {
    v1::JobActionRequest request;
    request.set_job_id(job_id);
    request.set_request_id(base::RandomId());
    return Call(jobs.get(), method, request);
  }

  void NoteProgress() { progress_ = true; }

 private:
  // Waits for the first connection only: afterwards gRPC connects again by itself.
  bool Connect() {
    if (connected_) return true;
    const nanoseconds patience = options_.retry_for.value_or(nanoseconds(kFirstConnect));
    connected_ = channel_->WaitForConnected(
        std::chrono::system_clock::now() +
        std::chrono::duration_cast<std::chrono::system_clock::duration>(patience));
    return connected_;
  }

  // Asked only where nobody answers: a name may become known while calls are tried again.
  bool IsUnknownHost() const {
    const std::string host = options_.address.substr(0, options_.address.rfind(':'));
    // Addresses, sockets and schemes of gRPC's are no names.
    if (host.find_first_of(":/") != std::string::npos) return false;
    addrinfo* found = nullptr;
    const int result = getaddrinfo(host.c_str(), nullptr, nullptr, &found);
    if (result == 0) freeaddrinfo(found);
    return result == EAI_NONAME;
  }

  // `error` is gRPC's.
  absl::Status Unreachable(const absl::Status& error) const {
    const std::string who =
        absl::StrCat("coordinator ", options_.address, " (", options_.address_source, ")");
    if (IsUnknownHost()) {
      return UnreachableError(absl::StrCat(who,
                                           ": no host of this name is known; correct the name, or "
                                           "name another with --coordinator HOST:PORT"));
    }
    const bool is_encrypted = TlsOf(options_) != nullptr;
    const std::string hint = HintOf(error, connected_, is_encrypted);
    if (!hint.empty()) return UnreachableError(absl::StrCat(who, " does not answer; ", hint));
    if (connected_) {
      return UnreachableError(absl::StrCat(who, " does not answer: ", error.message()));
    }
    return UnreachableError(absl::StrCat(
        who, " does not answer: no connection",
        is_encrypted ? "; it may be away"
                     : "; see `sinkforge local status`, start one on this machine with `sinkforge "
                       "local up`, or name another with --coordinator"));
  }

  const CoordinatorOptions& options_;
  const std::function<void(const std::string&)>& tell_;
  std::string& store_failure_;
  std::shared_ptr<grpc::Channel> channel_;
  StopSignal never_{StopSignal::Source::kNone};  // for calls that wait without one
  bool connected_ = false;
  bool progress_ = false;  // the current stream brought something

 public:
  std::unique_ptr<v1::JobService::Stub> jobs;
  std::unique_ptr<v1::LogService::Stub> logs;
  std::unique_ptr<v1::MetricsService::Stub> metrics;
  std::unique_ptr<v1::WorkerService::Stub> workers;
};

Coordinator::Coordinator(CoordinatorOptions options)
    : options_(std::move(options)),
      impl_(std::make_unique<Impl>(options_, tell_, &store_failure_)) {}
Coordinator::~Coordinator() = default;

const base::Tls* Coordinator::tls() const { return TlsOf(options_); }

absl::StatusOr<v1::Job> Coordinator::SubmitJob(const v1::SubmitJobRequest& request) {
  return impl_->Call(impl_->jobs.get(), &v1::JobService::Stub::SubmitJob, request);
}

absl::StatusOr<v1::Job> Coordinator::GetJob(const std::string& job_id) {
  v1::GetJobRequest request;
  request.set_job_id(job_id);
  return impl_->Call(impl_->jobs.get(), &v1::JobService::Stub::GetJob, request);
}

absl::StatusOr<v1::ListJobsResponse> Coordinator::ListJobs(v1::ListJobsRequest request,
                                                           int64_t count_max) {
  v1::ListJobsResponse all;
  while (true) {
    const int64_t wanted = count_max - all.jobs_size();
    request.set_page_size(static_cast<int32_t>(std::min<int64_t>(kPageSize, wanted)));
    auto page = impl_->Call(impl_->jobs.get(), &v1::JobService::Stub::ListJobs, request);
    if (!page.ok()) return page.status();
    all.mutable_jobs()->MergeFrom(page->jobs());
    all.set_next_page_token(page->next_page_token());
    if (page->next_page_token().empty() || all.jobs_size() >= count_max) return all;
    request.set_page_token(page->next_page_token());
  }
}

absl::StatusOr<v1::Job> Coordinator::CancelJob(const std::string& job_id) {
  return impl_->Act(&v1::JobService::Stub::CancelJob, job_id);
}

absl::StatusOr<v1::Job> Coordinator::PauseJob(const std::string& job_id) {
  return impl_->Act(&v1::JobService::Stub::PauseJob, job_id);
}

absl::StatusOr<v1::Job> Coordinator::ResumeJob(const std::string& job_id) {
  return impl_->Act(&v1::JobService::Stub::ResumeJob, job_id);
}

absl::Status Coordinator::DeleteJob(const std::string& job_id) {
  v1::JobActionRequest request;
  request.set_job_id(job_id);
  request.set_request_id(base::RandomId());
  return impl_->Call(impl_->jobs.get(), &v1::JobService::Stub::DeleteJob, request).status();
}

absl::StatusOr<v1::Job> Coordinator::DeleteCheckpoint(const std::string& job_id, int64_t step) {
  v1::DeleteCheckpointRequest request;
  request.set_job_id(job_id);
  request.set_step(step);
  request.set_request_id(base::RandomId());
  return impl_->Call(impl_->jobs.get(), &v1::JobService::Stub::DeleteCheckpoint, request);
}

absl::StatusOr<v1::ListEventsResponse> Coordinator::ListEvents(const std::string& job_id) {
  v1::ListEventsResponse all;
  v1::ListEventsRequest request;
  request.set_job_id(job_id);
  request.set_page_size(kPageSize);
  while (true) {
    auto page = impl_->Call(impl_->jobs.get(), &v1::JobService::Stub::ListEvents, request);
    if (!page.ok()) return page.status();
    if (page->events().empty()) return all;
    request.set_after_sequence(page->events().rbegin()->sequence());
    all.mutable_events()->MergeFrom(page->events());
  }
}

absl::StatusOr<v1::QueryMetricsResponse> Coordinator::QueryMetrics(
    const v1::QueryMetricsRequest& request) {
  return impl_->Call(impl_->metrics.get(), &v1::MetricsService::Stub::QueryMetrics, request);
}

absl::StatusOr<v1::ListWorkersResponse> Coordinator::ListWorkers() {
  return impl_->Call(impl_->workers.get(), &v1::WorkerService::Stub::ListWorkers,
                     v1::ListWorkersRequest());
}

absl::StatusOr<v1::Worker> Coordinator::DrainWorker(const std::string& worker,
                                                    const std::string& note) {
  v1::DrainWorkerRequest request;
  request.set_worker(worker);
  request.set_note(note);
  return impl_->Call(impl_->workers.get(), &v1::WorkerService::Stub::DrainWorker, request);
}

absl::StatusOr<v1::Worker> Coordinator::UndrainWorker(const std::string& worker) {
  v1::UndrainWorkerRequest request;
  request.set_worker(worker);
  return impl_->Call(impl_->workers.get(), &v1::WorkerService::Stub::UndrainWorker, request);
}

absl::StatusOr<v1::ForgetWorkerResponse> Coordinator::ForgetWorker(const std::string& worker) {
  v1::ForgetWorkerRequest request;
  request.set_worker(worker);
  request.set_request_id(base::RandomId());
  return impl_->Call(impl_->workers.get(), &v1::WorkerService::Stub::ForgetWorker, request);
}

absl::StatusOr<v1::ListNamespacesResponse> Coordinator::ListNamespaces() {
  return impl_->Call(impl_->jobs.get(), &v1::JobService::Stub::ListNamespaces,
                     v1::ListNamespacesRequest());
}

absl::StatusOr<v1::Namespace> Coordinator::UpdateNamespace(
    const v1::UpdateNamespaceRequest& request) {
  return impl_->Call(impl_->jobs.get(), &v1::JobService::Stub::UpdateNamespace, request);
}

absl::Status Coordinator::WatchJob(
    v1::WatchJobRequest request, StopSignal* stop,
    const std::function<bool(const v1::WatchJobResponse&)>& on_message) {
  bool wanted = true;
  v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
  return impl_->Retry(kRetryStream, stop, [&] {
    grpc::ClientContext context;
    StopSignal::Hook hook(stop, [&context] { context.TryCancel(); });
    auto reader = impl_->jobs->WatchJob(&context, request);
    v1::WatchJobResponse message;
    while (wanted && reader->Read(&message)) {
      impl_->NoteProgress();
      state = message.job().state();
      for (const v1::StepRecord& record : message.steps()) {
        if (request.after_step() >= 0) request.set_after_step(record.step());
      }
      wanted = on_message(message);
    }
    if (!wanted) context.TryCancel();
    const absl::Status status = base::FromGrpc(reader->Finish());
    if (!wanted) return absl::OkStatus();
    // A coordinator that shuts down in order may end the stream with OK before the job is final.
    if (status.ok() && !IsFinal(state)) return absl::UnavailableError("it ended the stream");
    return status;
  });
}

absl::Status Coordinator::ReadLogs(const v1::ReadLogsRequest& request, StopSignal* stop,
                                   const std::function<void(const v1::LogLine&)>& on_line) {
  std::map<std::pair<int64_t, int32_t>, int64_t> seen;  // (attempt, rank): last sequence
  v1::ReadLogsRequest current = request;
  return impl_->Retry(kRetryStream, stop, [&] {
    grpc::ClientContext context;
    StopSignal::Hook hook(stop, [&context] { context.TryCancel(); });
    auto reader = impl_->logs->ReadLogs(&context, current);
    v1::ReadLogsResponse message;
    while (reader->Read(&message)) {
      impl_->NoteProgress();
      for (const v1::LogLine& line : message.lines()) {
        int64_t& last = seen[{line.attempt(), line.rank()}];
        if (line.sequence() <= last) continue;
        last = line.sequence();
        on_line(line);
      }
      // A second stream must bring what came since; the lines before are dropped above.
      if (!seen.empty()) current.clear_tail();
    }
    return base::FromGrpc(reader->Finish());
  });
}

absl::Status ReadCheckpointPart(
    const std::string& address, const base::Tls* tls, const v1::ReadCheckpointRequest& request,
    StopSignal* stop, const std::function<absl::Status(const v1::CheckpointData&)>& on_data) {
  auto stub = v1::CheckpointService::NewStub(base::MakeChannel(address, tls));
  grpc::ClientContext context;
  StopSignal::Hook hook(stop, [&context] { context.TryCancel(); });
  auto reader = stub->ReadCheckpoint(&context, request);
  v1::CheckpointData data;
  absl::Status result;
  while (result.ok() && reader->Read(&data)) result = on_data(data);
  if (!result.ok()) context.TryCancel();
  const absl::Status status = base::FromGrpc(reader->Finish());
  if (!result.ok()) return result;
  if (absl::IsUnavailable(status)) {
    // Where there was a connection, its end says nothing of encryption.
    const std::string hint =
        absl::StrContains(status.message(), "failed to connect")
            ? base::EncryptionHint(std::string(status.message()), tls != nullptr)
            : "";
    return absl::UnavailableError("the worker does not answer" +
                                  (hint.empty() ? " (see `sinkforge workers`)" : "; " + hint));
  }
  return status;
}

absl::Status CheckHealth(const std::string& address, nanoseconds timeout, const base::Tls* tls) {
  const auto deadline = std::chrono::system_clock::now() +
                        std::chrono::duration_cast<std::chrono::microseconds>(timeout);
  auto channel = base::MakeChannel(address, tls);
  const bool connected = channel->WaitForConnected(deadline);
  const absl::Status status =
      base::AskHealth(channel, connected ? deadline - std::chrono::system_clock::now() : kAskWhy);
  if (status.ok()) return status;
  if (absl::IsFailedPrecondition(status)) {
    return absl::FailedPreconditionError(absl::StrCat(address, " is not serving"));
  }
  const std::string hint = HintOf(status, connected, tls != nullptr);
  return absl::UnavailableError(
      absl::StrCat(address, ": does not answer", hint.empty() ? "" : "; ", hint));
}

}  // namespace sinkforge::client
