// worker_store_writer PATH STEP: writes checkpoint parts of growing steps into a store, without
// end, and prints the step of each once it is durable. The crash test kills it.
#include <cstdio>
#include <cstdlib>

#include "tests/unit/worker/test_support.h"
#include "worker/store/checkpoint_store.h"

int main(int argc, char** argv) {
  using namespace sinkforge;
  if (argc != 3) return 2;
  auto kv = base::KvStore::Open({.path = argv[1], .migrate = nullptr});
  if (!kv.ok()) return 3;
  worker::CheckpointStoreOptions options;
  options.worker = "node-1";
  options.path = argv[1];
  options.disk_free_bytes = []() -> absl::StatusOr<int64_t> { return int64_t{1} << 40; };
  auto store = worker::CheckpointStore::Open(kv->get(), options);
  if (!store.ok()) return 4;
  std::printf("0\n");  // open
  std::fflush(stdout);
  for (int64_t step = std::atoll(argv[2]);; ++step) {
    auto writer = (*store)->Begin(worker::MakePart("d4-1", 1, step, 0));
    if (!writer.ok()) return 5;
    for (const auto& data : worker::MakeStream(600'000, static_cast<uint32_t>(step))) {
      if (!(*writer)->Add(data).ok()) return 6;
    }
    if (!(*writer)->Commit().ok()) return 7;
    std::printf("%lld\n", static_cast<long long>(step));
    std::fflush(stdout);
  }
}
