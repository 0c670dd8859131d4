// Graphs: pieces of a step kept as CUDA graphs, so that launching a piece again costs one call and
// not one for each of its kernels.
//
// A piece is done directly the first time, when workspaces grow and the matrix library chooses its
// algorithms. The second time it is captured, and from then on its graph is launched. A graph holds
// the addresses and the numbers that its kernels were launched with; when any memory of the backend
// is freed, all graphs are dropped and their pieces begin anew.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/stream.h"

namespace sinkforge::kernels::cuda {

// Owned by the backend; used by its one thread.
class Graphs {
 public:
  // `warn` is told once where the driver or the matrix library refuses a capture: every piece is
  // done directly from then on, with the same results.
  Graphs(CudaGraphs mode, Stream* stream, std::function<void(const std::string&)> warn);
  ~Graphs();
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  // `work` launches on the stream and neither waits for it nor reads the host's memory later than
  // the call; with the same key it launches the same. Not inside another Run.
  void Run(const WorkKey& key, const std::function<void()>& work);
  // Whether a Run is under way: nothing may wait for the stream then.
  bool running() const { return running_; }

 private:
  void RunOrLaunch(const WorkKey& key, const std::function<void()>& work);
  // nullptr: refused, and nothing of `work` was done.
  cudaGraphExec_t Capture(const std::function<void()>& work);
  void Drop();
  void GiveUp(const std::string& why);

  bool enabled_;
  Stream* stream_;
  std::function<void(const std::string&)> warn_;
  bool running_ = false;
  int64_t freed_ = 0;                          // Stream::freed when the graphs were begun
  std::map<WorkKey, cudaGraphExec_t> pieces_;  // nullptr: done directly, once
};

}  // namespace sinkforge::kernels::cuda
