// Who follows which job; see change_hub.h.
#include "server/engine/change_hub.h"

#include "absl/strings/str_cat.h"

namespace sinkforge::server {

absl::Status ChangeHub::Listen(const std::string& job_id,
                               const std::shared_ptr<ChangeListener>& listener) {
  base::MutexLock lock(&mutex_);
  if (shut_down_) {
    return absl::UnavailableError("the coordinator is shutting down; try again in a moment");
  }
  if (count_ >= listeners_max_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "job ", job_id, ": ", count_,
        " clients are following jobs already; end one, or poll with `sinkforge show`"));
  }
  if (listeners_[job_id].emplace(listener.get(), listener).second) ++count_;
  return absl::OkStatus();
}

void ChangeHub::Forget(const std::string& job_id, const ChangeListener* listener) {
  base::MutexLock lock(&mutex_);
  const auto found = listeners_.find(job_id);
  if (found == listeners_.end()) return;
  count_ -= static_cast<int64_t>(found->second.erase(listener));
  if (found->second.empty()) listeners_.erase(found);
}

std::vector<std::shared_ptr<ChangeListener>> ChangeHub::Of(const std::string& job_id) {
  base::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<ChangeListener>> all;
  const auto found = listeners_.find(job_id);
  if (found == listeners_.end()) return all;
  for (const auto& [key, weak] : found->second) {
    if (auto listener = weak.lock()) all.push_back(std::move(listener));
  }
  return all;
}

void ChangeHub::Notify(const std::string& job_id, Change change) {
  // Called without the lock, so that a listener may end and Forget itself meanwhile.
  for (const auto& listener : Of(job_id)) listener->on_change(change);
}

void ChangeHub::Shutdown(const absl::Status& status) {
  std::vector<std::shared_ptr<ChangeListener>> all;
  {
    base::MutexLock lock(&mutex_);
    shut_down_ = true;
    for (const auto& [job_id, listeners] : listeners_) {
      for (const auto& [key, weak] : listeners) {
        if (auto listener = weak.lock()) all.push_back(std::move(listener));
      }
    }
  }
  for (const auto& listener : all) listener->on_shutdown(status);
}

int64_t ChangeHub::listener_count() const {
  base::MutexLock lock(&mutex_);
  return count_;
}

}  // namespace sinkforge::server
