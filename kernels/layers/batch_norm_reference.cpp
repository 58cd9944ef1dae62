// SPDX-License-Identifier: Apache-2.0
// Reference column of batch norm: y = gamma s (x - mean) + beta per channel, s = 1/sqrt(var + eps), statistics of the
// first statistics_rows examples.
#include "kernels/layers/batch_norm.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct BatchNormFormula {
  BatchNorm l;
  int channels, numbers, counted;  // numbers: rows x pixels of x; counted: of the rows the statistics are taken from

  int beta_at(int c) const { return l.scale ? channels + c : c; }

  template <class S>
  void record(In<S>, In<S> x, Out<S> r) const {
    if (counted == 0) return;  // running statistics: r is given
    for (int c = 0; c < channels; ++c) {
      S mean = 0, variance = 0;
      for (int p = 0; p < counted; ++p) mean += x[p * channels + c];
      mean = mean / S(counted);
      for (int p = 0; p < counted; ++p) {
        const S deviation = x[p * channels + c] - mean;
        variance += deviation * deviation;
      }
      variance = variance / S(counted);
      using std::sqrt;
      r[c] = mean;
      r[channels + c] = S(1) / sqrt(variance + S(l.eps));
    }
  }

  template <class S>
  void forward(In<S> w, In<S> x, In<S> r, Out<S> y) const {
    for (int p = 0; p < numbers; ++p)
      for (int c = 0; c < channels; ++c) {
        const S normalised = r[channels + c] * (x[p * channels + c] - r[c]);
        y[p * channels + c] = (l.scale ? w[c] * normalised : normalised) + (l.shift ? w[beta_at(c)] : S(0));
      }
  }

  /// dx = s (u - [S] (sum u + xh sum(u xh)) / n),  u = gamma dy
  template <class S>
  void backward(In<S> w, In<S> x, In<S>, In<S> r, In<S> dy, Out<S> dx, Out<S> dw) const {
    for (int c = 0; c < channels; ++c) {
      const S s = r[channels + c], gamma = l.scale ? w[c] : S(1);
      S sum_dy = 0, sum_dy_xh = 0;
      for (int p = 0; p < numbers; ++p) {
        const int i = p * channels + c;
        sum_dy += dy[i];
        sum_dy_xh += dy[i] * (s * (x[i] - r[c]));
      }
      for (int p = 0; p < numbers; ++p) {
        const int i = p * channels + c;
        S du = gamma * dy[i];
        if (p < counted) {
          const S xh = s * (x[i] - r[c]);
          du = du - gamma * (sum_dy + xh * sum_dy_xh) / S(counted);
        }
        dx[i] = s * du;
      }
      if (l.scale) dw[c] = sum_dy_xh;
      if (l.shift) dw[beta_at(c)] = sum_dy;
    }
  }

  /// The contract keeps m1 = R mean and m2 = mean(xh Rx); since Rs = -s^2 m2, m2 = -Rs / s^2.
  void tangent_record(std::vector<Dual>& r) const {
    for (int c = 0; c < channels; ++c) {
      Dual& s = r[static_cast<std::size_t>(channels + c)];
      s.tangent = -s.tangent / (s.value * s.value);
    }
  }
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const BatchNorm& l, const Geometry& g, Array, ReferenceLane&) {
  const int pixels = g.input.height * g.input.width;
  return reference_passes(BatchNormFormula{l, g.input.channels, g.examples * pixels, g.statistics_rows * pixels}, l, g);
}

}  // namespace cumeta
