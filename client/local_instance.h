// LocalInstance: what `local up` started on this machine, as local.json in its state folder says;
// LocalSettings: what it was asked for, which the next `up` goes by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/process.h"

namespace sinkforge::client {

struct LocalDaemon {
  ProcessIdentity process;  // pid 0: not started
  std::string address;      // host:port
  std::string metrics_address;
  std::string page_address;  // the coordinator's web page
  std::string log_file;
};

struct LocalSettings {
  int64_t slots = 0;
  std::vector<std::string> data_roots;  // absolute
};

struct LocalInstance {
  LocalDaemon coordinator;
  LocalDaemon worker;
  std::string worker_name;
  LocalSettings settings;  // the worker's
};

inline constexpr int kLocalInstanceSchema = 1;

std::string LocalInstanceFile(const std::string& state_folder);
// NOT_FOUND: nothing was started there. DATA_LOSS: the file is damaged. FAILED_PRECONDITION: a
// newer version of this program wrote it.
absl::StatusOr<LocalInstance> ReadLocalInstance(const std::string& state_folder);
absl::Status WriteLocalInstance(const std::string& state_folder, const LocalInstance& instance);
// Those of the last `up` that succeeded, in a file of their own that outlives `down`. Errors as
// above; NOT_FOUND: there was none.
absl::StatusOr<LocalSettings> ReadLocalSettings(const std::string& state_folder);
absl::Status WriteLocalSettings(const std::string& state_folder, const LocalSettings& settings);
// The content of local.json, which `local status -o json` prints as well.
std::string LocalInstanceJson(const LocalInstance& instance);

}  // namespace sinkforge::client
