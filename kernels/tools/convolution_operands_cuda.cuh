// SPDX-License-Identifier: Apache-2.0
// Operands of a convolution's contractions: each copies one chunk of KB numbers along k into a stage of shared memory.
// A copy moves V numbers (4 where channels, filters and addresses allow, else 1); what lies outside becomes zero.
//
// Where a number lies is split into what depends on its row and what depends on its k. The first stays in registers;
// the second is worked out once per window of chunks, by all threads, into a table in shared memory. So a copy is an
// addition, a test of bits and the copy itself. Bits: a row knows which taps fall outside (lines from bit 16, columns
// from bit 0), an entry which tap it wants; a common bit means zero.
#pragma once
#include "kernels/tools/contraction_cuda.cuh"
#include "kernels/tools/convolution_plan.h"

namespace cumeta {

/// Up to two operand pairs of one sum (the two terms of a tangent): the chunks of the second follow those of the first.
struct OperandPairs {
  const float *a0 = nullptr, *b0 = nullptr, *a1 = nullptr, *b1 = nullptr;
  std::int64_t a0_stride = 0, b0_stride = 0, a1_stride = 0, b1_stride = 0;
  int count = 0;

  __device__ const float* a(int task, int term) const { return term ? a1 + task * a1_stride : a0 + task * a0_stride; }
  __device__ const float* b(int task, int term) const { return term ? b1 + task * b1_stride : b0 + task * b0_stride; }
};

constexpr unsigned kBeyond = 1u << 31;   ///< wanted by a k past the end (or set in its entry)
constexpr unsigned kPresent = 1u << 30;  ///< set in every entry of a pixel; a row that is not there wants it

/// Bit q < 14: `at + direction q` is outside 0 .. size - 1.
__device__ __forceinline__ unsigned outside_bits(int at, int direction, int size) {
  const int first = max(direction > 0 ? -at : at - size + 1, 0);
  const int last = min(direction > 0 ? size - 1 - at : at, kMaskedKernel - 1);
  return first <= last ? ((1u << kMaskedKernel) - 1u) & ~((2u << last) - (1u << first)) : (1u << kMaskedKernel) - 1u;
}

/// Rows k of a matrix [k][columns], as they lie in memory.
template <class T, int V>
struct MatrixRows {
  static constexpr int per_row = T::BN / V, step = T::threads / per_row, count = (T::KB + step - 1) / step;
  static_assert(T::threads % per_row == 0);
  const float* from = nullptr;
  int columns, left = 0, n;  // left: rows from this thread's first row of the next chunk to the end

  __device__ MatrixRows(int columns_, int tile)
      : columns(columns_), n(tile * T::BN + static_cast<int>(threadIdx.x) % per_row * V) {}
  __device__ void open(const float* matrix, int first, int end) {
    const int row = first + static_cast<int>(threadIdx.x) / per_row;
    left = n < columns ? end - row : 0;
    from = matrix + (static_cast<std::int64_t>(row) * columns + n);
  }
  /// Where in a stage this thread's copies begin.
  static __device__ int at() {
    return static_cast<int>(threadIdx.x) / per_row * T::pitch(Layout::along_row, T::BN) +
           static_cast<int>(threadIdx.x) % per_row * V;
  }
  __device__ __forceinline__ void load(float* to) {
#pragma unroll
    for (int r = 0; r < count; ++r) {
      if (T::KB % step != 0 && static_cast<int>(threadIdx.x) / per_row + r * step >= T::KB) break;
      copy_async<4 * V>(to + r * step * T::pitch(Layout::along_row, T::BN),
                        r == 0 ? from : offset_by(from, r * step * columns), left > r * step);
    }
    left -= T::KB;
    from = offset_by(from, T::KB * columns);
  }
};

/// Forward and backward-data. A, along k: row m gathers pixel (y, x) of its example for each tap. B: the weights, as
/// they lie in memory (forward), or along k = (tap, filter) with n = channel (backward-data, `transposed`).
template <class T, int VA, int VB, bool transposed>
struct GatherOperands {
  static constexpr bool masked = VA * VB > 1;
  static constexpr int per_row = T::KB / VA, step = T::threads / per_row, count = (T::BM + step - 1) / step;
  static constexpr int window = T::table_words / 4 / per_row;  // an entry: four words for VA numbers
  static_assert(T::threads % per_row == 0 && window > 0 && (!transposed || VA == VB));
  static constexpr int b_count = transposed ? (T::BN + step - 1) / step : 1;

  const OperandPairs& pairs;
  const GatherShape& shape;
  const GatherClass& grid;
  const int task, length;
  int4* const table;
  const int4* entry = nullptr;
  const float *a = nullptr, *b = nullptr;
  int offset[count], b_offset[b_count];
  unsigned outside[masked ? count : 1], b_outside[b_count];
  int y[masked ? 1 : count], x[masked ? 1 : count];
  MatrixRows<T, VB> rows;

  __device__ GatherOperands(const OperandPairs& p, int task_, const GatherShape& s, const GatherClass& g, int row_tile,
                            int column_tile, float* shared_table)
      : pairs(p),
        shape(s),
        grid(g),
        task(task_),
        length(g.taps * static_cast<int>(s.depth.divisor)),
        table(reinterpret_cast<int4*>(shared_table)),
        rows(s.columns, column_tile) {
    const int first = static_cast<int>(threadIdx.x) / per_row;
#pragma unroll
    for (int r = 0; r < count; ++r) {
      const int local = first + r * step, m = row_tile * T::BM + local;
      const int example = g.image.quotient(m), rest = m - example * static_cast<int>(g.image.divisor);
      const int j = g.line.quotient(rest), i = rest - j * static_cast<int>(g.line.divisor);
      const int line = s.step * j + g.y0, column = s.step * i + g.x0;
      const bool inside = local < T::BM && m < g.rows;
      offset[r] = ((example * s.source_height + line) * s.source_width + column) * static_cast<int>(s.depth.divisor);
      if constexpr (masked) {
        outside[r] = inside ? kBeyond | outside_bits(line, s.direction, s.source_height) << 16 |
                                  outside_bits(column, s.direction, s.source_width)
                            : ~0u;
      } else {
        y[r] = inside ? line : -(1 << 20), x[r] = column;
      }
    }
    if constexpr (transposed)
#pragma unroll
      for (int r = 0; r < b_count; ++r) {
        const int n = column_tile * T::BN + first + r * step;
        b_outside[r] = n < s.columns ? kBeyond : ~0u;
        b_offset[r] = n * static_cast<int>(s.depth.divisor);
      }
  }

  /// Entries {move in the source, wanted bits (or line), weight's place, (column)} of the window's chunks.
  __device__ void open(int term, int chunk) {
    for (int e = static_cast<int>(threadIdx.x); e < window * per_row; e += T::threads) {
      const int k = chunk * T::KB + e * VA, depth = static_cast<int>(shape.depth.divisor);
      const int tap = shape.depth.quotient(k), c = k - tap * depth;
      const int v = grid.taps_x.quotient(tap), u = tap - v * static_cast<int>(grid.taps_x.divisor);
      const int weight_tap = (grid.tap_y0 + shape.tap_step * v) * shape.kernel + grid.tap_x0 + shape.tap_step * u;
      const int dy = shape.direction * v, dx = shape.direction * u;
      int4 made = make_int4((dy * shape.source_width + dx) * depth + c, 0, weight_tap * shape.columns * depth + c, dx);
      if constexpr (masked) {
        made.y = static_cast<int>(1u << ((16 + v) & 31) | 1u << (u & 31));  // of a tap beyond the last: replaced below
      } else {
        made.y = dy;
      }
      if (tap >= grid.taps) made = make_int4(0, masked ? static_cast<int>(kBeyond) : 1 << 29, masked ? 0 : -1, 0);
      table[e] = made;
    }
    entry = table + static_cast<int>(threadIdx.x) % per_row;
    a = pairs.a(task, term);
    if constexpr (transposed) {
      b = pairs.b(task, term);
    } else {
      rows.open(pairs.b(task, term), chunk * T::KB, length);
    }
  }

  static __device__ int a_at() {
    return static_cast<int>(threadIdx.x) / per_row * T::pitch(Layout::along_k, T::BM) +
           static_cast<int>(threadIdx.x) % per_row * VA;
  }
  static __device__ int b_at() {
    if constexpr (transposed) return a_at();
    return MatrixRows<T, VB>::at();
  }
  __device__ __forceinline__ void load(float* a_to, float* b_to) {
    const int4 e = *entry;
    entry += per_row;
    const int first = static_cast<int>(threadIdx.x) / per_row;
    const float* from = offset_by(a, e.x);
#pragma unroll
    for (int r = 0; r < count; ++r) {
      if (T::BM % step != 0 && first + r * step >= T::BM) break;
      bool valid;
      if constexpr (masked) {
        valid = (outside[r] & static_cast<unsigned>(e.y)) == 0;
      } else {
        valid = static_cast<unsigned>(y[r] + e.y) < static_cast<unsigned>(shape.source_height) &&
                static_cast<unsigned>(x[r] + e.w) < static_cast<unsigned>(shape.source_width);
      }
      copy_async<4 * VA>(a_to + r * step * T::pitch(Layout::along_k, T::BM), offset_by(from, offset[r]), valid);
    }
    if constexpr (transposed) {
      const float* weight = offset_by(b, e.z);
#pragma unroll
      for (int r = 0; r < b_count; ++r) {
        if (T::BN % step != 0 && first + r * step >= T::BN) break;
        const bool valid =
            masked ? (b_outside[r] & static_cast<unsigned>(e.y)) == 0 : e.z >= 0 && b_outside[r] == kBeyond;
        copy_async<4 * VB>(b_to + r * step * T::pitch(Layout::along_k, T::BN), offset_by(weight, b_offset[r]), valid);
      }
    } else {
      rows.load(b_to);
    }
  }
};

/// Backward-weights. A, along m = (tap, channel): k is a pixel of z, the number is the one of x that the tap meets.
/// B: dz as it lies in memory.
template <class T, int VA, int VB>
struct PixelOperands {
  static constexpr bool masked = VA * VB > 1;
  static constexpr int per_row = T::BM / VA, step = T::threads / per_row, count = (T::KB + step - 1) / step;
  static constexpr int words = masked ? 2 : 4, window = T::table_words / words / T::KB;  // an entry for each pixel
  static_assert(T::threads % per_row == 0 && window > 0);

  const OperandPairs& pairs;
  const WeightShape& shape;
  const int task, first_chunk;
  int* const table;
  const int* entry = nullptr;
  const float* a = nullptr;
  int move, dy, dx;
  unsigned wanted;
  MatrixRows<T, VB> rows;

  __device__ PixelOperands(const OperandPairs& p, int task_, const WeightShape& s, int first_chunk_, int row_tile,
                           int column_tile, float* shared_table)
      : pairs(p),
        shape(s),
        task(task_),
        first_chunk(first_chunk_),
        table(reinterpret_cast<int*>(shared_table)),
        rows(s.columns, column_tile) {
    const int m = row_tile * T::BM + static_cast<int>(threadIdx.x) % per_row * VA;
    const int tap = s.channels.quotient(m), c = m - tap * static_cast<int>(s.channels.divisor);
    dy = s.kernel.quotient(tap), dx = tap - dy * static_cast<int>(s.kernel.divisor);
    move = (dy * s.width + dx) * static_cast<int>(s.channels.divisor) + c;
    wanted = m < s.rows ? kBeyond | 1u << (16 + (masked ? dy : 0)) | 1u << (masked ? dx : 0) : ~0u;
    if (m >= s.rows) dy = 1 << 29;
  }

  /// Entries {place in x of tap 0, bits of the taps outside}, or {place, line, column} of the window's pixels.
  __device__ void open(int term, int chunk) {
    const int first = (first_chunk + chunk) * T::KB;
    for (int e = static_cast<int>(threadIdx.x); e < window * T::KB; e += T::threads) {
      const int k = first + e;
      const int example = shape.image.quotient(k), rest = k - example * static_cast<int>(shape.image.divisor);
      const int j = shape.line.quotient(rest), i = rest - j * static_cast<int>(shape.line.divisor);
      const int y = j * shape.stride - shape.padding, x = i * shape.stride - shape.padding;
      const bool there = k < shape.pixels;
      const int place =
          there ? ((example * shape.height + y) * shape.width + x) * static_cast<int>(shape.channels.divisor) : 0;
      if constexpr (masked) {
        const unsigned outside = kPresent | outside_bits(y, 1, shape.height) << 16 | outside_bits(x, 1, shape.width);
        reinterpret_cast<int2*>(table)[e] = make_int2(place, static_cast<int>(there ? outside : ~0u));
      } else {
        reinterpret_cast<int4*>(table)[e] = make_int4(place, there ? y : 1 << 29, x, 0);
      }
    }
    entry = table + static_cast<int>(threadIdx.x) / per_row * words;
    a = pairs.a(task, term) + move;
    rows.open(pairs.b(task, term), first, shape.pixels);
  }

  static __device__ int a_at() {
    return static_cast<int>(threadIdx.x) / per_row * T::pitch(Layout::along_row, T::BM) +
           static_cast<int>(threadIdx.x) % per_row * VA;
  }
  static __device__ int b_at() { return MatrixRows<T, VB>::at(); }
  __device__ __forceinline__ void load(float* a_to, float* b_to) {
#pragma unroll
    for (int r = 0; r < count; ++r) {
      if (T::KB % step != 0 && static_cast<int>(threadIdx.x) / per_row + r * step >= T::KB) break;
      const int* e = entry + r * step * words;
      if constexpr (masked) {
        const int2 pixel = *reinterpret_cast<const int2*>(e);
        copy_async<4 * VA>(a_to + r * step * T::pitch(Layout::along_row, T::BM), offset_by(a, pixel.x),
                           (static_cast<unsigned>(pixel.y) & wanted) == 0);
      } else {
        const int4 pixel = *reinterpret_cast<const int4*>(e);
        const bool valid = static_cast<unsigned>(pixel.y + dy) < static_cast<unsigned>(shape.height) &&
                           static_cast<unsigned>(pixel.z + dx) < static_cast<unsigned>(shape.width);
        copy_async<4 * VA>(a_to + r * step * T::pitch(Layout::along_row, T::BM), offset_by(a, pixel.x), valid);
      }
    }
    entry += T::KB * words;
    rows.load(b_to);
  }
};

}  // namespace cumeta
