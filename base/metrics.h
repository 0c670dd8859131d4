// Metrics for Prometheus: counters and histograms that code bumps, and collectors that are asked at
// each scrape. The only place that includes prometheus-cpp. Names by the conventions:
// sinkforge_<noun>_<unit>[_total], base units, HELP always.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sinkforge::base {

using Labels = std::map<std::string, std::string>;

class Counter {
 public:
  virtual ~Counter() = default;
  virtual void Increment(double by = 1) = 0;
};

class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double value) = 0;
};

struct GaugeFamily {
  struct Sample {
    Labels labels;
    double value = 0;
  };
  enum class Type { kGauge, kCounter };
  std::string name;
  std::string help;
  Type type = Type::kGauge;
  std::vector<Sample> samples;
};

// Thread-safe. The pointers live as long as the Metrics.
class Metrics {
 public:
  static std::unique_ptr<Metrics> Create();
  virtual ~Metrics() = default;
  virtual Counter* AddCounter(const std::string& name, const std::string& help,
                              const Labels& labels) = 0;
  virtual Histogram* AddHistogram(const std::string& name, const std::string& help,
                                  const Labels& labels, const std::vector<double>& bounds) = 0;
  // Called at every scrape, on the scraper's thread. Families without samples are left out.
  virtual void AddCollector(std::function<std::vector<GaugeFamily>()> collect) = 0;
  // Serves /metrics on "host:port" until the Metrics is destroyed; port 0 picks one. Returns the
  // port. UNAVAILABLE: the address cannot be bound; the message names it and the flag that changes
  // it.
  virtual absl::StatusOr<int> Serve(const std::string& address) = 0;
};

}  // namespace sinkforge::base
