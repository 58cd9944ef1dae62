// SPDX-License-Identifier: Apache-2.0
// Fully connected layer on the CPU: every pass is one contraction per task, the tangents with two segments.
#include "kernels/layers/linear.h"
#include "kernels/tools/contraction_cpu.h"
#include "kernels/tools/elementwise_cpu.h"

namespace cumeta {
namespace {

class LinearCpu final : public LayerPasses {
 public:
  LinearCpu(const Linear& layer, const Geometry& geometry, Array scratch)
      : inputs_(geometry.input.size()),
        outputs_(layer.outputs),
        examples_(geometry.examples),
        bias_(layer.bias),
        scratch_(scratch.row<float>(0)) {}

  void forward(const Values& v) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      const float* w = v.w.row<float>(task);
      const ContractionSegment segment{v.x.row<float>(task), w, inputs_};
      from_inputs(v.y.row<float>(task), bias_ ? w + weights() : nullptr, &segment, 1);
    }
  }

  void backward(const Values& v, const Gradients& d) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      const float* dy = d.y.row<float>(task);
      if (d.w) {
        const ContractionSegment segment{v.x.row<float>(task), dy, examples_};
        to_weights(d.w.row<float>(task), dy, &segment, 1);
      }
      if (d.x) {
        const ContractionSegment segment{dy, transposed(v.w.row<float>(task), 0), outputs_};
        to_inputs(d.x.row<float>(task), &segment, 1);
      }
    }
  }

  void tangent_forward(const Values& v, const Values& R) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      ContractionSegment segments[2];
      int count = 0;
      const float* Rw = R.w ? R.w.row<float>(task) : nullptr;
      if (Rw) segments[count++] = {v.x.row<float>(task), Rw, inputs_};
      if (R.x) segments[count++] = {R.x.row<float>(task), v.w.row<float>(task), inputs_};
      from_inputs(R.y.row<float>(task), Rw && bias_ ? Rw + weights() : nullptr, segments, count);
    }
  }

  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    for (int task = 0; task < v.y.tasks; ++task) {
      const float* dy = d.y.row<float>(task);
      const float* Rdy = Rd.y.row<float>(task);
      if (Rd.w) {
        ContractionSegment segments[2];
        int count = 0;
        segments[count++] = {v.x.row<float>(task), Rdy, examples_};
        if (R.x) segments[count++] = {R.x.row<float>(task), dy, examples_};
        to_weights(Rd.w.row<float>(task), Rdy, segments, count);
      }
      if (Rd.x) {
        ContractionSegment segments[2];
        int count = 0;
        segments[count++] = {Rdy, transposed(v.w.row<float>(task), 0), outputs_};
        if (R.w) segments[count++] = {dy, transposed(R.w.row<float>(task), 1), outputs_};
        to_inputs(Rd.x.row<float>(task), segments, count);
      }
    }
  }

 private:
  std::int64_t weights() const { return inputs_ * outputs_; }

  // y [examples][outputs] = bias + sum of segments
  void from_inputs(float* y, const float* bias, const ContractionSegment* segments, int count) const {
    contract(EvenContraction{.rows = examples_,
                             .columns = outputs_,
                             .a_row_step = inputs_,
                             .b_step = outputs_,
                             .c_step = outputs_,
                             .segments = segments,
                             .segment_count = count,
                             .c = y,
                             .start = bias});
  }
  // dx [examples][inputs]
  void to_inputs(float* dx, const ContractionSegment* segments, int count) const {
    contract(EvenContraction{.rows = examples_,
                             .columns = inputs_,
                             .a_row_step = outputs_,
                             .b_step = inputs_,
                             .c_step = inputs_,
                             .segments = segments,
                             .segment_count = count,
                             .c = dx});
  }
  // dw [inputs][outputs], then the bias
  void to_weights(float* dw, const float* dy, const ContractionSegment* segments, int count) const {
    contract(EvenContraction{.rows = inputs_,
                             .columns = outputs_,
                             .a_row_step = 1,
                             .a_term_step = inputs_,
                             .b_step = outputs_,
                             .c_step = outputs_,
                             .segments = segments,
                             .segment_count = count,
                             .c = dw});
    if (bias_) cpu::column_sums(dw + weights(), dy, examples_, outputs_, 1.0f);
  }
  // [outputs][inputs]; a single row or column is its own transpose.
  const float* transposed(const float* w, int slot) const {
    if (outputs_ == 1 || inputs_ == 1) return w;
    float* to = scratch_ + slot * weights();
    cpu::transpose(to, w, inputs_, outputs_);
    return to;
  }

  std::int64_t inputs_, outputs_, examples_;
  bool bias_;
  float* scratch_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Linear& layer, const Geometry& geometry, Array scratch, CpuLane&) {
  return std::make_unique<LinearCpu>(layer, geometry, scratch);
}

}  // namespace cumeta
