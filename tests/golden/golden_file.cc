// Golden files: reads whole safetensors files into doubles.
#include "tests/golden/golden_file.h"

#include <cstring>
#include <iostream>
#include <memory>

#include "proto/safetensors/safetensors.h"

namespace sinkforge::trainer {
namespace {

template <typename T>
std::vector<double> Widen(const std::vector<char>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return {values.begin(), values.end()};
}

[[noreturn]] void Stop(const std::string& name, const std::string& why) {
  std::cerr << "golden file " << name << ": " << why
            << "; tests/golden/generate.py writes the golden files\n";
  std::exit(1);
}

std::vector<double> ToDoubles(const std::string& dtype, const std::vector<char>& bytes) {
  if (dtype == "F32") return Widen<float>(bytes);
  if (dtype == "F64") return Widen<double>(bytes);
  if (dtype == "I32") return Widen<int32_t>(bytes);
  Stop(dtype, "no golden tensor has this dtype");
}

}  // namespace

std::string GoldenFolder() { return SINKFORGE_GOLDEN_FOLDER; }

GoldenTensors ReadGoldenFile(const std::string& name) {
  safetensors::Failure failure;
  const std::unique_ptr<safetensors::Reader> reader =
      safetensors::Reader::Open(GoldenFolder() + "/" + name, &failure);
  if (reader == nullptr) Stop(name, failure.message);
  GoldenTensors tensors;
  for (const safetensors::TensorInfo& info : reader->tensors()) {
    std::vector<char> bytes(static_cast<size_t>(info.bytes()));
    if (!reader->Read(info, 0, info.bytes(), bytes.data(), &failure)) Stop(name, failure.message);
    tensors[info.name] = {info.shape, ToDoubles(info.dtype, bytes)};
  }
  return tensors;
}

}  // namespace sinkforge::trainer
