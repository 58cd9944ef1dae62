// SPDX-License-Identifier: Apache-2.0
// Convolution on CUDA: an implicit contraction per pass, all tasks in one launch; a tangent's two terms in one loop.
#include "kernels/layers/conv2d.h"
#include "kernels/tools/convolution_launch_cuda.cuh"

namespace cumeta {
namespace {

class Conv2dCuda final : public LayerPasses {
 public:
  Conv2dCuda(const Conv2d& layer, const Geometry& geometry, Array scratch, CudaLane& lane)
      : run_(layer, geometry, scratch, lane) {}

  void forward(const Values& v) const override {
    run_.run_forward("convolution forward", run_.plan_forward({v.x, run_.weight(v.w)}, {}, run_.bias(v.w), v.y),
                     v.y.tasks);
  }
  void backward(const Values& v, const Gradients& d) const override {
    run_.run_backward("convolution backward",
                      run_.plan_backward(d.x, {d.y, run_.weight(v.w)}, {}, d.w, {v.x, d.y}, {}, d.y), d.w, v.y.tasks);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    run_.run_forward("convolution tangent forward",
                     run_.plan_forward({R.x, run_.weight(v.w)}, {v.x, run_.weight(R.w)}, run_.bias(R.w), R.y),
                     v.y.tasks);
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    run_.run_backward("convolution tangent backward",
                      run_.plan_backward(Rd.x, {Rd.y, run_.weight(v.w)}, {d.y, run_.weight(R.w)}, Rd.w, {v.x, Rd.y},
                                         {R.x, d.y}, Rd.y),
                      Rd.w, v.y.tasks);
  }

 private:
  ConvolutionLaunches run_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Conv2d& layer, const Geometry& geometry, Array scratch, CudaLane& lane) {
  return std::make_unique<Conv2dCuda>(layer, geometry, scratch, lane);
}

}  // namespace cumeta
