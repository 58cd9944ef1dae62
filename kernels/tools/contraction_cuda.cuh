// SPDX-License-Identifier: Apache-2.0
// The contraction of the CUDA column: a block's tile of C[m][n] = sum over k of A[k][m] B[k][n], in float32 FFMA,
// or in TF32 on tensor cores.
//
// A tile is split over K inside the block: group g of the G thread groups sums the k of slice g of every chunk, then
// the groups' sums are added in the order g = 0, 1, ... So a sum's order depends on (K, G, KG) alone. Operands come
// through loaders, which copy chunk after chunk of KB = G x KG into shared memory behind the arithmetic.
#pragma once
#include "kernels/array.h"
#include "kernels/tools/contraction_tf32_cuda.cuh"
#include "kernels/tools/cuda_shared.cuh"

namespace cumeta {

/// How an operand lies in shared memory: rows of k (contiguous along m or n), or rows of m or n (contiguous along k).
enum class Layout { along_row, along_k };

/// Threads form G groups of R x C; each thread owns TM x TN numbers of its group's partial tile.
/// With `tf32_` the same tile of the same threads by tensor cores (kernels/tools/contraction_tf32_cuda.cuh), of whose
/// k a group has eight or more.
template <int TM_, int TN_, int R_, int C_, int G_, int KG_, int stages_, bool tf32_ = false>
struct Tile {
  using Tf32 = Tile<TM_, TN_, R_, C_, G_, KG_, stages_, true>;
  static constexpr bool tf32 = tf32_;
  static constexpr int TM = TM_, TN = TN_, R = R_, C = C_, stages = stages_;
  static constexpr int BM = TM * R, BN = TN * C, KB = G_ * KG_, threads = R * C * G_;
  static constexpr int KG = tf32 && KG_ < 8 ? 8 : KG_, G = KB / KG, group = threads / G;
  static constexpr int KU = KG <= 8 ? KG : 4;  // k of the inner loop's step
  static constexpr int min_blocks = threads <= 128 ? 3 : TM * TN < 64 ? 2 : 1;
  static_assert(KG % KU == 0 && KU % 4 == 0 && TN % 4 == 0);

  /// Rows that a warp reads together fall into different banks: those along k are padded by four numbers, and where
  /// tensor cores read four rows of k at once, those by eight.
  CUMETA_HD static constexpr int pitch(Layout layout, int width) {
    return layout == Layout::along_k ? KB + 4 : tf32 ? width + 8 : width;
  }
  CUMETA_HD static constexpr int words(Layout layout, int width) {
    return pitch(layout, width) * (layout == Layout::along_k ? width : KB);
  }
  template <Layout LA, Layout LB>
  CUMETA_HD static constexpr int stage_words() {
    return words(LA, BM) + words(LB, BN);
  }
  /// Rows per thread that one pass of the reduction over groups handles in the stages' memory.
  template <Layout LA, Layout LB>
  CUMETA_HD static constexpr int rows_per_pass() {
    const int fit = stages * stage_words<LA, LB>() / (G * R * BN);
    return fit >= TM ? TM : LA == Layout::along_row ? fit / 4 * 4 : fit;
  }
  template <Layout LA, Layout LB>
  CUMETA_HD static constexpr int shared_words() {
    static_assert(tf32 || rows_per_pass<LA, LB>() > 0);
    return table_at<LA, LB>() + table_words;
  }
  /// The operands' table of a window stands behind the stages.
  template <Layout LA, Layout LB>
  CUMETA_HD static constexpr int table_at() {
    return stages * stage_words<LA, LB>();
  }
  static constexpr int table_words = tf32 ? 256 : 512;  // padding takes the rest of 48 KB
};

/// Lane bits go in turn to columns and rows, so lanes that read one address of an operand sit close together.
template <int R, int C>
__device__ __forceinline__ void place(int u, int& row, int& column) {
  row = 0, column = 0;
  int r = 1, c = 1;
#pragma unroll
  for (int bit = 0; bit < 10; ++bit) {
    if (r * c >= R * C) break;
    if (c < C && (c <= r || r >= R)) {
      column |= (u & 1) * c, c *= 2;
    } else {
      row |= (u & 1) * r, r *= 2;
    }
    u >>= 1;
  }
}

/// sum += A B over KU numbers of k; the tiles begin at the thread's own k, rows and columns.
template <class T, Layout LA, Layout LB>
__device__ __forceinline__ void multiply_step(const float* a_tile, const float* b_tile, float (&sum)[T::TM][T::TN]) {
  constexpr int pitch_a = T::pitch(LA, T::BM), pitch_b = T::pitch(LB, T::BN);
#pragma unroll
  for (int k0 = 0; k0 < T::KU; k0 += 4) {
    float b[4][T::TN];
    if constexpr (LB == Layout::along_row) {
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int j = 0; j < T::TN; j += 4) {
          const float4 v = *reinterpret_cast<const float4*>(b_tile + (k0 + k) * pitch_b + T::C * j);
          b[k][j] = v.x, b[k][j + 1] = v.y, b[k][j + 2] = v.z, b[k][j + 3] = v.w;
        }
    } else {
#pragma unroll
      for (int j = 0; j < T::TN; ++j) {
        const float4 v = *reinterpret_cast<const float4*>(b_tile + T::C * j * pitch_b + k0);
        b[0][j] = v.x, b[1][j] = v.y, b[2][j] = v.z, b[3][j] = v.w;
      }
    }
    if constexpr (LA == Layout::along_k) {
#pragma unroll
      for (int i = 0; i < T::TM; ++i) {
        const float4 v = *reinterpret_cast<const float4*>(a_tile + T::R * i * pitch_a + k0);
        const float a[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
          for (int j = 0; j < T::TN; ++j) sum[i][j] = fmaf(a[k], b[k][j], sum[i][j]);
      }
    } else {
      static_assert(T::TM % 4 == 0 || LA == Layout::along_k);
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int i = 0; i < T::TM; i += 4) {
          const float4 v = *reinterpret_cast<const float4*>(a_tile + (k0 + k) * pitch_a + T::R * i);
          const float a[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
          for (int h = 0; h < 4; ++h)
#pragma unroll
            for (int j = 0; j < T::TN; ++j) sum[i + h][j] = fmaf(a[h], b[k][j], sum[i + h][j]);
        }
    }
  }
}

/// The same over the thread's KG numbers of k. Not unrolled: the loader's registers and a whole chunk's operands at
/// once would not fit beside the sums.
template <class T, Layout LA, Layout LB>
__device__ __forceinline__ void multiply_chunk(const float* a_tile, const float* b_tile, float (&sum)[T::TM][T::TN]) {
#pragma unroll 1
  for (int k0 = 0; k0 < T::KG; k0 += T::KU) {
    multiply_step<T, LA, LB>(a_tile, b_tile, sum);
    a_tile += LA == Layout::along_k ? T::KU : T::KU * T::pitch(LA, T::BM);
    b_tile += LB == Layout::along_k ? T::KU : T::KU * T::pitch(LB, T::BN);
  }
}

/// Sums over `terms` terms of `chunks` chunks each and hands the finished tile to `store(m, n, float4 of n .. n + 3)`,
/// once for each m < BM and each n < BN that is a multiple of 4. Thread t always gets the columns n / 4 = t mod (BN /
/// 4).
///
/// operands.open(term, chunk) describes the window of chunks that begins there, called by all threads between barriers;
/// operands.load(a, b) copies the next chunk of the window.
template <class T, Layout LA, Layout LB, class Operands, class Store>
__device__ __forceinline__ void contract(float* shared, int terms, int chunks, Operands& operands, Store&& store) {
  constexpr int stage_words = T::template stage_words<LA, LB>();
  const int thread = static_cast<int>(threadIdx.x);
  const int group = thread / T::group;
  int row, column;
  place<T::R, T::C>(thread % T::group, row, column);

  constexpr int sums = T::tf32 ? TensorTile<T>::products : T::TM, sums_each = T::tf32 ? 4 : T::TN;
  float sum[sums][sums_each];
#pragma unroll
  for (int i = 0; i < sums; ++i)
#pragma unroll
    for (int j = 0; j < sums_each; ++j) sum[i][j] = 0.0f;

  // Every thread's own places in the stages; `hop` leads from the stage that is written to the next one.
  const auto own = [&](Layout layout, int index, int width) {
    return layout == Layout::along_k ? index * T::pitch(layout, width) + group * T::KG
                                     : group * T::KG * T::pitch(layout, width) + 4 * index;
  };
  const float *a_from = shared, *b_from = shared + T::words(LA, T::BM);
  if constexpr (T::tf32) {
    const TensorTile<T> tensor;
    a_from += tensor.place(LA == Layout::along_k, tensor.row, T::pitch(LA, T::BM));
    b_from += tensor.place(LB == Layout::along_k, tensor.column, T::pitch(LB, T::BN));
  } else {
    a_from += own(LA, row, T::BM), b_from += own(LB, column, T::BN);
  }
  const auto multiply = [&] {
    if constexpr (T::tf32) {
      multiply_chunk_tf32<T, LA == Layout::along_k, LB == Layout::along_k, T::pitch(LA, T::BM), T::pitch(LB, T::BN)>(
          a_from, b_from, sum);
    } else {
      multiply_chunk<T, LA, LB>(a_from, b_from, sum);
    }
  };
  float* a_to = shared + Operands::a_at();
  float* b_to = shared + T::words(LA, T::BM) + Operands::b_at();
  constexpr int ahead = T::stages - 1;
  int primed = 0, writes = stage_words, reads = stage_words;
  const auto hop = [&](int& steps) {
    if constexpr (T::stages == 2) {
      const int by = steps;
      steps = -steps;
      return by;
    } else {
      return (steps += stage_words) > T::stages * stage_words ? (steps = stage_words, -ahead * stage_words)
                                                              : stage_words;
    }
  };
  const auto load = [&] {
    operands.load(a_to, b_to);
    const int by = hop(writes);
    a_to += by, b_to += by;
  };
  for (int term = 0; term < terms; ++term)
    for (int first = 0; first < chunks; first += Operands::window) {
      __syncthreads();
      operands.open(term, first);
      __syncthreads();
      const int count = min(Operands::window, chunks - first);
      if constexpr (ahead == 0) {
        for (int chunk = 0; chunk < count; ++chunk) {
          if (chunk > 0) __syncthreads();
          load();
          copy_async_commit();
          copy_async_wait<0>();
          __syncthreads();
          multiply();
        }
      } else {
        const bool last = term + 1 == terms && first + Operands::window >= chunks;
        int chunk = 0;
        for (; primed < ahead && chunk < count; ++primed, ++chunk) {
          load();
          copy_async_commit();
        }
        const int products = last ? count - chunk + primed : count - chunk, loads = count - chunk;
        if (last)
          for (; primed < ahead; ++primed) copy_async_commit();
        for (int step = 0; step < products; ++step) {
          copy_async_wait<ahead - 1>();
          __syncthreads();
          if (step < loads) load();
          copy_async_commit();
          multiply();
          const int by = hop(reads);
          a_from += by, b_from += by;
        }
      }
    }
  copy_async_wait<0>();

  if constexpr (T::tf32) {
    return add_groups_tf32<T, T::template table_at<LA, LB>()>(shared, sum, store);
  } else {
    // The groups' partial tiles meet in shared memory, a few rows of every thread at a time.
    constexpr int rows = T::template rows_per_pass<LA, LB>();
    constexpr int plane = rows * T::R * T::BN;
#pragma unroll
    for (int first = 0; first < T::TM; first += rows) {
      __syncthreads();
#pragma unroll
      for (int i = 0; i < T::TM; ++i) {
        if (i < first || i >= first + rows) continue;
        const int place_m =
            LA == Layout::along_k ? row + T::R * (i - first) : 4 * row + T::R * ((i - first) / 4 * 4) + (i - first) % 4;
        float* line = shared + group * plane + place_m * T::BN;
        if constexpr (LB == Layout::along_row) {
#pragma unroll
          for (int j = 0; j < T::TN; j += 4)
            *reinterpret_cast<float4*>(line + 4 * column + T::C * j) =
                make_float4(sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
        } else {
#pragma unroll
          for (int j = 0; j < T::TN; ++j) line[column + T::C * j] = sum[i][j];
        }
      }
      __syncthreads();
      constexpr int vectors = T::BN / 4;
      static_assert(T::threads % vectors == 0);
      const int here = first + rows <= T::TM ? rows * T::R : (T::TM - first) * T::R;
      for (int v = thread; v < here * vectors; v += T::threads) {
        const int m = v / vectors, n = v % vectors * 4;
        float4 total = *reinterpret_cast<const float4*>(shared + m * T::BN + n);
#pragma unroll
        for (int g = 1; g < T::G; ++g) {
          const float4 part = *reinterpret_cast<const float4*>(shared + g * plane + m * T::BN + n);
          total.x += part.x, total.y += part.y, total.z += part.z, total.w += part.w;
        }
        store(first * T::R + m, n, total);
      }
    }
  }
}

}  // namespace cumeta
