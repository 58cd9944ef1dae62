// SPDX-License-Identifier: Apache-2.0
// Leaky ReLU on the CPU: value and derivatives are the same sweep, x > 0 ? in : slope in.
#include "kernels/layers/leaky_relu.h"
#include "kernels/tools/elementwise_cpu.h"

namespace cumeta {
namespace {

class LeakyReluCpu final : public LayerPasses {
 public:
  LeakyReluCpu(const LeakyRelu& layer, const Geometry& geometry)
      : numbers_(std::int64_t{geometry.examples} * geometry.input.size()), slope_(static_cast<float>(layer.slope)) {}

  void forward(const Values& v) const override { mask(v, v.x, v.y); }
  void backward(const Values& v, const Gradients& d) const override {
    if (d.x) mask(v, d.y, d.x);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    if (R.x) {
      mask(v, R.x, R.y);
    } else {
      for (int task = 0; task < v.y.tasks; ++task) cpu::fill(R.y.row<float>(task), 0.0f, numbers_);
    }
  }
  void tangent_backward(const Values& v, const Gradients&, const Values&, const Gradients& Rd) const override {
    if (Rd.x) mask(v, Rd.y, Rd.x);
  }

 private:
  void mask(const Values& v, const Array& in, const Array& out) const {
    for (int task = 0; task < v.y.tasks; ++task) {
      cpu::leaky_relu_mask(out.row<float>(task), v.x.row<float>(task), in.row<float>(task), slope_, numbers_);
    }
  }

  std::int64_t numbers_;
  float slope_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const LeakyRelu& layer, const Geometry& geometry, Array, CpuLane&) {
  return std::make_unique<LeakyReluCpu>(layer, geometry);
}

}  // namespace cumeta
