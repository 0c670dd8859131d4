// The program sinkforge-trainer beside this one, run to its end.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/session.h"
#include "client/stop_signal.h"

namespace sinkforge::client {

// Its output goes where ours goes, and its messages are on stderr already. Returns our exit code;
// `stop` ends it. NOT_FOUND: it cannot be started; INTERNAL: a signal ended it.
absl::StatusOr<int> RunTrainer(Session& session, const std::vector<std::string>& arguments,
                               StopSignal* stop);

}  // namespace sinkforge::client
