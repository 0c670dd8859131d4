// FolderStore: where the ranks of one machine meet, as files of a folder that is empty at first.
#pragma once

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

#include "worker/trainer/core/stopwatch.h"
#include "worker/trainer/make_collective.h"

namespace sinkforge::gpu {

class FolderStore final : public trainer::RendezvousStore {
 public:
  explicit FolderStore(std::string folder) : folder_(std::move(folder)) {}

  kernels::Status Put(const std::string& key, const std::string& value) override {
    // Under another name first: whoever finds the file finds all of it.
    const std::string path = folder_ + "/" + key;
    std::ofstream file(path + ".partial", std::ios::binary);
    file << value;
    file.close();
    if (file && std::rename((path + ".partial").c_str(), path.c_str()) == 0) return {};
    return kernels::Status(kernels::StatusCode::kUnavailable, path + ": cannot be written");
  }
  kernels::Result<std::string> Get(const std::string& key,
                                   std::chrono::milliseconds timeout) override {
    const trainer::Stopwatch stopwatch;
    const std::chrono::duration<double> patience = timeout;
    do {
      if (std::ifstream file(folder_ + "/" + key, std::ios::binary); file) {
        std::ostringstream value;
        value << file.rdbuf();
        return value.str();
      }
      std::this_thread::yield();
    } while (stopwatch.Seconds() < patience.count());
    return kernels::Status(kernels::StatusCode::kUnavailable,
                           folder_ + "/" + key + " did not come");
  }

 private:
  std::string folder_;
};

}  // namespace sinkforge::gpu
