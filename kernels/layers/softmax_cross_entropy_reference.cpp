// SPDX-License-Identifier: Apache-2.0
// Reference column of the softmax cross-entropy: loss = -log p[label], gradient = p - onehot, p = softmax(x).
#include "kernels/layers/softmax_cross_entropy.h"
#include "kernels/tools/reference_passes.h"

namespace cumeta {
namespace {

struct SoftmaxFormula {
  static std::size_t label(In<double> t) { return static_cast<std::size_t>(t[0]); }

  template <class S>
  static std::size_t largest(In<S> x) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < x.size(); ++i)
      if (value_of(x[i]) > value_of(x[best])) best = i;
    return best;
  }
  /// Sum of exp(x - max): the shift keeps it finite and leaves p as it is.
  template <class S>
  static S partition(In<S> x, S max) {
    using std::exp;
    S sum = 0;
    for (const S& number : x) sum += exp(number - max);
    return sum;
  }

  template <class S>
  S loss(In<S> x, In<double> t) const {
    using std::log;
    const S max = x[largest(x)];
    return log(partition(x, max)) - (x[label(t)] - max);
  }
  template <class S>
  void gradient(In<S> x, In<double> t, Out<S> dx) const {
    using std::exp;
    const S max = x[largest(x)], sum = partition(x, max);
    for (std::size_t i = 0; i < x.size(); ++i) dx[i] = exp(x[i] - max) / sum - S(i == label(t) ? 1 : 0);
  }
  /// Scores that are no numbers hit nothing.
  double hit(In<double> x, In<double> t) const { return largest(x) == label(t) && !std::isnan(x[label(t)]) ? 1 : 0; }
};

}  // namespace

std::unique_ptr<LossPasses> bind(const SoftmaxCrossEntropy& l, const LossGeometry& g, ReferenceLane&) {
  return std::make_unique<ReferenceLoss<SoftmaxFormula>>(SoftmaxFormula{}, g, targets(l, g.outputs));
}

}  // namespace cumeta
