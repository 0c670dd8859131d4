// The library is column-major: it is asked for c^T = op(b)^T op(a)^T, in which every row-major
// matrix is its own transpose and nothing moves.
#include <cublasLt.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <tuple>

#include "kernels/cuda/device.h"
#include "kernels/cuda/matrix_product.h"
#include "kernels/cuda/product_alignment.h"

namespace sinkforge::kernels::cuda {
namespace {

// What NVIDIA recommends for Hopper; more is never asked for by the library's heuristics.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

void CheckLibrary(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "cuBLASLt: %s: %s\n", what, cublasLtGetStatusString(status));
  std::_Exit(kDeviceFailureExitCode);
}

cudaDataType_t TypeOf(DType dtype) { return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F; }

using Key = std::tuple<int64_t, int64_t, int64_t, Operand, Operand, DType, DType, bool, int64_t,
                       int64_t, int64_t, int64_t, Alignments>;

Key KeyOf(const ProductArgs& args) {
  const Alignments alignments = AlignmentsOf(args);
  return {args.m,        args.n,        args.k,         args.a_form, args.b_form,
          args.input,    args.output,   args.beta != 0, args.batch,  args.a_stride,
          args.b_stride, args.c_stride, alignments};
}

struct Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

cublasLtMatrixLayout_t MakeLayout(DType dtype, int64_t rows, int64_t cols, int64_t batch,
                                  int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  // A row-major [rows, cols] is a column-major [cols, rows].
  CheckLibrary(cublasLtMatrixLayoutCreate(&layout, TypeOf(dtype), static_cast<uint64_t>(cols),
                                          static_cast<uint64_t>(rows), cols),
               "layout");
  const auto count = static_cast<int32_t>(batch);
  CheckLibrary(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                                sizeof(count)),
               "batch");
  CheckLibrary(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                &stride, sizeof(stride)),
               "stride");
  return layout;
}

}  // namespace

struct MatrixProducts::State {
  cudaStream_t stream = nullptr;
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::map<Key, Plan> plans;

  const Plan& PlanOf(const ProductArgs& args);
  void ChooseAlgorithm(const ProductArgs& args, Plan* plan) const;
};

const Plan& MatrixProducts::State::PlanOf(const ProductArgs& args) {
  const auto [at, inserted] = plans.try_emplace(KeyOf(args));
  Plan& plan = at->second;
  if (!inserted) return plan;
  CheckLibrary(cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "operation");
  const auto form = [&](cublasLtMatmulDescAttributes_t attribute, Operand operand) {
    const cublasOperation_t op = operand == Operand::kPlain ? CUBLAS_OP_N : CUBLAS_OP_T;
    CheckLibrary(cublasLtMatmulDescSetAttribute(plan.operation, attribute, &op, sizeof(op)),
                 "operand");
  };
  // The library's first operand is our second.
  form(CUBLASLT_MATMUL_DESC_TRANSA, args.b_form);
  form(CUBLASLT_MATMUL_DESC_TRANSB, args.a_form);
  const bool a_plain = args.a_form == Operand::kPlain;
  const bool b_plain = args.b_form == Operand::kPlain;
  plan.a = MakeLayout(args.input, a_plain ? args.m : args.k, a_plain ? args.k : args.m, args.batch,
                      args.a_stride);
  plan.b = MakeLayout(args.input, b_plain ? args.k : args.n, b_plain ? args.n : args.k, args.batch,
                      args.b_stride);
  plan.c = MakeLayout(args.output, args.m, args.n, args.batch, args.c_stride);
  ChooseAlgorithm(args, &plan);
  return plan;
}

void MatrixProducts::State::ChooseAlgorithm(const ProductArgs& args, Plan* plan) const {
  cublasLtMatmulPreference_t preference = nullptr;
  CheckLibrary(cublasLtMatmulPreferenceCreate(&preference), "preference");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    CheckLibrary(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
                 "preference");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  // Sums over k that are split are added in float32: others would be rounded to bfloat16 in
  // between.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  const Alignments alignments = AlignmentsOf(args);
  // The library's first operand is our second.
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments.b);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments.a);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments.c);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments.c);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, plan->operation, plan->b, plan->a, plan->c, plan->c, preference, 1, &best, &found);
  const std::string what = "no algorithm for a product of " + std::to_string(args.m) + " x " +
                           std::to_string(args.k) + " x " + std::to_string(args.n);
  CheckLibrary(found > 0 || status != CUBLAS_STATUS_SUCCESS ? status : CUBLAS_STATUS_NOT_SUPPORTED,
               what.c_str());
  plan->algorithm = best.algo;
  CheckLibrary(cublasLtMatmulPreferenceDestroy(preference), "preference");
}

MatrixProducts::MatrixProducts(cudaStream_t stream) : state_(std::make_unique<State>()) {
  state_->stream = stream;
  CheckLibrary(cublasLtCreate(&state_->handle), "start");
  CheckCuda(cudaMalloc(&state_->workspace, kWorkspaceBytes), "workspace of the matrix products");
}

MatrixProducts::~MatrixProducts() {
  for (const auto& [key, plan] : state_->plans) {
    cublasLtMatmulDescDestroy(plan.operation);
    for (cublasLtMatrixLayout_t layout : {plan.a, plan.b, plan.c}) {
      cublasLtMatrixLayoutDestroy(layout);
    }
  }
  cudaFree(state_->workspace);
  cublasLtDestroy(state_->handle);
}

void MatrixProducts::Multiply(const ProductArgs& args) {
  const Plan& plan = state_->PlanOf(args);
  const void* addend = args.addend == nullptr ? args.c : args.addend;
  const cublasStatus_t status =
      cublasLtMatmul(state_->handle, plan.operation, &args.alpha, args.b, plan.b, args.a, plan.a,
                     &args.beta, addend, plan.c, args.c, plan.c, &plan.algorithm, state_->workspace,
                     kWorkspaceBytes, state_->stream);
  if (status != CUBLAS_STATUS_SUCCESS &&
      RefuseCapture("cuBLASLt: product", cublasLtGetStatusString(status))) {
    return;
  }
  CheckLibrary(status, "product");
}

}  // namespace sinkforge::kernels::cuda
