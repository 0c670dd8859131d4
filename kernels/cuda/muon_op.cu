// With X of rows <= columns, A = X X^T and X <- a X + (b A + c A^2) X. A tall X is not transposed:
// A = X^T X and X <- a X + X (b A + c A^2) is the same polynomial. The sums are the products' own:
// nothing passes over memory between them.
#include <cmath>
#include <utility>

#include "kernels/cuda/muon_op.h"
#include "kernels/newton_schulz.h"

namespace sinkforge::kernels::cuda {
namespace {

template <typename T>
constexpr DType kDTypeOf = sizeof(T) == sizeof(float) ? DType::kF32 : DType::kBF16;

}  // namespace

template <typename T>
void MuonOp<T>::NewtonSchulz(const MuonShape& shape, int64_t batch, T* x, T* next) {
  const bool tall = shape.rows > shape.cols;
  const int64_t small = tall ? shape.cols : shape.rows;
  const int64_t large = tall ? shape.rows : shape.cols;
  T* gram = gram_.Reserve<T>(batch * small * small, stream_);
  T* square = square_.Reserve<T>(batch * small * small, stream_);
  static_assert(kNewtonSchulzSteps % 2 ==
                1);  // x and next change places, and the result is in next
  ProductArgs products;
  products.input = products.output = kDTypeOf<T>;
  products.batch = batch;
  for (int step = 0; step < kNewtonSchulzSteps; ++step) {
    ProductArgs p = products;
    p.m = p.n = small;
    p.k = large;
    p.a = p.b = x;
    p.c = gram;
    p.a_stride = p.b_stride = small * large;
    p.c_stride = small * small;
    (tall ? p.a_form : p.b_form) = Operand::kTransposed;
    products_->Multiply(p);

    p = products;
    p.m = p.n = p.k = small;
    p.a = p.b = gram;
    p.c = square;  // the polynomial, not yet times X
    p.a_stride = p.b_stride = p.c_stride = small * small;
    p.alpha = static_cast<float>(kNewtonSchulzC);
    p.beta = static_cast<float>(kNewtonSchulzB);
    p.addend = gram;
    products_->Multiply(p);

    p = products;
    p.m = shape.rows;
    p.n = shape.cols;
    p.k = small;
    p.a = tall ? x : square;
    p.b = tall ? square : x;
    p.c = next;
    p.a_stride = tall ? small * large : small * small;
    p.b_stride = tall ? small * small : small * large;
    p.c_stride = small * large;
    p.beta = static_cast<float>(kNewtonSchulzA);
    p.addend = x;
    products_->Multiply(p);
    std::swap(x, next);
  }
}

template <typename T>
void MuonOp<T>::Update(std::span<const MuonArgs> all) {
  const MuonShape shape{all[0].parameter.dim(0), all[0].parameter.dim(1)};
  const int64_t n = shape.rows * shape.cols;
  const auto batch = static_cast<int64_t>(all.size());
  float* ahead = ahead_.Reserve<float>(n, stream_);
  double* partials = partials_.Reserve<double>(kReductionBlocks, stream_);
  T* x = x_.Reserve<T>(batch * n, stream_);
  T* next = next_.Reserve<T>(batch * n, stream_);
  for (int64_t i = 0; i < batch; ++i) {
    const MuonArgs& args = all[static_cast<size_t>(i)];
    LaunchMuonMomentum(args.gradient.as<float>(), args, n, args.momentum_buffer.as<float>(), ahead,
                       partials, stream_->get());
    LaunchMuonNormalise(ahead, partials, n, x + i * n, stream_->get());
  }
  // It takes nothing of the step's own: the same launches every time.
  graphs_->Run({this, {shape.rows, shape.cols, batch}},
               [&] { NewtonSchulz(shape, batch, x, next); });
  const double ratio = static_cast<double>(shape.rows) / static_cast<double>(shape.cols);
  const double factor = std::sqrt(ratio > 1.0 ? ratio : 1.0);
  for (int64_t i = 0; i < batch; ++i) {
    const MuonArgs& args = all[static_cast<size_t>(i)];
    LaunchMuonUpdate(next + i * n, n, static_cast<float>(args.learning_rate * factor),
                     args.parameter.as<float>(), stream_->get());
  }
}

template class MuonOp<float>;
template class MuonOp<Bf16>;

}  // namespace sinkforge::kernels::cuda
