// `sinkforge-trainer gpus`: the GPUs that this program can use, or why there is none. A worker asks
// it before it offers GPUs.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/device_list.h"
#include "worker/trainer/outcome.h"

namespace sinkforge::trainer {

enum class GpusFormat { kText, kJson };

// A line for each; as JSON one document, a list of objects.
std::string FormatGpus(const std::vector<kernels::CudaDevice>& gpus, GpusFormat format);

// Prints them to stdout, and to stderr what is wrong with the others. kDeviceFailed: there is none.
ExitCode RunGpusCommand(GpusFormat format);

}  // namespace sinkforge::trainer
