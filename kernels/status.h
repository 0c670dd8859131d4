// Status and Result: how the kernels and the trainer's core report what their environment can
// cause. They stand in for absl::Status here because this subset must build on a bare GPU machine
// with only the standard library.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace sinkforge::kernels {

enum class StatusCode {
  kOk,
  kInvalidArgument,  // the job asks for what cannot be
  kInvalidData,      // a data file is not what the job says
  kNotFound,
  kFailedPrecondition,  // never, unless the user changes something
  kUnavailable,         // not now: try again
  kResourceExhausted,   // memory, disk
  kNonFinite,           // the loss or a gradient is NaN or infinite
  kDiverged,            // the loss is finite, but far from what it was
  kDataLoss,            // stored bytes are corrupt or missing
  kInternal,            // a vendor library failed
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}
  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// Only a bug can make this fail; kept in release builds.
inline void Check(bool condition, const char* what, const char* file, int line) {
  if (condition) return;
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
  std::abort();
}
#define SINKFORGE_CHECK(condition) \
  ::sinkforge::kernels::Check(static_cast<bool>(condition), #condition, __FILE__, __LINE__)

// A value or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}        // NOLINT(google-explicit-constructor)
  Result(Status status) : state_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    SINKFORGE_CHECK(!std::get<Status>(state_).ok());
  }
  bool ok() const { return std::holds_alternative<T>(state_); }
  Status status() const { return ok() ? Status() : std::get<Status>(state_); }
  T& value() & {
    SINKFORGE_CHECK(ok());
    return std::get<T>(state_);
  }
  const T& value() const& {
    SINKFORGE_CHECK(ok());
    return std::get<T>(state_);
  }
  T&& value() && {
    SINKFORGE_CHECK(ok());
    return std::get<T>(std::move(state_));
  }

 private:
  std::variant<T, Status> state_;
};

}  // namespace sinkforge::kernels
