// SPDX-License-Identifier: Apache-2.0
// Reference column of ReLU: y = max(x, 0), dx = [x > 0] dy.
#include "kernels/layers/relu.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct ReluFormula {
  template <class S>
  S value(S x) const {
    return value_of(x) > 0 ? x : S(0);
  }
  template <class S>
  S gradient(S x, S, S dy) const {
    return value_of(x) > 0 ? dy : S(0);
  }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Relu& l, const Geometry& g, Array, ReferenceLane&) {
  return reference_passes(PointwiseFormula<ReluFormula>{}, l, g);
}

}  // namespace cumeta
