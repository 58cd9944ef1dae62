// SPDX-License-Identifier: Apache-2.0
// Sums over a warp and over a block in an order that depends on nothing but their sizes.
#pragma once
#include "kernels/tools/cuda_launch.cuh"

namespace cumeta {

constexpr int kWarp = 32;

/// Every lane gets the sum: lane i adds lane i ^ 16, then 8, 4, 2, 1.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

/// Every thread of a one-dimensional block of whole warps gets the sum; `partial` has room for one T a warp and may be
/// used again at once. Warps are added in their order.
template <class T>
__device__ __forceinline__ T block_sum(T value, T* partial) {
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  T sum = partial[0];
  for (int warp = 1; warp < warps; ++warp) sum += partial[warp];
  __syncthreads();
  return sum;
}

}  // namespace cumeta
