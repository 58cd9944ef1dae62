// SPDX-License-Identifier: Apache-2.0
// ReLU on the CPU: every pass is one sweep.
#include "kernels/layers/relu.h"
#include "kernels/tools/elementwise_cpu.h"

namespace cumeta {
namespace {

class ReluCpu final : public LayerPasses {
 public:
  explicit ReluCpu(const Geometry& geometry) : numbers_(std::int64_t{geometry.examples} * geometry.input.size()) {}

  void forward(const Values& v) const override {
    for (int task = 0; task < v.y.tasks; ++task) cpu::relu(v.y.row<float>(task), v.x.row<float>(task), numbers_);
  }
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
      cpu::relu_mask(out.row<float>(task), v.x.row<float>(task), in.row<float>(task), numbers_);
    }
  }

  std::int64_t numbers_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Relu&, const Geometry& geometry, Array, CpuLane&) {
  return std::make_unique<ReluCpu>(geometry);
}

}  // namespace cumeta
