// SPDX-License-Identifier: Apache-2.0
// Convolution by cuDNN on CUDA: the steps of kernels/tools/vendor_passes.h on a lane.
#include "kernels/layers/vendor_conv2d.h"
#include "kernels/tools/vendor_steps_cuda.cuh"

namespace cumeta {

std::unique_ptr<LayerPasses> bind(const Vendor<Conv2d>& v, const Geometry& geometry, Array scratch, CudaLane& lane) {
  return std::make_unique<VendorConv2dPasses<VendorSteps>>(VendorSteps(lane), v.layer, geometry, scratch);
}

}  // namespace cumeta
