// SPDX-License-Identifier: Apache-2.0
// Reference column of the mean squared error: loss = mean over outputs of (x - t)^2, gradient = 2 (x - t) / outputs.
#include "kernels/layers/mean_squared_error.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct SquaredErrorFormula {
  template <class S>
  S loss(In<S> x, In<double> t) const {
    S sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - S(t[i])) * (x[i] - S(t[i]));
    return sum / S(static_cast<double>(x.size()));
  }
  template <class S>
  void gradient(In<S> x, In<double> t, Out<S> dx) const {
    for (std::size_t i = 0; i < x.size(); ++i) dx[i] = S(2) * (x[i] - S(t[i])) / S(static_cast<double>(x.size()));
  }
  double hit(In<double>, In<double>) const { return 0; }
};

}  // namespace

std::unique_ptr<LossPasses> bind(const MeanSquaredError& l, const LossGeometry& g, ReferenceLane&) {
  return std::make_unique<ReferenceLoss<SquaredErrorFormula>>(SquaredErrorFormula{}, g, targets(l, g.outputs));
}

}  // namespace cumeta
