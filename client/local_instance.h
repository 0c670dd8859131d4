// LocalInstance: what `local up` started on this machine, as local.json in its state folder says.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/process.h"

namespace sinkforge::client {

struct LocalDaemon {
  ProcessIdentity process;  // pid 0: not started
  std::string address;      // host:port
  std::string metrics_address;
  std::string log_file;
};

struct LocalInstance {
  LocalDaemon coordinator;
  LocalDaemon worker;
  std::string worker_name;
};

inline constexpr int kLocalInstanceSchema = 1;

std::string LocalInstanceFile(const std::string& state_folder);
// NOT_FOUND: nothing was started there. DATA_LOSS: the file is damaged. FAILED_PRECONDITION: a
// newer version of this program wrote it.
absl::StatusOr<LocalInstance> ReadLocalInstance(const std::string& state_folder);
absl::Status WriteLocalInstance(const std::string& state_folder, const LocalInstance& instance);
// The file's content, which `local status -o json` prints as well.
std::string LocalInstanceJson(const LocalInstance& instance);

}  // namespace sinkforge::client
