// Sizes that reader and writer share.
#include "proto/safetensors/safetensors.h"

namespace sinkforge::safetensors {

int64_t ElementBytes(std::string_view dtype) {
  if (dtype == "BOOL" || dtype == "U8" || dtype == "I8" || dtype == "F8_E4M3" ||
      dtype == "F8_E5M2") {
    return 1;
  }
  if (dtype == "I16" || dtype == "U16" || dtype == "F16" || dtype == "BF16") return 2;
  if (dtype == "I32" || dtype == "U32" || dtype == "F32") return 4;
  if (dtype == "I64" || dtype == "U64" || dtype == "F64") return 8;
  return 0;
}

int64_t TensorBytes(std::string_view dtype, const std::vector<int64_t>& shape) {
  constexpr int64_t kBytesMax = int64_t{1} << 62;
  int64_t bytes = ElementBytes(dtype);
  if (bytes == 0) return -1;
  bool empty = false;
  for (int64_t dim : shape) {
    if (dim < 0) return -1;
    if (dim == 0) {
      empty = true;
      continue;
    }
    if (bytes > kBytesMax / dim) return -1;
    bytes *= dim;
  }
  return empty ? 0 : bytes;
}

}  // namespace sinkforge::safetensors
