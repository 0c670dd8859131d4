// GroupWriter: one thread that writes what many callers bring, all that waits in one go, so that
// callers share the cost of a synced write (group commit).
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/engine/bounded_queue.h"

namespace sinkforge::server {

// Thread-safe. Every `done` is called once, on the writer's thread.
template <typename Request>
class GroupWriter {
 public:
  using Write = std::function<absl::Status(const std::vector<Request>& group)>;
  using Done = std::function<void(const absl::Status&)>;

  // `what` names the requests in errors.
  GroupWriter(std::string what, const QueueLimits& limits, Write write)
      : what_(std::move(what)),
        queue_(limits),
        write_(std::move(write)),
        thread_([this] { Loop(); }) {}

  // Writes what is queued, then ends the thread.
  ~GroupWriter() {
    queue_.Close();
    thread_.join();
  }

  // Calls `done` at once, and writes nothing, with RESOURCE_EXHAUSTED where the queue is full and
  // with UNAVAILABLE while shutting down; else with what the write returned.
  void Add(Request request, Done done) {
    const int64_t bytes = static_cast<int64_t>(request.ByteSizeLong());
    switch (queue_.Push({std::move(request), done}, bytes)) {
      case PushResult::kOk:
        return;
      case PushResult::kFull:
        return done(absl::ResourceExhaustedError(
            absl::StrCat("too many ", what_, " are waiting to be written; send them again later")));
      case PushResult::kClosed:
        return done(absl::UnavailableError(
            absl::StrCat("the coordinator is shutting down; send the ", what_, " again")));
    }
  }

 private:
  struct Item {
    Request request;
    Done done;
  };

  void Loop() {
    while (!queue_.drained()) {
      std::vector<Item> items = queue_.PopGroup(kGroupMax, std::chrono::seconds(1));
      if (items.empty()) continue;
      std::vector<Request> group;
      group.reserve(items.size());
      for (Item& item : items) group.push_back(std::move(item.request));
      const absl::Status written = write_(group);
      for (const Item& item : items) item.done(written);
    }
  }

  static constexpr int64_t kGroupMax = 256;  // keeps one write of small requests well below 1 MiB

  const std::string what_;
  BoundedQueue<Item> queue_;
  const Write write_;
  std::thread thread_;  // last: it uses the others
};

}  // namespace sinkforge::server
