// SPDX-License-Identifier: Apache-2.0
// A stage: what an engine walks. One layer, or several contiguous layers that a device runs as one fused row.
#pragma once
#include <variant>
#include <vector>

#include "cumeta/layers.h"

namespace cumeta {

/// Convolution + batch norm + ReLU (+ max-pool) as one row; parameters lie as those of the layers it replaces.
struct ConvBlock {
  Conv2d convolution;
  BatchNorm norm;
  bool pooled = false;
  MaxPool2d pool;
};

/// Global average pool + linear as one row; the parameters lie as the linear layer's.
struct PooledLinear {
  Linear linear;
};

/// The same layer by the vendor's library (cuBLAS, cuDNN): another stage, so that the plan says what runs.
template <class L>
struct Vendor {
  L layer;
};

/// Flatten is no stage: in the layout of this library it changes
/// nothing.
using Stage = std::variant<Linear, Conv2d, BatchNorm, Relu, LeakyRelu, Tanh, MaxPool2d, GlobalAveragePool, ConvBlock,
                           PooledLinear, Vendor<Linear>, Vendor<Conv2d>>;

}  // namespace cumeta
