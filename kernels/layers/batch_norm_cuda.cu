// SPDX-License-Identifier: Apache-2.0
// Batch norm on CUDA: a block per task and 16 channels makes the sums and applies them, each pass one launch. Of a task
// with many rows each block has a chunk, and a pass two launches: sums of the chunks, then their application. Chunks
// follow from the task's rows alone, and their sums are added in order.
#include "kernels/layers/batch_norm_parts_cuda.cuh"
#include "kernels/tools/cuda_launch.cuh"

namespace cumeta {
namespace {

template <int V, Part part>
__global__ void __launch_bounds__(256, 2) batch_norm_forward(const __grid_constant__ BatchNormCall call) {
  using Block = ChannelBlock<V>;
  CUMETA_SHARED(float, shared, 8 * kNormSums * Block::channels);
  const int task = static_cast<int>(blockIdx.x);
  const Block b(static_cast<int>(blockIdx.y), call.channels);
  const Chunk<part> chunk(call);
  const float* x = call.x.of(task);
  float* record = call.r.of(task);
  float mean[V], s[V], gamma[V], beta[V], v[V];
  b.parameters(call.gamma(call.w, task), 1.0f, gamma);
  b.parameters(call.beta(call.w, task), 0.0f, beta);
  if (part == Part::apply && call.counted > 0) {
    join_parts(call, b, task, mean, s);
#pragma unroll
    for (int j = 0; j < V; ++j) s[j] = 1.0f / sqrtf(s[j] + call.eps);
    if (chunk.index == 0) b.publish(record, mean), b.publish(call.channels + record, s);
  } else if (call.counted > 0) {
    const int end = min(chunk.end, call.counted);
    const float n = static_cast<float>(max(end - chunk.first, 1));
    float first[1][V] = {}, both[2][V] = {};
    if (b.active())
#pragma unroll 4
      for (int row = chunk.first + b.first_row; row < end; row += Block::rows) {
        b.load(x, row, v);
#pragma unroll
        for (int j = 0; j < V; ++j) first[0][j] += v[j];
      }
    b.sum(first, shared);
#pragma unroll
    for (int j = 0; j < V; ++j) mean[j] = first[0][j] / n;
    // The deviations' own sum takes the rounding of the mean out again.
    if (b.active())
#pragma unroll 4
      for (int row = chunk.first + b.first_row; row < end; row += Block::rows) {
        b.load(x, row, v);
#pragma unroll
        for (int j = 0; j < V; ++j) {
          const float deviation = v[j] - mean[j];
          both[0][j] += deviation, both[1][j] = fmaf(deviation, deviation, both[1][j]);
        }
      }
    b.sum(both, shared);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float rest = both[0][j] / n;
      const float variance = fmaxf(both[1][j] / n - rest * rest, 0.0f);
      mean[j] += rest;
      s[j] = 1.0f / sqrtf(variance + call.eps);
      both[0][j] = mean[j], both[1][j] = variance * n;
    }
    if (part == Part::sums && publish_parts(call, b, task, chunk.index, both)) return;
    b.publish(record, mean);
    b.publish(record + call.channels, s);
  } else {
    b.parameters(record, 0.0f, mean);
    b.parameters(record + call.channels, 0.0f, s);
  }
  if (!b.active()) return;
  float* y = call.y.of(task);
#pragma unroll 4
  for (int row = chunk.first + b.first_row; row < chunk.end; row += Block::rows) {
    b.load(x, row, v);
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = fmaf(gamma[j], s[j] * (v[j] - mean[j]), beta[j]);
    b.store(y, row, v);
  }
}

template <int V, Part part>
__global__ void __launch_bounds__(256, 2) batch_norm_backward(const __grid_constant__ BatchNormCall call) {
  using Block = ChannelBlock<V>;
  CUMETA_SHARED(float, shared, 8 * kNormSums * Block::channels);
  const int task = static_cast<int>(blockIdx.x);
  const Block b(static_cast<int>(blockIdx.y), call.channels);
  const Chunk<part> chunk(call);
  const float *x = call.x.of(task), *dy = call.dy.of(task), *record = call.r.of(task);
  float mean[V], s[V], gamma[V], v[V] = {}, d[V] = {}, sums[kGradientSums<false>][V] = {};
  b.parameters(record, 0.0f, mean);
  b.parameters(record + call.channels, 0.0f, s);
  b.parameters(call.gamma(call.w, task), 1.0f, gamma);
  const auto point = [&](int j) -> NormPoint { return {s[j] * (v[j] - mean[j]), d[j], 0.0f, 0.0f}; };
  if (part == Part::apply) {
    add_parts(call, b, task, sums);
  } else if (b.active()) {
#pragma unroll 4
    for (int row = chunk.first + b.first_row; row < chunk.end; row += Block::rows) {
      b.load(x, row, v);
      b.load(dy, row, d);
#pragma unroll
      for (int j = 0; j < V; ++j) add_point(sums, j, point(j));
    }
  }
  if (part != Part::apply) b.sum(sums, shared);
  if (part == Part::sums && publish_parts(call, b, task, chunk.index, sums)) return;
  if (chunk.index == 0) publish_gradients(call, b, call.dw, task, sums);
  float* dx = call.dx.of(task);
  if (!dx || !b.active()) return;
  const float n = static_cast<float>(call.counted > 0 ? call.counted : 1);
#pragma unroll 4
  for (int row = chunk.first + b.first_row; row < chunk.end; row += Block::rows) {
    b.load(x, row, v);
    b.load(dy, row, d);
    const float counts = row < call.counted ? 1.0f / n : 0.0f;
#pragma unroll
    for (int j = 0; j < V; ++j) d[j] = norm_gradient({s[j], gamma[j], 0.0f, 0.0f}, sums, j, point(j), counts);
    b.store(dx, row, d);
  }
}

template <int V, Part part>
__global__ void __launch_bounds__(256, 2) batch_norm_tangent_forward(const __grid_constant__ BatchNormCall call) {
  using Block = ChannelBlock<V>;
  CUMETA_SHARED(float, shared, 8 * kNormSums * Block::channels);
  const int task = static_cast<int>(blockIdx.x);
  const Block b(static_cast<int>(blockIdx.y), call.channels);
  const Chunk<part> chunk(call);
  const float *x = call.x.of(task), *Rx = call.Rx.of(task), *record = call.r.of(task);
  float mean[V], s[V], gamma[V], Rgamma[V], Rbeta[V], v[V], Rv[V] = {}, sums[2][V] = {};
  b.parameters(record, 0.0f, mean);
  b.parameters(record + call.channels, 0.0f, s);
  b.parameters(call.gamma(call.w, task), 1.0f, gamma);
  b.parameters(call.gamma(call.Rw, task), 0.0f, Rgamma);
  b.parameters(call.beta(call.Rw, task), 0.0f, Rbeta);
  const float n = static_cast<float>(max(call.counted, 1));
  if (call.counted > 0 && Rx) {
    if (part == Part::apply) {
      add_parts(call, b, task, sums);
    } else if (b.active()) {
      const int end = min(chunk.end, call.counted);
#pragma unroll 4
      for (int row = chunk.first + b.first_row; row < end; row += Block::rows) {
        b.load(x, row, v);
        b.load(Rx, row, Rv);
#pragma unroll
        for (int j = 0; j < V; ++j) {
          sums[0][j] += Rv[j];
          sums[1][j] = fmaf(Rv[j], s[j] * (v[j] - mean[j]), sums[1][j]);
        }
      }
    }
    if (part != Part::apply) b.sum(sums, shared);
  }
  if (part == Part::sums && publish_parts(call, b, task, chunk.index, sums)) return;
#pragma unroll
  for (int j = 0; j < V; ++j) sums[0][j] /= n, sums[1][j] /= n;
  float* Rr = call.Rr.of(task);
  if (chunk.index == 0) b.publish(Rr, sums[0]), b.publish(Rr ? Rr + call.channels : nullptr, sums[1]);
  if (!b.active()) return;
  float* Ry = call.Ry.of(task);
#pragma unroll 4
  for (int row = chunk.first + b.first_row; row < chunk.end; row += Block::rows) {
    b.load(x, row, v);
    if (Rx) b.load(Rx, row, Rv);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float xh = s[j] * (v[j] - mean[j]), Rxh = s[j] * (Rv[j] - sums[0][j] - xh * sums[1][j]);
      v[j] = fmaf(gamma[j], Rxh, fmaf(Rgamma[j], xh, Rbeta[j]));
    }
    b.store(Ry, row, v);
  }
}

template <int V, Part part>
__global__ void __launch_bounds__(256, 2) batch_norm_tangent_backward(const __grid_constant__ BatchNormCall call) {
  using Block = ChannelBlock<V>;
  CUMETA_SHARED(float, shared, 8 * kNormSums * Block::channels);
  const int task = static_cast<int>(blockIdx.x);
  const Block b(static_cast<int>(blockIdx.y), call.channels);
  const Chunk<part> chunk(call);
  const float *x = call.x.of(task), *dy = call.dy.of(task), *Rx = call.Rx.of(task), *Rdy = call.Rdy.of(task);
  const float *record = call.r.of(task), *Rr = call.Rr.of(task);
  float mean[V], s[V], m1[V], m2[V], gamma[V], Rgamma[V], v[V], d[V], Rv[V] = {}, Rd[V];
  float sums[kGradientSums<true>][V] = {};
  b.parameters(record, 0.0f, mean);
  b.parameters(record + call.channels, 0.0f, s);
  b.parameters(call.counted > 0 ? Rr : nullptr, 0.0f, m1);
  b.parameters(call.counted > 0 && Rr ? Rr + call.channels : nullptr, 0.0f, m2);
  b.parameters(call.gamma(call.w, task), 1.0f, gamma);
  b.parameters(call.gamma(call.Rw, task), 0.0f, Rgamma);
  const auto load = [&](int row) {
    b.load(x, row, v);
    b.load(dy, row, d);
    if (Rx) b.load(Rx, row, Rv);
    b.load(Rdy, row, Rd);
  };
  const auto point = [&](int j) -> NormPoint {
    const float xh = s[j] * (v[j] - mean[j]);
    return {xh, d[j], s[j] * (Rv[j] - m1[j] - xh * m2[j]), Rd[j]};
  };
  if (part == Part::apply) {
    add_parts(call, b, task, sums);
  } else if (b.active()) {
// As many rows at once as 128 registers hold on every generation.
#pragma unroll(part == Part::sums ? 1 : 2)
    for (int row = chunk.first + b.first_row; row < chunk.end; row += Block::rows) {
      load(row);
#pragma unroll
      for (int j = 0; j < V; ++j) add_point(sums, j, point(j));
    }
  }
  if (part != Part::apply) b.sum(sums, shared);
  if (part == Part::sums && publish_parts(call, b, task, chunk.index, sums)) return;
  if (chunk.index == 0) publish_gradients(call, b, call.Rdw, task, sums);
  float* Rdx = call.Rdx.of(task);
  if (!Rdx || !b.active()) return;
  const float n = static_cast<float>(call.counted > 0 ? call.counted : 1);
#pragma unroll 2
  for (int row = chunk.first + b.first_row; row < chunk.end; row += Block::rows) {
    load(row);
    const float counts = row < call.counted ? 1.0f / n : 0.0f;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const NormChannel c{s[j], gamma[j], Rgamma[j], m2[j]};
      const NormPoint p = point(j);
      v[j] = norm_gradient_tangent(c, sums, j, p, counts, norm_gradient(c, sums, j, p, counts));
    }
    b.store(Rdx, row, v);
  }
}

class BatchNormCuda final : public LayerPasses {
 public:
  BatchNormCuda(const BatchNorm& layer, const Geometry& g, Array scratch, CudaLane& lane) : lane_(lane) {
    const int pixels = g.input.height * g.input.width;
    call_.channels = g.input.channels, call_.rows = g.examples * pixels, call_.counted = g.statistics_rows * pixels;
    call_.chunks = norm_chunks(g), call_.rows_per_chunk = (call_.rows + call_.chunks - 1) / call_.chunks;
    call_.parts = TaskRows(scratch);
    call_.scale = layer.scale, call_.shift = layer.shift, call_.eps = static_cast<float>(layer.eps);
  }

  void forward(const Values& v) const override {
    BatchNormCall call = values(v);
    run("batch norm forward",
        {batch_norm_forward<4, Part::whole>, batch_norm_forward<4, Part::sums>, batch_norm_forward<4, Part::apply>},
        {batch_norm_forward<1, Part::whole>, batch_norm_forward<1, Part::sums>, batch_norm_forward<1, Part::apply>},
        v.y.tasks, call, call.counted > 0);
  }
  void backward(const Values& v, const Gradients& d) const override {
    BatchNormCall call = values(v);
    call.dy = TaskRows(d.y), call.dx = TaskRows(d.x), call.dw = TaskRows(d.w);
    run("batch norm backward",
        {batch_norm_backward<4, Part::whole>, batch_norm_backward<4, Part::sums>, batch_norm_backward<4, Part::apply>},
        {batch_norm_backward<1, Part::whole>, batch_norm_backward<1, Part::sums>, batch_norm_backward<1, Part::apply>},
        v.y.tasks, call);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    BatchNormCall call = values(v);
    call.Rx = TaskRows(R.x), call.Ry = TaskRows(R.y), call.Rr = TaskRows(R.r), call.Rw = TaskRows(R.w);
    run("batch norm tangent forward",
        {batch_norm_tangent_forward<4, Part::whole>, batch_norm_tangent_forward<4, Part::sums>,
         batch_norm_tangent_forward<4, Part::apply>},
        {batch_norm_tangent_forward<1, Part::whole>, batch_norm_tangent_forward<1, Part::sums>,
         batch_norm_tangent_forward<1, Part::apply>},
        v.y.tasks, call, call.counted > 0);
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    BatchNormCall call = values(v);
    call.dy = TaskRows(d.y);
    call.Rx = TaskRows(R.x), call.Rr = TaskRows(R.r), call.Rw = TaskRows(R.w);
    call.Rdy = TaskRows(Rd.y), call.Rdx = TaskRows(Rd.x), call.Rdw = TaskRows(Rd.w);
    run("batch norm tangent backward",
        {batch_norm_tangent_backward<4, Part::whole>, batch_norm_tangent_backward<4, Part::sums>,
         batch_norm_tangent_backward<4, Part::apply>},
        {batch_norm_tangent_backward<1, Part::whole>, batch_norm_tangent_backward<1, Part::sums>,
         batch_norm_tangent_backward<1, Part::apply>},
        v.y.tasks, call);
  }

 private:
  BatchNormCall values(const Values& v) const {
    BatchNormCall call = call_;
    call.x = TaskRows(v.x), call.y = TaskRows(v.y), call.r = TaskRows(v.r), call.w = TaskRows(v.w);
    return call;
  }
  using Kernel = void (*)(BatchNormCall);
  struct Kernels {
    Kernel whole, sums, apply;
  };
  /// `sums` false: the pass makes none, its chunks are applied at once.
  void run(Op op, const Kernels& by_four, const Kernels& by_one, int tasks, const BatchNormCall& call,
           bool sums = true) const {
    bool vectors = call.channels % 4 == 0;
    for (const TaskRows& rows : {call.x, call.y, call.dy, call.dx, call.Rx, call.Ry, call.Rdy, call.Rdx})
      vectors = vectors && rows.by_fours();
    const Kernels& kernels = vectors ? by_four : by_one;
    const dim3 grid(static_cast<unsigned>(tasks), blocks_for(call.channels, ChannelBlock<1>::channels),
                    static_cast<unsigned>(call.chunks));
    if (call.chunks == 1) return launch(lane_, op, kernels.whole, grid, dim3(256), 0, call);
    if (sums) launch(lane_, op, kernels.sums, grid, dim3(256), 0, call);
    launch(lane_, op, kernels.apply, grid, dim3(256), 0, call);
  }

  BatchNormCall call_;
  CudaLane& lane_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const BatchNorm& layer, const Geometry& geometry, Array scratch, CudaLane& lane) {
  return std::make_unique<BatchNormCuda>(layer, geometry, scratch, lane);
}

}  // namespace cumeta
