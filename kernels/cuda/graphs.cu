// Capture, launch and refusal.
#include <utility>

#include "kernels/cuda/graphs.h"

namespace sinkforge::kernels::cuda {
namespace {

// Why the capture that is under way on this thread came to nothing; nullptr: there is none. What
// fails inside a capture is far down in an op, which has no way to it but the thread.
thread_local std::string* capture_refusal = nullptr;

}  // namespace

bool RefuseCapture(const char* what, const char* why) {
  if (capture_refusal == nullptr) return false;
  if (capture_refusal->empty()) *capture_refusal = std::string(what) + ": " + why;
  return true;
}

Graphs::Graphs(CudaGraphs mode, Stream* stream, std::function<void(const std::string&)> warn)
    : enabled_(mode == CudaGraphs::kOn), stream_(stream), warn_(std::move(warn)) {}

Graphs::~Graphs() { Drop(); }

void Graphs::Run(const WorkKey& key, const std::function<void()>& work) {
  SINKFORGE_CHECK(!running_);
  running_ = true;
  if (enabled_) {
    RunOrLaunch(key, work);
  } else {
    work();
  }
  running_ = false;
}

void Graphs::RunOrLaunch(const WorkKey& key, const std::function<void()>& work) {
  if (freed_ != stream_->freed()) Drop();
  const auto [at, is_new] = pieces_.try_emplace(key, nullptr);
  if (is_new) return work();
  if (at->second == nullptr) {
    cudaGraphExec_t graph = Capture(work);
    if (graph == nullptr) return work();
    at->second = graph;
  }
  CheckCuda(cudaGraphLaunch(at->second, stream_->get()), "launch of a graph");
}

cudaGraphExec_t Graphs::Capture(const std::function<void()>& work) {
  std::string refusal;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  capture_refusal = &refusal;
  // Of this thread alone: what others allocate meanwhile is no concern of the capture.
  CheckCuda(cudaStreamBeginCapture(stream_->get(), cudaStreamCaptureModeThreadLocal),
            "begin of a capture");
  if (refusal.empty()) {
    work();
    CheckCuda(cudaStreamEndCapture(stream_->get(), &graph), "end of a capture");
  }
  if (refusal.empty()) CheckCuda(cudaGraphInstantiate(&executable, graph, 0), "a graph");
  capture_refusal = nullptr;
  if (graph != nullptr) CheckCuda(cudaGraphDestroy(graph), "a captured graph");
  if (refusal.empty()) return executable;
  (void)cudaGetLastError();  // It is said below; later launches must not report it.
  GiveUp(refusal);
  return nullptr;
}

void Graphs::Drop() {
  // One that was launched last may still run.
  if (!pieces_.empty()) stream_->Wait();
  for (const auto& [key, graph] : pieces_) {
    if (graph != nullptr) cudaGraphExecDestroy(graph);
  }
  pieces_.clear();
  freed_ = stream_->freed();
}

void Graphs::GiveUp(const std::string& why) {
  Drop();
  enabled_ = false;
  warn_("CUDA graphs are not used: " + why +
        "; training goes on without them, with the same results");
}

}  // namespace sinkforge::kernels::cuda
