// SPDX-License-Identifier: Apache-2.0
// Leaky ReLU on CUDA:  y = m x   Ry = m Rx   dx = m dy   Rdx = m Rdy      m = x > 0 ? 1 : slope
#include "kernels/layers/elementwise_cuda.cuh"
#include "kernels/layers/leaky_relu.h"

namespace cumeta {
namespace {

struct LeakyReluNumbers {
  float slope;
  __device__ float scaled(float x, float value) const { return x > 0.0f ? value : slope * value; }
  __device__ float forward(float x) const { return scaled(x, x); }
  __device__ float backward(float x, float, float dy) const { return scaled(x, dy); }
  __device__ float tangent(float x, float, float Rx) const { return scaled(x, Rx); }
  __device__ float tangent_backward(float x, float, float, float, float Rdy) const { return scaled(x, Rdy); }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const LeakyRelu& layer, const Geometry&, Array, CudaLane& lane) {
  return std::make_unique<ElementwisePasses<LeakyReluNumbers>>("leaky relu",
                                                               LeakyReluNumbers{static_cast<float>(layer.slope)}, lane);
}

}  // namespace cumeta
