// SPDX-License-Identifier: Apache-2.0
// Mean squared error on CUDA, a block per task:  loss = mean (x - t)^2   dx = scale (x - t)   Rdx = scale Rx
// with scale = factor 2 / (n outputs); rows below first_row get zeros.
#include "kernels/layers/mean_squared_error.h"
#include "kernels/tools/reduce_cuda.cuh"

namespace cumeta {
namespace {

constexpr int kThreads = 128;

struct Span {
  std::int64_t first, count;  ///< numbers that count are [first, count)
  float scale;
};

__global__ void __launch_bounds__(kThreads, 4)
    squared_error(Span span, const float* x, std::int64_t x_task, const float* t, std::int64_t t_task, float* loss,
                  std::int64_t loss_task, float* hits, std::int64_t hits_task, float* dx, std::int64_t dx_task) {
  CUMETA_SHARED(float, partial, kThreads / kWarp);
  const std::int64_t task = blockIdx.x;
  float sum = 0.0f;
  for (std::int64_t i = threadIdx.x; i < span.count; i += kThreads) {
    const float error = i < span.first ? 0.0f : x[task * x_task + i] - t[task * t_task + i];
    sum = fmaf(error, error, sum);
    if (dx) dx[task * dx_task + i] = span.scale * error;
  }
  sum = block_sum(sum, partial);
  if (threadIdx.x == 0) {
    loss[task * loss_task] = sum / static_cast<float>(span.count - span.first);
    if (hits) hits[task * hits_task] = 0.0f;
  }
}

__global__ void __launch_bounds__(kThreads, 4)
    squared_error_tangent(Span span, const float* Rx, std::int64_t Rx_task, float* Rdx, std::int64_t Rdx_task) {
  const std::int64_t task = blockIdx.x;
  for (std::int64_t i = threadIdx.x; i < span.count; i += kThreads)
    Rdx[task * Rdx_task + i] = i < span.first ? 0.0f : span.scale * Rx[task * Rx_task + i];
}

class SquaredErrorPasses final : public LossPasses {
 public:
  SquaredErrorPasses(const LossGeometry& g, const CudaLane& lane)
      : lane_(lane),
        span_{std::int64_t{g.first_row} * g.outputs, std::int64_t{g.examples} * g.outputs,
              static_cast<float>(2.0 * g.factor / (double(g.examples - g.first_row) * g.outputs))} {}

  void forward_backward(Array x, Array t, Array loss, Array hits, Array dx) const override {
    launch(lane_, "mean squared error", squared_error, static_cast<unsigned>(x.tasks), kThreads, 0, span_,
           x.row<const float>(0), x.stride, t.row<const float>(0), t.stride, loss.row<float>(0), loss.stride,
           hits.row<float>(0), hits.stride, dx.row<float>(0), dx.stride);
  }
  void tangent_backward(Array x, Array, Array Rx, Array Rdx) const override {
    launch(lane_, "mean squared error tangent", squared_error_tangent, static_cast<unsigned>(x.tasks), kThreads, 0,
           span_, Rx.row<const float>(0), Rx.stride, Rdx.row<float>(0), Rdx.stride);
  }

 private:
  const CudaLane& lane_;
  Span span_;
};

}  // namespace

std::unique_ptr<LossPasses> bind(const MeanSquaredError&, const LossGeometry& geometry, CudaLane& lane) {
  return std::make_unique<SquaredErrorPasses>(geometry, lane);
}

}  // namespace cumeta
