// EvaluationProgress: how far an evaluation is, on stderr: a line that is redrawn on a terminal,
// elsewhere a line now and then.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace sinkforge::trainer {

class EvaluationProgress {
 public:
  // `name`: what is evaluated.
  explicit EvaluationProgress(std::string name);
  ~EvaluationProgress();
  EvaluationProgress(const EvaluationProgress&) = delete;
  EvaluationProgress& operator=(const EvaluationProgress&) = delete;

  // Of positions that the model reads.
  void Show(int64_t done, int64_t total);

 private:
  std::string name_;
  bool terminal_;
  std::chrono::nanoseconds start_;
  std::chrono::nanoseconds shown_;
  bool drawn_ = false;
};

}  // namespace sinkforge::trainer
