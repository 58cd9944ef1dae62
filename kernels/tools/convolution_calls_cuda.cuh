// SPDX-License-Identifier: Apache-2.0
// What one launch of a convolution's contraction is called with, and how it stores four numbers of a row.
#pragma once
#include "kernels/tools/convolution_operands_cuda.cuh"

namespace cumeta {

struct GatherCall {
  OperandPairs pairs;
  GatherShape shape;
  float* out = nullptr;
  const float* bias = nullptr;
  std::int64_t out_stride = 0, bias_stride = 0;
  int column_tiles = 1;
  bool vector_out = false;
};

struct WeightCall {
  OperandPairs pairs;
  WeightShape shape;
  float* out = nullptr;  ///< dW, or with splits the partial sums [split][rows x columns | columns]
  std::int64_t out_stride = 0;
  const float* bias_source = nullptr;  ///< [pixels][columns], summed over pixels into `bias`
  float* bias = nullptr;
  std::int64_t bias_source_stride = 0, bias_stride = 0;
  int row_tiles = 0, column_tiles = 1, bias_blocks = 0;
  bool vector_out = false;
};

__device__ __forceinline__ void store_columns(float* out, int n, int columns, bool vector_out, float4 v) {
  if (vector_out) {
    if (n < columns) *reinterpret_cast<float4*>(out + n) = v;
  } else {
    const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (n + j < columns) out[n + j] = values[j];
  }
}

struct NoObserver {
  __device__ void operator()(int, int, float4) const {}
};

}  // namespace cumeta
