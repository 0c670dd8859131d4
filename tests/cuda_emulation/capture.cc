// The calling thread's capture, and graphs as lists of work.
#include "tests/cuda_emulation/capture.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "tests/cuda_emulation/failures.h"
#include "tests/cuda_emulation/include/cuda_runtime.h"

namespace emulation {

struct Graph {
  std::vector<std::function<void()>> nodes;
  int freed = 0;  // how often memory had been freed when it was captured
};

struct GraphExecutable {
  Graph graph;
};

namespace {

struct CaptureState {
  Stream* stream = nullptr;  // nullptr: no capture is under way
  bool invalid = false;
  Graph graph;
};
thread_local CaptureState capture;
thread_local int last_error = cudaSuccess;

std::atomic<int> freed = 0;
std::atomic<int> captured = 0;
std::atomic<int> launched = 0;
std::atomic<int> alive = 0;

[[noreturn]] void EndProgram(const char* why) {
  std::fprintf(stderr, "emulated CUDA graphs: %s\n", why);
  std::abort();
}

}  // namespace

int BeginCapture(Stream* stream) {
  if (const int error = FailureOf(CudaCall::kBeginCapture); error != 0) return error;
  if (stream == nullptr) return cudaErrorStreamCaptureUnsupported;
  if (capture.stream != nullptr) return cudaErrorIllegalState;
  capture = {stream, false, {{}, freed}};
  return cudaSuccess;
}

int EndCapture(Stream* stream, Graph** graph) {
  *graph = nullptr;
  if (capture.stream != stream) return cudaErrorIllegalState;
  CaptureState ended = std::exchange(capture, {});
  if (const int error = FailureOf(CudaCall::kEndCapture); error != 0) return error;
  if (ended.invalid) return cudaErrorStreamCaptureInvalidated;
  *graph = new Graph(std::move(ended.graph));
  return cudaSuccess;
}

int Instantiate(GraphExecutable** executable, const Graph* graph) {
  if (const int error = FailureOf(CudaCall::kInstantiate); error != 0) return error;
  *executable = new GraphExecutable{*graph};
  ++captured;
  ++alive;
  return cudaSuccess;
}

int LaunchGraph(const GraphExecutable& executable, Stream* stream) {
  if (const int error = RefuseInCapture(); error != 0) return error;
  if (executable.graph.freed != freed) {
    EndProgram("a graph is launched, and memory was freed since it was captured");
  }
  for (const std::function<void()>& node : executable.graph.nodes) Enqueue(stream, node);
  ++launched;
  return cudaSuccess;
}

void DestroyGraph(Graph* graph) { delete graph; }

void DestroyExecutable(GraphExecutable* executable) {
  delete executable;
  --alive;
}

int RefuseInCapture() {
  if (capture.stream == nullptr) return cudaSuccess;
  capture.invalid = true;
  return cudaErrorStreamCaptureUnsupported;
}

bool Captures(Stream* stream, const std::function<void()>& work, int* error) {
  *error = cudaSuccess;
  if (capture.stream == nullptr) return false;
  if (stream == nullptr) {
    // The default stream would have to wait for the capturing one, which does nothing now.
    capture.invalid = true;
    *error = cudaErrorStreamCaptureImplicit;
  } else if (stream != capture.stream) {
    EndProgram("work goes to another stream during a capture, and would be missing in the graph");
  } else if (capture.invalid) {
    *error = cudaErrorStreamCaptureInvalidated;
  } else {
    capture.graph.nodes.push_back(work);
  }
  return true;
}

void NoteFree() { ++freed; }

void Launch(Stream* stream, const std::function<void()>& kernel) {
  if (capture.stream != nullptr) {
    last_error = FailureOf(CudaCall::kLaunchInCapture);
    if (last_error != cudaSuccess) {
      capture.invalid = true;
      return;
    }
  }
  last_error = Enqueue(stream, kernel);
}

int TakeLastError() { return std::exchange(last_error, static_cast<int>(cudaSuccess)); }

GraphCounts CountGraphs() { return {captured, launched, alive}; }

}  // namespace emulation
