// SPDX-License-Identifier: Apache-2.0
// cuBLAS and cuDNN as the emulated plugin answers for them: the definition of each call of kernels/vendor_calls.h in
// plain loops, one emulated thread per result, so that the rows' use of the calls can be judged without the libraries.
#include "kernels/tools/cuda_launch.cuh"
#include "kernels/vendor_calls.h"

namespace cumeta {
namespace {

constexpr int kThreads = 32;

__global__ void __launch_bounds__(kThreads, 1) multiply_model(VendorGemm g) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= std::int64_t{g.m} * g.n) return;
  const int row = static_cast<int>(i % g.m), column = static_cast<int>(i / g.m);
  const float* a = g.a + blockIdx.y * g.stride_a;
  const float* b = g.b + blockIdx.y * g.stride_b;
  float& c = g.c[blockIdx.y * g.stride_c + std::int64_t{column} * g.ldc + row];
  float sum = 0;
  for (int k = 0; k < g.k; ++k) {
    const std::int64_t at_a = g.transpose_a ? std::int64_t{row} * g.lda + k : std::int64_t{k} * g.lda + row;
    const std::int64_t at_b = g.transpose_b ? std::int64_t{k} * g.ldb + column : std::int64_t{column} * g.ldb + k;
    sum = fmaf(a[at_a], b[at_b], sum);
  }
  c = g.beta == 0 ? sum : fmaf(g.beta, c, sum);
}

/// Numbers of an array [images][planes][height][width].
__device__ std::int64_t pixel(std::int64_t image, int planes, int plane, int height, int width, int y, int x) {
  return ((image * planes + plane) * height + y) * width + x;
}

__global__ void __launch_bounds__(kThreads, 1)
    forward_model(VendorConvolution c, const float* x, const float* w, float beta, float* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int planes = c.groups * c.filters;
  if (i >= std::int64_t{c.images} * planes * c.out_height * c.out_width) return;
  const int u = static_cast<int>(i % c.out_width), v = static_cast<int>(i / c.out_width % c.out_height);
  const int filter = static_cast<int>(i / c.out_width / c.out_height % planes);
  const std::int64_t image = i / c.out_width / c.out_height / planes;
  float sum = 0;
  for (int channel = 0; channel < c.channels; ++channel)
    for (int q = 0; q < c.kernel * c.kernel; ++q) {
      const int sy = v * c.stride + q / c.kernel - c.padding, sx = u * c.stride + q % c.kernel - c.padding;
      if (sy < 0 || sy >= c.height || sx < 0 || sx >= c.width) continue;
      const int plane = filter / c.filters * c.channels + channel;
      sum = fmaf(x[pixel(image, c.groups * c.channels, plane, c.height, c.width, sy, sx)],
                 w[(std::int64_t{filter} * c.channels + channel) * c.kernel * c.kernel + q], sum);
    }
  y[i] = beta == 0 ? sum : fmaf(beta, y[i], sum);
}

__global__ void __launch_bounds__(kThreads, 1)
    backward_data_model(VendorConvolution c, const float* dy, const float* w, float beta, float* dx) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int planes = c.groups * c.channels;
  if (i >= std::int64_t{c.images} * planes * c.height * c.width) return;
  const int sx = static_cast<int>(i % c.width), sy = static_cast<int>(i / c.width % c.height);
  const int plane = static_cast<int>(i / c.width / c.height % planes);
  const std::int64_t image = i / c.width / c.height / planes;
  float sum = 0;
  for (int f = 0; f < c.filters; ++f)
    for (int q = 0; q < c.kernel * c.kernel; ++q) {
      const int ty = sy + c.padding - q / c.kernel, tx = sx + c.padding - q % c.kernel;
      if (ty < 0 || tx < 0 || ty % c.stride != 0 || tx % c.stride != 0) continue;
      const int v = ty / c.stride, u = tx / c.stride, filter = plane / c.channels * c.filters + f;
      if (v >= c.out_height || u >= c.out_width) continue;
      sum = fmaf(dy[pixel(image, c.groups * c.filters, filter, c.out_height, c.out_width, v, u)],
                 w[(std::int64_t{filter} * c.channels + plane % c.channels) * c.kernel * c.kernel + q], sum);
    }
  dx[i] = beta == 0 ? sum : fmaf(beta, dx[i], sum);
}

__global__ void __launch_bounds__(kThreads, 1)
    backward_filter_model(VendorConvolution c, const float* x, const float* dy, float beta, float* dw) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int taps = c.kernel * c.kernel;
  if (i >= std::int64_t{c.groups} * c.filters * c.channels * taps) return;
  const int q = static_cast<int>(i % taps), channel = static_cast<int>(i / taps % c.channels);
  const int filter = static_cast<int>(i / taps / c.channels);
  const int plane = filter / c.filters * c.channels + channel;
  float sum = 0;
  for (int image = 0; image < c.images; ++image)
    for (int v = 0; v < c.out_height; ++v)
      for (int u = 0; u < c.out_width; ++u) {
        const int sy = v * c.stride + q / c.kernel - c.padding, sx = u * c.stride + q % c.kernel - c.padding;
        if (sy < 0 || sy >= c.height || sx < 0 || sx >= c.width) continue;
        sum = fmaf(x[pixel(image, c.groups * c.channels, plane, c.height, c.width, sy, sx)],
                   dy[pixel(image, c.groups * c.filters, filter, c.out_height, c.out_width, v, u)], sum);
      }
  dw[i] = beta == 0 ? sum : fmaf(beta, dw[i], sum);
}

class ModelQueue final : public VendorQueue {
 public:
  explicit ModelQueue(const VendorOptions& options) : stream_(static_cast<cudaStream_t>(options.stream)) {}

  void multiply(const VendorGemm& g) override {
    run("cuBLAS model", multiply_model, std::int64_t{g.m} * g.n, static_cast<unsigned>(g.batch), g);
  }
  void convolution_forward(const VendorConvolution& c, const float* x, const float* w, float beta, float* y) override {
    use_workspace(c);
    run("cuDNN model forward", forward_model,
        std::int64_t{c.images} * c.groups * c.filters * c.out_height * c.out_width, 1, c, x, w, beta, y);
  }
  void convolution_backward_data(const VendorConvolution& c, const float* dy, const float* w, float beta,
                                 float* dx) override {
    use_workspace(c);
    run("cuDNN model backward data", backward_data_model,
        std::int64_t{c.images} * c.groups * c.channels * c.height * c.width, 1, c, dy, w, beta, dx);
  }
  void convolution_backward_filter(const VendorConvolution& c, const float* x, const float* dy, float beta,
                                   float* dw) override {
    use_workspace(c);
    run("cuDNN model backward filter", backward_filter_model,
        std::int64_t{c.groups} * c.filters * c.channels * c.kernel * c.kernel, 1, c, x, dy, beta, dw);
  }

 private:
  /// As cuDNN may: what lies there must be nobody's.
  void use_workspace(const VendorConvolution& c) const {
    check(cudaMemsetAsync(c.workspace, 0xff, static_cast<std::size_t>(c.workspace_bytes), stream_), "vendor model");
  }
  template <class... P, class... A>
  void run(const char* name, void (*kernel)(P...), std::int64_t results, unsigned batch, A&&... arguments) const {
    emulator::launch_named(name, kernel, dim3(blocks_for(results, kThreads), batch), dim3(kThreads), 0, stream_,
                           static_cast<A&&>(arguments)...);
    check(cudaGetLastError(), name);
  }

  cudaStream_t stream_;
};

}  // namespace
}  // namespace cumeta

extern "C" __attribute__((visibility("default"))) cumeta::VendorQueue* cumeta_open_vendor(
    const cumeta::Host*, const cumeta::VendorOptions* options) {
  return new cumeta::ModelQueue(*options);
}
