// Judges what a look found, and a thread that looks; see tls_watch.h.
#include "base/tls_watch.h"

#include <ctime>
#include <utility>

namespace sinkforge::base {
namespace {

using std::chrono::system_clock;

constexpr std::chrono::seconds kEvery(5);

// RFC 3339, in UTC.
std::string Text(system_clock::time_point time) {
  const std::time_t seconds = system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace

std::optional<TlsNews::Line> TlsNews::JudgeWrong(const std::string& error) {
  if (std::exchange(wrong_, error) != error) {
    is_wrong_told_ = false;
    return std::nullopt;
  }
  if (std::exchange(is_wrong_told_, true)) return std::nullopt;
  return Line{Severity::kWarning,
              "new connections fail until the certificate's files are right",
              {{"error", error}}};
}

std::optional<TlsNews::Line> TlsNews::Judge(const absl::StatusOr<TlsValidity>& found,
                                            system_clock::time_point now) {
  if (!found.ok()) return JudgeWrong(std::string(found.status().message()));
  const std::optional<TlsValidity> before = std::exchange(validity_, *found);
  const bool is_new =
      before.has_value() && (before->from != found->from || before->until != found->until);
  wrong_.clear();
  const bool was_wrong = std::exchange(is_wrong_told_, false);
  if (is_new) is_soon_told_ = false;
  const LogFields expires = {{"expires", Text(found->until)}};
  if (!is_soon_told_ && found->until - now <= (found->until - found->from) / 10) {
    is_soon_told_ = true;
    return Line{Severity::kWarning,
                "the certificate expires soon; put a new one in its place, which needs no restart",
                expires};
  }
  if (was_wrong) {
    return Line{Severity::kInfo, "the certificate's files are right again", expires};
  }
  if (is_new) return Line{Severity::kInfo, "the certificate is a new one", expires};
  return std::nullopt;
}

TlsWatch::TlsWatch(TlsFiles files) : files_(std::move(files)) {
  if (files_.empty()) return;
  Look();
  thread_ = std::thread([this] { Run(); });
}

TlsWatch::~TlsWatch() {
  {
    MutexLock lock(&mutex_);
    is_stopping_ = true;
    stop_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void TlsWatch::Run() {
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (!is_stopping_) stop_.WaitFor(&lock, kEvery);
      if (is_stopping_) return;
    }
    Look();
  }
}

void TlsWatch::Look() {
  const auto found = CheckTlsFiles(files_);
  const auto line = news_.Judge(found, system_clock::now());
  if (line.has_value()) Log(line->severity, line->message, line->fields, {});
  MutexLock lock(&mutex_);
  if (found.ok()) validity_ = *found;
}

std::vector<GaugeFamily> TlsWatch::Collect() const {
  MutexLock lock(&mutex_);
  if (!validity_.has_value()) return {};
  const auto until = validity_->until.time_since_epoch();
  return {{"sinkforge_tls_certificate_expiry_timestamp_seconds",
           "When this daemon's certificate expires, in seconds since 1970.",
           GaugeFamily::Type::kGauge,
           {{{}, std::chrono::duration<double>(until).count()}}}};
}

}  // namespace sinkforge::base
