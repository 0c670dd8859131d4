// What the daemon needs to know of the machine it runs on: addresses, folders, the processor.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sinkforge::worker {

// INVALID_ARGUMENT: not [a-zA-Z0-9._-], 1 to 63 characters; names --name.
absl::Status CheckWorkerName(const std::string& name);

// The machine's host name, or "worker" where it has none that could be a worker's name.
std::string DefaultWorkerName();

// The address that others use for a server that listens on `address` and got `port`. A wildcard
// host is replaced by the machine's name.
std::string AdvertisedAddress(const std::string& address, int port);

// Absolute paths without links. NOT_FOUND: one is missing or no folder; INVALID_ARGUMENT: its name
// is not UTF-8. The message names it and --data-root.
absl::StatusOr<std::vector<std::string>> ResolveDataRoots(const std::vector<std::string>& roots);

// `trainer`, or sinkforge-trainer beside this program where it is empty. NOT_FOUND: not there, or
// not executable; names it and --trainer.
absl::StatusOr<std::string> ResolveTrainer(const std::string& trainer);

// "unix:/path" of the trainers' socket, in a folder that only this user can enter: in the data
// folder, or where that path is too long for a socket, below XDG_RUNTIME_DIR or /tmp.
absl::StatusOr<std::string> MakeSocketAddress(const std::string& data_dir);

// The processor's model name: part of what makes a resume exact to the bit.
std::string ProcessorName();

}  // namespace sinkforge::worker
