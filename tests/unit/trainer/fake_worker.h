// FakeWorker: a TrainerService in this process that keeps all it is told, and misbehaves on demand.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/rpc.h"
#include "sinkforge/v1/trainer_service.grpc.pb.h"
#include "tests/unit/trainer/memory_store.h"

namespace sinkforge::trainer {

class FakeWorker final : public v1::TrainerService::Service {
 public:
  explicit FakeWorker(std::string socket) : socket_("unix:" + socket) { Start(); }
  ~FakeWorker() override { Stop(); }

  void Start() {
    base::ServerOptions options;
    options.address = socket_;
    options.services = {this};
    auto started = base::StartServer(options);
    if (!started.ok()) ADD_FAILURE() << started.status();
    server_ = std::move(started->server);
  }
  void Stop() {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }
  const std::string& address() const { return socket_; }

  // What the next calls do; each runs under the lock.
  std::function<grpc::Status(const v1::TrainerReport&, v1::TrainerCommand*)> on_report;
  std::function<grpc::Status(const v1::CheckpointPart&)> on_checkpoint;
  std::function<grpc::Status()> on_assignment;

  v1::Assignment assignment;         // of the token "secret"
  v1::Assignment second_assignment;  // of the token "second", for a world of two

  // Everything reported; call when no trainer runs, or inside WaitFor.
  std::vector<v1::TrainerReport> reports;
  std::map<int64_t, v1::StepRecord> records;
  std::map<int32_t, std::map<int64_t, std::vector<v1::CheckpointData>>> parts_of_rank;
  std::map<int64_t, std::vector<v1::CheckpointData>>& parts = parts_of_rank[0];  // by step

  // Waits until the condition, which is evaluated after every call, holds.
  void WaitFor(const std::function<bool()>& condition) {
    base::MutexLock lock(&mutex_);
    while (!condition()) changed_.Wait(&lock);
  }

  grpc::Status GetAssignment(grpc::ServerContext*, const v1::GetAssignmentRequest* request,
                             v1::Assignment* response) override {
    const base::MutexLock lock(&mutex_);
    if (request->token() == "second") {
      *response = second_assignment;
      return grpc::Status::OK;
    }
    if (request->token() != "secret") return {grpc::StatusCode::FAILED_PRECONDITION, "token"};
    if (on_assignment) {
      const grpc::Status status = on_assignment();
      if (!status.ok()) return status;
    }
    *response = assignment;
    return grpc::Status::OK;
  }

  grpc::Status Report(grpc::ServerContext*, const v1::TrainerReport* request,
                      v1::TrainerCommand* response) override {
    const base::MutexLock lock(&mutex_);
    response->set_run(v1::RUN_REQUEST_TRAIN);
    if (on_report) {
      const grpc::Status status = on_report(*request, response);
      if (!status.ok()) return status;
    }
    reports.push_back(*request);
    for (const v1::StepRecord& record : request->steps()) records[record.step()] = record;
    changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status WriteCheckpoint(grpc::ServerContext*,
                               grpc::ServerReader<v1::WriteCheckpointRequest>* stream,
                               v1::WriteCheckpointResponse* response) override {
    v1::WriteCheckpointRequest request;
    v1::CheckpointPart part;
    std::vector<v1::CheckpointData> data;
    while (stream->Read(&request)) {
      if (request.has_header()) {
        part = request.header().part();
        const base::MutexLock lock(&mutex_);
        const grpc::Status status = on_checkpoint ? on_checkpoint(part) : grpc::Status::OK;
        if (!status.ok()) return status;
      } else {
        data.push_back(request.data());
      }
    }
    const base::MutexLock lock(&mutex_);
    if (data.empty() || !data.back().has_trailer()) return grpc::Status::CANCELLED;
    parts_of_rank[part.rank()][part.step()] = std::move(data);
    *response->mutable_part() = part;
    changed_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status ReadCheckpoint(grpc::ServerContext*, const v1::ReadCheckpointRequest* request,
                              grpc::ServerWriter<v1::CheckpointData>* stream) override {
    const base::MutexLock lock(&mutex_);
    const auto& held = parts_of_rank[request->rank()];
    const auto found = held.find(request->step());
    if (found == held.end()) return {grpc::StatusCode::NOT_FOUND, "not held here"};
    for (const v1::CheckpointData& data : found->second) stream->Write(data);
    return grpc::Status::OK;
  }

  grpc::Status PutRendezvous(grpc::ServerContext*, const v1::TrainerPutRendezvousRequest* request,
                             v1::PutRendezvousResponse*) override {
    const auto put = rendezvous_.Put(request->key(), request->value());
    return put.ok() ? grpc::Status::OK : grpc::Status(grpc::StatusCode::UNAVAILABLE, "away");
  }

  grpc::Status GetRendezvous(grpc::ServerContext* context,
                             const v1::TrainerGetRendezvousRequest* request,
                             v1::GetRendezvousResponse* response) override {
    while (!context->IsCancelled()) {
      const auto got = rendezvous_.Get(request->key(), std::chrono::milliseconds(20));
      if (!got.ok()) continue;
      response->set_value(got.value());
      return grpc::Status::OK;
    }
    return grpc::Status::CANCELLED;
  }

  // Ranks of a new attempt must not find the addresses of an old one.
  void ForgetRendezvous() { rendezvous_.Clear(); }

 private:
  MemoryStore rendezvous_;
  const std::string socket_;
  std::unique_ptr<grpc::Server> server_;
  base::Mutex mutex_;
  base::CondVar changed_;
};

}  // namespace sinkforge::trainer
