// Arena: one block of a backend's memory, planned by name before it is allocated. The trainer's
// parameters, gradients, optimizer state and activations each live in one, so a step allocates
// nothing and the plan can be shown as a table.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"
#include "kernels/tensor.h"

namespace sinkforge::trainer {

// Owned by the part whose tensors it holds; the backend must outlive it. States: planning (Add),
// then allocated (Tensors are valid). Used by one thread.
class Arena {
 public:
  struct Allocation {
    std::string name;
    kernels::Tensor tensor;
    int64_t offset_bytes = 0;
  };

  // `name` is for messages: what the block holds.
  Arena(std::string name, kernels::Backend* backend);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Plans one tensor and returns its index. Only before Allocate.
  size_t Add(std::string name, kernels::DType dtype, std::initializer_list<int64_t> dims);
  // Allocates the block, zeroed. kResourceExhausted: it does not fit, or its size has no number.
  kernels::Status Allocate();

  const kernels::Tensor& at(size_t index) const;
  const std::vector<Allocation>& table() const { return table_; }
  int64_t bytes() const { return bytes_; }
  // The whole block as one vector of `dtype`, the zeroed gaps between the tensors included; without
  // data while it is only planned.
  kernels::Tensor Flat(kernels::DType dtype) const;

 private:
  std::string name_;
  kernels::Backend* backend_;
  std::vector<Allocation> table_;
  int64_t bytes_ = 0;
  bool overflow_ = false;
  void* memory_ = nullptr;
};

}  // namespace sinkforge::trainer
