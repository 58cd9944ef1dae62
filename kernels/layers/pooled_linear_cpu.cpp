// SPDX-License-Identifier: Apache-2.0
// The cpu column of global average pool + linear: its own two layers one after the other.
#include "kernels/backend_cpu.h"
#include "kernels/tools/composed_pooled_linear.h"

namespace cumeta {

std::unique_ptr<LayerPasses> bind(const PooledLinear& l, const Geometry& g, Array scratch, CpuLane& lane) {
  return std::make_unique<ComposedPooledLinear<CpuLane>>(l, g, scratch, lane);
}

}  // namespace cumeta
