// SPDX-License-Identifier: Apache-2.0
// loss = mean over rows of -log p[label],  p = softmax(x)
//   dx = factor (p - onehot) / n      Rdx = factor p * (Rx - <p, Rx>) / n
// n = rows that count; see LossGeometry.
#pragma once
#include "kernels/row.h"

namespace cumeta {

/// Numbers per example in t: the class index.
constexpr int targets(const SoftmaxCrossEntropy&, int) { return 1; }
/// dx is the gradient of this factor times the mean loss.
constexpr double reduction_factor(const SoftmaxCrossEntropy& l, int outputs, int rows) {
  return l.reduction == Reduction::sum ? rows : l.reduction == Reduction::sum_over_ways ? outputs : 1;
}

std::unique_ptr<LossPasses> bind(const SoftmaxCrossEntropy&, const LossGeometry&, ReferenceLane&);
std::unique_ptr<LossPasses> bind(const SoftmaxCrossEntropy&, const LossGeometry&, CpuLane&);
std::unique_ptr<LossPasses> bind(const SoftmaxCrossEntropy&, const LossGeometry&, CudaLane&);

}  // namespace cumeta
