// SPDX-License-Identifier: Apache-2.0
// Tanh on the CPU: derivatives from the output, one sweep each.
#include "kernels/layers/tanh.h"
#include "kernels/tools/elementwise_cpu.h"

namespace cumeta {
namespace {

class TanhCpu final : public LayerPasses {
 public:
  explicit TanhCpu(const Geometry& geometry) : numbers_(std::int64_t{geometry.examples} * geometry.input.size()) {}

  void forward(const Values& v) const override {
    for (int task = 0; task < v.y.tasks; ++task) cpu::tanh(v.y.row<float>(task), v.x.row<float>(task), numbers_);
  }
  void backward(const Values& v, const Gradients& d) const override {
    if (d.x) scale(v, d.y, d.x);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    if (R.x) {
      scale(v, R.x, R.y);
    } else {
      for (int task = 0; task < v.y.tasks; ++task) cpu::fill(R.y.row<float>(task), 0.0f, numbers_);
    }
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    if (!Rd.x) return;
    for (int task = 0; task < v.y.tasks; ++task) {
      cpu::tanh_tangent(Rd.x.row<float>(task), v.y.row<float>(task), d.y.row<float>(task), R.y.row<float>(task),
                        Rd.y.row<float>(task), numbers_);
    }
  }

 private:
  void scale(const Values& v, const Array& in, const Array& out) const {
    for (int task = 0; task < v.y.tasks; ++task) {
      cpu::tanh_scale(out.row<float>(task), v.y.row<float>(task), in.row<float>(task), numbers_);
    }
  }

  std::int64_t numbers_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Tanh&, const Geometry& geometry, Array, CpuLane&) {
  return std::make_unique<TanhCpu>(geometry);
}

}  // namespace cumeta
