// Values and waiters of attempts; see rendezvous.h. Waiters are called without the lock.
#include "server/engine/rendezvous.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace sinkforge::server {
namespace {

std::string NameOf(const RendezvousKey& key) {
  return absl::StrCat("rendezvous key \"", key.key, "\" of job ", key.job_id, ", attempt ",
                      key.attempt);
}

absl::Status Ended(const std::string& job_id, int64_t attempt) {
  return absl::FailedPreconditionError(
      absl::StrCat("job ", job_id, ": attempt ", attempt, " has ended; its rendezvous is gone"));
}

}  // namespace

absl::Status Rendezvous::Put(const RendezvousKey& key, std::string value) {
  const int64_t bytes = static_cast<int64_t>(key.key.size() + value.size());
  if (key.key.empty() || static_cast<int64_t>(key.key.size()) > limits_.key_bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("job ", key.job_id, ": a rendezvous key has 1 to ", limits_.key_bytes_max,
                     " bytes; this one has ", key.key.size()));
  }
  if (static_cast<int64_t>(value.size()) > limits_.value_bytes_max) {
    return absl::ResourceExhaustedError(absl::StrCat(NameOf(key), ": the value has ", value.size(),
                                                     " bytes, the limit is ",
                                                     limits_.value_bytes_max));
  }
  std::vector<Waiter> ready;
  {
    base::MutexLock lock(&mutex_);
    if (!shut_down_.ok()) return shut_down_;
    Room& room = rooms_[{key.job_id, key.attempt}];
    const auto found = room.values.find(key.key);
    const bool is_new = found == room.values.end();
    if (is_new && static_cast<int64_t>(room.values.size()) >= limits_.keys_max) {
      return absl::ResourceExhaustedError(
          absl::StrCat(NameOf(key), ": the attempt has ", limits_.keys_max, " keys, the limit"));
    }
    if (bytes_ + bytes > limits_.bytes_max) {
      return absl::ResourceExhaustedError(absl::StrCat(
          NameOf(key), ": all rendezvous together hold ", bytes_, " bytes; try again later"));
    }
    if (!is_new) bytes_ -= static_cast<int64_t>(key.key.size() + found->second.size());
    bytes_ += bytes;
    const auto waits = [&](const Waiter& waiter) { return waiter.key == key.key; };
    for (Waiter& waiter : room.waiters) {
      if (!waits(waiter)) continue;
      room_of_waiter_.erase(waiter.number);
      ready.push_back(waiter);
    }
    room.waiters.erase(std::remove_if(room.waiters.begin(), room.waiters.end(), waits),
                       room.waiters.end());
    room.values[key.key] = value;
  }
  for (const Waiter& waiter : ready) waiter.done(value);
  return absl::OkStatus();
}

int64_t Rendezvous::Get(const RendezvousKey& key, Done done) {
  absl::StatusOr<std::string> answer = std::string();
  {
    base::MutexLock lock(&mutex_);
    const auto room = rooms_.find({key.job_id, key.attempt});
    const bool is_there = room != rooms_.end() && room->second.values.count(key.key) > 0;
    if (!shut_down_.ok()) {
      answer = shut_down_;
    } else if (is_there) {
      answer = room->second.values.at(key.key);
    } else if (static_cast<int64_t>(room_of_waiter_.size()) >= limits_.waiters_max) {
      answer = absl::ResourceExhaustedError(
          absl::StrCat(NameOf(key), ": too many ranks are waiting already; try again"));
    } else {
      const int64_t number = ++last_waiter_;
      rooms_[{key.job_id, key.attempt}].waiters.push_back({number, key.key, std::move(done)});
      room_of_waiter_[number] = {key.job_id, key.attempt};
      return number;
    }
  }
  done(answer);
  return 0;
}

void Rendezvous::Cancel(int64_t waiter, const absl::Status& status) {
  Done done;
  {
    base::MutexLock lock(&mutex_);
    const auto found = room_of_waiter_.find(waiter);
    if (found == room_of_waiter_.end()) return;
    std::vector<Waiter>& waiters = rooms_[found->second].waiters;
    const auto it = std::find_if(waiters.begin(), waiters.end(),
                                 [&](const Waiter& other) { return other.number == waiter; });
    done = std::move(it->done);
    waiters.erase(it);
    room_of_waiter_.erase(found);
  }
  done(status);
}

void Rendezvous::Drop(const std::string& job_id, int64_t current_attempt) {
  std::vector<std::pair<int64_t, Waiter>> ended;
  {
    base::MutexLock lock(&mutex_);
    auto it = rooms_.lower_bound({job_id, 0});
    while (it != rooms_.end() && it->first.first == job_id) {
      if (it->first.second == current_attempt) {
        ++it;
        continue;
      }
      for (const auto& [key, value] : it->second.values) {
        bytes_ -= static_cast<int64_t>(key.size() + value.size());
      }
      for (Waiter& waiter : it->second.waiters) {
        room_of_waiter_.erase(waiter.number);
        ended.emplace_back(it->first.second, std::move(waiter));
      }
      it = rooms_.erase(it);
    }
  }
  for (const auto& [attempt, waiter] : ended) waiter.done(Ended(job_id, attempt));
}

void Rendezvous::Shutdown(const absl::Status& status) {
  std::vector<Waiter> ended;
  {
    base::MutexLock lock(&mutex_);
    shut_down_ = status;
    for (auto& [name, room] : rooms_) {
      for (Waiter& waiter : room.waiters) ended.push_back(std::move(waiter));
    }
    rooms_.clear();
    room_of_waiter_.clear();
    bytes_ = 0;
  }
  for (const Waiter& waiter : ended) waiter.done(status);
}

}  // namespace sinkforge::server
