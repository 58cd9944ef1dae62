// SPDX-License-Identifier: Apache-2.0
// Global average pool + linear on CUDA, every pass one launch.
//   forward   a warp per example: lanes take channels, form h once and add h W for five outputs at a time
//   backward  blocks take roles: dx by a thread per (example, channel) that writes all its pixels, [dW; db] by a thread
//             per number
// Both terms of a tangent are in one loop. Sums run over a lane's channels, outputs or examples in order, then over
// lanes by a butterfly: the bits depend on one task's sizes only.
#include "kernels/layers/pooled_linear.h"
#include "kernels/tools/cuda_launch.cuh"
#include "kernels/tools/fast_divisor.h"
#include "kernels/tools/reduce_cuda.cuh"
#include "kernels/tools/task_rows_cuda.cuh"

namespace cumeta {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kOutputs = 5;  ///< sums of a warp at a time

struct PooledCall {
  int examples, pixels, outputs;
  FastDivisor channels, columns;  ///< columns = outputs
  bool bias;
  unsigned data_blocks;  ///< blocks of backward that make dx
  TaskRows w, x, r, dy, Rw, Rx, Rr, Rdy;
  TaskRows y, dx, dw;  ///< in a tangent pass Ry, Rdx, Rdw
};

/// Mean over the pixels of one channel; 0 without an image.
__device__ __forceinline__ float average(const float* from, int pixels, int channels) {
  float sum = 0.0f;
  if (!from) return sum;
#pragma unroll 4
  for (int p = 0; p < pixels; ++p) sum += from[static_cast<std::int64_t>(p) * channels];
  return sum / static_cast<float>(pixels);
}

template <bool tangent>
__global__ void __launch_bounds__(kThreads, 8) pooled_forward(const __grid_constant__ PooledCall call, int tasks) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, channels = static_cast<int>(call.channels.divisor);
  const int example = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (example >= call.examples) return;
  for (int task = static_cast<int>(blockIdx.y); task < tasks; task += static_cast<int>(gridDim.y)) {
    const float *w = call.w.of(task), *Rw = call.Rw.of(task), *images = (tangent ? call.Rx : call.x).of(task);
    const float* image = images ? images + static_cast<std::int64_t>(example) * call.pixels * channels : nullptr;
    const float* h = call.r.of(task) + example * channels;
    float* made = (tangent ? call.Rr : call.r).of(task) + example * channels;
    float* y = call.y.of(task) + example * call.outputs;
    const float* b = tangent ? Rw : w;
    for (int first = 0; first < call.outputs; first += kOutputs) {
      const int last = min(kOutputs, call.outputs - first);
      float sum[kOutputs] = {};
      for (int c = lane; c < channels; c += kWarp) {
        const float mean = first == 0 ? average(image ? image + c : nullptr, call.pixels, channels) : made[c];
        if (first == 0) made[c] = mean;
        const int at = c * call.outputs + first;
#pragma unroll
        for (int j = 0; j < kOutputs; ++j) {
          if (j >= last) continue;
          sum[j] = fmaf(mean, w[at + j], sum[j]);
          if (tangent && Rw) sum[j] = fmaf(h[c], Rw[at + j], sum[j]);
        }
      }
#pragma unroll
      for (int j = 0; j < kOutputs; ++j) {
        if (j >= last) continue;
        const float all = warp_sum(sum[j]);
        if (lane == j) y[first + j] = call.bias && b ? all + b[channels * call.outputs + first + j] : all;
      }
    }
  }
}

template <bool tangent>
__device__ __forceinline__ void input_gradient(const PooledCall& call, int task, int i) {
  const int channels = static_cast<int>(call.channels.divisor), example = call.channels.quotient(i);
  if (example >= call.examples) return;
  const int c = i - example * channels;
  const float* w = call.w.of(task) + c * call.outputs;
  const float *Rw = tangent ? call.Rw.of(task) : nullptr, *dy = call.dy.of(task) + example * call.outputs;
  const float* carried = tangent ? call.Rdy.of(task) + example * call.outputs : dy;
  if (Rw) Rw += c * call.outputs;
  float sum = 0.0f;
  for (int o = 0; o < call.outputs; ++o) {
    sum = fmaf(carried[o], w[o], sum);
    if (tangent && Rw) sum = fmaf(dy[o], Rw[o], sum);
  }
  sum /= static_cast<float>(call.pixels);
  float* dx = call.dx.of(task) + static_cast<std::int64_t>(example) * call.pixels * channels + c;
  for (int p = 0; p < call.pixels; ++p) dx[static_cast<std::int64_t>(p) * channels] = sum;
}

template <bool tangent>
__device__ __forceinline__ void weight_gradient(const PooledCall& call, int task, int i) {
  const int channels = static_cast<int>(call.channels.divisor), c = call.columns.quotient(i);
  if (c >= channels + (call.bias ? 1 : 0)) return;
  const int o = i - c * call.outputs;
  const float *h = call.r.of(task), *dy = call.dy.of(task);
  const float *Rh = tangent ? call.Rr.of(task) : nullptr, *carried = tangent ? call.Rdy.of(task) : dy;
  float sum = 0.0f;
  for (int e = 0; e < call.examples; ++e) {
    const bool of_bias = c == channels;
    sum = fmaf(of_bias ? 1.0f : h[e * channels + c], carried[e * call.outputs + o], sum);
    if (tangent && !of_bias) sum = fmaf(Rh[e * channels + c], dy[e * call.outputs + o], sum);
  }
  call.dw.of(task)[i] = sum;
}

template <bool tangent>
__global__ void __launch_bounds__(kThreads, 8) pooled_backward(const __grid_constant__ PooledCall call, int tasks) {
  const bool data = blockIdx.x < call.data_blocks;
  const int i = static_cast<int>((data ? blockIdx.x : blockIdx.x - call.data_blocks) * kThreads + threadIdx.x);
  for (int task = static_cast<int>(blockIdx.y); task < tasks; task += static_cast<int>(gridDim.y)) {
    if (data) {
      input_gradient<tangent>(call, task, i);
    } else {
      weight_gradient<tangent>(call, task, i);
    }
  }
}

class PooledLinearCuda final : public LayerPasses {
 public:
  PooledLinearCuda(const PooledLinear& l, const Geometry& g, const CudaLane& lane)
      : lane_(lane),
        examples_(g.examples),
        pixels_(g.input.height * g.input.width),
        channels_(g.input.channels),
        outputs_(l.linear.outputs),
        bias_(l.linear.bias) {}

  void forward(const Values& v) const override {
    PooledCall call = with_values(v);
    call.y = TaskRows(v.y);
    run_forward("pooled linear forward", pooled_forward<false>, call, v.y.tasks);
  }
  void backward(const Values& v, const Gradients& d) const override {
    PooledCall call = with_values(v);
    call.dy = TaskRows(d.y);
    run_backward("pooled linear backward", pooled_backward<false>, call, d, v.y.tasks);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    PooledCall call = with_tangents(v, R);
    call.y = TaskRows(R.y);
    run_forward("pooled linear tangent forward", pooled_forward<true>, call, v.y.tasks);
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    PooledCall call = with_tangents(v, R);
    call.dy = TaskRows(d.y), call.Rdy = TaskRows(Rd.y);
    run_backward("pooled linear tangent backward", pooled_backward<true>, call, Rd, v.y.tasks);
  }

 private:
  using Kernel = void (*)(PooledCall, int);

  PooledCall with_values(const Values& v) const {
    PooledCall call{};
    call.examples = examples_, call.pixels = pixels_, call.outputs = outputs_, call.bias = bias_;
    call.channels = FastDivisor(channels_), call.columns = FastDivisor(outputs_);
    call.w = TaskRows(v.w), call.x = TaskRows(v.x), call.r = TaskRows(v.r);
    return call;
  }
  PooledCall with_tangents(const Values& v, const Values& R) const {
    PooledCall call = with_values(v);
    call.Rw = TaskRows(R.w), call.Rx = TaskRows(R.x), call.Rr = TaskRows(R.r);
    return call;
  }
  void run_forward(Op op, Kernel kernel, const PooledCall& call, int tasks) const {
    launch(lane_, op, kernel, dim3(blocks_for(examples_, kWarps), task_blocks(tasks)), dim3(kThreads), 0, call, tasks);
  }
  /// An empty dx or dw is not wanted.
  void run_backward(Op op, Kernel kernel, PooledCall& call, const Gradients& out, int tasks) const {
    call.dx = TaskRows(out.x), call.dw = TaskRows(out.w);
    call.data_blocks = out.x ? blocks_for(std::int64_t{examples_} * channels_, kThreads) : 0;
    const std::int64_t weights = std::int64_t{channels_ + (bias_ ? 1 : 0)} * outputs_;
    const unsigned blocks = call.data_blocks + (out.w ? blocks_for(weights, kThreads) : 0);
    launch(lane_, op, kernel, dim3(blocks, task_blocks(tasks)), dim3(kThreads), 0, call, tasks);
  }

  const CudaLane& lane_;
  int examples_, pixels_, channels_, outputs_;
  bool bias_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const PooledLinear& l, const Geometry& g, Array, CudaLane& lane) {
  return std::make_unique<PooledLinearCuda>(l, g, lane);
}

}  // namespace cumeta
