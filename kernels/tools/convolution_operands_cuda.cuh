// SPDX-License-Identifier: Apache-2.0
// Loaders of a convolution's operands: each copies one chunk of KB numbers along k into a stage of shared memory.
// A copy moves V numbers (4 where channels, filters and addresses allow, else 1); what lies outside becomes zero.
#pragma once
#include "kernels/tools/contraction_cuda.cuh"
#include "kernels/tools/convolution_plan.h"

namespace cumeta {

/// Up to two operand pairs of one sum (the two terms of a tangent): the chunks of the second follow those of the first.
struct OperandPairs {
  const float *a0 = nullptr, *b0 = nullptr, *a1 = nullptr, *b1 = nullptr;
  std::int64_t a0_stride = 0, b0_stride = 0, a1_stride = 0, b1_stride = 0;
  int count = 0;
};

/// The pairs' rows of one task, and where the second pair's chunks begin.
struct TaskPairs {
  const float *a0, *b0, *a1, *b1;
  int boundary;

  __device__ TaskPairs(const OperandPairs& p, int task, int chunks_each)
      : a0(p.a0 + task * p.a0_stride),
        b0(p.b0 + task * p.b0_stride),
        a1(p.a1 + task * p.a1_stride),
        b1(p.b1 + task * p.b1_stride),
        boundary(chunks_each) {}
};

/// A of forward and backward-data, along k: row m gathers pixel (y, x) of its example for each tap.
template <class T, int V>
struct GatherLoader {
  static constexpr int per_row = T::KB / V, step = T::threads / per_row, count = (T::BM + step - 1) / step;
  static_assert(T::threads % per_row == 0);
  const TaskPairs& pairs;
  const GatherShape& shape;
  const GatherClass& grid;
  int offset[count], y[count], x[count];

  __device__ GatherLoader(const TaskPairs& p, const GatherShape& s, const GatherClass& g, int tile)
      : pairs(p), shape(s), grid(g) {
#pragma unroll
    for (int r = 0; r < count; ++r) {
      const int local = static_cast<int>(threadIdx.x) / per_row + r * step, m = tile * T::BM + local;
      const int example = g.image.quotient(m), rest = m - example * static_cast<int>(g.image.divisor);
      const int j = g.line.quotient(rest), i = rest - j * static_cast<int>(g.line.divisor);
      const bool inside = local < T::BM && m < g.rows;
      y[r] = inside ? s.step * j + g.y0 : -(1 << 20);
      x[r] = s.step * i + g.x0;
      offset[r] =
          ((example * s.source_height + s.step * j + g.y0) * s.source_width + x[r]) * static_cast<int>(s.depth.divisor);
    }
  }
  __device__ __forceinline__ void operator()(float* stage, int chunk) const {
    const float* source = pairs.a0;
    if (chunk >= pairs.boundary) source = pairs.a1, chunk -= pairs.boundary;
    const int at = static_cast<int>(threadIdx.x) % per_row * V, k = chunk * T::KB + at;
    const int tap = shape.depth.quotient(k), c = k - tap * static_cast<int>(shape.depth.divisor);
    const int v = grid.taps_x.quotient(tap), u = tap - v * static_cast<int>(grid.taps_x.divisor);
    const int dy = shape.direction * v, dx = shape.direction * u;
    const int move = (dy * shape.source_width + dx) * static_cast<int>(shape.depth.divisor) + c;
#pragma unroll
    for (int r = 0; r < count; ++r) {
      const int local = static_cast<int>(threadIdx.x) / per_row + r * step;
      if (T::BM % step != 0 && local >= T::BM) break;
      const bool valid = tap < grid.taps &&
                         static_cast<unsigned>(y[r] + dy) < static_cast<unsigned>(shape.source_height) &&
                         static_cast<unsigned>(x[r] + dx) < static_cast<unsigned>(shape.source_width);
      copy_async<4 * V>(stage + local * (T::KB + 4) + at, valid ? source + offset[r] + move : source, valid);
    }
  }
};

/// B of forward, a matrix [k][columns] as it lies in memory; with `first_row`, rows of a split.
template <class T, int V>
struct MatrixLoader {
  static constexpr int per_row = T::BN / V, step = T::threads / per_row, count = (T::KB + step - 1) / step;
  static_assert(T::threads % per_row == 0);
  const TaskPairs& pairs;
  int columns, end, first_chunk, n;

  __device__ MatrixLoader(const TaskPairs& p, int columns_, int rows, int first_chunk_, int tile)
      : pairs(p),
        columns(columns_),
        end(rows),
        first_chunk(first_chunk_),
        n(tile * T::BN + static_cast<int>(threadIdx.x) % per_row * V) {}
  __device__ __forceinline__ void operator()(float* stage, int chunk) const {
    const float* source = pairs.b0;
    if (chunk >= pairs.boundary) source = pairs.b1, chunk -= pairs.boundary;
    const int at = static_cast<int>(threadIdx.x) % per_row * V;
#pragma unroll
    for (int r = 0; r < count; ++r) {
      const int local = static_cast<int>(threadIdx.x) / per_row + r * step;
      if (T::KB % step != 0 && local >= T::KB) break;
      const int k = (first_chunk + chunk) * T::KB + local;
      const bool valid = k < end && n < columns;
      copy_async<4 * V>(stage + local * T::BN + at,
                        valid ? source + static_cast<std::int64_t>(k) * columns + n : source, valid);
    }
  }
};

/// B of backward-data, along k = (tap, filter): W is [tap][channel][filter], n = channel.
template <class T, int V>
struct TransposedWeightLoader {
  static constexpr int per_row = T::KB / V, step = T::threads / per_row, count = (T::BN + step - 1) / step;
  const TaskPairs& pairs;
  const GatherShape& shape;
  const GatherClass& grid;
  int tile;

  __device__ TransposedWeightLoader(const TaskPairs& p, const GatherShape& s, const GatherClass& g, int tile_)
      : pairs(p), shape(s), grid(g), tile(tile_) {}
  __device__ __forceinline__ void operator()(float* stage, int chunk) const {
    const float* source = pairs.b0;
    if (chunk >= pairs.boundary) source = pairs.b1, chunk -= pairs.boundary;
    const int filters = static_cast<int>(shape.depth.divisor);
    const int at = static_cast<int>(threadIdx.x) % per_row * V, k = chunk * T::KB + at;
    const int tap = shape.depth.quotient(k), f = k - tap * filters;
    const int v = grid.taps_x.quotient(tap), u = tap - v * static_cast<int>(grid.taps_x.divisor);
    const int weight_tap = (grid.tap_y0 + shape.tap_step * v) * shape.kernel + grid.tap_x0 + shape.tap_step * u;
#pragma unroll
    for (int r = 0; r < count; ++r) {
      const int local = static_cast<int>(threadIdx.x) / per_row + r * step, n = tile * T::BN + local;
      if (T::BN % step != 0 && local >= T::BN) break;
      const bool valid = tap < grid.taps && n < shape.columns;
      copy_async<4 * V>(stage + local * (T::KB + 4) + at,
                        valid ? source + (weight_tap * shape.columns + n) * filters + f : source, valid);
    }
  }
};

/// A of backward-weights, along m = (tap, channel): k is a pixel of z, the number is the one of x that the tap meets.
template <class T, int V>
struct PixelLoader {
  static constexpr int per_row = T::BM / V, step = T::threads / per_row, count = (T::KB + step - 1) / step;
  static_assert(T::threads % per_row == 0);
  const TaskPairs& pairs;
  const WeightShape& shape;
  int first_chunk, dy, dx, c;
  bool inside;

  __device__ PixelLoader(const TaskPairs& p, const WeightShape& s, int first_chunk_, int tile)
      : pairs(p), shape(s), first_chunk(first_chunk_) {
    const int m = tile * T::BM + static_cast<int>(threadIdx.x) % per_row * V;
    const int tap = s.channels.quotient(m), v = s.kernel.quotient(tap);
    c = m - tap * static_cast<int>(s.channels.divisor);
    dy = v - s.padding, dx = tap - v * static_cast<int>(s.kernel.divisor) - s.padding;
    inside = m < s.rows;
  }
  __device__ __forceinline__ void operator()(float* stage, int chunk) const {
    const float* source = pairs.a0;
    if (chunk >= pairs.boundary) source = pairs.a1, chunk -= pairs.boundary;
    const int at = static_cast<int>(threadIdx.x) % per_row * V;
#pragma unroll
    for (int r = 0; r < count; ++r) {
      const int local = static_cast<int>(threadIdx.x) / per_row + r * step;
      if (T::KB % step != 0 && local >= T::KB) break;
      const int k = (first_chunk + chunk) * T::KB + local;
      const int example = shape.image.quotient(k), rest = k - example * static_cast<int>(shape.image.divisor);
      const int j = shape.line.quotient(rest), i = rest - j * static_cast<int>(shape.line.divisor);
      const int y = j * shape.stride + dy, x = i * shape.stride + dx;
      const bool valid = inside && k < shape.pixels && static_cast<unsigned>(y) < static_cast<unsigned>(shape.height) &&
                         static_cast<unsigned>(x) < static_cast<unsigned>(shape.width);
      const int offset =
          ((example * shape.height + y) * shape.width + x) * static_cast<int>(shape.channels.divisor) + c;
      copy_async<4 * V>(stage + local * T::BM + at, valid ? source + offset : source, valid);
    }
  }
};

}  // namespace cumeta
