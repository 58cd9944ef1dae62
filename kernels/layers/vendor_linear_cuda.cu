// SPDX-License-Identifier: Apache-2.0
// Linear by cuBLAS on CUDA: the steps of kernels/tools/vendor_passes.h on a lane.
#include "kernels/layers/vendor_linear.h"
#include "kernels/tools/vendor_steps_cuda.cuh"

namespace cumeta {

std::unique_ptr<LayerPasses> bind(const Vendor<Linear>& v, const Geometry& geometry, Array, CudaLane& lane) {
  return std::make_unique<VendorLinearPasses<VendorSteps>>(VendorSteps(lane), v.layer, geometry);
}

}  // namespace cumeta
