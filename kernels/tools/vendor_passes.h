// SPDX-License-Identifier: Apache-2.0
// The vendor rows' four passes as sequences of steps. The CUDA column runs the steps, the plan counts them:
//   fill_rows(out, bias, rows, columns)    out[task][row][column] = bias[task][column], or 0
//   column_sums(out, in, rows, columns)    out[task][column] = sum over rows of in[task][row][column], rows in order
//   transpose(t, tasks)                    see Transposition
//   multiply(gemm), convolution_...        see kernels/vendor_calls.h
#pragma once
#include <cstdint>
#include <utility>

#include "kernels/layers/vendor_conv2d.h"
#include "kernels/layers/vendor_linear.h"
#include "kernels/vendor_calls.h"

namespace cumeta {

/// to[task][item][column][row] = from[task][item][row][column] (+ bias[task][row]). The second index of each side lies
/// contiguous, the first at a stride.
struct Transposition {
  int items = 1, rows = 0, columns = 0;
  const float* from = nullptr;
  std::int64_t from_task = 0, from_item = 0, from_row = 0;
  float* to = nullptr;
  std::int64_t to_task = 0, to_item = 0, to_column = 0;
  const float* bias = nullptr;
  std::int64_t bias_task = 0;
};

inline const float* numbers(const Array& a) { return a.row<const float>(0); }
inline float* writable(const Array& a) { return a.row<float>(0); }

/// Row-major  Y = X W + b,  dX = dY W',  dW = X' dY; column-major, as BLAS reads it, each is its own transpose.
template <class Steps>
class VendorLinearPasses final : public LayerPasses {
 public:
  VendorLinearPasses(Steps steps, const Linear& l, const Geometry& g)
      : steps_(std::move(steps)), rows_(g.examples), inputs_(g.input.size()), outputs_(l.outputs), bias_(l.bias) {}

  void forward(const Values& v) const override {
    const float beta = start(v.y, v.w, v.y.tasks);
    add_output(v.y, v.x, v.w, beta, v.y.tasks);
  }
  void backward(const Values& v, const Gradients& d) const override {
    const int tasks = v.y.tasks;
    if (d.x) add_input(d.x, d.y, v.w, 0, tasks);
    if (d.w) add_weights(d.w, v.x, d.y, 0, tasks), add_bias(d.w, d.y, tasks);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    const int tasks = v.y.tasks;
    float beta = R.x || R.w ? start(R.y, R.w, tasks) : zero(R.y, tasks);
    if (R.x) add_output(R.y, R.x, v.w, std::exchange(beta, 1.0f), tasks);
    if (R.w) add_output(R.y, v.x, R.w, beta, tasks);
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    const int tasks = v.y.tasks;
    if (Rd.x) {
      add_input(Rd.x, Rd.y, v.w, 0, tasks);
      if (R.w) add_input(Rd.x, d.y, R.w, 1, tasks);
    }
    if (Rd.w) {
      add_weights(Rd.w, v.x, Rd.y, 0, tasks);
      if (R.x) add_weights(Rd.w, R.x, d.y, 1, tasks);
      add_bias(Rd.w, Rd.y, tasks);
    }
  }

 private:
  std::int64_t weights() const { return std::int64_t{inputs_} * outputs_; }
  float zero(const Array& y, int tasks) const {
    steps_.fill_rows(y, {}, rows_, outputs_, tasks);
    return 1;
  }
  /// Writes the bias where there is one; what beta the first product takes.
  float start(const Array& y, const Array& w, int tasks) const {
    if (!bias_ || !w) return 0;
    steps_.fill_rows(y, w.slice(weights(), outputs_), rows_, outputs_, tasks);
    return 1;
  }
  void add_output(const Array& y, const Array& x, const Array& w, float beta, int tasks) const {
    steps_.multiply({.m = outputs_,
                     .n = rows_,
                     .k = inputs_,
                     .a = numbers(w),
                     .lda = outputs_,
                     .stride_a = w.stride,
                     .b = numbers(x),
                     .ldb = inputs_,
                     .stride_b = x.stride,
                     .beta = beta,
                     .c = writable(y),
                     .ldc = outputs_,
                     .stride_c = y.stride,
                     .batch = tasks});
  }
  void add_input(const Array& dx, const Array& dy, const Array& w, float beta, int tasks) const {
    steps_.multiply({.transpose_a = true,
                     .m = inputs_,
                     .n = rows_,
                     .k = outputs_,
                     .a = numbers(w),
                     .lda = outputs_,
                     .stride_a = w.stride,
                     .b = numbers(dy),
                     .ldb = outputs_,
                     .stride_b = dy.stride,
                     .beta = beta,
                     .c = writable(dx),
                     .ldc = inputs_,
                     .stride_c = dx.stride,
                     .batch = tasks});
  }
  void add_weights(const Array& dw, const Array& x, const Array& dy, float beta, int tasks) const {
    steps_.multiply({.transpose_b = true,
                     .m = outputs_,
                     .n = inputs_,
                     .k = rows_,
                     .a = numbers(dy),
                     .lda = outputs_,
                     .stride_a = dy.stride,
                     .b = numbers(x),
                     .ldb = inputs_,
                     .stride_b = x.stride,
                     .beta = beta,
                     .c = writable(dw),
                     .ldc = outputs_,
                     .stride_c = dw.stride,
                     .batch = tasks});
  }
  void add_bias(const Array& dw, const Array& dy, int tasks) const {
    if (bias_) steps_.column_sums(dw.slice(weights(), outputs_), dy, rows_, outputs_, tasks);
  }

  Steps steps_;
  int rows_, inputs_, outputs_;
  bool bias_;
};

/// How images of several tasks stand beside each other for one call of cuDNN.
enum class Together {
  images,  ///< [tasks x examples] images: all tasks share the filters
  groups   ///< [examples] images of tasks x channels: a group, and its filters, per task
};

template <class Steps>
class VendorConv2dPasses final : public LayerPasses {
 public:
  VendorConv2dPasses(Steps steps, const Conv2d& l, const Geometry& g, Array scratch)
      : steps_(std::move(steps)),
        layer_(l),
        in_(g.input),
        out_(output(l, g.input)),
        examples_(g.examples),
        room_(vendor_room(l, g)),
        scratch_(scratch) {}

  void forward(const Values& v) const override {
    const Call call(*this, v.y.tasks, together(v.y.tasks, v.w, {}));
    call.images_in(v.x, in_, call.x);
    call.filters_in(v.w);
    steps_.convolution_forward(call.convolution, call.x, call.w, 0, call.y);
    call.images_out(call.y, out_, v.y, v.w);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    const Call call(*this, v.y.tasks, together(v.y.tasks, v.w, R.w));
    if (!R.x && !R.w) return steps_.fill_rows(R.y, {}, examples_ * out_.height * out_.width, out_.channels, v.y.tasks);
    float beta = 0;
    for (const auto& [x, w] : {std::pair{R.x, v.w}, std::pair{v.x, R.w}}) {
      if (!x || !w) continue;
      call.images_in(x, in_, call.x);
      call.filters_in(w);
      steps_.convolution_forward(call.convolution, call.x, call.w, std::exchange(beta, 1.0f), call.y);
    }
    call.images_out(call.y, out_, R.y, R.w);
  }
  void backward(const Values& v, const Gradients& d) const override {
    const int tasks = v.y.tasks;
    const Together of_input = together(tasks, v.w, {});
    if (d.x) {
      const Call call(*this, tasks, of_input);
      call.images_in(d.y, out_, call.y);
      call.filters_in(v.w);
      steps_.convolution_backward_data(call.convolution, call.y, call.w, 0, call.x);
      call.images_out(call.x, in_, d.x);
    }
    if (d.w) {
      const Call call(*this, tasks, Together::groups);
      if (!d.x || of_input != Together::groups) call.images_in(d.y, out_, call.y);
      call.images_in(v.x, in_, call.x);
      steps_.convolution_backward_filter(call.convolution, call.x, call.y, 0, call.w);
      call.filters_out(d.w);
      bias_sums(d.w, d.y, tasks);
    }
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    const int tasks = v.y.tasks;
    const Together of_input = together(tasks, v.w, R.w);
    const bool kept = Rd.x && of_input == Together::groups;  // what stands in y and other_y then serves Rd.w too
    if (Rd.x) {
      const Call call(*this, tasks, of_input);
      call.images_in(Rd.y, out_, call.y);
      call.filters_in(v.w);
      steps_.convolution_backward_data(call.convolution, call.y, call.w, 0, call.x);
      if (R.w) {
        call.images_in(d.y, out_, call.other_y);
        call.filters_in(R.w);
        steps_.convolution_backward_data(call.convolution, call.other_y, call.w, 1, call.x);
      }
      call.images_out(call.x, in_, Rd.x);
    }
    if (Rd.w) {
      const Call call(*this, tasks, Together::groups);
      if (!kept) call.images_in(Rd.y, out_, call.y);
      call.images_in(v.x, in_, call.x);
      steps_.convolution_backward_filter(call.convolution, call.x, call.y, 0, call.w);
      if (R.x) {
        if (!kept || !R.w) call.images_in(d.y, out_, call.other_y);
        call.images_in(R.x, in_, call.x);
        steps_.convolution_backward_filter(call.convolution, call.x, call.other_y, 1, call.w);
      }
      call.filters_out(Rd.w);
      bias_sums(Rd.w, Rd.y, tasks);
    }
  }

 private:
  /// One task is a group of its own; several stand as images where they share w and no direction differs by task.
  static Together together(int tasks, const Array& w, const Array& Rw) {
    return tasks > 1 && w.stride == 0 && !Rw ? Together::images : Together::groups;
  }
  void bias_sums(const Array& dw, const Array& dy, int tasks) const {
    if (layer_.bias)
      steps_.column_sums(dw.slice(room_.w, layer_.filters), dy, examples_ * out_.height * out_.width, out_.channels,
                         tasks);
  }

  /// The rooms of one call, and copies into and out of them.
  struct Call {
    const VendorConv2dPasses& p;
    int tasks;
    Together together;
    VendorConvolution convolution;
    float *x, *y, *other_y, *w;

    Call(const VendorConv2dPasses& passes, int task_count, Together how) : p(passes), tasks(task_count), together(how) {
      constexpr std::uintptr_t bytes = VendorConvolutionRoom::alignment * sizeof(float);
      auto* at = reinterpret_cast<float*>(p.scratch_.data);
      const auto take = [&](std::int64_t per_task) {
        const std::uintptr_t beyond = reinterpret_cast<std::uintptr_t>(at) % bytes;
        float* room = at + (beyond ? bytes - beyond : 0) / sizeof(float);
        at = room + tasks * per_task;
        return room;
      };
      x = take(p.room_.x), y = take(p.room_.y), other_y = take(p.room_.y), w = take(p.room_.w);
      const bool groups = together == Together::groups;
      VendorConvolution& c = convolution;
      c.images = groups ? p.examples_ : tasks * p.examples_, c.groups = groups ? tasks : 1;
      c.channels = p.in_.channels, c.filters = p.layer_.filters;
      c.height = p.in_.height, c.width = p.in_.width, c.out_height = p.out_.height, c.out_width = p.out_.width;
      c.kernel = p.layer_.kernel, c.stride = p.layer_.stride, c.padding = p.layer_.padding;
      c.workspace = take(p.room_.workspace);
      c.workspace_bytes = tasks * p.room_.workspace * static_cast<std::int64_t>(sizeof(float));
    }

    std::int64_t task_step(std::int64_t image) const {
      return together == Together::groups ? image : p.examples_ * image;
    }
    std::int64_t example_step(std::int64_t image) const { return together == Together::groups ? tasks * image : image; }

    /// [tasks][examples][pixels][channels] to cuDNN's order.
    void images_in(const Array& from, Shape shape, float* to) const {
      const int pixels = shape.height * shape.width;
      p.steps_.transpose({.items = p.examples_,
                          .rows = pixels,
                          .columns = shape.channels,
                          .from = numbers(from),
                          .from_task = from.stride,
                          .from_item = shape.size(),
                          .from_row = shape.channels,
                          .to = to,
                          .to_task = task_step(shape.size()),
                          .to_item = example_step(shape.size()),
                          .to_column = pixels},
                         tasks);
    }
    /// And back; w's bias is added.
    void images_out(const float* from, Shape shape, const Array& to, const Array& w_of_bias = {}) const {
      const int pixels = shape.height * shape.width;
      Transposition t{.items = p.examples_,
                      .rows = shape.channels,
                      .columns = pixels,
                      .from = from,
                      .from_task = task_step(shape.size()),
                      .from_item = example_step(shape.size()),
                      .from_row = pixels,
                      .to = writable(to),
                      .to_task = to.stride,
                      .to_item = shape.size(),
                      .to_column = shape.channels};
      if (p.layer_.bias && w_of_bias) t.bias = numbers(w_of_bias) + p.room_.w, t.bias_task = w_of_bias.stride;
      p.steps_.transpose(t, tasks);
    }
    /// [taps][channels][filters] to [filters][channels][taps]; a shared row once, or once for each group.
    void filters_in(const Array& from) const {
      const int taps = p.layer_.kernel * p.layer_.kernel;
      p.steps_.transpose({.items = p.in_.channels,
                          .rows = taps,
                          .columns = p.layer_.filters,
                          .from = numbers(from),
                          .from_task = from.stride,
                          .from_item = p.layer_.filters,
                          .from_row = std::int64_t{p.in_.channels} * p.layer_.filters,
                          .to = w,
                          .to_task = p.room_.w,
                          .to_item = taps,
                          .to_column = std::int64_t{p.in_.channels} * taps},
                         together == Together::groups ? tasks : 1);
    }
    void filters_out(const Array& to) const {
      const int taps = p.layer_.kernel * p.layer_.kernel;
      p.steps_.transpose({.items = p.in_.channels,
                          .rows = p.layer_.filters,
                          .columns = taps,
                          .from = w,
                          .from_task = p.room_.w,
                          .from_item = taps,
                          .from_row = std::int64_t{p.in_.channels} * taps,
                          .to = writable(to),
                          .to_task = to.stride,
                          .to_item = p.layer_.filters,
                          .to_column = std::int64_t{p.in_.channels} * p.layer_.filters},
                         tasks);
    }
  };

  Steps steps_;
  Conv2d layer_;
  Shape in_, out_;
  int examples_;
  VendorConvolutionRoom room_;
  Array scratch_;
};

}  // namespace cumeta
