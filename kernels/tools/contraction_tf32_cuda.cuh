// SPDX-License-Identifier: Apache-2.0
// The contraction's arithmetic on tensor cores: what a Tile<..., true> does with the operands that the loaders brought.
//
// The warps of a group stand in WM rows and WN columns over the tile; each owns MT x NT products of 16 x 8. Row i of a
// product's upper or lower half belongs to unit u = 2 mt + half of the tile: 8 WM consecutive rows, 8 for each warp. So
// the groups' sums can meet in shared memory unit by unit, as many as fit. A chunk has KG k for each group, eights in
// turn; a sum's order depends on (K, G, KG) alone.
#pragma once
#include "kernels/array.h"
#include "kernels/tools/tensor_core_cuda.cuh"

namespace cumeta {

template <class T>
struct TensorTile {
  static constexpr int warps = T::group / 32, WN = T::BN / 32 < warps ? T::BN / 32 : warps, WM = warps / WN;
  static constexpr int unit = 8 * WM, units = (T::BM + unit - 1) / unit;
  static constexpr int MT = (units + 1) / 2, NT = T::BN / 8 / WN, products = MT * NT;

  // The thread's group and warp of it; the first row of A and column of B that it reads.
  const int group = static_cast<int>(threadIdx.x) / T::group, warp = static_cast<int>(threadIdx.x) / 32 % warps;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = warp / WN * 8 + lane / 4, column = warp % WN * (8 * NT) + lane / 4;

  /// Where in an operand's stage the thread begins to read: `index` of m or n, its own k of its group's eight.
  __device__ int place(bool along_k, int index, int pitch) const {
    const int k = group * T::KG + lane % 4;
    return along_k ? index * pitch + k : k * pitch + index;
  }
};

/// sum += the chunk whose tiles begin at the thread's places. `a_along_k`: rows of m, contiguous along k; else rows of
/// k.
template <class T, bool a_along_k, bool b_along_k, int pitch_a, int pitch_b>
__device__ __forceinline__ void multiply_chunk_tf32(const float* a_tile, const float* b_tile,
                                                    float (&sum)[TensorTile<T>::products][4]) {
  using Warps = TensorTile<T>;
  static_assert(T::group % 32 == 0 && Warps::WN * Warps::WM == Warps::warps && T::BN % 32 == 0 && T::KG % 8 == 0);
#pragma unroll
  for (int q = 0; q < T::KG; q += 8) {
    unsigned b[Warps::NT][2];
#pragma unroll
    for (int j = 0; j < Warps::NT; ++j)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int n = 8 * j, k = q + 4 * h;
        b[j][h] = to_tf32(b_tile[b_along_k ? n * pitch_b + k : k * pitch_b + n]);
      }
#pragma unroll
    for (int i = 0; i < Warps::MT; ++i) {
      unsigned a[4];
#pragma unroll
      for (int h = 0; h < 4; ++h) {
        const int m = (2 * i + h % 2) * Warps::unit, k = q + h / 2 * 4;
        const bool inside = m + Warps::unit <= T::BM || m + Warps().row < T::BM;
        a[h] = inside ? to_tf32(a_tile[a_along_k ? m * pitch_a + k : k * pitch_a + m]) : 0u;
      }
#pragma unroll
      for (int j = 0; j < Warps::NT; ++j) multiply_tf32(sum[i * Warps::NT + j], a, b[j]);
    }
  }
}

/// Adds the groups' sums in their order, in `words` numbers of shared memory, and hands them to `store` as contract().
template <class T, int words, class Store>
__device__ __forceinline__ void add_groups_tf32(float* shared, const float (&sum)[TensorTile<T>::products][4],
                                                Store&& store) {
  using Warps = TensorTile<T>;
  // Eight numbers of padding: the rows that half a warp writes together fall into different banks.
  constexpr int pitch = T::BN + 8, fit = words / (T::G * pitch * Warps::unit);
  static_assert(fit > 0);
  constexpr int pass = fit < Warps::units ? fit : Warps::units, plane = pass * Warps::unit * pitch;
  const Warps own;
  const int thread = static_cast<int>(threadIdx.x), column = own.column - own.lane / 4 + own.lane % 4 * 2;
#pragma unroll
  for (int first = 0; first < Warps::units; first += pass) {
    __syncthreads();
#pragma unroll
    for (int u = first; u < first + pass; ++u) {
      if (u >= Warps::units) break;
      float* line = shared + own.group * plane + ((u - first) * Warps::unit + own.row) * pitch + column;
#pragma unroll
      for (int j = 0; j < Warps::NT; ++j) {
        const float(&part)[4] = sum[u / 2 * Warps::NT + j];
        *reinterpret_cast<float2*>(line + 8 * j) = make_float2(part[u % 2 * 2], part[u % 2 * 2 + 1]);
      }
    }
    __syncthreads();
    constexpr int vectors = T::BN / 4;
    static_assert(T::threads % vectors == 0);
    const int rows = (first + pass) * Warps::unit <= T::BM ? pass * Warps::unit : T::BM - first * Warps::unit;
    for (int v = thread; v < rows * vectors; v += T::threads) {
      const int m = v / vectors, n = v % vectors * 4;
      float4 total = *reinterpret_cast<const float4*>(shared + m * pitch + n);
#pragma unroll
      for (int g = 1; g < T::G; ++g) {
        const float4 part = *reinterpret_cast<const float4*>(shared + g * plane + m * pitch + n);
        total.x += part.x, total.y += part.y, total.z += part.z, total.w += part.w;
      }
      store(first * Warps::unit + m, n, total);
    }
  }
}

}  // namespace cumeta
