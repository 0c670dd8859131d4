// prometheus-cpp behind Metrics; see metrics.h.
#include "base/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <utility>

namespace sinkforge::base {
namespace {

class PrometheusCounter final : public Counter {
 public:
  explicit PrometheusCounter(prometheus::Counter* counter) : counter_(counter) {}
  void Increment(double by) override { counter_->Increment(by); }

 private:
  prometheus::Counter* const counter_;
};

class PrometheusHistogram final : public Histogram {
 public:
  explicit PrometheusHistogram(prometheus::Histogram* histogram) : histogram_(histogram) {}
  void Observe(double value) override { histogram_->Observe(value); }

 private:
  prometheus::Histogram* const histogram_;
};

prometheus::MetricFamily ToPrometheus(const GaugeFamily& family) {
  const bool is_counter = family.type == GaugeFamily::Type::kCounter;
  prometheus::MetricFamily result;
  result.name = family.name;
  result.help = family.help;
  result.type = is_counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
  for (const GaugeFamily::Sample& sample : family.samples) {
    prometheus::ClientMetric metric;
    for (const auto& [name, value] : sample.labels) metric.label.push_back({name, value});
    if (is_counter) {
      metric.counter.value = sample.value;
    } else {
      metric.gauge.value = sample.value;
    }
    result.metric.push_back(std::move(metric));
  }
  return result;
}

class CallbackCollectable final : public prometheus::Collectable {
 public:
  explicit CallbackCollectable(std::function<std::vector<GaugeFamily>()> collect)
      : collect_(std::move(collect)) {}
  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> families;
    for (const GaugeFamily& family : collect_()) {
      if (!family.samples.empty()) families.push_back(ToPrometheus(family));
    }
    return families;
  }

 private:
  const std::function<std::vector<GaugeFamily>()> collect_;
};

class PrometheusMetrics final : public Metrics {
 public:
  Counter* AddCounter(const std::string& name, const std::string& help,
                      const Labels& labels) override {
    auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(*registry_);
    counters_.push_back(std::make_unique<PrometheusCounter>(&family.Add(labels)));
    return counters_.back().get();
  }

  Histogram* AddHistogram(const std::string& name, const std::string& help, const Labels& labels,
                          const std::vector<double>& bounds) override {
    auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_);
    histograms_.push_back(std::make_unique<PrometheusHistogram>(&family.Add(labels, bounds)));
    return histograms_.back().get();
  }

  void AddCollector(std::function<std::vector<GaugeFamily>()> collect) override {
    collectors_.push_back(std::make_shared<CallbackCollectable>(std::move(collect)));
    if (exposer_) exposer_->RegisterCollectable(collectors_.back());
  }

  absl::StatusOr<int> Serve(const std::string& address) override {
    // prometheus-cpp throws where the address cannot be bound.
    try {
      // A connection on which nothing is asked holds a thread until its time is over.
      exposer_ = std::make_unique<prometheus::Exposer>(std::vector<std::string>{
          "listening_ports", address, "num_threads", "32", "request_timeout_ms", "5000"});
    } catch (const std::exception&) {
      return absl::UnavailableError("metrics address " + address +
                                    ": cannot be bound (in use?); choose another with "
                                    "--metrics-listen, port 0 picks a free one");
    }
    exposer_->RegisterCollectable(registry_);
    for (const auto& collector : collectors_) exposer_->RegisterCollectable(collector);
    const std::vector<int> ports = exposer_->GetListeningPorts();
    if (ports.empty()) return absl::UnavailableError("metrics address " + address + ": no port");
    return ports.front();
  }

 private:
  // Shared because the exposer holds weak references to what it serves.
  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  std::vector<std::shared_ptr<CallbackCollectable>> collectors_;
  std::vector<std::unique_ptr<PrometheusCounter>> counters_;
  std::vector<std::unique_ptr<PrometheusHistogram>> histograms_;
  std::unique_ptr<prometheus::Exposer> exposer_;  // last: it stops before what it serves goes
};

}  // namespace

std::unique_ptr<Metrics> Metrics::Create() { return std::make_unique<PrometheusMetrics>(); }

}  // namespace sinkforge::base
