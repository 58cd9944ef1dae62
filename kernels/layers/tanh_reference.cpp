// SPDX-License-Identifier: Apache-2.0
// Reference column of tanh: y = tanh x, dx = (1 - y^2) dy.
#include "kernels/layers/tanh.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct TanhFormula {
  template <class S>
  S value(S x) const {
    using std::tanh;
    return tanh(x);
  }
  template <class S>
  S gradient(S, S y, S dy) const {
    return (S(1) - y * y) * dy;
  }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Tanh& l, const Geometry& g, Array, ReferenceLane&) {
  return reference_passes(PointwiseFormula<TanhFormula>{}, l, g);
}

}  // namespace cumeta
