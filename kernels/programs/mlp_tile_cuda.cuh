// SPDX-License-Identifier: Apache-2.0
// Products of matrices in shared memory by one block, four rows of C a thread. Examples go by fours: A(m, k) of a group
// of four m is a[4 k + m % 4].
//   rows:    C(m, n) = sum over k of A(m, k) B(k, n), in fours of k that lanes of a warp may share out among them
//   columns: C(m, n) = sum over examples e of A(e, m) B(e, n), in order in one thread
// The order of each sum depends on nothing but the sizes.
#pragma once
#include "kernels/tools/cuda_launch.cuh"
#include "kernels/tools/fast_divisor.h"
#include "kernels/tools/reduce_cuda.cuh"

namespace cumeta {

constexpr int kMlpThreads = 512;
/// Rows of C in a thread.
constexpr int kMlpRows = 4;

/// A thread's part of a sum: `part` of 2^power lanes of the warp.
struct SharedSum {
  int group, column;       ///< four rows from 4 group
  int part, parts, power;  ///< parts = 2^power
  bool mine;               ///< this lane writes the result
};

/// Calls use(SharedSum) for the sums of a matrix of groups x columns; whole warps come.
template <class Use>
__device__ __forceinline__ void for_each_sum(int groups, int columns, const FastDivisor& by_columns, int power,
                                             Use use) {
  const int sums = groups * columns, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int a_warp = kWarp >> power, a_block = kMlpThreads >> power;  // neighbouring lanes take neighbouring columns
#pragma unroll 1
  for (int first = static_cast<int>(threadIdx.x) / kWarp * a_warp; first < sums; first += a_block) {
    const int at = first + (lane & (a_warp - 1)), some = min(at, sums - 1);
    const int group = by_columns.quotient(some), part = lane >> (5 - power);
    use(SharedSum{group, some - group * columns, part, 1 << power, power, part == 0 && at < sums});
  }
}

/// Adds up what the lanes of a sum hold; all of them get the result.
__device__ __forceinline__ void add_parts(int parts, float (&sum)[kMlpRows]) {
#pragma unroll 1
  for (int distance = kWarp / 2; distance * parts >= kWarp; distance /= 2) {
#pragma unroll
    for (int r = 0; r < kMlpRows; ++r) sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], distance);
  }
}

__device__ __forceinline__ float4 four_at(const float* p) { return *reinterpret_cast<const float4*>(p); }

__device__ __forceinline__ void write_four(float* to, const float (&numbers)[4]) {
  *reinterpret_cast<float4*>(to) = make_float4(numbers[0], numbers[1], numbers[2], numbers[3]);
}
__device__ __forceinline__ void add_product(float (&sum)[kMlpRows], const float4& left, float right) {
  sum[0] = fmaf(left.x, right, sum[0]), sum[1] = fmaf(left.y, right, sum[1]);
  sum[2] = fmaf(left.z, right, sum[2]), sum[3] = fmaf(left.w, right, sum[3]);
}
__device__ __forceinline__ void add_dot(float& sum, const float4& left, const float4& right) {
  sum = fmaf(left.x, right.x, sum), sum = fmaf(left.y, right.y, sum);
  sum = fmaf(left.z, right.z, sum), sum = fmaf(left.w, right.w, sum);
}

/// Adds this lane's part of the product: A from its group `a`, B(k, n) = b[k b_row], or b[k] where B is transposed.
template <bool transposed>
__device__ __forceinline__ void add_rows(const SharedSum& c, const float* a, const float* b, int b_row, int depth,
                                         float (&sum)[kMlpRows]) {
  const int step = 4 * c.parts, b_step = transposed ? step : step * b_row;
  const int fours = ((depth + 3) / 4 + c.parts - 1 - c.part) >> c.power;
  a += 16 * c.part;
  b += transposed ? 4 * c.part : 4 * c.part * b_row;
#pragma unroll 2
  for (int i = 0; i < fours; ++i) {
    const float4 right = transposed ? four_at(b) : make_float4(b[0], b[b_row], b[2 * b_row], b[3 * b_row]);
    add_product(sum, four_at(a), right.x), add_product(sum, four_at(a + 4), right.y);
    add_product(sum, four_at(a + 8), right.z), add_product(sum, four_at(a + 12), right.w);
    a += 4 * step, b += b_step;
  }
}

/// Adds sum over e of A(e, 0..3) B(e, 0) over groups of four examples, whose columns are so many.
__device__ __forceinline__ void add_columns(const float* a, int a_columns, const float* b, int b_columns, int groups,
                                            float (&sum)[kMlpRows]) {
#pragma unroll 2
  for (int group = 0; group < groups; ++group) {
    const float4 right = four_at(b);
    add_dot(sum[0], four_at(a), right), add_dot(sum[1], four_at(a + 4), right);
    add_dot(sum[2], four_at(a + 8), right), add_dot(sum[3], four_at(a + 12), right);
    a += 4 * a_columns, b += 4 * b_columns;
  }
}

}  // namespace cumeta
