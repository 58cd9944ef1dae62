// SPDX-License-Identifier: Apache-2.0
// The vendor rows' own kernels: transposition in tiles, rows of biases, sums of columns in a fixed order.
#include <algorithm>

#include "kernels/tools/vendor_steps_cuda.cuh"

namespace cumeta {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 32, kLines = kThreads / kTile;

__global__ void __launch_bounds__(kThreads, 4)
    fill_with_row(float* out, std::int64_t stride, const float* bias, std::int64_t bias_stride, int columns,
                  std::int64_t count, int tasks) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y)
    out[task * stride + i] = bias ? bias[task * bias_stride + i % columns] : 0.0f;
}

/// A block takes kTile columns; line l sums rows l, l + kLines, ..., then the lines are added in order.
__global__ void __launch_bounds__(kThreads, 4) sum_columns(float* out, std::int64_t stride, const float* in,
                                                           std::int64_t in_stride, int rows, int columns, int tasks) {
  CUMETA_SHARED(float, parts, kThreads);
  const int line = static_cast<int>(threadIdx.x) / kTile;
  const int column = static_cast<int>(blockIdx.x) * kTile + static_cast<int>(threadIdx.x) % kTile;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    float sum = 0;
    if (column < columns)
      for (int row = line; row < rows; row += kLines)
        sum += in[task * in_stride + std::int64_t{row} * columns + column];
    parts[threadIdx.x] = sum;
    __syncthreads();
    if (line == 0 && column < columns) {
      for (int l = 1; l < kLines; ++l) sum += parts[l * kTile + threadIdx.x];
      out[task * stride + column] = sum;
    }
    __syncthreads();
  }
}

/// A block moves one tile of kTile rows and columns, of items blockIdx.y, ... and tasks blockIdx.z, ...
__global__ void __launch_bounds__(kThreads, 4) transpose_tiles(Transposition t, int column_tiles, int tasks) {
  CUMETA_SHARED(float, tile, kTile*(kTile + 1));
  const int lane = static_cast<int>(threadIdx.x) % kTile, line = static_cast<int>(threadIdx.x) / kTile;
  const int row0 = static_cast<int>(blockIdx.x) / column_tiles * kTile;
  const int column0 = static_cast<int>(blockIdx.x) % column_tiles * kTile;
  for (std::int64_t task = blockIdx.z; task < tasks; task += gridDim.z)
    for (std::int64_t item = blockIdx.y; item < t.items; item += gridDim.y) {
      const float* from = t.from + task * t.from_task + item * t.from_item;
      float* to = t.to + task * t.to_task + item * t.to_item;
      for (int i = line; i < kTile; i += kLines)
        if (row0 + i < t.rows && column0 + lane < t.columns)
          tile[i * (kTile + 1) + lane] = from[(row0 + i) * t.from_row + column0 + lane];
      __syncthreads();
      for (int i = line; i < kTile; i += kLines)
        if (column0 + i < t.columns && row0 + lane < t.rows) {
          const float bias = t.bias ? t.bias[task * t.bias_task + row0 + lane] : 0.0f;
          to[(column0 + i) * t.to_column + row0 + lane] = tile[lane * (kTile + 1) + i] + bias;
        }
      __syncthreads();
    }
}

}  // namespace

void VendorSteps::fill_rows(const Array& out, const Array& bias, int rows, int columns, int tasks) const {
  const std::int64_t count = std::int64_t{rows} * columns;
  launch(*lane_, "vendor rows of the bias", fill_with_row, dim3(blocks_for(count, kThreads), task_blocks(tasks)),
         kThreads, 0, out.row<float>(0), out.stride, bias.row<const float>(0), bias.stride, columns, count, tasks);
}

void VendorSteps::column_sums(const Array& out, const Array& in, int rows, int columns, int tasks) const {
  launch(*lane_, "vendor bias gradient", sum_columns, dim3(blocks_for(columns, kTile), task_blocks(tasks)), kThreads, 0,
         out.row<float>(0), out.stride, in.row<const float>(0), in.stride, rows, columns, tasks);
}

void VendorSteps::transpose(const Transposition& t, int tasks) const {
  const int column_tiles = static_cast<int>(blocks_for(t.columns, kTile));
  launch(
      *lane_, "vendor transposition", transpose_tiles,
      dim3(blocks_for(t.rows, kTile) * static_cast<unsigned>(column_tiles), task_blocks(t.items), task_blocks(tasks)),
      kThreads, 0, t, column_tiles, tasks);
}

}  // namespace cumeta
