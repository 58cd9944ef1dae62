// SPDX-License-Identifier: Apache-2.0
// Softmax cross-entropy on CUDA: a block per task, a warp per row; each warp adds its rows in order, then warps in
// order.
//   loss = mean of -log p[label]   dx = factor (p - onehot) / n   Rdx = factor p (Rx - <p, Rx>) / n
// 1 - p[label] is the sum of the others' p, so a label that is almost certain keeps its digits.
#include <cassert>

#include "kernels/layers/softmax_cross_entropy.h"
#include "kernels/tools/reduce_cuda.cuh"

namespace cumeta {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

struct Rows {
  int outputs, examples, first_row;
  float scale;  ///< factor / n
};

/// Maximum of a row and sum of exp(x - maximum), for every lane of its warp; `others` leaves out the number at `apart`.
struct Normaliser {
  float maximum, others, sum;
};
__device__ Normaliser normaliser(const float* x, int outputs, int apart, int lane) {
  float maximum = -__int_as_float(0x7f800000);
  for (int i = lane; i < outputs; i += kWarp) maximum = fmaxf(maximum, x[i]);
  maximum = warp_max(maximum);
  float others = 0.0f;
  for (int i = lane; i < outputs; i += kWarp) others += i == apart ? 0.0f : expf(x[i] - maximum);
  others = warp_sum(others);
  return {maximum, others, others + expf(x[apart] - maximum)};
}

/// The first index at which the row has its maximum.
__device__ int first_index_of(const float* x, int outputs, float maximum, int lane) {
  int first = outputs;
  for (int i = lane; i < outputs && first == outputs; i += kWarp)
    if (x[i] == maximum) first = i;
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    first = min(first, __shfl_xor_sync(0xffffffffu, first, distance));
  return first;
}

__global__ void __launch_bounds__(kThreads, 2)
    cross_entropy(Rows rows, const float* x, std::int64_t x_task, const float* t, std::int64_t t_task, float* loss,
                  std::int64_t loss_task, float* hits, std::int64_t hits_task, float* dx, std::int64_t dx_task) {
  CUMETA_SHARED(float, warp_loss, kWarps);
  CUMETA_SHARED(int, warp_hits, kWarps);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t task = blockIdx.x;
  float losses = 0.0f;
  int right = 0;
  for (int row = warp; row < rows.examples; row += kWarps) {
    float* gradient = dx ? dx + task * dx_task + std::int64_t{row} * rows.outputs : nullptr;
    if (row < rows.first_row) {
      for (int i = lane; gradient && i < rows.outputs; i += kWarp) gradient[i] = 0.0f;
      continue;
    }
    const float* scores = x + task * x_task + std::int64_t{row} * rows.outputs;
    const int label = static_cast<int>(t[task * t_task + row]);
    const Normaliser n = normaliser(scores, rows.outputs, label, lane);
    const float own = expf(scores[label] - n.maximum);
    // log1p of the sum less 1, which is just the others where the label has the maximum
    losses += log1pf(n.others + (own - 1.0f)) - (scores[label] - n.maximum);
    if (hits)
      right += first_index_of(scores, rows.outputs, n.maximum, lane) == label && scores[0] == scores[0];  // not a NaN
    for (int i = lane; gradient && i < rows.outputs; i += kWarp)
      gradient[i] = rows.scale * (i == label ? -(n.others / n.sum) : expf(scores[i] - n.maximum) / n.sum);
  }
  if (lane == 0) warp_loss[warp] = losses, warp_hits[warp] = right;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0.0f;
    int count = 0;
    for (int w = 0; w < kWarps; ++w) sum += warp_loss[w], count += warp_hits[w];
    loss[task * loss_task] = sum / static_cast<float>(rows.examples - rows.first_row);
    if (hits) hits[task * hits_task] = static_cast<float>(count);
  }
}

__global__ void __launch_bounds__(kThreads, 2)
    cross_entropy_tangent(Rows rows, const float* x, std::int64_t x_task, const float* Rx, std::int64_t Rx_task,
                          float* Rdx, std::int64_t Rdx_task) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t task = blockIdx.x;
  for (int row = warp; row < rows.examples; row += kWarps) {
    const std::int64_t at = std::int64_t{row} * rows.outputs;
    float* tangent = Rdx + task * Rdx_task + at;
    if (row < rows.first_row) {
      for (int i = lane; i < rows.outputs; i += kWarp) tangent[i] = 0.0f;
      continue;
    }
    const float* scores = x + task * x_task + at;
    const float* direction = Rx + task * Rx_task + at;
    const Normaliser n = normaliser(scores, rows.outputs, 0, lane);
    // Rx is taken from its value at the largest score: where p is nearly 1, Rx - <p, Rx> would cancel otherwise.
    const int largest = first_index_of(scores, rows.outputs, n.maximum, lane);
    const float origin = largest < rows.outputs ? direction[largest] : 0.0f;
    float mean = 0.0f;
    for (int i = lane; i < rows.outputs; i += kWarp)
      mean = fmaf(expf(scores[i] - n.maximum) / n.sum, direction[i] - origin, mean);
    mean = warp_sum(mean);
    for (int i = lane; i < rows.outputs; i += kWarp)
      tangent[i] = rows.scale * (expf(scores[i] - n.maximum) / n.sum) * ((direction[i] - origin) - mean);
  }
}

class CrossEntropyPasses final : public LossPasses {
 public:
  CrossEntropyPasses(const LossGeometry& g, const CudaLane& lane)
      : lane_(lane),
        rows_{g.outputs, g.examples, g.first_row, static_cast<float>(g.factor / (g.examples - g.first_row))} {}

  void forward_backward(Array x, Array t, Array loss, Array hits, Array dx) const override {
    launch(lane_, "softmax cross-entropy", cross_entropy, static_cast<unsigned>(x.tasks), kThreads, 0, rows_,
           x.row<const float>(0), x.stride, t.row<const float>(0), t.stride, loss.row<float>(0), loss.stride,
           hits.row<float>(0), hits.stride, dx.row<float>(0), dx.stride);
  }
  void tangent_backward(Array x, Array, Array Rx, Array Rdx) const override {
    launch(lane_, "softmax cross-entropy tangent", cross_entropy_tangent, static_cast<unsigned>(x.tasks), kThreads, 0,
           rows_, x.row<const float>(0), x.stride, Rx.row<const float>(0), Rx.stride, Rdx.row<float>(0), Rdx.stride);
  }

 private:
  const CudaLane& lane_;
  Rows rows_;
};

}  // namespace

std::unique_ptr<LossPasses> bind(const SoftmaxCrossEntropy&, const LossGeometry& geometry, CudaLane& lane) {
  return std::make_unique<CrossEntropyPasses>(geometry, lane);
}

}  // namespace cumeta
