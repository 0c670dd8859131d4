// The matrix library of the emulated device: plain loops behind kernels/cuda/matrix_product.h,
// accumulated in float32, rounded once.
#include "kernels/bfloat16.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/matrix_product.h"

namespace sinkforge::kernels::cuda {
namespace {

float Load(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[i];
  return FromBfloat16(static_cast<const uint16_t*>(data)[i]);
}

void MultiplyOne(const ProductArgs& args, int64_t batch) {
  const bool a_plain = args.a_form == Operand::kPlain;
  const bool b_plain = args.b_form == Operand::kPlain;
  const void* addend = args.addend == nullptr ? args.c : args.addend;
  for (int64_t i = 0; i < args.m; ++i) {
    for (int64_t j = 0; j < args.n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < args.k; ++l) {
        const int64_t a = batch * args.a_stride + (a_plain ? i * args.k + l : l * args.m + i);
        const int64_t b = batch * args.b_stride + (b_plain ? l * args.n + j : j * args.k + l);
        sum += Load(args.a, args.input, a) * Load(args.b, args.input, b);
      }
      const int64_t c = batch * args.c_stride + i * args.n + j;
      float value = args.alpha * sum;
      if (args.beta != 0) value += args.beta * Load(addend, args.output, c);
      if (args.output == DType::kF32) {
        static_cast<float*>(args.c)[c] = value;
      } else {
        static_cast<uint16_t*>(args.c)[c] = RoundToBfloat16(value);
      }
    }
  }
}

}  // namespace

struct MatrixProducts::State {
  cudaStream_t stream = nullptr;
};
MatrixProducts::MatrixProducts(cudaStream_t stream) : state_(std::make_unique<State>()) {
  state_->stream = stream;
}
MatrixProducts::~MatrixProducts() = default;

void MatrixProducts::Multiply(const ProductArgs& args) {
  const int error = emulation::Enqueue(state_->stream, [args] {
    for (int64_t batch = 0; batch < args.batch; ++batch) MultiplyOne(args, batch);
  });
  if (error != 0) (void)RefuseCapture("product", "the library cannot be captured");
}

}  // namespace sinkforge::kernels::cuda
