// SPDX-License-Identifier: Apache-2.0
// The fused block's passes as phases of one launch.
//
//   forward   tiles of z with their columns' sums -> y
//   backward  sums per channel -> dz (and Rdz) -> tiles of dx and dw -> splits of dw added
//
// Sums of a tile or a chunk go to scratch and are added in the order of tiles or chunks: few of them by every block
// that needs them, many by the block that was last, for all.
#pragma once
#include "kernels/layers/conv_block_norm_cuda.cuh"
#include "kernels/tools/convolution_kernels_cuda.cuh"
#include "kernels/tools/tickets_cuda.cuh"

namespace cumeta {

/// Joins (mean, sum of squared deviations) of two sets of rows (Chan, Golub & LeVeque 1983).
__device__ __forceinline__ void join(float& n, float& mean, float& squares, float other_n, float other_mean,
                                     float other_squares) {
  if (other_n == 0.0f) return;
  const float all = n + other_n, apart = other_mean - mean;
  mean += apart * (other_n / all);
  squares += other_squares + apart * apart * (n * other_n / all);
  n = all;
}

/// Blocks that a multiprocessor must hold: what leaves the registers that the phases around the tiles need, too.
template <class T>
constexpr int kForwardBlocks = ShortTile<T>                      ? (T::min_blocks < 4 ? T::min_blocks : 4)
                               : T::BM* T::BN >= 32 * T::threads ? (T::min_blocks < 2 ? T::min_blocks : 2)
                                                                 : T::min_blocks;
template <class D, class W>
constexpr int kBackwardBlocks = W::threads > 128    ? 1
                                : D::min_blocks < 3 ? D::min_blocks
                                : W::min_blocks < 3 ? W::min_blocks
                                                    : 3;

/// Up to so many tiles or chunks are added by every block that needs their sum; few where tests must meet both ways.
#ifdef CUMETA_CUDA_EMULATED
constexpr int kFewParts = 8;
#else
constexpr int kFewParts = kMostBlockChunks;
#endif

/// What a thread of a tile saw of its four columns: (mean, squares) of z, or the sums of Rz and xh Rz.
template <class T, int V>
struct TileSums {
  static constexpr int row_threads = T::threads * 4 / T::BN;
  const NormCall& call;
  const bool tangent;
  const float* z;
  float first[4] = {}, a[4] = {}, b[4] = {}, mean[4] = {}, s[4] = {};
  int count = 0;

  __device__ TileSums(const NormCall& c, bool is_tangent, int task) : call(c), tangent(is_tangent), z(c.r.of(task)) {}
  __device__ __forceinline__ void operator()(int m, int n, float4 value) {
    if (m >= call.counted) return;
    const float v[4] = {value.x, value.y, value.z, value.w};
    if (tangent && count == 0)  // not before: registers are short while the tile is made
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (n + j < call.channels) mean[j] = z[call.mean_at + n + j], s[j] = z[call.mean_at + call.channels + n + j];
    float of_z[4] = {};
    if (tangent) {
      const float* row = z + static_cast<std::int64_t>(m) * call.channels + n;
      if constexpr (V == 4) {
        if (n < call.channels) {
          const float4 four = *reinterpret_cast<const float4*>(row);
          of_z[0] = four.x, of_z[1] = four.y, of_z[2] = four.z, of_z[3] = four.w;
        }
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (n + j < call.channels) of_z[j] = row[j];
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (tangent) {
        a[j] += v[j], b[j] = fmaf(s[j] * (of_z[j] - mean[j]), v[j], b[j]);
      } else {
        if (count == 0) first[j] = v[j];
        const float apart = v[j] - first[j];
        a[j] += apart, b[j] = fmaf(apart, apart, b[j]);
      }
    }
    ++count;
  }
  /// The tile's sums of a column, threads in their order: parts[(tile x channels + column) x 2].
  __device__ void publish(int task, int tile, int column_tile, float* shared) const {
    const int r = static_cast<int>(threadIdx.x) / (T::BN / 4), n = static_cast<int>(threadIdx.x) % (T::BN / 4) * 4;
    float* counts = shared + 2 * row_threads * T::BN;
    __syncthreads();
    const float inverse = count > 0 ? 1.0f / static_cast<float>(count) : 0.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      shared[2 * (r * T::BN + n + j)] = tangent ? a[j] : first[j] + a[j] * inverse;
      shared[2 * (r * T::BN + n + j) + 1] = tangent ? b[j] : fmaxf(b[j] - a[j] * a[j] * inverse, 0.0f);
    }
    if (n == 0) counts[r] = static_cast<float>(count);
    __syncthreads();
    const int column = column_tile * T::BN + static_cast<int>(threadIdx.x);
    if (static_cast<int>(threadIdx.x) >= T::BN || column >= call.channels) return;
    float rows = 0.0f, x = 0.0f, y = 0.0f;
    for (int other = 0; other < row_threads; ++other) {
      const float* pair = shared + 2 * (other * T::BN + static_cast<int>(threadIdx.x));
      if (tangent) {
        x += pair[0], y += pair[1];
      } else {
        join(rows, x, y, counts[other], pair[0], pair[1]);
      }
    }
    float* part = call.parts.of(task) + 2 * (static_cast<std::int64_t>(tile) * call.channels + column);
    part[0] = x, part[1] = y;
  }
};

/// Mean and 1/sigma (or m1 and m2) of the channels of a group from all its tiles of `height` rows, into the first
/// numbers of `shared`.
template <int threads>
__device__ inline void join_tiles(const NormCall& call, bool tangent, int task, int group, int tiles, int height,
                                  float* shared) {
  constexpr int channels = kChannelsOfABlock, parts = threads / channels;
  const int lane = static_cast<int>(threadIdx.x) % channels, part = static_cast<int>(threadIdx.x) / channels;
  const int c = group * channels + lane;
  const float* from = call.parts.of(task);
  float n = 0.0f, x = 0.0f, y = 0.0f;
  if (c < call.channels)
#pragma unroll 4
    for (int tile = part; tile < tiles; tile += parts) {
      const float* made = from + 2 * (static_cast<std::int64_t>(tile) * call.channels + c);
      if (tangent) {
        x += made[0], y += made[1];
      } else {
        join(n, x, y, static_cast<float>(max(0, min(height, call.counted - tile * height))), made[0], made[1]);
      }
    }
  float* own = shared + (part * 3) * channels + lane;
  __syncthreads();
  own[0] = n, own[channels] = x, own[2 * channels] = y;
  __syncthreads();
  if (part == 0) {
    for (int other = 1; other < parts; ++other) {
      const float* of = shared + other * 3 * channels + lane;
      if (tangent) {
        x += of[channels], y += of[2 * channels];
      } else {
        join(n, x, y, of[0], of[channels], of[2 * channels]);
      }
    }
    const float rows = static_cast<float>(max(call.counted, 1));
    shared[lane] = tangent ? x / rows : x;
    shared[channels + lane] = tangent ? y / rows : 1.0f / sqrtf(y / rows + call.eps);
  }
  __syncthreads();
}
/// What join_tiles left in `shared` becomes the record's.
__device__ inline void publish_statistics(const NormCall& call, bool tangent, int task, int group,
                                          const float* shared) {
  constexpr int channels = kChannelsOfABlock;
  const int which = static_cast<int>(threadIdx.x) / channels, lane = static_cast<int>(threadIdx.x) % channels;
  const int channel = group * channels + lane;
  if (which < 2 && channel < call.channels)
    (tangent ? call.Rr : call.r).of(task)[call.mean_at + which * call.channels + channel] =
        shared[which * channels + lane];
}

enum Count { kParts, kReady, kGradients, kSplits };

template <class T, int VA, int VB>
__global__ void __launch_bounds__(T::threads, kForwardBlocks<T>)
    block_forward(const __grid_constant__ GatherCall conv, const __grid_constant__ NormCall norm, bool tangent,
                  Tickets tickets) {
  constexpr int words = T::template shared_words<Layout::along_k, Layout::along_row>();
  CUMETA_SHARED(float4, storage, words / 4);
  CUMETA_SHARED(unsigned, slot, 1);
  static_assert(words >= 8 * T::threads + TileSums<T, VB>::row_threads, "what publish() keeps");
  float* shared = reinterpret_cast<float*>(storage);
  const int tiles = conv.shape.tiles * conv.column_tiles, groups = norm.channel_groups(), tasks = tickets.tasks;
  const bool few = conv.shape.tiles <= kFewParts;
  // Given statistics move with nothing: their tangents are sums over no rows, zeros.
  const bool makes = norm.counted > 0 || tangent;
  for (TakenPieces<true> piece(tickets, slot); piece.take();) {
    const int task = piece.number % tasks;
    int work = piece.number / tasks;
    if (work < tiles) {
      TileSums<T, VB> sums(norm, tangent, task);
      gather_block<T, VA, VB, false>(conv, task, work, shared, sums);
      if (makes) sums.publish(task, work / conv.column_tiles, work % conv.column_tiles, shared);
      if (few) {
        tickets.count(tickets.counter(task, kParts));
      } else if (tickets.arrive(tickets.counter(task, kParts), tiles, slot)) {
        for (int group = 0; makes && group < groups; ++group) {
          join_tiles<T::threads>(norm, tangent, task, group, conv.shape.tiles, T::BM, shared);
          publish_statistics(norm, tangent, task, group, shared);
        }
        tickets.count(tickets.counter(task, kReady));
      }
    } else {
      work -= tiles;
      const int group = work % groups;
      const float* made = (tangent ? norm.Rr : norm.r).of(task) + norm.mean_at + group * kChannelsOfABlock;
      NormStatistics statistics{made, made + norm.channels};
      tickets.wait(tickets.counter(task, few ? kParts : kReady), few ? tiles : 1);
      if (few && makes) {
        join_tiles<T::threads>(norm, tangent, task, group, conv.shape.tiles, T::BM, shared);
        if (work / groups == 0) publish_statistics(norm, tangent, task, group, shared);
        statistics = {shared, shared + kChannelsOfABlock};
      }
      const int first = work / groups * norm.apply_rows, last = min(norm.y_rows, first + norm.apply_rows);
      using Block = ChannelBlock<VB, T::threads>;
      if (tangent) {
        norm_tangent_forward<Block>(norm, statistics, task, group, first, last);
      } else {
        norm_forward<Block>(norm, statistics, task, group, first, last);
      }
    }
  }
  tickets.leave(static_cast<int>(gridDim.x));
}

/// Batch norm's part of backward; false: `work` lies behind it, and starts at 0 there.
template <int V, int threads, bool tangent>
__device__ __forceinline__ bool gradient_phases(const NormCall& norm, const Tickets& tickets, int task, int& work,
                                                float* shared, unsigned* slot) {
  using Gradient = NormGradient<ChannelBlock<V, threads>, tangent>;
  const int groups = norm.channel_groups(), all = groups * norm.chunks;
  const bool few = norm.chunks <= kFewParts;
  if (norm.chunks > 1) {
    if (work < all) {
      const int chunk = work / groups, first = chunk * norm.rows_per_chunk;
      float sums[Gradient::kSums][V] = {};
      {
        const Gradient g(norm, task, work % groups);
        g.add(first, min(norm.rows, first + norm.rows_per_chunk), sums);
        g.b.sum(sums, shared);
#pragma unroll
        for (int n = 0; n < Gradient::kSums; ++n)
          g.b.publish(norm.parts.of(task) + static_cast<std::int64_t>(chunk * kNormSums + n) * norm.channels, sums[n]);
      }
      if (few) {
        tickets.count(tickets.counter(task, kParts));
      } else if (tickets.arrive(tickets.counter(task, kParts), all, slot)) {
        for (int i = static_cast<int>(threadIdx.x); i < Gradient::kSums * norm.channels; i += threads) {
          float sum = 0.0f;
          for (int c = 0; c < norm.chunks; ++c)
            sum += norm.parts.of(task)[static_cast<std::int64_t>(c * kNormSums) * norm.channels + i];
          norm.sums.of(task)[i] = sum;
        }
        tickets.count(tickets.counter(task, kReady));
      }
      return true;
    }
    work -= all;
  }
  if (work >= all) {
    work -= all;
    return false;
  }
  float sums[Gradient::kSums][V] = {};
  const Gradient g(norm, task, work % groups);
  const int chunk = work / groups, first = chunk * norm.rows_per_chunk;
  const int last = min(norm.rows, first + norm.rows_per_chunk);
  if (norm.chunks > 1) {
    tickets.wait(tickets.counter(task, few ? kParts : kReady), few ? all : 1);
    if (few) {
      g.b.add_parts(norm.parts.of(task), norm.chunks, kNormSums, sums);
    } else {
#pragma unroll
      for (int n = 0; n < Gradient::kSums; ++n) g.b.parameters(norm.sums.of(task) + n * norm.channels, 0.0f, sums[n]);
    }
  } else {
    g.add(first, last, sums);
    g.b.sum(sums, shared);
  }
  if (chunk == 0) g.publish(task, sums);
  g.apply(task, first, last, sums);
  tickets.count(tickets.counter(task, kGradients));
  return true;
}

template <int V, int threads>
__device__ __forceinline__ bool gradient_phases(const NormCall& norm, bool tangent, const Tickets& tickets, int task,
                                                int& work, float* shared, unsigned* slot) {
  return tangent ? gradient_phases<V, threads, true>(norm, tickets, task, work, shared, slot)
                 : gradient_phases<V, threads, false>(norm, tickets, task, work, shared, slot);
}

/// dw = sum over splits, by blocks of as many numbers as threads.
template <int threads>
__device__ inline void add_splits_block(const WeightCall& weights, const TaskRows& dw, int task, int work) {
  const int numbers = weights.shape.rows * weights.shape.columns,
            all = numbers + (weights.bias ? weights.shape.columns : 0);
  const int i = work * threads + static_cast<int>(threadIdx.x);
  if (i >= all) return;
  dw.of(task)[i] =
      sum_of_splits(weights.out + task * weights.out_stride, numbers + weights.shape.columns, weights.shape.splits, i);
}

constexpr int kGradientThreads = 128;
template <int V>
__global__ void __launch_bounds__(kGradientThreads, 3)
    block_gradients(const __grid_constant__ NormCall norm, bool tangent, Tickets tickets) {
  CUMETA_SHARED(float, shared, kGradientThreads / 32 * kNormSums * kChannelsOfABlock);
  CUMETA_SHARED(unsigned, slot, 1);
  for (TakenPieces<false> piece(tickets, slot); piece.take();) {
    int work = piece.number / tickets.tasks;
    gradient_phases<V, kGradientThreads>(norm, tangent, tickets, piece.number % tickets.tasks, work, shared, slot);
  }
  tickets.leave(static_cast<int>(gridDim.x));
}

/// `with_data` false: dx is not wanted, D stands for nothing.
template <class D, class W, int VA, int VB, bool with_data>
__global__ void __launch_bounds__(W::threads, kBackwardBlocks<D, W>)
    block_backward(const __grid_constant__ GatherCall data, const __grid_constant__ WeightCall weights,
                   const __grid_constant__ NormCall norm, bool tangent, Tickets tickets) {
  constexpr int data_words = with_data ? D::template shared_words<Layout::along_k, Layout::along_k>() : 0;
  constexpr int weight_words = W::template shared_words<Layout::along_row, Layout::along_row>();
  CUMETA_SHARED(float4, storage, (data_words > weight_words ? data_words : weight_words) / 4);
  CUMETA_SHARED(unsigned, slot, 1);
  static_assert(weight_words >= kNormSums * kChannelsOfABlock * (W::threads / 32), "what the sums per channel keep");
  float* shared = reinterpret_cast<float*>(storage);
  for (TakenPieces<false> piece(tickets, slot); piece.take();) {
    const int task = piece.number % tickets.tasks;
    int work = piece.number / tickets.tasks;
    if (gradient_phases<VB, W::threads>(norm, tangent, tickets, task, work, shared, slot)) continue;
    const BackwardPieces<D, W, VA, VB, with_data> pieces(data, weights);
    if (work < pieces.count()) {
      tickets.wait(tickets.counter(task, kGradients), norm.channel_groups() * norm.chunks);
      const bool of_weights = pieces.make(data, weights, task, work, shared);
      if (of_weights && weights.shape.splits > 1) tickets.count(tickets.counter(task, kSplits));
    } else {
      tickets.wait(tickets.counter(task, kSplits), pieces.weights + pieces.bias);
      add_splits_block<W::threads>(weights, tangent ? norm.Rdw : norm.dw, task, work - pieces.count());
    }
  }
  tickets.leave(static_cast<int>(gridDim.x));
}

}  // namespace cumeta
