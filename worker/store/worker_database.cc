// Setting damaged files aside; see worker_database.h.
#include "worker/store/worker_database.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/files.h"
#include "base/kv_store_wreck.h"
#include "base/log.h"

namespace sinkforge::worker {
namespace {

namespace fs = std::filesystem;

constexpr char kSuffix[] = ".damaged-";    // and a number: "store.damaged-1"
constexpr char kSalvaged[] = "/SALVAGED";  // a file there: nothing is left to be done
constexpr std::chrono::seconds kReaderPatience{1};
constexpr size_t kSalvagedFoldersMax = 3;  // kept for people to look at

// The number at the end of such a folder's name; 0 where it is none.
int64_t NumberOf(const std::string& folder, const std::string& prefix) {
  if (folder.compare(0, prefix.size(), prefix) != 0) return 0;
  int64_t number = 0;
  const char* end = folder.data() + folder.size();
  const auto [rest, error] = std::from_chars(folder.data() + prefix.size(), end, number);
  return error == std::errc() && rest == end ? number : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerDatabase>> WorkerDatabase::Open(
    base::KvOptions options, std::function<void()> on_damage) {
  std::unique_ptr<WorkerDatabase> database(
      new WorkerDatabase(std::move(options), std::move(on_damage)));
  for (const std::string& folder : database->FoldersSetAside()) {
    // What a former life could not finish.
    if (!fs::exists(folder + kSalvaged)) database->wrecked_ = true;
  }
  if (const auto opened = database->Database(); !opened.ok()) return opened.status();
  return database;
}

std::vector<std::string> WorkerDatabase::FoldersSetAside() const {
  std::vector<std::pair<int64_t, std::string>> found;
  const std::string prefix = options_.path + kSuffix;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fs::path(options_.path).parent_path(), error)) {
    const int64_t number = NumberOf(entry.path().string(), prefix);
    if (number > 0) found.emplace_back(number, entry.path().string());
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> folders;
  for (auto& [number, folder] : found) folders.push_back(std::move(folder));
  return folders;
}

absl::StatusOr<std::vector<std::string>> WorkerDatabase::Wrecks() {
  if (const auto database = Database(); !database.ok()) return database.status();
  std::vector<std::string> folders = FoldersSetAside();
  std::erase_if(folders, [](const auto& folder) { return fs::exists(folder + kSalvaged); });
  return folders;
}

absl::Status WorkerDatabase::MarkSalvaged(const std::string& folder) {
  const absl::Status marked = base::WriteFileDurably(folder + kSalvaged, "");
  if (!marked.ok()) return marked;
  std::vector<std::string> salvaged = FoldersSetAside();
  const size_t all = salvaged.size();
  std::erase_if(salvaged, [](const auto& other) { return !fs::exists(other + kSalvaged); });
  for (size_t i = 0; i + kSalvagedFoldersMax < salvaged.size(); ++i) {
    std::error_code error;
    fs::remove_all(salvaged[i], error);  // else it stays, which costs only room
  }
  base::MutexLock lock(&mutex_);
  // Where it was damaged again meanwhile, another folder is to come.
  if (salvaged.size() == all && damage_.ok()) wrecked_ = false;
  return absl::OkStatus();
}

absl::Status WorkerDatabase::RenameLocked(const absl::Status& why) const {
  const std::vector<std::string> folders = FoldersSetAside();
  const std::string prefix = options_.path + kSuffix;
  const int64_t last = folders.empty() ? 0 : NumberOf(folders.back(), prefix);
  const std::string folder = prefix + std::to_string(last + 1);
  std::error_code error;
  fs::rename(options_.path, folder, error);
  if (error) {
    return absl::UnavailableError("database " + options_.path + ": is damaged and cannot be " +
                                  "renamed to " + folder + ": " + error.message());
  }
  wrecked_ = true;
  ++set_aside_count_;
  base::LogError(
      "the database is damaged; it is set aside, and what can be read is moved to a new "
      "one",
      {{"database", options_.path},
       {"set_aside_as", folder},
       {"error", std::string(why.message())}});
  return absl::OkStatus();
}

absl::Status WorkerDatabase::OpenLocked() const {
  for (int attempt = 0;; ++attempt) {
    absl::Status status = base::CheckDataFilesCount(options_.path);
    if (status.ok()) {
      auto opened = base::KvStore::Open(options_);
      if (opened.ok()) {
        closing_ = std::make_shared<Closing>();
        database_ = Inner(opened->release(), [closing = closing_](base::KvStore* store) {
          delete store;
          closing->done = true;
          closing->wakeup.Notify();
        });
        return absl::OkStatus();
      }
      status = opened.status();
    }
    if (!absl::IsDataLoss(status) || attempt > 0) return status;
    if (absl::Status renamed = RenameLocked(status); !renamed.ok()) return renamed;
  }
}

absl::StatusOr<WorkerDatabase::Inner> WorkerDatabase::Database() const {
  base::MutexLock lock(&mutex_);
  if (database_ != nullptr) return database_;
  if (!damage_.ok()) {
    // Its files have the names that those of the new one will have. Most calls are short.
    if (!closing_->done) closing_->wakeup.Wait(kReaderPatience);
    if (!closing_->done) {
      return absl::UnavailableError("database " + options_.path +
                                    ": is damaged, and set aside when its last reader is done");
    }
    if (absl::Status renamed = RenameLocked(damage_); !renamed.ok()) return renamed;
    damage_ = absl::OkStatus();
  }
  if (absl::Status opened = OpenLocked(); !opened.ok()) return opened;
  return database_;
}

void WorkerDatabase::Judge(Inner database, const absl::Status& status) const {
  if (!absl::IsDataLoss(status)) return;
  {
    base::MutexLock lock(&mutex_);
    if (database_ != database) return;
    damage_ = status;
    wrecked_ = true;
    database_.reset();
  }
  database.reset();  // without the lock: it waits for what the database does in the background
  on_damage_();
}

absl::StatusOr<std::string> WorkerDatabase::Get(std::string_view key) const {
  auto database = Database();
  if (!database.ok()) return database.status();
  auto value = (*database)->Get(key);
  Judge(*std::move(database), value.status());
  return value;
}

absl::Status WorkerDatabase::Scan(
    std::string_view begin, std::string_view end,
    const std::function<bool(std::string_view, std::string_view)>& visit) const {
  auto database = Database();
  if (!database.ok()) return database.status();
  absl::Status status = (*database)->Scan(begin, end, visit);
  Judge(*std::move(database), status);
  return status;
}

absl::Status WorkerDatabase::ScanBackwards(
    std::string_view begin, std::string_view end,
    const std::function<bool(std::string_view, std::string_view)>& visit) const {
  auto database = Database();
  if (!database.ok()) return database.status();
  absl::Status status = (*database)->ScanBackwards(begin, end, visit);
  Judge(*std::move(database), status);
  return status;
}

absl::Status WorkerDatabase::Change(const std::function<absl::Status(base::KvStore*)>& change) {
  absl::Status status;
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto database = Database();
    if (!database.ok()) return database.status();
    status = change(database->get());
    if (!absl::IsDataLoss(status)) return status;
    Judge(*std::move(database), status);
  }
  return absl::UnavailableError(status.message());
}

absl::Status WorkerDatabase::DoWrite(const base::KvBatch& batch, base::Durability durability) {
  return Change([&](base::KvStore* database) { return database->Write(batch, durability); });
}

absl::Status WorkerDatabase::Ingest(const base::KvFile& file) {
  return Change([&](base::KvStore* database) { return database->Ingest(file); });
}

absl::Status WorkerDatabase::RemoveRange(std::string_view begin, std::string_view end) {
  return Change([&](base::KvStore* database) { return database->RemoveRange(begin, end); });
}

int64_t WorkerDatabase::ApproximateBytes(std::string_view begin, std::string_view end) const {
  const auto database = Database();
  return database.ok() ? (*database)->ApproximateBytes(begin, end) : 0;
}

}  // namespace sinkforge::worker
