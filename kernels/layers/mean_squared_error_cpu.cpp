// SPDX-License-Identifier: Apache-2.0
// Mean squared error on the CPU. The loss is summed in double: the few outputs of a task cost nothing.
#include "kernels/layers/mean_squared_error.h"
#include "kernels/tools/elementwise_cpu.h"

namespace cumeta {
namespace {

class MeanSquaredErrorCpu final : public LossPasses {
 public:
  explicit MeanSquaredErrorCpu(const LossGeometry& geometry)
      : skipped_(std::int64_t{geometry.first_row} * geometry.outputs),
        counted_(std::int64_t{geometry.examples - geometry.first_row} * geometry.outputs),
        scale_(static_cast<float>(2.0 * geometry.factor / static_cast<double>(counted_))) {}

  void forward_backward(Array x, Array t, Array loss, Array hits, Array dx) const override {
    for (int task = 0; task < x.tasks; ++task) {
      const float* outputs = x.row<float>(task) + skipped_;
      const float* wanted = t.row<float>(task) + skipped_;
      double sum = 0;
      for (std::int64_t i = 0; i < counted_; ++i) {
        const double error = static_cast<double>(outputs[i]) - wanted[i];
        sum += error * error;
      }
      *loss.row<float>(task) = static_cast<float>(sum / static_cast<double>(counted_));
      if (hits) *hits.row<float>(task) = 0.0f;
      if (dx) {
        float* gradient = dx.row<float>(task);
        cpu::fill(gradient, 0.0f, skipped_);
        for (std::int64_t i = 0; i < counted_; ++i) gradient[skipped_ + i] = scale_ * (outputs[i] - wanted[i]);
      }
    }
  }

  void tangent_backward(Array x, Array, Array Rx, Array Rdx) const override {
    for (int task = 0; task < x.tasks; ++task) {
      float* out = Rdx.row<float>(task);
      cpu::fill(out, 0.0f, skipped_);
      cpu::scale(out + skipped_, scale_, Rx.row<float>(task) + skipped_, counted_);
    }
  }

 private:
  std::int64_t skipped_, counted_;  // numbers of x before first_row, and from there on
  float scale_;
};

}  // namespace

std::unique_ptr<LossPasses> bind(const MeanSquaredError&, const LossGeometry& geometry, CpuLane&) {
  return std::make_unique<MeanSquaredErrorCpu>(geometry);
}

}  // namespace cumeta
