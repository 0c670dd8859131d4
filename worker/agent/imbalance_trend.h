// ImbalanceTrend: where the imbalance of an attempt goes, counted in steps, so that a job of a step
// a minute and one of a hundred a second are judged alike.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>

namespace sinkforge::worker {

// Not thread-safe.
class ImbalanceTrend {
 public:
  static constexpr size_t kMeanSteps = 50;    // the batches' noise is gone in a mean of so many
  static constexpr size_t kApartSteps = 100;  // what is newer is not compared with

  // Of the next step. What is not a number is left out: the job is about to end by it.
  void Add(double imbalance);
  // Of the last kMeanSteps steps; absent before there are as many.
  std::optional<double> mean() const;
  // The least such mean of those that are kApartSteps old or older; absent before there is one.
  std::optional<double> least() const { return least_; }

 private:
  std::deque<double> steps_;  // the last kMeanSteps
  std::deque<double> means_;  // the last kApartSteps, the present one at the end
  std::optional<double> least_;
};

}  // namespace sinkforge::worker
