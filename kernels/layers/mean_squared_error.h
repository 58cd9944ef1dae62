// SPDX-License-Identifier: Apache-2.0
// loss = mean over rows and outputs of (x - t)^2
//   dx = factor 2 (x - t) / (n outputs)      Rdx = factor 2 Rx / (n outputs)
// n = rows that count; see LossGeometry.
#pragma once
#include "kernels/row.h"

namespace cumeta {

/// Numbers per example in t.
constexpr int targets(const MeanSquaredError&, int outputs) { return outputs; }
/// dx is the gradient of this factor times the mean loss; sum_over_ways is refused at the door.
constexpr double reduction_factor(const MeanSquaredError& l, int outputs, int rows) {
  return l.reduction == Reduction::sum ? double(rows) * outputs : 1;
}

std::unique_ptr<LossPasses> bind(const MeanSquaredError&, const LossGeometry&, ReferenceLane&);
std::unique_ptr<LossPasses> bind(const MeanSquaredError&, const LossGeometry&, CpuLane&);
std::unique_ptr<LossPasses> bind(const MeanSquaredError&, const LossGeometry&, CudaLane&);

}  // namespace cumeta
