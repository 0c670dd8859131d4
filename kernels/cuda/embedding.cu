// Embedding and its gradient. The gradient adds the rows of every token in the order of their
// positions: positions are sorted by token with a stable radix sort of one block (tens of thousands
// of keys, of which there is one batch a step), then one block a token and column tile walks its
// run. No atomics, so that the bits are always the same.
#include "kernels/cuda/ops.h"

namespace sinkforge::kernels::cuda {
namespace {

constexpr int kColumns = 128;  // of a block
constexpr int kAtOnce = 16;    // rows of a run that are read before any is added
constexpr int kSortThreads = 512;
constexpr int kDigitBits = 4;
constexpr int kDigits = 1 << kDigitBits;
// The counters of all threads fit what a block has without asking for more.
static_assert(kDigits * kSortThreads * sizeof(int32_t) + kSortThreads * sizeof(int32_t) <=
              (48U << 10));

template <typename T>
__global__ void EmbeddingKernel(const int32_t* tokens, const T* table, int width, T* out) {
  const int64_t n = blockIdx.x;
  const int64_t token = tokens[n];
  for (int c = static_cast<int>(threadIdx.x); c < width; c += static_cast<int>(blockDim.x)) {
    out[n * width + c] = table[token * width + c];
  }
}

// Turns counters [digit, thread] into the place of each thread's first key of each digit.
__device__ void ScanCounters(int32_t* counters, int32_t* totals) {
  const int thread = static_cast<int>(threadIdx.x);
  int32_t* own = counters + thread * kDigits;  // consecutive entries, whatever they count
  int32_t sum = 0;
  for (int i = 0; i < kDigits; ++i) sum += own[i];
  totals[thread] = sum;
  __syncthreads();
  for (int step = 1; step < kSortThreads; step *= 2) {
    const int32_t below = thread >= step ? totals[thread - step] : 0;
    __syncthreads();
    totals[thread] += below;
    __syncthreads();
  }
  int32_t place = totals[thread] - sum;
  for (int i = 0; i < kDigits; ++i) {
    const int32_t count = own[i];
    own[i] = place;
    place += count;
  }
  __syncthreads();
}

// order: the positions sorted by (token, position). One block; every thread has a run of positions.
__global__ void SortPositionsKernel(const int32_t* tokens, int32_t n, int digits, int32_t* order,
                                    int32_t* scratch) {
  auto* counters = reinterpret_cast<int32_t*>(SharedMemory());
  int32_t* totals = counters + kDigits * kSortThreads;
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t run = (n + kSortThreads - 1) / kSortThreads;
  const int32_t begin = min(n, thread * run);
  const int32_t end = min(n, begin + run);
  // The last pass must write to `order`.
  int32_t* to = digits % 2 == 1 ? order : scratch;
  const int32_t* from = nullptr;  // the first pass reads the positions as they are
  for (int pass = 0; pass < digits; ++pass) {
    const int shift = pass * kDigitBits;
    for (int i = 0; i < kDigits; ++i) counters[i * kSortThreads + thread] = 0;
    __syncthreads();
    for (int32_t i = begin; i < end; ++i) {
      const int32_t position = from == nullptr ? i : from[i];
      const int digit = (tokens[position] >> shift) & (kDigits - 1);
      ++counters[digit * kSortThreads + thread];
    }
    __syncthreads();
    ScanCounters(counters, totals);
    for (int32_t i = begin; i < end; ++i) {
      const int32_t position = from == nullptr ? i : from[i];
      const int digit = (tokens[position] >> shift) & (kDigits - 1);
      to[counters[digit * kSortThreads + thread]++] = position;
    }
    __syncthreads();
    from = to;
    to = to == order ? scratch : order;
  }
}

template <typename T>
__global__ void EmbeddingBackwardKernel(const int32_t* tokens, const int32_t* order, int64_t n,
                                        const T* d_out, int width, float* d_table) {
  const int64_t first = blockIdx.x;
  const int32_t token = tokens[order[first]];
  if (first > 0 && tokens[order[first - 1]] == token) return;  // not the start of a run
  const int c = static_cast<int>(blockIdx.y) * kColumns + static_cast<int>(threadIdx.x);
  if (c >= width) return;
  float* to = d_table + static_cast<int64_t>(token) * width + c;
  float sum = *to;
  // A frequent token's run is long, and waiting for each number before the next would be all that
  // the device does in the end: what is added one by one is read kAtOnce at a time.
  bool goes_on = true;
  for (int64_t i = first; goes_on; i += kAtOnce) {
    bool same[kAtOnce];
    T values[kAtOnce];
    int32_t positions[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) positions[j] = order[i + j < n ? i + j : first];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) same[j] = i + j < n && tokens[positions[j]] == token;
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (same[j]) values[j] = d_out[static_cast<int64_t>(positions[j]) * width + c];
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (same[j]) sum += ToFloat(values[j]);
    }
    goes_on = same[kAtOnce - 1];
  }
  *to = sum;
}

}  // namespace

template <typename T>
void LaunchEmbedding(const int32_t* tokens, int64_t n, const T* table, int width, T* out,
                     cudaStream_t stream) {
  Launch(EmbeddingKernel<T>, {dim3(static_cast<unsigned>(n)), 128, 0}, stream, tokens, table, width,
         out);
}

template <typename T>
void LaunchEmbeddingBackward(const int32_t* tokens, int64_t n, int vocabulary, const T* d_out,
                             int width, float* d_table, int32_t* order, int32_t* scratch,
                             cudaStream_t stream) {
  int digits = 1;
  while ((static_cast<int64_t>(vocabulary) - 1) >> (digits * kDigitBits) > 0) ++digits;
  const size_t shared = (kDigits + 1) * kSortThreads * sizeof(int32_t);
  Launch(SortPositionsKernel, {dim3(1), kSortThreads, shared}, stream, tokens, n, digits, order,
         scratch);
  const dim3 grid(static_cast<unsigned>(n), BlocksFor(width, kColumns));
  Launch(EmbeddingBackwardKernel<T>, {grid, kColumns, 0}, stream, tokens, order, n, d_out, width,
         d_table);
}

#define SINKFORGE_EMBEDDING(T)                                                                  \
  template void LaunchEmbedding<T>(const int32_t*, int64_t, const T*, int, T*, cudaStream_t);   \
  template void LaunchEmbeddingBackward<T>(const int32_t*, int64_t, int, const T*, int, float*, \
                                           int32_t*, int32_t*, cudaStream_t)
SINKFORGE_EMBEDDING(float);
SINKFORGE_EMBEDDING(Bf16);
#undef SINKFORGE_EMBEDDING

}  // namespace sinkforge::kernels::cuda
