// The calls about jobs; see job_service.h.
#include "server/rpc/job_service.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/rpc.h"
#include "proto/jobspec/resolve.h"
#include "proto/jobspec/validate.h"
#include "server/rpc/errors.h"
#include "server/rpc/watch_stream.h"

namespace sinkforge::server {
namespace {

// Every rank of the job is sent its spec, and all ranks of a worker come in one message.
constexpr size_t kSpecBytesMax = 64 << 10;
constexpr int32_t kPageDefault = 100;
constexpr int32_t kPageMax = 1000;
constexpr size_t kPageBytesMax = 4 << 20;  // half of the largest message
constexpr int64_t kVisitedMax = 20'000;    // jobs looked at for one page: a few milliseconds

absl::Status CheckPageSize(int32_t page_size) {
  if (page_size >= 0 && page_size <= kPageMax) return absl::OkStatus();
  return InvalidField(
      "page_size", absl::StrCat(page_size, ": give 1 to ", kPageMax, ", or 0 for ", kPageDefault));
}

// Resolves and checks what a client wants to submit.
absl::Status PrepareSubmission(v1::SubmitJobRequest* request, int64_t* parameters) {
  const absl::Status id = CheckRequestId(request->request_id());
  if (!id.ok()) return id;
  if (!request->sweep().empty()) {
    const std::string problem = jobspec::NameProblem(request->sweep());
    if (!problem.empty()) {
      return InvalidField("sweep", absl::StrCat("`", Shorten(request->sweep()), "` ", problem));
    }
  }
  if (request->sweep_running_max() < 0) {
    return InvalidField("sweep_running_max", "negative; give 0 for no limit");
  }
  if (request->trace_id().empty()) {
    request->set_trace_id(base::RandomId());
  } else if (!base::IsTraceId(request->trace_id())) {
    return InvalidField("trace_id", "give 32 lower-case hexadecimal digits, not all zero, or none");
  }
  const size_t spec_bytes = request->spec().ByteSizeLong();
  if (spec_bytes > kSpecBytesMax) {
    return InvalidField("spec", absl::StrCat(spec_bytes, " bytes, the limit is ", kSpecBytesMax,
                                             "; name data files by patterns"));
  }
  const auto violations = jobspec::ResolveAndValidateNew(request->mutable_spec());
  if (!violations.empty()) return InvalidJob(violations);
  const auto count = jobspec::ParameterCount(request->spec().model());
  if (!count.has_value()) {
    return InvalidJob({{"model", "it has too many parameters; make it smaller"}});
  }
  *parameters = *count;
  return absl::OkStatus();
}

// The number before which the page begins, as an opaque text.
std::string PageToken(int64_t before_number) { return absl::StrCat("before-", before_number); }

bool ParsePageToken(const std::string& token, int64_t* before_number) {
  constexpr size_t kPrefix = 7;
  if (token.empty()) {
    *before_number = std::numeric_limits<int64_t>::max();
    return true;
  }
  return token.rfind("before-", 0) == 0 && absl::SimpleAtoi(token.substr(kPrefix), before_number) &&
         *before_number > 0;
}

bool IsListed(const v1::ListJobsRequest& request, const v1::Job& job) {
  const auto& states = request.states();
  return (states.empty() || std::find(states.begin(), states.end(), job.state()) != states.end()) &&
         (request.namespace_().empty() || job.spec().namespace_() == request.namespace_()) &&
         (request.sweep().empty() || job.sweep() == request.sweep());
}

void FillPage(const v1::ListJobsRequest& request, int64_t before, const Coordinator& coordinator,
              const base::Now& now, v1::ListJobsResponse* response) {
  const int32_t page_size = request.page_size() == 0 ? kPageDefault : request.page_size();
  size_t bytes = 0;
  int64_t visited = 0;
  int64_t last = 0;
  coordinator.VisitJobs(before, [&](const v1::Job& job) {
    if (response->jobs_size() == page_size || bytes > kPageBytesMax || visited == kVisitedMax) {
      response->set_next_page_token(PageToken(last));
      return false;
    }
    ++visited;
    last = Coordinator::NumberOf(job.job_id());
    if (!IsListed(request, job)) return true;
    v1::Job view = ViewOf(coordinator, job, now);
    bytes += view.ByteSizeLong();
    *response->add_jobs() = std::move(view);
    return true;
  });
}

}  // namespace

grpc::ServerUnaryReactor* JobServiceImpl::SubmitJob(grpc::CallbackServerContext* context,
                                                    const v1::SubmitJobRequest* request,
                                                    v1::Job* response) {
  const UnaryCall call(context, rpc_, "JobService/SubmitJob");
  auto prepared = std::make_shared<v1::SubmitJobRequest>(*request);
  int64_t parameters = 0;
  const absl::Status checked = PrepareSubmission(prepared.get(), &parameters);
  if (!checked.ok() || request->validate_only()) {
    *response->mutable_spec() = prepared->spec();
    response->set_parameters(parameters);
    call.Finish(checked);
    return call.reactor();
  }
  const JobFacts facts{parameters, base::RandomId()};
  rpc_->engine->Mutate(
      [=](Coordinator& coordinator, const base::Now& now, Effects* effects) {
        auto job = coordinator.Submit(*prepared, facts, now, effects);
        if (!job.ok()) return job.status();
        *response = *std::move(job);
        return absl::OkStatus();
      },
      call.finisher(), static_cast<int64_t>(prepared->ByteSizeLong()));
  return call.reactor();
}

grpc::ServerUnaryReactor* JobServiceImpl::GetJob(grpc::CallbackServerContext* context,
                                                 const v1::GetJobRequest* request,
                                                 v1::Job* response) {
  const UnaryCall call(context, rpc_, "JobService/GetJob");
  rpc_->engine->Read(
      [=](const Coordinator& coordinator, const base::Now& now) {
        const v1::Job* job = coordinator.Find(request->job_id());
        if (job == nullptr) return call.Finish(JobNotFound(request->job_id()));
        *response = ViewOf(coordinator, *job, now);
        if (job->state() == v1::JOB_STATE_QUEUED) {
          *response->mutable_wait() = coordinator.ExplainWait(job->job_id());
        }
        call.Finish(absl::OkStatus());
      },
      call.finisher());
  return call.reactor();
}

grpc::ServerUnaryReactor* JobServiceImpl::ListJobs(grpc::CallbackServerContext* context,
                                                   const v1::ListJobsRequest* request,
                                                   v1::ListJobsResponse* response) {
  const UnaryCall call(context, rpc_, "JobService/ListJobs");
  int64_t before = 0;
  absl::Status checked = CheckPageSize(request->page_size());
  if (checked.ok() && !ParsePageToken(request->page_token(), &before)) {
    checked = InvalidField("page_token", "not one of ours; send the next_page_token of a response");
  }
  if (!checked.ok()) {
    call.Finish(checked);
    return call.reactor();
  }
  rpc_->engine->Read(
      [=](const Coordinator& coordinator, const base::Now& now) {
        FillPage(*request, before, coordinator, now, response);
        call.Finish(absl::OkStatus());
      },
      call.finisher());
  return call.reactor();
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* JobServiceImpl::WatchJob(
    grpc::CallbackServerContext*, const v1::WatchJobRequest* request) {
  const auto stream = std::make_shared<WatchStream>(rpc_, *request);
  stream->Open();
  return stream.get();
}

grpc::ServerUnaryReactor* JobServiceImpl::Act(const UnaryCall& call,
                                              const v1::JobActionRequest* request,
                                              v1::Job* response, Action action) {
  const absl::Status checked = CheckRequestId(request->request_id());
  if (!checked.ok()) {
    call.Finish(checked);
    return call.reactor();
  }
  rpc_->engine->Mutate(
      [=](Coordinator& coordinator, const base::Now& now, Effects* effects) {
        auto job = (coordinator.*action)(*request, now, effects);
        if (!job.ok()) return job.status();
        *response = *std::move(job);
        return absl::OkStatus();
      },
      call.finisher(), static_cast<int64_t>(request->ByteSizeLong()));
  return call.reactor();
}

grpc::ServerUnaryReactor* JobServiceImpl::CancelJob(grpc::CallbackServerContext* context,
                                                    const v1::JobActionRequest* request,
                                                    v1::Job* response) {
  return Act(UnaryCall(context, rpc_, "JobService/CancelJob"), request, response,
             &Coordinator::Cancel);
}

grpc::ServerUnaryReactor* JobServiceImpl::PauseJob(grpc::CallbackServerContext* context,
                                                   const v1::JobActionRequest* request,
                                                   v1::Job* response) {
  return Act(UnaryCall(context, rpc_, "JobService/PauseJob"), request, response,
             &Coordinator::Pause);
}

grpc::ServerUnaryReactor* JobServiceImpl::ResumeJob(grpc::CallbackServerContext* context,
                                                    const v1::JobActionRequest* request,
                                                    v1::Job* response) {
  return Act(UnaryCall(context, rpc_, "JobService/ResumeJob"), request, response,
             &Coordinator::Resume);
}

grpc::ServerUnaryReactor* JobServiceImpl::DeleteJob(grpc::CallbackServerContext* context,
                                                    const v1::JobActionRequest* request,
                                                    v1::DeleteJobResponse*) {
  const UnaryCall call(context, rpc_, "JobService/DeleteJob");
  const absl::Status checked = CheckRequestId(request->request_id());
  if (!checked.ok()) {
    call.Finish(checked);
    return call.reactor();
  }
  rpc_->engine->Mutate([=](Coordinator& coordinator, const base::Now& now,
                           Effects* effects) { return coordinator.Delete(*request, now, effects); },
                       call.finisher(), static_cast<int64_t>(request->ByteSizeLong()));
  return call.reactor();
}

grpc::ServerUnaryReactor* JobServiceImpl::DeleteCheckpoint(
    grpc::CallbackServerContext* context, const v1::DeleteCheckpointRequest* request,
    v1::Job* response) {
  const UnaryCall call(context, rpc_, "JobService/DeleteCheckpoint");
  const absl::Status checked = CheckRequestId(request->request_id());
  if (!checked.ok()) {
    call.Finish(checked);
    return call.reactor();
  }
  rpc_->engine->Mutate(
      [=](Coordinator& coordinator, const base::Now& now, Effects* effects) {
        if (coordinator.Find(request->job_id()) == nullptr) return JobNotFound(request->job_id());
        auto job = coordinator.DeleteCheckpoint(*request, now, effects);
        if (absl::IsNotFound(job.status())) {
          return base::WithReason(job.status(), "CHECKPOINT_NOT_FOUND");
        }
        if (!job.ok()) return job.status();
        *response = *std::move(job);
        return absl::OkStatus();
      },
      call.finisher(), static_cast<int64_t>(request->ByteSizeLong()));
  return call.reactor();
}

grpc::ServerUnaryReactor* JobServiceImpl::ListEvents(grpc::CallbackServerContext* context,
                                                     const v1::ListEventsRequest* request,
                                                     v1::ListEventsResponse* response) {
  const UnaryCall call(context, rpc_, "JobService/ListEvents");
  absl::Status checked = CheckPageSize(request->page_size());
  const int64_t after = request->after_sequence();
  if (checked.ok() && (after < 0 || after == std::numeric_limits<int64_t>::max())) {
    checked = InvalidField("after_sequence", "give the sequence of the last event you have, or 0");
  }
  if (!checked.ok()) {
    call.Finish(checked);
    return call.reactor();
  }
  const auto list = [=, this] {
    const int limit = request->page_size() == 0 ? kPageDefault : request->page_size();
    auto events = rpc_->jobs->ListEvents(request->job_id(), after, limit);
    if (!events.ok()) return call.Finish(events.status());
    for (v1::Event& event : *events) *response->add_events() = std::move(event);
    call.Finish(absl::OkStatus());
  };
  rpc_->engine->Read(
      [=, this](const Coordinator& coordinator, const base::Now&) {
        if (coordinator.Find(request->job_id()) == nullptr) {
          return call.Finish(JobNotFound(request->job_id()));
        }
        const absl::Status queued = rpc_->pool->Run(list);
        if (!queued.ok()) call.Finish(queued);
      },
      call.finisher());
  return call.reactor();
}

grpc::ServerUnaryReactor* JobServiceImpl::ListNamespaces(grpc::CallbackServerContext* context,
                                                         const v1::ListNamespacesRequest*,
                                                         v1::ListNamespacesResponse* response) {
  const UnaryCall call(context, rpc_, "JobService/ListNamespaces");
  rpc_->engine->Read(
      [=](const Coordinator& coordinator, const base::Now&) {
        for (v1::Namespace& name : coordinator.Namespaces()) {
          *response->add_namespaces() = std::move(name);
        }
        call.Finish(absl::OkStatus());
      },
      call.finisher());
  return call.reactor();
}

grpc::ServerUnaryReactor* JobServiceImpl::UpdateNamespace(grpc::CallbackServerContext* context,
                                                          const v1::UpdateNamespaceRequest* request,
                                                          v1::Namespace* response) {
  const UnaryCall call(context, rpc_, "JobService/UpdateNamespace");
  rpc_->engine->Mutate(
      [=](Coordinator& coordinator, const base::Now& now, Effects* effects) {
        auto updated = coordinator.UpdateNamespace(*request, now, effects);
        if (!updated.ok()) return updated.status();
        *response = *std::move(updated);
        return absl::OkStatus();
      },
      call.finisher(), static_cast<int64_t>(request->ByteSizeLong()));
  return call.reactor();
}

}  // namespace sinkforge::server
