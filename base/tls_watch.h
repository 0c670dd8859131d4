// Looks after the certificate of a daemon while it runs: gRPC takes new files by itself, but says
// of wrong ones only that handshakes fail.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "base/tls_files.h"

namespace sinkforge::base {

// What is worth saying after each look at the files, once for each change: they have become wrong
// (two looks in a row: someone may be writing them), are right again, or new; nine tenths of the
// certificate's time are over.
class TlsNews {
 public:
  struct Line {
    Severity severity = Severity::kInfo;
    std::string message;
    LogFields fields;
  };
  std::optional<Line> Judge(const absl::StatusOr<TlsValidity>& found,
                            std::chrono::system_clock::time_point now);

 private:
  std::optional<Line> JudgeWrong(const std::string& error);

  std::optional<TlsValidity> validity_;  // of the last right look
  std::string wrong_;                    // what the last look found; empty: all was right
  bool is_wrong_told_ = false;
  bool is_soon_told_ = false;
};

// Logs the news. Thread-safe.
class TlsWatch {
 public:
  // `files` are what Tls::Load was given: looked at here, and by a thread until the end. Nothing is
  // done without any.
  explicit TlsWatch(TlsFiles files);
  ~TlsWatch();
  TlsWatch(const TlsWatch&) = delete;
  TlsWatch& operator=(const TlsWatch&) = delete;

  // For a scrape: when the certificate that was last found right expires. Nothing without one.
  std::vector<GaugeFamily> Collect() const;

 private:
  void Run();
  void Look();

  const TlsFiles files_;
  TlsNews news_;  // of the thread
  mutable Mutex mutex_;
  CondVar stop_;
  bool is_stopping_ GUARDED_BY(mutex_) = false;
  std::optional<TlsValidity> validity_ GUARDED_BY(mutex_);
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace sinkforge::base
