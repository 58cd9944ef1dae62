// SPDX-License-Identifier: Apache-2.0
// Softmax cross-entropy on the CPU; p is computed again for the tangent, which costs less than a record.
#include <algorithm>
#include <cmath>

#include "kernels/layers/softmax_cross_entropy.h"
#include "kernels/tools/elementwise_cpu.h"

namespace cumeta {
namespace {

class SoftmaxCrossEntropyCpu final : public LossPasses {
 public:
  explicit SoftmaxCrossEntropyCpu(const LossGeometry& geometry)
      : outputs_(geometry.outputs),
        first_(geometry.first_row),
        examples_(geometry.examples),
        scale_(geometry.factor / (geometry.examples - geometry.first_row)) {}

  void forward_backward(Array x, Array t, Array loss, Array hits, Array dx) const override {
    for (int task = 0; task < x.tasks; ++task) {
      double sum = 0;
      int right = 0;
      if (dx) cpu::fill(dx.row<float>(task), 0.0f, first_ * outputs_);
      for (std::int64_t row = first_; row < examples_; ++row) {
        const float* z = x.row<float>(task) + row * outputs_;
        const auto label = static_cast<std::int64_t>(t.row<float>(task)[row]);
        const auto largest = std::max_element(z, z + outputs_) - z;
        right += largest == label ? 1 : 0;
        right -= largest == label && std::isnan(z[label]) ? 1 : 0;  // scores that are no numbers hit nothing
        double others = 0;  // beside the label: 1 - p is what they are, without cancellation
        for (std::int64_t i = 0; i < outputs_; ++i) others += i == label ? 0.0f : std::exp(z[i] - z[largest]);
        const double total = others + std::exp(z[label] - z[largest]);
        sum += std::log(total) + (static_cast<double>(z[largest]) - z[label]);
        if (dx) {
          float* out = dx.row<float>(task) + row * outputs_;
          const float factor = static_cast<float>(scale_ / total);
          for (std::int64_t i = 0; i < outputs_; ++i) out[i] = factor * std::exp(z[i] - z[largest]);
          out[label] = static_cast<float>(-scale_ * (others / total));
        }
      }
      *loss.row<float>(task) = static_cast<float>(sum / static_cast<double>(examples_ - first_));
      if (hits) *hits.row<float>(task) = static_cast<float>(right);
    }
  }

  void tangent_backward(Array x, Array, Array Rx, Array Rdx) const override {
    for (int task = 0; task < x.tasks; ++task) {
      cpu::fill(Rdx.row<float>(task), 0.0f, first_ * outputs_);
      for (std::int64_t row = first_; row < examples_; ++row) {
        const float* z = x.row<float>(task) + row * outputs_;
        const float* Rz = Rx.row<float>(task) + row * outputs_;
        float* out = Rdx.row<float>(task) + row * outputs_;
        // Tangents relative to the largest output's: where p is nearly 1, Rz - <p, Rz> is a sum of the small others.
        const auto largest = std::max_element(z, z + outputs_) - z;
        double total = 0;
        double dot = 0;
        for (std::int64_t i = 0; i < outputs_; ++i) {
          out[i] = std::exp(z[i] - z[largest]);
          total += out[i];
          dot += out[i] * (static_cast<double>(Rz[i]) - Rz[largest]);
        }
        const double mean = dot / total;
        const double factor = scale_ / total;
        for (std::int64_t i = 0; i < outputs_; ++i) {
          out[i] = static_cast<float>(factor * out[i] * (static_cast<double>(Rz[i]) - Rz[largest] - mean));
        }
      }
    }
  }

 private:
  std::int64_t outputs_, first_, examples_;
  double scale_;
};

}  // namespace

std::unique_ptr<LossPasses> bind(const SoftmaxCrossEntropy&, const LossGeometry& geometry, CpuLane&) {
  return std::make_unique<SoftmaxCrossEntropyCpu>(geometry);
}

}  // namespace cumeta
