// SPDX-License-Identifier: Apache-2.0
// Global average pool on the CPU: sums over pixels forward, copies backward.
#include "kernels/layers/global_average_pool.h"
#include "kernels/tools/elementwise_cpu.h"

namespace cumeta {
namespace {

class GlobalAveragePoolCpu final : public LayerPasses {
 public:
  explicit GlobalAveragePoolCpu(const Geometry& geometry)
      : examples_(geometry.examples),
        pixels_(std::int64_t{geometry.input.height} * geometry.input.width),
        channels_(geometry.input.channels) {}

  void forward(const Values& v) const override { average(v.x, v.y, v.y.tasks); }
  void backward(const Values& v, const Gradients& d) const override {
    if (d.x) spread(d.y, d.x, v.y.tasks);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    if (R.x) {
      average(R.x, R.y, v.y.tasks);
    } else {
      for (int task = 0; task < v.y.tasks; ++task) cpu::fill(R.y.row<float>(task), 0.0f, examples_ * channels_);
    }
  }
  void tangent_backward(const Values& v, const Gradients&, const Values&, const Gradients& Rd) const override {
    if (Rd.x) spread(Rd.y, Rd.x, v.y.tasks);
  }

 private:
  float factor() const { return 1.0f / static_cast<float>(pixels_); }
  void average(const Array& in, const Array& out, int tasks) const {
    for (int task = 0; task < tasks; ++task) {
      for (std::int64_t i = 0; i < examples_; ++i) {
        cpu::column_sums(out.row<float>(task) + i * channels_, in.row<float>(task) + i * pixels_ * channels_, pixels_,
                         channels_, factor());
      }
    }
  }
  void spread(const Array& in, const Array& out, int tasks) const {
    for (int task = 0; task < tasks; ++task) {
      for (std::int64_t i = 0; i < examples_; ++i) {
        cpu::repeat_row(out.row<float>(task) + i * pixels_ * channels_, in.row<float>(task) + i * channels_, pixels_,
                        channels_, factor());
      }
    }
  }

  std::int64_t examples_, pixels_, channels_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const GlobalAveragePool&, const Geometry& geometry, Array, CpuLane&) {
  return std::make_unique<GlobalAveragePoolCpu>(geometry);
}

}  // namespace cumeta
