// Asks for the list and prints it.
#include "worker/trainer/gpus_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "worker/trainer/device_backend.h"

namespace sinkforge::trainer {
namespace {

using nlohmann::ordered_json;

std::string CapabilityOf(const kernels::CudaDevice& gpu) {
  return std::to_string(gpu.major) + "." + std::to_string(gpu.minor);
}

std::string Line(const kernels::CudaDevice& gpu) {
  constexpr double kGiB = 1 << 30;
  char memory[64];
  std::snprintf(memory, sizeof(memory), "%.1f GiB of memory, %.1f GiB free",
                static_cast<double>(gpu.memory_bytes) / kGiB,
                static_cast<double>(gpu.free_bytes) / kGiB);
  return std::to_string(gpu.index) + ": " + gpu.name + ", compute capability " + CapabilityOf(gpu) +
         ", " + memory + "\n";
}

}  // namespace

std::string FormatGpus(const std::vector<kernels::CudaDevice>& gpus, GpusFormat format) {
  std::string lines;
  ordered_json list = ordered_json::array();
  for (const kernels::CudaDevice& gpu : gpus) {
    lines += Line(gpu);
    list.push_back({{"index", gpu.index},
                    {"name", gpu.name},
                    {"compute_capability", CapabilityOf(gpu)},
                    {"memory_bytes", gpu.memory_bytes},
                    {"free_bytes", gpu.free_bytes}});
  }
  if (format == GpusFormat::kText) return lines;
  return list.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

ExitCode RunGpusCommand(GpusFormat format) {
  const kernels::Result<kernels::CudaDevices> devices = ListDevices();
  if (!devices.ok()) {
    std::fprintf(stderr, "error: %s\n", devices.status().message().c_str());
    return ExitCode::kDeviceFailed;
  }
  for (const std::string& problem : devices.value().problems) {
    std::fprintf(stderr, "warning: %s\n", problem.c_str());
  }
  std::fputs(FormatGpus(devices.value().usable, format).c_str(), stdout);
  return ExitCode::kCompleted;
}

}  // namespace sinkforge::trainer
