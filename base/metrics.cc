// prometheus-cpp behind Metrics; see metrics.h. Its own server is not used: it adds families about
// itself, without our prefix, and would have threads and time-outs beside those of http.cc.
#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <utility>

#include "base/http.h"
#include "base/mutex.h"

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

class PrometheusMetrics final : public Metrics {
 public:
  Counter* AddCounter(const std::string& name, const std::string& help,
                      const Labels& labels) override EXCLUDES_LOCK(mutex_) {
    MutexLock lock(&mutex_);
    auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
    counters_.push_back(std::make_unique<PrometheusCounter>(&family.Add(labels)));
    return counters_.back().get();
  }

  Histogram* AddHistogram(const std::string& name, const std::string& help, const Labels& labels,
                          const std::vector<double>& bounds) override EXCLUDES_LOCK(mutex_) {
    MutexLock lock(&mutex_);
    auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(registry_);
    histograms_.push_back(std::make_unique<PrometheusHistogram>(&family.Add(labels, bounds)));
    return histograms_.back().get();
  }

  void AddCollector(std::function<std::vector<GaugeFamily>()> collect) override
      EXCLUDES_LOCK(mutex_) {
    MutexLock lock(&mutex_);
    collectors_.push_back(std::move(collect));
  }

  absl::StatusOr<int> Serve(const std::string& address) override {
    auto server = HttpServer::Start(address, "--metrics-listen",
                                    [this](const HttpRequest& request) { return Answer(request); });
    if (!server.ok()) return server.status();
    server_ = *std::move(server);
    return server_->port();
  }

 private:
  HttpResponse Answer(const HttpRequest& request) const {
    if (request.path != "/metrics") {
      return {404, "text/plain; charset=utf-8", "nothing is here; try /metrics\n"};
    }
    return {200, "text/plain; version=0.0.4; charset=utf-8",
            prometheus::TextSerializer().Serialize(Collect())};
  }

  std::vector<prometheus::MetricFamily> Collect() const EXCLUDES_LOCK(mutex_) {
    std::vector<prometheus::MetricFamily> families = registry_.Collect();
    std::vector<std::function<std::vector<GaugeFamily>()>> collectors;
    {
      MutexLock lock(&mutex_);
      collectors = collectors_;
    }
    for (const auto& collect : collectors) {
      for (const GaugeFamily& family : collect()) {
        if (!family.samples.empty()) families.push_back(ToPrometheus(family));
      }
    }
    return families;
  }

  prometheus::Registry registry_;
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<PrometheusCounter>> counters_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<PrometheusHistogram>> histograms_ GUARDED_BY(mutex_);
  std::vector<std::function<std::vector<GaugeFamily>()>> collectors_ GUARDED_BY(mutex_);
  std::unique_ptr<HttpServer> server_;  // last: it stops before what it serves goes
};

}  // namespace

std::unique_ptr<Metrics> Metrics::Create() { return std::make_unique<PrometheusMetrics>(); }

}  // namespace sinkforge::base
