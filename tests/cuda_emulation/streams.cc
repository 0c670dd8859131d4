// A thread for each stream that has one.
#include "tests/cuda_emulation/streams.h"

#include <deque>
#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "tests/cuda_emulation/capture.h"

namespace emulation {

using sinkforge::base::CondVar;
using sinkforge::base::Mutex;
using sinkforge::base::MutexLock;

struct Stream {
 public:
  explicit Stream(StreamKind kind) {
    if (kind != StreamKind::kImmediate) thread_ = std::thread([this] { Run(); });
  }
  ~Stream() {
    if (!thread_.joinable()) return;
    {
      const MutexLock lock(&mutex_);
      ending_ = true;
      changed_.NotifyAll();
    }
    thread_.join();
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void Enqueue(std::function<void()> work) {
    if (!thread_.joinable()) return work();
    const MutexLock lock(&mutex_);
    work_.push_back(std::move(work));
    changed_.NotifyAll();
  }
  bool Idle() {
    const MutexLock lock(&mutex_);
    return work_.empty();
  }
  void WaitUntilIdle() {
    MutexLock lock(&mutex_);
    while (!work_.empty()) changed_.Wait(&lock);
  }

 private:
  // The thread's body.
  void Run() {
    while (true) {
      std::function<void()> work;
      {
        MutexLock lock(&mutex_);
        while (work_.empty() && !ending_) changed_.Wait(&lock);
        if (work_.empty()) return;
        work = std::move(work_.front());
      }
      work();
      work = nullptr;  // What it held is let go before anybody hears that it is done.
      const MutexLock lock(&mutex_);
      work_.pop_front();
      changed_.NotifyAll();
    }
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> work_ GUARDED_BY(mutex_);  // the first one is under way
  bool ending_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// Belongs to one thread, as everything that is recorded and waited for by it.
struct Event {
  std::vector<std::shared_future<void>> after;
};

namespace {

// The one device's streams that its default stream waits for.
struct OrdinaryStreams {
  Mutex mutex;
  std::vector<Stream*> streams GUARDED_BY(mutex);
};

OrdinaryStreams& Ordinary() {
  static OrdinaryStreams ordinary;
  return ordinary;
}

std::shared_future<void> EndOf(Stream* stream) {
  const auto end = std::make_shared<std::promise<void>>();
  stream->Enqueue([end] { end->set_value(); });
  return end->get_future().share();
}

}  // namespace

Stream* MakeStream(StreamKind kind) {
  auto* stream = new Stream(kind);
  if (kind == StreamKind::kOrdinary) {
    const MutexLock lock(&Ordinary().mutex);
    Ordinary().streams.push_back(stream);
  }
  return stream;
}

void DestroyStream(Stream* stream) {
  {
    const MutexLock lock(&Ordinary().mutex);
    std::erase(Ordinary().streams, stream);
  }
  delete stream;
}

int Enqueue(Stream* stream, std::function<void()> work) {
  int error = 0;
  if (Captures(stream, work, &error)) return error;
  if (stream == nullptr) {
    work();
  } else {
    stream->Enqueue(std::move(work));
  }
  return 0;
}

bool Idle(Stream* stream) { return stream == nullptr || stream->Idle(); }

void WaitUntilIdle(Stream* stream) {
  if (stream != nullptr) stream->WaitUntilIdle();
}

Event* MakeEvent() { return new Event(); }

void DestroyEvent(Event* event) { delete event; }

void Record(Event* event, Stream* stream) {
  event->after.clear();
  if (stream != nullptr) {
    event->after.push_back(EndOf(stream));
    return;
  }
  const MutexLock lock(&Ordinary().mutex);
  for (Stream* ordinary : Ordinary().streams) event->after.push_back(EndOf(ordinary));
}

void WaitForEvent(Stream* stream, const Event& event) {
  Enqueue(stream, [after = event.after] {
    for (const std::shared_future<void>& end : after) end.wait();
  });
}

}  // namespace emulation
