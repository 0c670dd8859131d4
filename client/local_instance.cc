// Reading and writing local.json and local-settings.json.
#include "client/local_instance.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "client/json_text.h"

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
  if (!daemon.page_address.empty()) json["page_address"] = daemon.page_address;
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
  daemon.page_address = json.value("page_address", "");
  daemon.log_file = json.value("log_file", "");
  return daemon;
}

void AddSettings(const LocalSettings& settings, ordered_json* json) {
  (*json)["slots"] = settings.slots;
  (*json)["data_roots"] = settings.data_roots;
}

LocalSettings SettingsFromJson(const ordered_json& json) {
  LocalSettings settings;
  settings.slots = json.value("slots", int64_t{0});
  settings.data_roots = json.value("data_roots", std::vector<std::string>());
  return settings;
}

std::string SettingsFile(const std::string& state_folder) {
  return absl::StrCat(state_folder, "/local-settings.json");
}

// `read` makes the result of the parsed file; `next_step` is what to do where it is damaged.
template <typename Result>
absl::StatusOr<Result> ReadJson(const std::string& path, const char* next_step,
                                Result (*read)(const ordered_json&)) {
  const auto text = base::ReadFile(path, kFileBytesMax);
  if (!text.ok()) return text.status();
  try {
    const ordered_json json = ordered_json::parse(*text);
    if (json.value("schema_version", 0) > kLocalInstanceSchema) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, ": a newer version of this program wrote it; use that one"));
    }
    return read(json);
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat(path, ": ", error.what(), "; ", next_step));
  }
}

LocalInstance InstanceFromJson(const ordered_json& json) {
  LocalInstance instance;
  instance.coordinator = DaemonFromJson(json.at("coordinator"));
  instance.worker = DaemonFromJson(json.at("worker"));
  instance.worker_name = json.value("worker_name", "");
  instance.settings = SettingsFromJson(json);
  return instance;
}

}  // namespace

std::string LocalInstanceFile(const std::string& state_folder) {
  return absl::StrCat(state_folder, "/local.json");
}

absl::StatusOr<LocalInstance> ReadLocalInstance(const std::string& state_folder) {
  return ReadJson(LocalInstanceFile(state_folder), "stop the daemons by hand, then remove the file",
                  InstanceFromJson);
}

absl::StatusOr<LocalSettings> ReadLocalSettings(const std::string& state_folder) {
  return ReadJson(SettingsFile(state_folder), "remove the file", SettingsFromJson);
}

absl::Status WriteLocalSettings(const std::string& state_folder, const LocalSettings& settings) {
  ordered_json json;
  json["schema_version"] = kLocalInstanceSchema;
  AddSettings(settings, &json);
  return base::WriteFileDurably(SettingsFile(state_folder), JsonText(json));
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
  AddSettings(instance.settings, &json);
  return JsonText(json);
}

}  // namespace sinkforge::client
