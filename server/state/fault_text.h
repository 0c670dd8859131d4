// What people read when an attempt failed: the cause and their next step.
#pragma once

#include <chrono>
#include <string>

#include "server/state/retry.h"
#include "sinkforge/v1/job.pb.h"

namespace sinkforge::server {

// "5 s"
std::string SecondsText(std::chrono::nanoseconds duration);
// The job FAILED at once.
std::string FatalText(const v1::Job& job, v1::Reason reason, const std::string& cause);
// It will be tried again.
std::string RetryText(const RetryDecision& decision, const std::string& cause);
// It FAILED because the budget is used up.
std::string ExhaustedText(const v1::Job& job, const RetryDecision& decision,
                          const std::string& cause);
// A pause was under way.
std::string PausedByFaultText(const v1::Job& job, const std::string& cause);

// Why the job, which is neither paused nor failed, cannot be resumed, and what can be done instead.
std::string NoResumeText(const v1::Job& job);

}  // namespace sinkforge::server
