// SPDX-License-Identifier: Apache-2.0
// The passes of a layer that works on each number alone. A layer gives four device functions as one plain struct:
//   forward(x)   backward(x, y, dy)   tangent(x, y, Rx)   tangent_backward(x, y, dy, Ry, Rdy)
#pragma once
#include <memory>

#include "kernels/tools/cuda_launch.cuh"
#include "kernels/tools/task_rows_cuda.cuh"

namespace cumeta {

constexpr int kElementwiseThreads = 256;
constexpr int kElementwiseInputs = 5;

/// Of rows that are not there every number is 0.
struct ElementwiseOperands {
  TaskRows in[kElementwiseInputs];
};

enum class ElementwisePass { forward, backward, tangent_forward, tangent_backward };

template <ElementwisePass pass, class F>
__device__ __forceinline__ float elementwise_value(const F& f, const float (&in)[kElementwiseInputs]) {
  if constexpr (pass == ElementwisePass::forward) return f.forward(in[0]);
  if constexpr (pass == ElementwisePass::backward) return f.backward(in[0], in[1], in[2]);
  if constexpr (pass == ElementwisePass::tangent_forward) return f.tangent(in[0], in[1], in[2]);
  if constexpr (pass == ElementwisePass::tangent_backward) return f.tangent_backward(in[0], in[1], in[2], in[3], in[4]);
}

/// `Vector` is float or float4. The pass of five inputs needs more than the 64 registers that four blocks leave a
/// thread.
template <ElementwisePass pass, class F, class Vector>
__global__ void __launch_bounds__(kElementwiseThreads, pass == ElementwisePass::tangent_backward ? 3 : 4)
    elementwise(F f, float* out, std::int64_t stride, ElementwiseOperands operands, std::int64_t count, int tasks) {
  constexpr int inputs = pass == ElementwisePass::forward ? 1 : pass == ElementwisePass::tangent_backward ? 5 : 3;
  constexpr int width = sizeof(Vector) / sizeof(float);
  const std::int64_t i = std::int64_t{blockIdx.x} * kElementwiseThreads + threadIdx.x;
  if (i >= count) return;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    Vector in[kElementwiseInputs] = {};
#pragma unroll
    for (int k = 0; k < inputs; ++k) {
      const TaskRows& o = operands.in[k];
      if (o.data) in[k] = reinterpret_cast<const Vector*>(o.data + task * o.stride)[i];
    }
    Vector result;
    if constexpr (width == 1) {
      result = elementwise_value<pass>(f, {in[0], in[1], in[2], in[3], in[4]});
    } else {
      result.x = elementwise_value<pass>(f, {in[0].x, in[1].x, in[2].x, in[3].x, in[4].x});
      result.y = elementwise_value<pass>(f, {in[0].y, in[1].y, in[2].y, in[3].y, in[4].y});
      result.z = elementwise_value<pass>(f, {in[0].z, in[1].z, in[2].z, in[3].z, in[4].z});
      result.w = elementwise_value<pass>(f, {in[0].w, in[1].w, in[2].w, in[3].w, in[4].w});
    }
    reinterpret_cast<Vector*>(out + task * stride)[i] = result;
  }
}

template <class F>
class ElementwisePasses final : public LayerPasses {
 public:
  ElementwisePasses(const char* name, F f, const CudaLane& lane) : name_(name), f_(f), lane_(lane) {}

  void forward(const Values& v) const override { run<ElementwisePass::forward>(v.y, {v.x}); }
  void backward(const Values& v, const Gradients& d) const override {
    if (d.x) run<ElementwisePass::backward>(d.x.rows(0, v.y.tasks), {v.x, v.y, d.y});
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    run<ElementwisePass::tangent_forward>(R.y.rows(0, v.y.tasks), {v.x, v.y, R.x});
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    if (Rd.x) run<ElementwisePass::tangent_backward>(Rd.x.rows(0, v.y.tasks), {v.x, v.y, d.y, R.y, Rd.y});
  }

 private:
  template <ElementwisePass pass>
  void run(const Array& out, std::initializer_list<Array> inputs) const {
    ElementwiseOperands operands;
    bool vectors = out.size % 4 == 0 && out.by_fours();
    int k = 0;
    for (const Array& array : inputs) {
      operands.in[k++] = TaskRows(array);
      vectors = vectors && array.by_fours();
    }
    const std::int64_t count = vectors ? out.size / 4 : out.size;
    launch(lane_, name_, vectors ? elementwise<pass, F, float4> : elementwise<pass, F, float>,
           dim3(blocks_for(count, kElementwiseThreads), task_blocks(out.tasks)), kElementwiseThreads, 0, f_,
           out.row<float>(0), out.stride, operands, count, out.tasks);
  }

  const char* name_;
  F f_;
  const CudaLane& lane_;
};

}  // namespace cumeta
