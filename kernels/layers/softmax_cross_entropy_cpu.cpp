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
        scale_(static_cast<float>(geometry.factor / (geometry.examples - geometry.first_row))) {}

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
        double total = 0;
        for (std::int64_t i = 0; i < outputs_; ++i) total += std::exp(z[i] - z[largest]);
        sum += std::log(total) + (static_cast<double>(z[largest]) - z[label]);
        if (dx) {
          float* out = dx.row<float>(task) + row * outputs_;
          const float factor = scale_ / static_cast<float>(total);
          for (std::int64_t i = 0; i < outputs_; ++i) out[i] = factor * std::exp(z[i] - z[largest]);
          out[label] -= scale_;
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
        const float largest = *std::max_element(z, z + outputs_);
        double total = 0;
        double dot = 0;
        for (std::int64_t i = 0; i < outputs_; ++i) {
          out[i] = std::exp(z[i] - largest);
          total += out[i];
          dot += static_cast<double>(out[i]) * Rz[i];
        }
        const float mean = static_cast<float>(dot / total);
        const float factor = scale_ / static_cast<float>(total);
        for (std::int64_t i = 0; i < outputs_; ++i) out[i] *= factor * (Rz[i] - mean);
      }
    }
  }

 private:
  std::int64_t outputs_, first_, examples_;
  float scale_;
};

}  // namespace

std::unique_ptr<LossPasses> bind(const SoftmaxCrossEntropy&, const LossGeometry& geometry, CpuLane&) {
  return std::make_unique<SoftmaxCrossEntropyCpu>(geometry);
}

}  // namespace cumeta
