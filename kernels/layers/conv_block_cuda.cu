// SPDX-License-Identifier: Apache-2.0
// Convolution + batch norm + ReLU (+ max-pool) on CUDA: each pass one launch, its parts phases of it.
#include <algorithm>
#include <cassert>
#include <memory>

#include "kernels/layers/conv_block.h"
#include "kernels/layers/conv_block_phases_cuda.cuh"
#include "kernels/tools/convolution_launch_cuda.cuh"

namespace cumeta {
namespace {

// Two learners of the largest chunks on every lane.
static_assert(2 * kCudaLanes * Tickets::words_for(kMostCudaChunk) <= kTicketWords);

class ConvBlockCuda final : public LayerPasses {
 public:
  ConvBlockCuda(const ConvBlock& block, const Geometry& g, Array scratch, CudaLane& lane)
      : lane_(lane),
        room_(conv_block_room(block, g)),
        scratch_(scratch),
        convolution_(block.convolution, g,
                     cumeta::scratch(block.convolution, g, OnCuda{})
                         ? scratch.slice(room_.splits, room_.size - room_.splits)
                         : Array{},
                     lane),
        tickets_(lane.tickets(Tickets::words_for(scratch.tasks))) {
    const Shape z = output(block.convolution, g.input), y = output(block, g.input);
    NormCall& n = norm_;
    n.channels = z.channels, n.rows = g.examples * z.height * z.width;
    n.counted = g.statistics_rows * z.height * z.width;
    n.mean_at = n.rows * n.channels, n.winner_at = n.mean_at + 2 * n.channels;
    weights_ = parameters(block.convolution, g.input);
    if (block.norm.scale) n.gamma_at = weights_;
    if (block.norm.shift) n.beta_at = weights_ + (block.norm.scale ? n.channels : 0);
    n.chunks = static_cast<int>(block_chunks(n.rows, kGradientChunk)), n.rows_per_chunk = tiles_of(n.rows, n.chunks);
    n.y_rows = g.examples * y.height * y.width;
    n.applies = static_cast<int>(block_chunks(n.y_rows, 128)), n.apply_rows = tiles_of(n.y_rows, n.applies);
    n.pooled = block.pooled, n.kernel = block.pool.kernel, n.stride = block.pool.stride;
    n.z_height = z.height, n.z_width = z.width, n.y_height = y.height, n.y_width = y.width;
    n.z_line = FastDivisor(z.width), n.z_image = FastDivisor(z.height * z.width);
    n.y_line = FastDivisor(y.width), n.y_image = FastDivisor(y.height * y.width);
    n.eps = static_cast<float>(block.norm.eps);
    z_size_ = std::int64_t{n.rows} * n.channels;
  }

  void forward(const Values& v) const override {
    NormCall norm = values(v);
    const auto plan = convolution_.plan_forward({v.x, convolution_.weight(v.w)}, {}, convolution_.bias(v.w),
                                                v.r.slice(0, z_size_), vectors(norm));
    forward("convolution block forward", plan, norm, false, v.y.tasks);
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    NormCall norm = values(v);
    norm.Rw = TaskRows(R.w), norm.Ry = TaskRows(R.y), norm.Rr = TaskRows(R.r);
    const auto plan = convolution_.plan_forward({R.x, convolution_.weight(v.w)}, {v.x, convolution_.weight(R.w)},
                                                convolution_.bias(R.w), R.r.slice(0, z_size_), vectors(norm));
    forward("convolution block tangent forward", plan, norm, true, v.y.tasks);
  }
  void backward(const Values& v, const Gradients& d) const override {
    NormCall norm = values(v);
    norm.dy = TaskRows(d.y), norm.dw = TaskRows(d.w);
    const Array dz = scratch_.slice(room_.dz, z_size_);
    const auto plan =
        convolution_.plan_backward(d.x, {dz, convolution_.weight(v.w)}, {}, d.w, {v.x, dz}, {}, dz, vectors(norm));
    backward("convolution block backward", plan, norm, false, d.w, v.y.tasks);
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    NormCall norm = values(v);
    norm.dy = TaskRows(d.y), norm.Rw = TaskRows(R.w), norm.Rr = TaskRows(R.r);
    norm.Rdy = TaskRows(Rd.y), norm.Rdw = TaskRows(Rd.w);
    const Array dz = scratch_.slice(room_.dz, z_size_), Rdz = scratch_.slice(room_.Rdz, z_size_);
    const auto plan = convolution_.plan_backward(Rd.x, {Rdz, convolution_.weight(v.w)}, {dz, convolution_.weight(R.w)},
                                                 Rd.w, {v.x, Rdz}, {R.x, dz}, Rdz, vectors(norm));
    backward("convolution block tangent backward", plan, norm, true, Rd.w, v.y.tasks);
  }

 private:
  NormCall values(const Values& v) const {
    NormCall norm = norm_;
    norm.w = TaskRows(v.w), norm.y = TaskRows(v.y), norm.r = TaskRows(v.r);
    const auto room = [&](std::int64_t at, std::int64_t end) { return TaskRows(scratch_.slice(at, end - at)); };
    norm.dz = room(room_.dz, room_.Rdz), norm.Rdz = room(room_.Rdz, room_.parts);
    norm.parts = room(room_.parts, room_.sums), norm.sums = room(room_.sums, room_.splits);
    return norm;
  }
  static bool vectors(const NormCall& n) {
    bool all = n.channels % 4 == 0;
    for (const TaskRows& rows : {n.y, n.r, n.dy, n.Ry, n.Rr, n.Rdy, n.dz, n.Rdz}) all = all && rows.by_fours();
    return all;
  }
  Tickets tickets(int tasks, int work) const {
    Tickets t;
    assert(std::int64_t{tasks} * work < std::int64_t{1} << 31);
    t.first = tickets_->first(), t.tasks = tasks, t.pieces = tasks * work;
    return t;
  }
  /// As many blocks as the device holds, `blocks` to a multiprocessor; but no more than pieces of `arithmetic` a task
  /// (or one a multiprocessor): blocks that only wait would stand where others multiply, for numbers are taken in no
  /// order of multiprocessors.
  dim3 grid(int tasks, int work, int arithmetic, int blocks) const {
    const int held = lane_.device().multiprocessors * blocks;
    const int wanted = std::max(tasks * arithmetic, lane_.device().multiprocessors);
    return dim3(static_cast<unsigned>(std::min({held, wanted, tasks * work})));
  }

  void forward(Op op, const ConvolutionLaunches::ForwardPlan& plan, const NormCall& norm, bool tangent,
               int tasks) const {
    const int tiles = plan.call.shape.tiles * plan.call.column_tiles;
    const int work = tiles + norm.channel_groups() * norm.applies;
    const auto go = [&]<class T, int VA, int VB>() {
      in_precision<T>(lane_, [&]<class P>() {
        launch(lane_, op, block_forward<P, VA, VB>, grid(tasks, work, tiles, kForwardBlocks<P>), dim3(P::threads), 0,
               plan.call, norm, tangent, tickets(tasks, work));
      });
    };
    ConvolutionLaunches::pick_forward(plan, go);
  }

  void backward(Op op, const ConvolutionLaunches::BackwardPlan& plan, const NormCall& norm, bool tangent,
                const Array& dw, int tasks) const {
    if (!dw && plan.data.empty()) return;
    const int gradients = norm.channel_groups() * norm.chunks * (norm.chunks > 1 ? 2 : 1);
    const WeightCall& weights = plan.weights;
    const auto splits = [&](int threads) {
      const std::int64_t numbers = convolution_.weight_size() + (weights.bias ? norm.channels : 0);
      return weights.shape.splits > 1 && dw ? static_cast<int>(blocks_for(numbers, static_cast<unsigned>(threads))) : 0;
    };
    if (plan.joint) {
      const GatherCall& data = plan.data[0];
      const auto go = [&]<class D, class W>() {
        const int work = gradients + data.shape.tiles * data.column_tiles + ConvolutionLaunches::weight_work(weights) +
                         splits(W::threads);
        in_precision<D, W>(lane_, [&]<class PD, class PW>() {
          launch(lane_, op, block_backward<PD, PW, 4, 4, true>, grid(tasks, work, work, (kBackwardBlocks<PD, PW>)),
                 dim3(W::threads), 0, data, weights, norm, tangent, tickets(tasks, work));
        });
      };
      return ConvolutionLaunches::pick_joint(plan, go);
    }
    if (plan.data.empty()) {
      const auto go = [&]<class W, int VA, int VB>() {
        const int work = gradients + ConvolutionLaunches::weight_work(weights) + splits(W::threads);
        in_precision<W>(lane_, [&]<class P>() {
          launch(lane_, op, block_backward<P, P, VA, VB, false>, grid(tasks, work, work, (kBackwardBlocks<P, P>)),
                 dim3(P::threads), 0, GatherCall{}, weights, norm, tangent, tickets(tasks, work));
        });
      };
      return ConvolutionLaunches::pick_weights(plan, go);
    }
    launch(lane_, op, vectors(norm) ? block_gradients<4> : block_gradients<1>, grid(tasks, gradients, gradients, 3),
           dim3(kGradientThreads), 0, norm, tangent, tickets(tasks, gradients));
    convolution_.run_backward(op, plan, dw, tasks);
  }

  CudaLane& lane_;
  ConvBlockRoom room_;
  Array scratch_;
  ConvolutionLaunches convolution_;
  std::shared_ptr<const TicketRange> tickets_;
  NormCall norm_;
  int weights_ = 0;
  std::int64_t z_size_ = 0;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const ConvBlock& block, const Geometry& geometry, Array scratch, CudaLane& lane) {
  return std::make_unique<ConvBlockCuda>(block, geometry, scratch, lane);
}

}  // namespace cumeta
