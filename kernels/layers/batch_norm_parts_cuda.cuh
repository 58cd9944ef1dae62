// SPDX-License-Identifier: Apache-2.0
// What batch norm's kernels are told, and the sums of a task with many rows: made chunk by chunk, added in order.
#pragma once
#include <cstdint>

#include "kernels/layers/batch_norm_gradient_cuda.cuh"
#include "kernels/tools/channel_sums_cuda.cuh"
#include "kernels/tools/task_rows_cuda.cuh"

namespace cumeta {

struct BatchNormCall {
  TaskRows x, y, r, dy, dx, dw, w, Rx, Ry, Rr, Rw, Rdy, Rdx, Rdw;
  int channels = 0, rows = 0, counted = 0;  // rows: examples x pixels; counted: those of the statistics
  bool scale = true, shift = true;
  float eps = 0;
  TaskRows parts;  ///< [chunk][sum][channel]
  int chunks = 1, rows_per_chunk = 0;

  __device__ float* gamma(const TaskRows& parameters, int task) const {
    return scale && parameters.data ? parameters.of(task) : nullptr;
  }
  __device__ float* beta(const TaskRows& parameters, int task) const {
    return shift && parameters.data ? parameters.of(task) + (scale ? channels : 0) : nullptr;
  }
};

/// What a launch does: sums and their application, or one of them.
enum class Part { whole, sums, apply };

/// The rows of this block.
template <Part part>
struct Chunk {
  int index = 0, first = 0, end;

  __device__ explicit Chunk(const BatchNormCall& call) : end(call.rows) {
    if (part == Part::whole) return;
    index = static_cast<int>(blockIdx.z), first = index * call.rows_per_chunk;
    end = min(call.rows, first + call.rows_per_chunk);
  }
};

/// N sums of this block's chunk go to the scratch. True: that was all there is to do.
template <class Block, int N>
__device__ __forceinline__ bool publish_parts(const BatchNormCall& call, const Block& b, int task, int chunk,
                                              const float (&sums)[N][Block::V]) {
  float* to = call.parts.of(task) + static_cast<std::int64_t>(chunk) * kNormSums * call.channels;
#pragma unroll
  for (int n = 0; n < N; ++n) b.publish(to + n * call.channels, sums[n]);
  return true;
}
/// The sum over all chunks, in their order.
template <class Block, int N>
__device__ __forceinline__ void add_parts(const BatchNormCall& call, const Block& b, int task,
                                          float (&sums)[N][Block::V]) {
  b.add_parts(call.parts.of(task), call.chunks, kNormSums, sums);
}
/// Gradients of gamma and beta (their tangents) from the sums over all rows.
template <class Block, int N>
__device__ __forceinline__ void publish_gradients(const BatchNormCall& call, const Block& b, const TaskRows& out,
                                                  int task, const float (&sums)[N][Block::V]) {
  float of_gamma[Block::V], of_beta[Block::V];
#pragma unroll
  for (int j = 0; j < Block::V; ++j) of_gamma[j] = gamma_gradient(sums, j), of_beta[j] = beta_gradient(sums, j);
  b.publish(call.gamma(out, task), of_gamma);
  b.publish(call.beta(out, task), of_beta);
}
/// Mean and variance of all counted rows from (mean, sum of squared deviations) of every chunk:
///   mean = mean_0 + sum n_i (mean_i - mean_0) / n    n var = sum (squares_i + n_i (mean_i - mean)^2)
/// Differences from the first chunk's mean keep the digits where all means are far from zero.
template <class Block>
__device__ __forceinline__ void join_parts(const BatchNormCall& call, const Block& b, int task, float (&mean)[Block::V],
                                           float (&variance)[Block::V]) {
  const float* from = call.parts.of(task);
  const float n = static_cast<float>(call.counted);
#pragma unroll
  for (int j = 0; j < Block::V; ++j) mean[j] = variance[j] = 0.0f;
  if (!b.active()) return;
  float first[Block::V];
#pragma unroll
  for (int j = 0; j < Block::V; ++j) first[j] = from[b.channel + j];
  const auto rows = [&](int chunk) {
    return static_cast<float>(max(0, min(call.rows_per_chunk, call.counted - chunk * call.rows_per_chunk)));
  };
#pragma unroll 4
  for (int chunk = 0; chunk < call.chunks; ++chunk)
#pragma unroll
    for (int j = 0; j < Block::V; ++j)
      mean[j] =
          fmaf(rows(chunk),
               from[static_cast<std::int64_t>(chunk) * kNormSums * call.channels + b.channel + j] - first[j], mean[j]);
#pragma unroll
  for (int j = 0; j < Block::V; ++j) mean[j] = first[j] + mean[j] / n;
#pragma unroll 4
  for (int chunk = 0; chunk < call.chunks; ++chunk) {
    const float* part = from + static_cast<std::int64_t>(chunk) * kNormSums * call.channels + b.channel;
#pragma unroll
    for (int j = 0; j < Block::V; ++j) {
      const float apart = part[j] - mean[j];
      variance[j] += fmaf(rows(chunk) * apart, apart, part[call.channels + j]);
    }
  }
#pragma unroll
  for (int j = 0; j < Block::V; ++j) variance[j] /= n;
}

}  // namespace cumeta
