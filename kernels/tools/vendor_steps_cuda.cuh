// SPDX-License-Identifier: Apache-2.0
// The steps of the vendor rows on a lane: copies and sums by kernels of this plugin, products by cuBLAS and cuDNN.
#pragma once
#include "kernels/tools/cuda_launch.cuh"
#include "kernels/tools/vendor_passes.h"

namespace cumeta {

class VendorSteps {
 public:
  explicit VendorSteps(CudaLane& lane) : lane_(&lane) {}

  void fill_rows(const Array& out, const Array& bias, int rows, int columns, int tasks) const;
  void column_sums(const Array& out, const Array& in, int rows, int columns, int tasks) const;
  void transpose(const Transposition& t, int tasks) const;

  void multiply(const VendorGemm& gemm) const {
    call("cuBLAS strided-batched product", [&](VendorQueue& queue) { queue.multiply(gemm); });
  }
  void convolution_forward(const VendorConvolution& c, const float* x, const float* w, float beta, float* y) const {
    call("cuDNN convolution forward", [&](VendorQueue& queue) { queue.convolution_forward(c, x, w, beta, y); });
  }
  void convolution_backward_data(const VendorConvolution& c, const float* dy, const float* w, float beta,
                                 float* dx) const {
    call("cuDNN convolution backward data",
         [&](VendorQueue& queue) { queue.convolution_backward_data(c, dy, w, beta, dx); });
  }
  void convolution_backward_filter(const VendorConvolution& c, const float* x, const float* dy, float beta,
                                   float* dw) const {
    call("cuDNN convolution backward filter",
         [&](VendorQueue& queue) { queue.convolution_backward_filter(c, x, dy, beta, dw); });
  }

 private:
  /// In the walk before a capture the call goes into a capture that is thrown away: in its relaxed mode the library may
  /// load kernels, which the true capture forbids, and nothing runs.
  template <class F>
  void call(Op op, const F& f) const {
    check(cudaSetDevice(lane_->device().ordinal), op);
    if (lane_->mode() == CudaLane::Mode::load) {
      check(cudaStreamBeginCapture(lane_->stream(), cudaStreamCaptureModeRelaxed), op);
      const DropCapture drop{lane_->stream()};
      f(lane_->vendor());
      return;
    }
    nvtxRangePushA(op.name);
    f(lane_->vendor());
    nvtxRangePop();
    if (lane_->debug() && lane_->mode() == CudaLane::Mode::run) check(cudaStreamSynchronize(lane_->stream()), op);
  }
  struct DropCapture {
    cudaStream_t stream;
    ~DropCapture() {
      cudaGraph_t graph = nullptr;
      if (cudaStreamEndCapture(stream, &graph) != cudaSuccess) static_cast<void>(cudaGetLastError());
      if (graph) static_cast<void>(cudaGraphDestroy(graph));
    }
  };

  CudaLane* lane_;
};

}  // namespace cumeta
