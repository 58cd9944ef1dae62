// SPDX-License-Identifier: Apache-2.0
// The convolution's own launches: forward, backward-data, backward-weights.
#include "kernels/tools/convolution_launch_cuda.cuh"

namespace cumeta {
namespace {

/// out[i] = sum over splits of part[split][i], in their order; the last `columns` numbers are the bias's.
__global__ void __launch_bounds__(256, 4)
    add_splits_kernel(const float* part, std::int64_t part_stride, int splits, int weights, int columns, float* out,
                      std::int64_t out_stride, float* bias, std::int64_t bias_stride, int tasks) {
  const auto [task, work] = TaskWork(tasks);
  const int i = work * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  if (i >= weights + (bias ? columns : 0)) return;
  const float sum = sum_of_splits(part + task * part_stride, weights + columns, splits, i);
  if (i < weights) {
    out[task * out_stride + i] = sum;
  } else {
    bias[task * bias_stride + i - weights] = sum;
  }
}

}  // namespace

void ConvolutionLaunches::run_forward(Op op, const ForwardPlan& plan, int tasks) const {
  const auto go = [&]<class T, int VA, int VB>() {
    in_precision<T>(lane_, [&]<class P>() {
      launch(lane_, op, gather_kernel<P, VA, VB, false>, grid(tasks, plan.call.shape.tiles * plan.call.column_tiles),
             dim3(P::threads), 0, plan.call, tasks);
    });
  };
  pick_forward(plan, go);
}

void ConvolutionLaunches::run_backward(Op op, const BackwardPlan& plan, const Array& dw, int tasks) const {
  if (plan.joint && plan.weights.row_tiles > 0) {
    const GatherCall& data = plan.data[0];
    const auto go = [&]<class D, class W>() {
      in_precision<D, W>(lane_, [&]<class PD, class PW>() {
        launch(lane_, op, backward_kernel<PD, PW>,
               grid(tasks, data.shape.tiles * data.column_tiles + weight_work(plan.weights)), dim3(D::threads), 0, data,
               plan.weights, tasks);
      });
    };
    pick_joint(plan, go);
  } else {
    for (const GatherCall& call : plan.data) {
      const auto go = [&]<class T, int V>() {
        in_precision<T>(lane_, [&]<class P>() {
          launch(lane_, op, gather_kernel<P, V, V, true>, grid(tasks, call.shape.tiles * call.column_tiles),
                 dim3(P::threads), 0, call, tasks);
        });
      };
      pick_data(plan, go);
    }
    if (plan.weights.row_tiles > 0) {
      const auto go = [&]<class T, int VA, int VB>() {
        in_precision<T>(lane_, [&]<class P>() {
          launch(lane_, op, weight_kernel<P, VA, VB>, grid(tasks, weight_work(plan.weights)), dim3(P::threads), 0,
                 plan.weights, tasks);
        });
      };
      pick_weights(plan, go);
    }
  }
  if (!dw || weights_.splits == 1) return;
  const WeightCall& weights = plan.weights;
  const Array db = bias(dw);
  launch(lane_, op, add_splits_kernel, grid(dw.tasks, static_cast<int>(blocks_for(weight_size() + db.size, 256))),
         dim3(256), 0, weights.out, weights.out_stride, weights_.splits, static_cast<int>(weight_size()),
         layer_.filters, dw.row<float>(0), dw.stride, db ? db.row<float>(0) : nullptr, db.stride, dw.tasks);
}

}  // namespace cumeta
