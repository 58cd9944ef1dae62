// SPDX-License-Identifier: Apache-2.0
// Reference column of the global average pool: y[c] = mean over pixels of x[.][c], dx = dy / pixels.
#include "kernels/layers/global_average_pool.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct AverageFormula {
  int examples, pixels, channels;

  template <class S>
  void record(In<S>, In<S>, Out<S>) const {}

  template <class S>
  void forward(In<S>, In<S> x, In<S>, Out<S> y) const {
    for (int e = 0; e < examples; ++e)
      for (int c = 0; c < channels; ++c) {
        S sum = 0;
        for (int p = 0; p < pixels; ++p) sum += x[(e * pixels + p) * channels + c];
        y[e * channels + c] = sum / S(pixels);
      }
  }
  template <class S>
  void backward(In<S>, In<S>, In<S>, In<S>, In<S> dy, Out<S> dx, Out<S>) const {
    for (int e = 0; e < examples; ++e)
      for (int p = 0; p < pixels; ++p)
        for (int c = 0; c < channels; ++c) dx[(e * pixels + p) * channels + c] = dy[e * channels + c] / S(pixels);
  }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const GlobalAveragePool& l, const Geometry& g, Array, ReferenceLane&) {
  return reference_passes(AverageFormula{g.examples, g.input.height * g.input.width, g.input.channels}, l, g);
}

}  // namespace cumeta
