// SPDX-License-Identifier: Apache-2.0
// Batch norm's gradient at one number of one channel, alone or fused with a convolution (kernels/layers/batch_norm.h):
//   sums over rows: dy, dy xh (, Rdy, Rdy xh, dy Rxh)    then dx (and Rdx) of every row from them
#pragma once
#include "kernels/layers/batch_norm.h"

namespace cumeta {

/// What a pass adds up per channel: two sums, or a tangent's five.
template <bool tangent>
constexpr int kGradientSums = tangent ? kNormSums : 2;

/// xh and dy of one row, and their tangents.
struct NormPoint {
  float xh, d, Rxh, Rd;
};
/// What holds for a whole channel.
struct NormChannel {
  float s, gamma, Rgamma, m2;
};

template <int N, int V>
__device__ __forceinline__ void add_point(float (&sums)[N][V], int j, const NormPoint& p) {
  sums[0][j] += p.d;
  sums[1][j] = fmaf(p.d, p.xh, sums[1][j]);
  if constexpr (N == kGradientSums<true>) {
    sums[2][j] += p.Rd;
    sums[3][j] = fmaf(p.Rd, p.xh, sums[3][j]);
    sums[4][j] = fmaf(p.d, p.Rxh, sums[4][j]);
  }
}
/// Gradients of beta and gamma, or their tangents.
template <int N, int V>
__device__ __forceinline__ float beta_gradient(const float (&sums)[N][V], int j) {
  return sums[N == kGradientSums<true> ? 2 : 0][j];
}
template <int N, int V>
__device__ __forceinline__ float gamma_gradient(const float (&sums)[N][V], int j) {
  if constexpr (N == kGradientSums<true>) return sums[3][j] + sums[4][j];
  return sums[1][j];
}

/// dx; `counts` is 1/n on rows of the statistics, else 0.
template <int N, int V>
__device__ __forceinline__ float norm_gradient(const NormChannel& c, const float (&sums)[N][V], int j,
                                               const NormPoint& p, float counts) {
  return c.s * c.gamma * (p.d - counts * (sums[0][j] + p.xh * sums[1][j]));
}
/// Rdx, from dx.
template <int V>
__device__ __forceinline__ float norm_gradient_tangent(const NormChannel& c,
                                                       const float (&sums)[kGradientSums<true>][V], int j,
                                                       const NormPoint& p, float counts, float dx) {
  const float sum_u_xh = c.gamma * sums[1][j], sum_Ru = c.gamma * sums[2][j] + c.Rgamma * sums[0][j];
  const float sum_R = c.gamma * (sums[3][j] + sums[4][j]) + c.Rgamma * sums[1][j];  // of Ru xh + u Rxh
  const float Ru = c.gamma * p.Rd + c.Rgamma * p.d;
  return c.s * (Ru - counts * (sum_Ru + p.Rxh * sum_u_xh + p.xh * sum_R) - c.m2 * dx);
}

}  // namespace cumeta
