// SPDX-License-Identifier: Apache-2.0
// The reference column of the fused block: its own layers one after another.
#include "kernels/backend_reference.h"
#include "kernels/tools/composed_conv_block.h"

namespace cumeta {

std::unique_ptr<LayerPasses> bind(const ConvBlock& b, const Geometry& g, Array scratch, ReferenceLane& lane) {
  return std::make_unique<ComposedConvBlock<ReferenceLane>>(b, g, scratch, lane);
}

}  // namespace cumeta
