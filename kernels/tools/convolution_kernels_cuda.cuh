// SPDX-License-Identifier: Apache-2.0
// Kernels of the convolution: a gather (forward, backward-data), backward-weights, both in one launch, and the sums
// that finish them. Block b works on task b mod tasks, longest work first.
#pragma once
#include "kernels/tools/convolution_operands_cuda.cuh"
#include "kernels/tools/short_convolution_cuda.cuh"

namespace cumeta {

/// Tiles of 128 threads, of whose blocks three fit a multiprocessor: while one waits for its first numbers or hands out
/// its last, the others multiply.
struct Tiles {
  using M64N64 = Tile<8, 8, 8, 8, 2, 16, 2>;
  using M32N64 = Tile<4, 8, 8, 8, 2, 16, 2>;
  using M128N32 = Tile<8, 8, 16, 4, 2, 16, 2>;
  using M20N64 = Tile<5, 8, 4, 8, 4, 16, 2>;
  using M20N32 = Tile<5, 4, 4, 8, 4, 16, 2>;
  using WeightM64N64 = M64N64;
  using WeightM64N32 = Tile<8, 4, 8, 8, 2, 16, 2>;
};
// Where numbers move one by one.
using TileM64N64 = Tile<8, 8, 8, 8, 4, 8, 2>;
using TileM128N32 = Tile<8, 8, 16, 4, 4, 8, 2>;
using TileM32N32 = Tile<4, 4, 8, 8, 4, 8, 2>;

/// `observe(m, n, v)` sees every finished number once more, bias added: rows m of the gather, columns n .. n + 3.
template <class T, int VA, int VB, bool transposed, class Observe = NoObserver>
__device__ __forceinline__ void gather_block(const GatherCall& call, int task, int work, float* shared,
                                             Observe&& observe = {}) {
  constexpr Layout LB = transposed ? Layout::along_k : Layout::along_row;
  const GatherShape& shape = call.shape;
  const int row_tile = work / call.column_tiles, column_tile = work % call.column_tiles;
  int index = 0;
  while (index + 1 < shape.class_count && row_tile >= shape.classes[index + 1].first_tile) ++index;
  const GatherClass& grid = shape.classes[index];
  const int tile = row_tile - grid.first_tile, length = grid.taps * static_cast<int>(shape.depth.divisor);
  const int chunks = (length + T::KB - 1) / T::KB;
  float* out = call.out + task * call.out_stride;
  const float* bias = call.bias ? call.bias + task * call.bias_stride : nullptr;

  const auto store = [&](int local, int n_local, float4 v) {
    const int m = tile * T::BM + local, n = column_tile * T::BN + n_local;
    if (m >= grid.rows) return;
    if (bias) {
      if (n < shape.columns) v.x += bias[n];
      if (n + 1 < shape.columns) v.y += bias[n + 1];
      if (n + 2 < shape.columns) v.z += bias[n + 2];
      if (n + 3 < shape.columns) v.w += bias[n + 3];
    }
    int pixel = m;
    if constexpr (transposed) {
      const int example = grid.image.quotient(m), rest = m - example * static_cast<int>(grid.image.divisor);
      const int j = grid.line.quotient(rest), i = rest - j * static_cast<int>(grid.line.divisor);
      pixel = (example * shape.out_height + grid.out_y0 + shape.out_step * j) * shape.out_width + grid.out_x0 +
              shape.out_step * i;
    }
    store_columns(out + static_cast<std::int64_t>(pixel) * shape.columns, n, shape.columns, call.vector_out, v);
    observe(m, n, v);
  };
  GatherOperands<T, VA, VB, transposed> operands(call.pairs, task, shape, grid, tile, column_tile,
                                                 shared + T::template table_at<Layout::along_k, LB>());
  contract<T, Layout::along_k, LB>(shared, call.pairs.count, chunks, operands, store);
}

template <class T, int VA, int VB>
__device__ __forceinline__ void weight_block(const WeightCall& call, int task, int work, float* shared) {
  const WeightShape& shape = call.shape;
  const int column_tile = work % call.column_tiles, rest = work / call.column_tiles;
  const int row_tile = rest % call.row_tiles, split = rest / call.row_tiles;
  const int all_chunks = (shape.pixels + T::KB - 1) / T::KB, first_chunk = split * shape.chunks_per_split;
  const int chunks = min(shape.chunks_per_split, all_chunks - first_chunk);
  float* out = call.out + task * call.out_stride +
               static_cast<std::int64_t>(split) * (shape.rows + 1) * shape.columns * (shape.splits > 1);
  const auto store = [&](int local, int n, float4 v) {
    const int m = row_tile * T::BM + local;
    if (m < shape.rows)
      store_columns(out + static_cast<std::int64_t>(m) * shape.columns, column_tile * T::BN + n, shape.columns,
                    call.vector_out, v);
  };
  PixelOperands<T, VA, VB> operands(call.pairs, task, shape, first_chunk, row_tile, column_tile,
                                    shared + T::template table_at<Layout::along_row, Layout::along_row>());
  contract<T, Layout::along_row, Layout::along_row>(shared, call.pairs.count, chunks, operands, store);
}

/// Sums 32 columns of `bias_source` over the pixels of one split: thread (r, c) takes every (threads / 32)-th pixel.
template <int threads>
__device__ __forceinline__ void bias_block(const WeightCall& call, int task, int work, float* shared) {
  const WeightShape& shape = call.shape;
  const int groups = (shape.columns + 31) / 32, split = work / groups;
  const int c = work % groups * 32 + static_cast<int>(threadIdx.x) % 32, r = static_cast<int>(threadIdx.x) / 32;
  const int first = split * shape.chunks_per_split * kWeightChunk;
  const int end = min(shape.pixels, first + shape.chunks_per_split * kWeightChunk);
  const float* source = call.bias_source + task * call.bias_source_stride;
  float sum = 0.0f;
  if (c < shape.columns) {
#pragma unroll 4
    for (int p = first + r; p < end; p += threads / 32) sum += source[static_cast<std::int64_t>(p) * shape.columns + c];
  }
  shared[threadIdx.x] = sum;
  __syncthreads();
  if (r == 0 && c < shape.columns) {
#pragma unroll
    for (int other = 1; other < threads / 32; ++other) sum += shared[other * 32 + threadIdx.x];
    call.bias[task * call.bias_stride +
              (shape.splits > 1 ? static_cast<std::int64_t>(split) * (shape.rows + 1) * shape.columns : 0) + c] = sum;
  }
}

/// Which task a block of ConvolutionLaunches::grid works on, and on what of it.
struct TaskWork {
  int task, work;
  __device__ explicit TaskWork(int tasks)
      : task(static_cast<int>(blockIdx.x) % tasks), work(static_cast<int>(blockIdx.x) / tasks) {}
};

template <class T, int VA, int VB, bool transposed>
__global__ void __launch_bounds__(T::threads, T::min_blocks)
    gather_kernel(const __grid_constant__ GatherCall call, int tasks) {
  constexpr Layout LB = transposed ? Layout::along_k : Layout::along_row;
  constexpr int words = T::template shared_words<Layout::along_k, LB>();
  CUMETA_SHARED(float4, shared, words / 4);
  const TaskWork b(tasks);
  gather_block<T, VA, VB, transposed>(call, b.task, b.work, reinterpret_cast<float*>(shared));
}

template <class T, int VA, int VB>
__global__ void __launch_bounds__(T::threads, T::min_blocks)
    weight_kernel(const __grid_constant__ WeightCall call, int tasks) {
  constexpr int words = T::template shared_words<Layout::along_row, Layout::along_row>();
  CUMETA_SHARED(float4, shared, words / 4);
  const auto [task, work] = TaskWork(tasks);
  const int blocks = call.row_tiles * call.column_tiles * call.shape.splits;
  if (work < blocks) {
    weight_block<T, VA, VB>(call, task, work, reinterpret_cast<float*>(shared));
  } else {
    bias_block<T::threads>(call, task, work - blocks, reinterpret_cast<float*>(shared));
  }
}

/// A task's pieces of backward-data and backward-weights side by side: the class of data with most taps first, then the
/// weights, then the shorter classes, then the bias. `with_data` false: only the weights', D stands for nothing.
template <class D, class W, int VA, int VB, bool with_data>
struct BackwardPieces {
  int long_data = 0, data = 0, weights, bias;

  __device__ __forceinline__ BackwardPieces(const GatherCall& gather, const WeightCall& call)
      : weights(call.row_tiles * call.column_tiles * call.shape.splits), bias(call.bias_blocks) {
    if constexpr (with_data) {
      const GatherShape& shape = gather.shape;
      data = shape.tiles * gather.column_tiles;
      long_data = (shape.class_count > 1 ? shape.classes[1].first_tile : shape.tiles) * gather.column_tiles;
    }
  }
  __device__ int count() const { return data + weights + bias; }
  /// Piece `work` of count(); true: it was one of dw's or db's.
  __device__ __forceinline__ bool make(const GatherCall& gather, const WeightCall& call, int task, int work,
                                       float* shared) const {
    if (work >= long_data && work < long_data + weights) {
      weight_block<W, VA, VB>(call, task, work - long_data, shared);
      return true;
    }
    if (work >= data + weights) {
      bias_block<W::threads>(call, task, work - data - weights, shared);
      return true;
    }
    if constexpr (with_data)
      gather_block<D, 4, 4, true>(gather, task, work < long_data ? work : work - weights, shared);
    return false;
  }
};

/// Number i of dw and db: the sum of the splits' partial sums, in their order. `numbers` make a split.
__device__ __forceinline__ float sum_of_splits(const float* parts, std::int64_t numbers, int splits, int i) {
  const float* part = parts + i;
  float sum = part[0];
#pragma unroll 16
  for (int s = 1; s < splits; ++s) sum += part[s * numbers];
  return sum;
}

template <class D, class W>
__global__ void __launch_bounds__(D::threads, D::min_blocks < W::min_blocks ? D::min_blocks : W::min_blocks)
    backward_kernel(const __grid_constant__ GatherCall data, const __grid_constant__ WeightCall weights, int tasks) {
  static_assert(D::threads == W::threads);
  constexpr int data_words = D::template shared_words<Layout::along_k, Layout::along_k>();
  constexpr int weight_words = W::template shared_words<Layout::along_row, Layout::along_row>();
  CUMETA_SHARED(float4, storage, (data_words > weight_words ? data_words : weight_words) / 4);
  float* shared = reinterpret_cast<float*>(storage);
  const auto [task, work] = TaskWork(tasks);
  const BackwardPieces<D, W, 4, 4, true> pieces(data, weights);
  pieces.make(data, weights, task, work, shared);
}

}  // namespace cumeta
