// Arena: planning and the one allocation.
#include "worker/trainer/core/arena.h"

#include <utility>

namespace sinkforge::trainer {

using kernels::DType;
using kernels::Status;
using kernels::StatusCode;
using kernels::Tensor;

namespace {

// A cache line, and enough for any vector instruction's aligned access.
constexpr int64_t kAlignmentBytes = 64;

}  // namespace

Arena::Arena(std::string name, kernels::Backend* backend)
    : name_(std::move(name)), backend_(backend) {}

Arena::~Arena() {
  if (memory_ != nullptr) backend_->Free(memory_);
}

size_t Arena::Add(std::string name, DType dtype, std::initializer_list<int64_t> dims) {
  SINKFORGE_CHECK(memory_ == nullptr);
  int64_t size = kernels::SizeOf(dtype);
  for (int64_t dim : dims) {
    SINKFORGE_CHECK(dim > 0);
    overflow_ |= __builtin_mul_overflow(size, dim, &size);
  }
  if (!overflow_) {
    overflow_ |= __builtin_add_overflow(size, kAlignmentBytes - 1, &size);
    size -= size % kAlignmentBytes;
  }
  table_.push_back({std::move(name), Tensor(nullptr, dtype, dims), bytes_});
  if (!overflow_) overflow_ |= __builtin_add_overflow(bytes_, size, &bytes_);
  return table_.size() - 1;
}

Status Arena::Allocate() {
  SINKFORGE_CHECK(memory_ == nullptr);
  const std::string advice = "; use a smaller model, a smaller micro-batch or a shorter sequence";
  if (overflow_) {
    return Status(StatusCode::kResourceExhausted,
                  name_ + ": more bytes than can be counted" + advice);
  }
  if (bytes_ == 0) return Status();
  memory_ = backend_->Allocate(bytes_);
  if (memory_ == nullptr) {
    return Status(StatusCode::kResourceExhausted,
                  name_ + ": no memory for " + std::to_string(bytes_) + " bytes" + advice);
  }
  for (Allocation& allocation : table_) {
    allocation.tensor.data = static_cast<char*>(memory_) + allocation.offset_bytes;
  }
  return Status();
}

const Tensor& Arena::at(size_t index) const {
  SINKFORGE_CHECK(index < table_.size());
  return table_[index].tensor;
}

Tensor Arena::Flat(DType dtype) const {
  return Tensor(memory_, dtype, {bytes_ / kernels::SizeOf(dtype)});
}

}  // namespace sinkforge::trainer
