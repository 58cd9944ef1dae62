// SPDX-License-Identifier: Apache-2.0
// The fused block's passes as phases of one launch.
//
//   forward   tiles of z with their columns' sums -> the last tile of a task makes the record -> y
//   backward  sums per channel -> dz (and Rdz) -> tiles of dx and dw -> splits of dw added
//
// Sums of a tile or a chunk go to scratch and are added in the order of tiles or chunks, whoever was last.
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

/// What a thread of a tile saw of its four columns: (mean, squares) of z, or the sums of Rz and xh Rz.
template <class T>
struct TileSums {
  static constexpr int row_threads = T::threads * 4 / T::BN;
  const NormCall& call;
  const bool tangent;
  const float* z;
  float first[4] = {}, a[4] = {}, b[4] = {}, mean[4] = {}, s[4] = {};
  int count = 0;

  __device__ TileSums(const NormCall& c, bool is_tangent, int task, int column_tile)
      : call(c), tangent(is_tangent), z(c.r.of(task)) {
    const int n = column_tile * T::BN + static_cast<int>(threadIdx.x) % (T::BN / 4) * 4;
    if (tangent)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (n + j < c.channels) mean[j] = z[c.mean_at + n + j], s[j] = z[c.mean_at + c.channels + n + j];
  }
  __device__ __forceinline__ void operator()(int m, int n, float4 value) {
    if (m >= call.counted) return;
    const float v[4] = {value.x, value.y, value.z, value.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (tangent) {
        const float of_z = n + j < call.channels ? z[static_cast<std::int64_t>(m) * call.channels + n + j] : 0.0f;
        a[j] += v[j], b[j] = fmaf(s[j] * (of_z - mean[j]), v[j], b[j]);
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

/// The record's mean and 1/sigma (or m1 and m2) of one task from all its tiles of `height` rows.
__device__ inline void join_tiles(const NormCall& call, bool tangent, int task, int tiles, int height, float* shared) {
  constexpr int parts = 8;
  const int lane = static_cast<int>(threadIdx.x) % 32, part = static_cast<int>(threadIdx.x) / 32;
  float* out = (tangent ? call.Rr : call.r).of(task) + call.mean_at;
  const float* from = call.parts.of(task);
  for (int base = 0; base < call.channels; base += 32) {
    const int c = base + lane;
    float n = 0.0f, x = 0.0f, y = 0.0f;
    if (c < call.channels && call.counted > 0)
#pragma unroll 4
      for (int tile = part; tile < tiles; tile += parts) {
        const float2 pair = {from[2 * (static_cast<std::int64_t>(tile) * call.channels + c)],
                             from[2 * (static_cast<std::int64_t>(tile) * call.channels + c) + 1]};
        if (tangent) {
          x += pair.x, y += pair.y;
        } else {
          join(n, x, y, static_cast<float>(max(0, min(height, call.counted - tile * height))), pair.x, pair.y);
        }
      }
    __syncthreads();
    shared[(part * 3) * 32 + lane] = n, shared[(part * 3 + 1) * 32 + lane] = x, shared[(part * 3 + 2) * 32 + lane] = y;
    __syncthreads();
    if (part != 0 || c >= call.channels) continue;
    for (int other = 1; other < parts; ++other) {
      const float* of = shared + other * 3 * 32 + lane;
      if (tangent) {
        x += of[32], y += of[64];
      } else {
        join(n, x, y, of[0], of[32], of[64]);
      }
    }
    if (tangent) {
      const float rows = static_cast<float>(max(call.counted, 1));
      out[c] = x / rows, out[call.channels + c] = y / rows;
    } else if (call.counted > 0) {
      out[c] = x, out[call.channels + c] = 1.0f / sqrtf(y / static_cast<float>(call.counted) + call.eps);
    }
  }
}

enum Count { kParts, kReady, kGradients, kSplits };

template <class T, int VA, int VB>
__global__ void __launch_bounds__(T::threads, T::min_blocks)
    block_forward(const __grid_constant__ GatherCall conv, const __grid_constant__ NormCall norm, bool tangent,
                  Tickets tickets) {
  constexpr int words = T::template shared_words<Layout::along_k, Layout::along_row>();
  CUMETA_SHARED(float4, storage, words / 4);
  CUMETA_SHARED(unsigned, slot, 1);
  float* shared = reinterpret_cast<float*>(storage);
  const int tiles = conv.shape.tiles * conv.column_tiles, groups = norm.channel_groups(), tasks = tickets.tasks;
  int work = tickets.take(slot);
  const int task = work % tasks;
  work /= tasks;
  if (work < tiles) {
    TileSums<T> sums(norm, tangent, task, work % conv.column_tiles);
    gather_block<T, VA, VB, false>(conv, task, work, shared, sums);
    if (norm.counted > 0) sums.publish(task, work / conv.column_tiles, work % conv.column_tiles, shared);
    if (tickets.arrive(tickets.counter(task, kParts), tiles, slot)) {
      join_tiles(norm, tangent, task, conv.shape.tiles, T::BM, shared);
      tickets.arrive(tickets.counter(task, kReady), 1, slot);
    }
  } else {
    work -= tiles;
    tickets.wait(tickets.counter(task, kReady), 1);
    const int first = work / groups * norm.apply_rows, last = min(norm.y_rows, first + norm.apply_rows);
    if (tangent) {
      norm_tangent_forward<ChannelBlock<VB>>(norm, task, work % groups, first, last);
    } else {
      norm_forward<ChannelBlock<VB>>(norm, task, work % groups, first, last);
    }
  }
  tickets.leave(static_cast<int>(gridDim.x));
}

/// Batch norm's part of backward; false: `work` lies behind it, and starts at 0 there.
template <int V, bool tangent>
__device__ __forceinline__ bool gradient_phases(const NormCall& norm, const Tickets& tickets, int task, int& work,
                                                float* shared, unsigned* slot) {
  using Gradient = NormGradient<ChannelBlock<V>, tangent>;
  const int groups = norm.channel_groups(), all = groups * norm.chunks;
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
      if (tickets.arrive(tickets.counter(task, kParts), all, slot)) {
        for (int i = static_cast<int>(threadIdx.x); i < Gradient::kSums * norm.channels; i += 256) {
          float sum = 0.0f;
          for (int c = 0; c < norm.chunks; ++c)
            sum += norm.parts.of(task)[static_cast<std::int64_t>(c * kNormSums) * norm.channels + i];
          norm.sums.of(task)[i] = sum;
        }
        tickets.arrive(tickets.counter(task, kReady), 1, slot);
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
    tickets.wait(tickets.counter(task, kReady), 1);
#pragma unroll
    for (int n = 0; n < Gradient::kSums; ++n) g.b.parameters(norm.sums.of(task) + n * norm.channels, 0.0f, sums[n]);
  } else {
    g.add(first, last, sums);
    g.b.sum(sums, shared);
  }
  if (chunk == 0) g.publish(task, sums);
  g.apply(task, first, last, sums);
  tickets.arrive(tickets.counter(task, kGradients), all, slot);
  return true;
}

template <int V>
__device__ __forceinline__ bool gradient_phases(const NormCall& norm, bool tangent, const Tickets& tickets, int task,
                                                int& work, float* shared, unsigned* slot) {
  return tangent ? gradient_phases<V, true>(norm, tickets, task, work, shared, slot)
                 : gradient_phases<V, false>(norm, tickets, task, work, shared, slot);
}

/// dw = sum over splits, by blocks of 256 numbers.
__device__ inline void add_splits_block(const WeightCall& weights, const TaskRows& dw, int task, int work) {
  const int numbers = weights.shape.rows * weights.shape.columns,
            all = numbers + (weights.bias ? weights.shape.columns : 0);
  const int i = work * 256 + static_cast<int>(threadIdx.x);
  if (i >= all) return;
  const float* row = weights.out + task * weights.out_stride + i;
  float sum = row[0];
#pragma unroll 16
  for (int s = 1; s < weights.shape.splits; ++s)
    sum += row[static_cast<std::int64_t>(s) * (numbers + weights.shape.columns)];
  dw.of(task)[i] = sum;
}

template <int V>
__global__ void __launch_bounds__(256, 1)
    block_gradients(const __grid_constant__ NormCall norm, bool tangent, Tickets tickets) {
  CUMETA_SHARED(float, shared, 8 * kNormSums * 16);
  CUMETA_SHARED(unsigned, slot, 1);
  int work = tickets.take(slot);
  const int task = work % tickets.tasks;
  work /= tickets.tasks;
  gradient_phases<V>(norm, tangent, tickets, task, work, shared, slot);
  tickets.leave(static_cast<int>(gridDim.x));
}

/// `with_data` false: dx is not wanted, D stands for nothing.
template <class D, class W, int VA, int VB, bool with_data>
__global__ void __launch_bounds__(W::threads, 1)
    block_backward(const __grid_constant__ GatherCall data, const __grid_constant__ WeightCall weights,
                   const __grid_constant__ NormCall norm, bool tangent, Tickets tickets) {
  constexpr int data_words = with_data ? D::template shared_words<Layout::along_k, Layout::along_k>() : 0;
  constexpr int weight_words = W::template shared_words<Layout::along_row, Layout::along_row>();
  CUMETA_SHARED(float4, storage, (data_words > weight_words ? data_words : weight_words) / 4);
  CUMETA_SHARED(unsigned, slot, 1);
  float* shared = reinterpret_cast<float*>(storage);
  int work = tickets.take(slot);
  const int task = work % tickets.tasks;
  work /= tickets.tasks;
  if (!gradient_phases<VB>(norm, tangent, tickets, task, work, shared, slot)) {
    const int weight_blocks = weights.row_tiles * weights.column_tiles * weights.shape.splits;
    const int data_blocks = with_data ? data.shape.tiles * data.column_tiles : 0;
    const int long_blocks =
        !with_data
            ? 0
            : (data.shape.class_count > 1 ? data.shape.classes[1].first_tile : data.shape.tiles) * data.column_tiles;
    const int blocks = weight_blocks + data_blocks + weights.bias_blocks;
    if (work < blocks) {
      tickets.wait(tickets.counter(task, kGradients), norm.channel_groups() * norm.chunks);
      if (work >= long_blocks && work < long_blocks + weight_blocks) {
        weight_block<W, VA, VB>(weights, task, work - long_blocks, shared);
        if (weights.shape.splits > 1) tickets.arrive(tickets.counter(task, kSplits), 0, slot);
      } else if (work < data_blocks + weight_blocks) {
        if constexpr (with_data)
          gather_block<D, 4, 4, true>(data, task, work < long_blocks ? work : work - weight_blocks, shared);
      } else {
        bias_block<W::threads>(weights, task, work - weight_blocks - data_blocks, shared);
        if (weights.shape.splits > 1) tickets.arrive(tickets.counter(task, kSplits), 0, slot);
      }
    } else {
      tickets.wait(tickets.counter(task, kSplits), weight_blocks + weights.bias_blocks);
      add_splits_block(weights, tangent ? norm.Rdw : norm.dw, task, work - blocks);
    }
  }
  tickets.leave(static_cast<int>(gridDim.x));
}

}  // namespace cumeta
