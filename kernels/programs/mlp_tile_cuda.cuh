// SPDX-License-Identifier: Apache-2.0
// Products of matrices in shared memory by one block; each sum runs over k in order in one thread.
//   rows:    C(m, n) = sum over k of A[m][k] B(k, n), rows of A contiguous; two rows of C a thread
//   columns: C(m, n) = sum over k of A[k][m] B[k][n]; four rows of C a thread
#pragma once
#include "kernels/tools/cuda_launch.cuh"

namespace cumeta {

/// A: row length a multiple of four and aligned. B(k, n) = b[k b_k + n b_n].
struct SharedTerm {
  const float *a, *b;
  int a_row, b_k, b_n;
};

/// Adds the term to rows m0, m0 + 1 (the second where `two`) of column n.
__device__ __forceinline__ void add_rows(const SharedTerm& t, int m0, bool two, int n, int depth, float (&sum)[2]) {
  const float* a0 = t.a + m0 * t.a_row;
  const float* a1 = two ? a0 + t.a_row : a0;
  const float* b = t.b + n * t.b_n;
  int k = 0;
#pragma unroll 2
  for (; k + 4 <= depth; k += 4) {
    const float4 v0 = *reinterpret_cast<const float4*>(a0 + k), v1 = *reinterpret_cast<const float4*>(a1 + k);
    const float b0 = b[k * t.b_k], b1 = b[(k + 1) * t.b_k], b2 = b[(k + 2) * t.b_k], b3 = b[(k + 3) * t.b_k];
    sum[0] = fmaf(v0.x, b0, sum[0]), sum[1] = fmaf(v1.x, b0, sum[1]);
    sum[0] = fmaf(v0.y, b1, sum[0]), sum[1] = fmaf(v1.y, b1, sum[1]);
    sum[0] = fmaf(v0.z, b2, sum[0]), sum[1] = fmaf(v1.z, b2, sum[1]);
    sum[0] = fmaf(v0.w, b3, sum[0]), sum[1] = fmaf(v1.w, b3, sum[1]);
  }
  for (; k < depth; ++k) sum[0] = fmaf(a0[k], b[k * t.b_k], sum[0]), sum[1] = fmaf(a1[k], b[k * t.b_k], sum[1]);
}

/// Adds sum over k of A[k][m0..m0+3] B[k][n].
__device__ __forceinline__ void add_columns(const float* a, int a_row, const float* b, int b_row, int m0, int n,
                                            int depth, float (&sum)[4]) {
#pragma unroll 4
  for (int k = 0; k < depth; ++k) {
    const float4 v = *reinterpret_cast<const float4*>(a + k * a_row + m0);
    const float right = b[k * b_row + n];
    sum[0] = fmaf(v.x, right, sum[0]), sum[1] = fmaf(v.y, right, sum[1]);
    sum[2] = fmaf(v.z, right, sum[2]), sum[3] = fmaf(v.w, right, sum[3]);
  }
}

}  // namespace cumeta
