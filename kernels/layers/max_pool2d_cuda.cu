// SPDX-License-Identifier: Apache-2.0
// Max-pool on CUDA: a thread per number; gradients are gathered by the input pixel from the windows that hold it, in
// row-major order of the windows.
#include "kernels/layers/max_pool2d.h"
#include "kernels/tools/cuda_launch.cuh"
#include "kernels/tools/fast_divisor.h"

namespace cumeta {
namespace {

constexpr int kThreads = 256;

struct PoolShape {
  FastDivisor channels, width, height;  // of the side that a thread stands on
  int kernel = 1, stride = 1, in_height = 0, in_width = 0, out_height = 0, out_width = 0;
  int numbers = 0;  // per task, of that side
};

struct Place {
  int example, y, x, c;
};
__device__ __forceinline__ Place place_of(const PoolShape& s, int i) {
  const int pixel = s.channels.quotient(i), line = s.width.quotient(pixel), example = s.height.quotient(line);
  return {example, line - example * static_cast<int>(s.height.divisor),
          pixel - line * static_cast<int>(s.width.divisor), i - pixel * static_cast<int>(s.channels.divisor)};
}

/// y = x at the winner. With `choose`, the record is made; else it is followed (Ry from Rx).
template <bool choose>
__global__ void __launch_bounds__(kThreads, 4)
    pool_forward(const __grid_constant__ PoolShape s, const float* x, std::int64_t x_stride, float* record,
                 std::int64_t record_stride, float* y, std::int64_t y_stride, int tasks) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x), channels = static_cast<int>(s.channels.divisor);
  if (i >= s.numbers) return;
  const Place p = place_of(s, i);
  const float* corner = x + ((p.example * s.in_height + p.y * s.stride) * s.in_width + p.x * s.stride) * channels + p.c;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    const float* window = corner + task * x_stride;
    if constexpr (choose) {
      float best = window[0];
      int winner = 0;
      for (int v = 0; v < s.kernel; ++v)
        for (int u = 0; u < s.kernel; ++u) {
          const float candidate = window[(v * s.in_width + u) * channels];
          if (candidate > best) best = candidate, winner = v * s.kernel + u;
        }
      record[task * record_stride + i] = static_cast<float>(winner);
      y[task * y_stride + i] = best;
    } else {
      const int winner = static_cast<int>(record[task * record_stride + i]);
      const int v = winner / s.kernel, u = winner - v * s.kernel;
      y[task * y_stride + i] = window[(v * s.in_width + u) * channels];
    }
  }
}

/// dx = sum of dy over the windows whose winner this pixel is.
__global__ void __launch_bounds__(kThreads, 4)
    pool_backward(const __grid_constant__ PoolShape s, const float* dy, std::int64_t dy_stride, const float* record,
                  std::int64_t record_stride, float* dx, std::int64_t dx_stride, int tasks) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x), channels = static_cast<int>(s.channels.divisor);
  if (i >= s.numbers) return;
  const Place p = place_of(s, i);
  const int first_y = p.y < s.kernel ? 0 : (p.y - s.kernel) / s.stride + 1;
  const int first_x = p.x < s.kernel ? 0 : (p.x - s.kernel) / s.stride + 1;
  const int last_y = min(p.y / s.stride, s.out_height - 1), last_x = min(p.x / s.stride, s.out_width - 1);
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    float sum = 0.0f;
    for (int oy = first_y; oy <= last_y; ++oy)
      for (int ox = first_x; ox <= last_x; ++ox) {
        const int o = ((p.example * s.out_height + oy) * s.out_width + ox) * channels + p.c;
        const int here = (p.y - oy * s.stride) * s.kernel + p.x - ox * s.stride;
        if (static_cast<int>(record[task * record_stride + o]) == here) sum += dy[task * dy_stride + o];
      }
    dx[task * dx_stride + i] = sum;
  }
}

class MaxPool2dCuda final : public LayerPasses {
 public:
  MaxPool2dCuda(const MaxPool2d& layer, const Geometry& g, CudaLane& lane) : lane_(lane) {
    const Shape in = g.input, out = output(layer, in);
    out_.kernel = layer.kernel, out_.stride = layer.stride;
    out_.in_height = in.height, out_.in_width = in.width, out_.out_height = out.height, out_.out_width = out.width;
    in_ = out_;
    out_.channels = in_.channels = FastDivisor(in.channels);
    out_.width = FastDivisor(out.width), out_.height = FastDivisor(out.height);
    in_.width = FastDivisor(in.width), in_.height = FastDivisor(in.height);
    out_.numbers = g.examples * out.size(), in_.numbers = g.examples * in.size();
  }

  void forward(const Values& v) const override {
    launch(lane_, "max-pool forward", pool_forward<true>, grid(out_, v.y.tasks), dim3(kThreads), 0, out_,
           v.x.row<float>(0), v.x.stride, v.r.row<float>(0), v.r.stride, v.y.row<float>(0), v.y.stride, v.y.tasks);
  }
  void backward(const Values& v, const Gradients& d) const override { back("max-pool backward", v, d); }
  void tangent_forward(const Values& v, const Values& R) const override {
    if (!R.x) return lane_.fill(R.y, 0.0);
    launch(lane_, "max-pool tangent forward", pool_forward<false>, grid(out_, v.y.tasks), dim3(kThreads), 0, out_,
           R.x.row<float>(0), R.x.stride, v.r.row<float>(0), v.r.stride, R.y.row<float>(0), R.y.stride, v.y.tasks);
  }
  void tangent_backward(const Values& v, const Gradients&, const Values&, const Gradients& Rd) const override {
    back("max-pool tangent backward", v, Rd);
  }

 private:
  static dim3 grid(const PoolShape& s, int tasks) { return dim3(blocks_for(s.numbers, kThreads), task_blocks(tasks)); }
  void back(Op op, const Values& v, const Gradients& d) const {
    if (!d.x) return;
    launch(lane_, op, pool_backward, grid(in_, v.y.tasks), dim3(kThreads), 0, in_, d.y.row<float>(0), d.y.stride,
           v.r.row<float>(0), v.r.stride, d.x.row<float>(0), d.x.stride, v.y.tasks);
  }

  PoolShape out_, in_;
  CudaLane& lane_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const MaxPool2d& layer, const Geometry& geometry, Array, CudaLane& lane) {
  return std::make_unique<MaxPool2dCuda>(layer, geometry, lane);
}

}  // namespace cumeta
