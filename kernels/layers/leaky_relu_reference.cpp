// SPDX-License-Identifier: Apache-2.0
// Reference column of leaky ReLU: y = m x, dx = m dy, m = x > 0 ? 1 : slope.
#include "kernels/layers/leaky_relu.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct LeakyReluFormula {
  double slope;
  template <class S>
  S value(S x) const {
    return value_of(x) > 0 ? x : S(slope) * x;
  }
  template <class S>
  S gradient(S x, S, S dy) const {
    return value_of(x) > 0 ? dy : S(slope) * dy;
  }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const LeakyRelu& l, const Geometry& g, Array, ReferenceLane&) {
  return reference_passes(PointwiseFormula<LeakyReluFormula>{{l.slope}}, l, g);
}

}  // namespace cumeta
