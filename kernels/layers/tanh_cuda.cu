// SPDX-License-Identifier: Apache-2.0
// Tanh on CUDA:  y = tanh x   Ry = (1 - y^2) Rx   dx = (1 - y^2) dy   Rdx = (1 - y^2) Rdy - 2 y Ry dy
#include "kernels/layers/elementwise_cuda.cuh"
#include "kernels/layers/tanh.h"

namespace cumeta {
namespace {

struct TanhNumbers {
  __device__ static float slope(float y) { return 1.0f - y * y; }
  __device__ float forward(float x) const { return tanhf(x); }
  __device__ float backward(float, float y, float dy) const { return slope(y) * dy; }
  __device__ float tangent(float, float y, float Rx) const { return slope(y) * Rx; }
  __device__ float tangent_backward(float, float y, float dy, float Ry, float Rdy) const {
    return slope(y) * Rdy - 2.0f * y * Ry * dy;
  }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Tanh&, const Geometry&, Array, CudaLane& lane) {
  return std::make_unique<ElementwisePasses<TanhNumbers>>("tanh", TanhNumbers{}, lane);
}

}  // namespace cumeta
