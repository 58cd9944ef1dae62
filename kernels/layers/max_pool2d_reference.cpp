// SPDX-License-Identifier: Apache-2.0
// Reference column of max-pool: y = x at each window's winner, which the record names; gradients go the same way back.
#include "kernels/layers/max_pool2d.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct MaxPoolFormula {
  MaxPool2d l;
  Geometry g;
  Shape out;

  /// Calls window(y index, first x index of the window) for every output.
  template <class Window>
  void for_each_window(Window&& window) const {
    const auto [height, width, channels] = g.input;
    int o = 0;
    for (int e = 0; e < g.examples; ++e)
      for (int oy = 0; oy < out.height; ++oy)
        for (int ox = 0; ox < out.width; ++ox)
          for (int c = 0; c < channels; ++c)
            window(o++, ((e * height + oy * l.stride) * width + ox * l.stride) * channels + c);
  }
  int inside(int winner) const { return (winner / l.kernel * g.input.width + winner % l.kernel) * g.input.channels; }

  template <class S>
  void record(In<S>, In<S> x, Out<S> r) const {
    for_each_window([&](int o, int i) {
      int winner = 0;
      for (int k = 1; k < l.kernel * l.kernel; ++k)
        if (value_of(x[i + inside(k)]) > value_of(x[i + inside(winner)])) winner = k;  // a tie keeps the first
      r[o] = winner;
    });
  }
  template <class S>
  void forward(In<S>, In<S> x, In<S> r, Out<S> y) const {
    for_each_window([&](int o, int i) { y[o] = x[i + inside(static_cast<int>(value_of(r[o])))]; });
  }
  template <class S>
  void backward(In<S>, In<S>, In<S>, In<S> r, In<S> dy, Out<S> dx, Out<S>) const {
    for_each_window([&](int o, int i) { dx[i + inside(static_cast<int>(value_of(r[o])))] += dy[o]; });
  }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const MaxPool2d& l, const Geometry& g, Array, ReferenceLane&) {
  return reference_passes(MaxPoolFormula{l, g, output(l, g.input)}, l, g);
}

}  // namespace cumeta
