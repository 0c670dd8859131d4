// Reading and writing local.json.
#include "client/local_instance.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/files.h"

namespace sinkforge::client {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kFileBytesMax = 64 << 10;

ordered_json ToJson(const LocalDaemon& daemon) {
  ordered_json json;
  json["pid"] = daemon.process.pid;
  json["start_ticks"] = daemon.process.start_ticks;
  json["boot_id"] = daemon.process.boot_id;
  json["address"] = daemon.address;
  json["metrics_address"] = daemon.metrics_address;
  json["log_file"] = daemon.log_file;
  return json;
}

LocalDaemon DaemonFromJson(const ordered_json& json) {
  LocalDaemon daemon;
  daemon.process.pid = json.value("pid", 0);
  daemon.process.start_ticks = json.value("start_ticks", int64_t{0});
  daemon.process.boot_id = json.value("boot_id", "");
  daemon.address = json.value("address", "");
  daemon.metrics_address = json.value("metrics_address", "");
  daemon.log_file = json.value("log_file", "");
  return daemon;
}

}  // namespace

std::string LocalInstanceFile(const std::string& state_folder) {
  return absl::StrCat(state_folder, "/local.json");
}

absl::StatusOr<LocalInstance> ReadLocalInstance(const std::string& state_folder) {
  const std::string path = LocalInstanceFile(state_folder);
  const auto text = base::ReadFile(path, kFileBytesMax);
  if (!text.ok()) return text.status();
  try {
    const ordered_json json = ordered_json::parse(*text);
    if (json.value("schema_version", 0) > kLocalInstanceSchema) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, ": a newer version of this program wrote it; use that one"));
    }
    LocalInstance instance;
    instance.coordinator = DaemonFromJson(json.at("coordinator"));
    instance.worker = DaemonFromJson(json.at("worker"));
    instance.worker_name = json.value("worker_name", "");
    return instance;
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", error.what(), "; stop the daemons by hand, then remove the file"));
  }
}

absl::Status WriteLocalInstance(const std::string& state_folder, const LocalInstance& instance) {
  return base::WriteFileDurably(LocalInstanceFile(state_folder), LocalInstanceJson(instance));
}

std::string LocalInstanceJson(const LocalInstance& instance) {
  ordered_json json;
  json["schema_version"] = kLocalInstanceSchema;
  json["coordinator"] = ToJson(instance.coordinator);
  json["worker"] = ToJson(instance.worker);
  json["worker_name"] = instance.worker_name;
  return json.dump(2) + "\n";
}

}  // namespace sinkforge::client
