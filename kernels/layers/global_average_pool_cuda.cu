// SPDX-License-Identifier: Apache-2.0
// Global average pool on CUDA: y[c] = mean over pixels of x[.][c], a thread per number of y; dx = dy / pixels.
#include "kernels/layers/global_average_pool.h"
#include "kernels/tools/cuda_launch.cuh"
#include "kernels/tools/fast_divisor.h"

namespace cumeta {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads, 8)
    average_forward(int numbers, FastDivisor channels, int pixels, const float* x, std::int64_t x_stride, float* y,
                    std::int64_t y_stride, int tasks) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= numbers) return;
  const int count = static_cast<int>(channels.divisor), example = channels.quotient(i);
  const std::int64_t first = static_cast<std::int64_t>(example) * pixels * count + (i - example * count);
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    float sum = 0.0f;
    if (x) {
      const float* from = x + task * x_stride + first;
#pragma unroll 4
      for (int p = 0; p < pixels; ++p) sum += from[static_cast<std::int64_t>(p) * count];
    }
    y[task * y_stride + i] = sum / static_cast<float>(pixels);
  }
}

__global__ void __launch_bounds__(kThreads, 8)
    average_backward(int numbers, FastDivisor channels, FastDivisor image, int pixels, const float* dy,
                     std::int64_t dy_stride, float* dx, std::int64_t dx_stride, int tasks) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= numbers) return;
  const int count = static_cast<int>(channels.divisor), pixel = channels.quotient(i), example = image.quotient(pixel);
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y)
    dx[task * dx_stride + i] =
        dy[task * dy_stride + example * count + (i - pixel * count)] / static_cast<float>(pixels);
}

class GlobalAveragePoolCuda final : public LayerPasses {
 public:
  GlobalAveragePoolCuda(const Geometry& g, CudaLane& lane)
      : lane_(lane), channels_(g.input.channels), pixels_(g.input.height * g.input.width), examples_(g.examples) {}

  void forward(const Values& v) const override { average("global average pool forward", v.x, v.y, v.y.tasks); }
  void backward(const Values& v, const Gradients& d) const override {
    spread("global average pool backward", d, v.y.tasks);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    average("global average pool tangent forward", R.x, R.y, v.y.tasks);
  }
  void tangent_backward(const Values& v, const Gradients&, const Values&, const Gradients& Rd) const override {
    spread("global average pool tangent backward", Rd, v.y.tasks);
  }

 private:
  void average(Op op, const Array& x, const Array& y, int tasks) const {
    const int numbers = examples_ * channels_;
    launch(lane_, op, average_forward, dim3(blocks_for(numbers, kThreads), task_blocks(tasks)), dim3(kThreads), 0,
           numbers, FastDivisor(channels_), pixels_, x ? x.row<float>(0) : nullptr, x.stride, y.row<float>(0), y.stride,
           tasks);
  }
  void spread(Op op, const Gradients& d, int tasks) const {
    if (!d.x) return;
    const int numbers = examples_ * channels_ * pixels_;
    launch(lane_, op, average_backward, dim3(blocks_for(numbers, kThreads), task_blocks(tasks)), dim3(kThreads), 0,
           numbers, FastDivisor(channels_), FastDivisor(pixels_), pixels_, d.y.row<float>(0), d.y.stride,
           d.x.row<float>(0), d.x.stride, tasks);
  }

  CudaLane& lane_;
  int channels_, pixels_, examples_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const GlobalAveragePool&, const Geometry& geometry, Array, CudaLane& lane) {
  return std::make_unique<GlobalAveragePoolCuda>(geometry, lane);
}

}  // namespace cumeta
