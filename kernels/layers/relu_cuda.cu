// SPDX-License-Identifier: Apache-2.0
// ReLU on CUDA:  y = max(x, 0)   Ry = m Rx   dx = m dy   Rdx = m Rdy      m = [x > 0]; NaN passes.
#include "kernels/layers/elementwise_cuda.cuh"
#include "kernels/layers/relu.h"

namespace cumeta {
namespace {

struct ReluNumbers {
  __device__ static float masked(float x, float value) { return x <= 0.0f ? 0.0f : value; }
  __device__ float forward(float x) const { return masked(x, x); }
  __device__ float backward(float x, float, float dy) const { return masked(x, dy); }
  __device__ float tangent(float x, float, float Rx) const { return masked(x, Rx); }
  __device__ float tangent_backward(float x, float, float, float, float Rdy) const { return masked(x, Rdy); }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Relu&, const Geometry&, Array, CudaLane& lane) {
  return std::make_unique<ElementwisePasses<ReluNumbers>>("relu", ReluNumbers{}, lane);
}

}  // namespace cumeta
