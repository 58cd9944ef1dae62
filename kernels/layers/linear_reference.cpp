// SPDX-License-Identifier: Apache-2.0
// Reference column of the fully connected layer: z = W x + b, dx = W' dz, dW = dz x', db = sum dz.
#include "kernels/layers/linear.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct LinearFormula {
  int examples, inputs, outputs;
  bool bias;

  int weight(int i, int o) const { return i * outputs + o; }
  int bias_at(int o) const { return inputs * outputs + o; }

  template <class S>
  void record(In<S>, In<S>, Out<S>) const {}

  template <class S>
  void forward(In<S> w, In<S> x, In<S>, Out<S> y) const {
    for (int e = 0; e < examples; ++e)
      for (int o = 0; o < outputs; ++o) {
        S z = bias ? w[bias_at(o)] : S(0);
        for (int i = 0; i < inputs; ++i) z += w[weight(i, o)] * x[e * inputs + i];
        y[e * outputs + o] = z;
      }
  }

  template <class S>
  void backward(In<S> w, In<S> x, In<S>, In<S>, In<S> dy, Out<S> dx, Out<S> dw) const {
    for (int e = 0; e < examples; ++e)
      for (int o = 0; o < outputs; ++o) {
        const S dz = dy[e * outputs + o];
        if (bias) dw[bias_at(o)] += dz;
        for (int i = 0; i < inputs; ++i) {
          dx[e * inputs + i] += w[weight(i, o)] * dz;
          dw[weight(i, o)] += dz * x[e * inputs + i];
        }
      }
  }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Linear& l, const Geometry& g, Array, ReferenceLane&) {
  return reference_passes(LinearFormula{g.examples, g.input.size(), l.outputs, l.bias}, l, g);
}

}  // namespace cumeta
