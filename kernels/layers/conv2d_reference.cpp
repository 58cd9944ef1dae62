// SPDX-License-Identifier: Apache-2.0
// Reference column of the convolution: z[p] = sum over taps q of W[q] x[p stride + q - padding] + b, and its adjoints.
#include "kernels/layers/conv2d.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct ConvolutionFormula {
  Conv2d l;
  Geometry g;
  Shape out;

  int bias_at(int f) const { return l.kernel * l.kernel * g.input.channels * l.filters + f; }

  /// Calls term(x index, w index, y index) once for every product of the cross-correlation.
  template <class Term>
  void for_each_product(Term&& term) const {
    const auto [height, width, channels] = g.input;
    for (int e = 0; e < g.examples; ++e)
      for (int oy = 0; oy < out.height; ++oy)
        for (int ox = 0; ox < out.width; ++ox)
          for (int ky = 0; ky < l.kernel; ++ky)
            for (int kx = 0; kx < l.kernel; ++kx) {
              const int iy = oy * l.stride + ky - l.padding, ix = ox * l.stride + kx - l.padding;
              if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;  // the padding is zero
              for (int c = 0; c < channels; ++c)
                for (int f = 0; f < l.filters; ++f)
                  term(((e * height + iy) * width + ix) * channels + c,
                       ((ky * l.kernel + kx) * channels + c) * l.filters + f,
                       ((e * out.height + oy) * out.width + ox) * l.filters + f);
            }
  }

  template <class S>
  void record(In<S>, In<S>, Out<S>) const {}

  template <class S>
  void forward(In<S> w, In<S> x, In<S>, Out<S> y) const {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = l.bias ? w[bias_at(static_cast<int>(i) % l.filters)] : S(0);
    for_each_product([&](int i, int k, int o) { y[o] += w[k] * x[i]; });
  }

  template <class S>
  void backward(In<S> w, In<S> x, In<S>, In<S>, In<S> dy, Out<S> dx, Out<S> dw) const {
    for_each_product([&](int i, int k, int o) {
      dx[i] += w[k] * dy[o];
      dw[k] += dy[o] * x[i];
    });
    if (l.bias)
      for (std::size_t i = 0; i < dy.size(); ++i) dw[bias_at(static_cast<int>(i) % l.filters)] += dy[i];
  }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Conv2d& l, const Geometry& g, Array, ReferenceLane&) {
  return reference_passes(ConvolutionFormula{l, g, output(l, g.input)}, l, g);
}

}  // namespace cumeta
