// Submissions by callbacks; see load_submitter.h.
#include "load_submitter.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <utility>

#include "base/rpc.h"
#include "load_process.h"

namespace sinkforge::bench {

using std::chrono::steady_clock;

struct Submitter::Call {
  grpc::ClientContext context;
  v1::SubmitJobRequest request;
  v1::Job response;
};

Submitter::Submitter(const std::string& address, const std::string& prefix)
    : stub_(v1::JobService::NewStub(base::MakeChannel(address))), prefix_(prefix) {}

Submitter::~Submitter() {
  for (int i = 0; i < kInFlight; ++i) slots_.acquire();
}

void Submitter::Submit() {
  slots_.acquire();
  v1::SubmitJobRequest request;
  if (!TakeRefused(&request)) {
    request.set_request_id(prefix_ + "-" + std::to_string(++count_));
    v1::JobSpec* spec = request.mutable_spec();
    spec->set_name("load");
    spec->mutable_data()->add_train("corpus/*.txt");
    spec->mutable_data()->add_validation("validation.txt");
    spec->mutable_train()->set_steps(100);
    spec->mutable_checkpoint()->set_keep(1);
  }
  Send(std::move(request));
}

bool Submitter::TakeRefused(v1::SubmitJobRequest* request) {
  base::MutexLock lock(&mutex_);
  if (refused_.empty()) return false;
  *request = std::move(refused_.front());
  refused_.pop_front();
  return true;
}

void Submitter::Send(v1::SubmitJobRequest request) {
  auto call = std::make_shared<Call>();
  call->request = std::move(request);
  const auto begin = steady_clock::now();
  stub_->async()->SubmitJob(
      &call->context, &call->request, &call->response,
      [this, call, begin](const grpc::Status& status) {
        const bool is_away = status.error_code() == grpc::StatusCode::UNAVAILABLE;
        if (!status.ok() && !is_away) Die("submit: " + status.error_message());
        const double seconds = std::chrono::duration<double>(steady_clock::now() - begin).count();
        {
          base::MutexLock lock(&mutex_);
          if (is_away) {
            refused_.push_back(std::move(call->request));
          } else {
            times_.push_back(seconds);
            jobs_.insert(call->response.job_id());
            ++acknowledged_count_;
          }
        }
        slots_.release();
      });
}

void Submitter::Finish() {
  while (true) {
    for (int i = 0; i < kInFlight; ++i) slots_.acquire();
    for (int i = 0; i < kInFlight; ++i) slots_.release();
    v1::SubmitJobRequest request;
    if (!TakeRefused(&request)) return;
    slots_.acquire();
    Send(std::move(request));
  }
}

std::vector<double> Submitter::TakeTimes() {
  base::MutexLock lock(&mutex_);
  return std::exchange(times_, {});
}

std::set<std::string> Submitter::acknowledged_jobs() const {
  base::MutexLock lock(&mutex_);
  return jobs_;
}

Refill::Refill(Submitter* submitter, std::function<int64_t()> wanted)
    : thread_([submitter, wanted = std::move(wanted)](const std::stop_token& stop) {
        int64_t submitted = 0;
        while (!stop.stop_requested()) {
          for (; submitted < wanted() && !stop.stop_requested(); ++submitted) submitter->Submit();
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      }) {}

std::set<std::string> ListJobs(const std::string& address) {
  const auto stub = v1::JobService::NewStub(base::MakeChannel(address));
  std::set<std::string> jobs;
  v1::ListJobsRequest request;
  request.set_page_size(1000);
  do {
    grpc::ClientContext context;
    v1::ListJobsResponse response;
    const grpc::Status status = stub->ListJobs(&context, request, &response);
    if (!status.ok()) Die("list: " + status.error_message());
    for (const v1::Job& job : response.jobs()) jobs.insert(job.job_id());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return jobs;
}

}  // namespace sinkforge::bench
