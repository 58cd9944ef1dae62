// SPDX-License-Identifier: Apache-2.0
// The convolution of images with few channels, whose numbers cannot be copied by fours: a tile's k (forward) or its
// rows (backward-weights) are so few that they lie in shared memory at once, and several small blocks share a
// multiprocessor.
//
//   source[q][p] = the number q = (tap, channel) that pixel p of z meets, zero outside the image
//   forward           z[p][n] = b[n] + sum over terms, then q, of source[q][p] w[q][n], in one thread
//   backward-weights  dw[q][n] = sum over p of source[q][p] dz[p][n], and db by a source of ones: each group of threads
//                     takes four pixels in turn, pairs of groups are added, then warps 0, 1, ...
//
// What depends on q is worked out once per block (a table), what depends on p once per pixel and thread.
#pragma once
#include "kernels/tools/convolution_calls_cuda.cuh"

namespace cumeta {

constexpr int kShortWords = 2 * kShortLength;  ///< of the table

/// `pixels` x `filters` of z; a thread owns 4 pixels x TN filters.
template <int pixels, int filters, int threads_>
struct ShortForwardTile {
  using Tf32 = ShortForwardTile;  // float32 in every precision
  static constexpr bool is_short = true;
  static constexpr int BM = pixels, BN = filters, KB = 32, threads = threads_, min_blocks = threads <= 128 ? 5 : 2;
  static constexpr int TN = pixels * filters / (4 * threads), R = BM / 4, C = BN / TN;
  static constexpr int out_pitch = BN + 4, stage_words = KB * (BM + BN), out_words = BM * out_pitch;
  static constexpr int table_at = stage_words > out_words ? stage_words : out_words;
  static_assert(TN % 4 == 0 && R * C == threads && threads % BM == 0);
  template <Layout, Layout>
  CUMETA_HD static constexpr int shared_words() {
    return table_at + kShortWords;
  }
};

// Before sm_80 copies pass through registers, and shared memory holds one block anyway; before sm_90 addresses take
// more registers than a fourth block would leave.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kShortWeightBlocks = 2;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kShortWeightBlocks = 3;
#else
constexpr int kShortWeightBlocks = 4;
#endif

/// `rows` numbers (tap, channel) x `filters` of dw; a thread owns 8 x 8 of its group's sums. Stages hold P pixels.
template <int rows, int filters, int threads_>
struct ShortWeightTile {
  using Tf32 = ShortWeightTile;
  static constexpr bool is_short = true;
  static constexpr int BM = rows, BN = filters, P = 64, threads = threads_;
  static constexpr int min_blocks = kShortWeightBlocks * 128 / threads;
  static constexpr int TM = 8, TN = 8, R = BM / TM, C = BN / TN, group = R * C, G = threads / group,
                       warps = threads / 32;
  static constexpr int pitch = P + 8;  // rows and groups that a warp reads together fall into different banks
  static constexpr int stage_words = BM * pitch + P * BN, table_at = 2 * stage_words;
  static_assert(group == 16 && threads % P == 0 && P % (4 * G) == 0 && warps * BM * BN <= table_at);
  template <Layout, Layout>
  CUMETA_HD static constexpr int shared_words() {
    return table_at + kShortWords;
  }
};

template <class T>
concept ShortTile = T::is_short;

/// The image that q and p lie in.
struct ShortSource {
  FastDivisor image, line;  // pixels of z per example, per line
  FastDivisor channels, kernel;
  int pixels, stride, padding, height, width;

  /// {move from the pixel's first number, bits of the tap}
  __device__ __forceinline__ int2 entry(int q) const {
    const int tap = channels.quotient(q), c = q - tap * static_cast<int>(channels.divisor);
    const int v = kernel.quotient(tap), u = tap - v * static_cast<int>(kernel.divisor);
    return make_int2((v * width + u) * static_cast<int>(channels.divisor) + c,
                     static_cast<int>(1u << ((16 + v) & 31) | 1u << (u & 31)));
  }
};

/// A pixel of z: where its first tap's first number lies and which taps fall outside.
struct ShortPixel {
  int offset;
  unsigned outside;

  __device__ __forceinline__ ShortPixel(const ShortSource& s, int pixel) {
    const int example = s.image.quotient(pixel), rest = pixel - example * static_cast<int>(s.image.divisor);
    const int j = s.line.quotient(rest), i = rest - j * static_cast<int>(s.line.divisor);
    const int y = j * s.stride - s.padding, x = i * s.stride - s.padding;
    offset = ((example * s.height + y) * s.width + x) * static_cast<int>(s.channels.divisor);
    outside = pixel < s.pixels ? outside_bits(y, 1, s.height) << 16 | outside_bits(x, 1, s.width) : ~0u;
  }
  /// This thread's part of source[0 .. count): every (threads / pixels)-th number of its pixel.
  template <int pixels, int threads, int pitch>
  __device__ __forceinline__ void copy(const float* image, const int2* table, int count, float* to) const {
    const float* from = offset_by(image, offset);
    to += static_cast<int>(threadIdx.x) % pixels;
#pragma unroll 4
    for (int q = static_cast<int>(threadIdx.x) / pixels; q < count; q += threads / pixels) {
      const int2 e = table[q];
      copy_async<4>(to + q * pitch, offset_by(from, e.x), (outside & static_cast<unsigned>(e.y)) == 0);
    }
  }
};

/// The same as for other tiles: stores z's tile and shows it to `observe`, thread t the columns n / 4 = t mod (BN / 4).
template <ShortTile T, int VA, int VB, bool transposed, class Observe = NoObserver>
__device__ __forceinline__ void gather_block(const GatherCall& call, int task, int work, float* shared,
                                             Observe&& observe = {}) {
  static_assert(VA == 1 && VB == 4 && !transposed);
  const GatherShape& s = call.shape;
  const GatherClass& g = s.classes[0];
  const ShortSource source{g.image, g.line, s.depth, g.taps_x, g.rows, s.step, -g.y0, s.source_height, s.source_width};
  const int thread = static_cast<int>(threadIdx.x), length = g.taps * static_cast<int>(s.depth.divisor);
  const int tile = work / call.column_tiles, n0 = work % call.column_tiles * T::BN;
  int2* table = reinterpret_cast<int2*>(shared + T::table_at);
  for (int q = thread; q < length; q += T::threads) table[q] = source.entry(q);
  const ShortPixel pixel(source, tile * T::BM + thread % T::BM);

  int row, column;
  place<T::R, T::C>(thread, row, column);
  float* weights = shared + T::KB * T::BM;
  float sum[4][T::TN] = {};
  for (int term = 0; term < call.pairs.count; ++term)
    for (int first = 0; first < length; first += T::KB) {
      const int count = min(T::KB, length - first);
      __syncthreads();
      pixel.copy<T::BM, T::threads, T::BM>(call.pairs.a(task, term), table + first, count, shared);
      const float* w = call.pairs.b(task, term) + (first * s.columns + n0);
      for (int e = thread; e < count * (T::BN / 4); e += T::threads) {
        const int q = e / (T::BN / 4), n = e % (T::BN / 4) * 4;
        copy_async<16>(weights + 4 * e, offset_by(w, q * s.columns + n), n0 + n < s.columns);
      }
      copy_async_commit();
      copy_async_wait<0>();
      __syncthreads();
      const float *a_from = shared + 4 * row, *b_from = weights + 4 * column;
#pragma unroll 3
      for (int q = 0; q < count; ++q, a_from += T::BM, b_from += T::BN) {
        const float4 x = *reinterpret_cast<const float4*>(a_from);
        const float a[4] = {x.x, x.y, x.z, x.w};
        float b[T::TN];
#pragma unroll
        for (int j = 0; j < T::TN; j += 4) {
          const float4 v = *reinterpret_cast<const float4*>(b_from + T::C * j);
          b[j] = v.x, b[j + 1] = v.y, b[j + 2] = v.z, b[j + 3] = v.w;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int j = 0; j < T::TN; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
      }
    }

  __syncthreads();
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < T::TN; j += 4)
      *reinterpret_cast<float4*>(shared + (4 * row + i) * T::out_pitch + 4 * column + T::C * j) =
          make_float4(sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
  const int own = thread % (T::BN / 4) * 4, n = n0 + own;
  float b[4] = {};
  if (call.bias)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (n + j < s.columns) b[j] = call.bias[task * call.bias_stride + n + j];
  float* out = call.out + task * call.out_stride;
  __syncthreads();
#pragma unroll 4
  for (int local = thread / (T::BN / 4); local < T::BM; local += T::threads * 4 / T::BN) {
    const int m = tile * T::BM + local;
    if (m >= g.rows) break;
    float4 v = *reinterpret_cast<const float4*>(shared + local * T::out_pitch + own);
    v.x += b[0], v.y += b[1], v.z += b[2], v.w += b[3];
    store_columns(out + static_cast<std::int64_t>(m) * s.columns, n, s.columns, call.vector_out, v);
    observe(m, n, v);
  }
}

/// The same as for other tiles, and db as one more row of dw.
template <ShortTile T, int VA, int VB>
__device__ __forceinline__ void weight_block(const WeightCall& call, int task, int work, float* shared) {
  static_assert(VA == 1 && VB == 4);
  const WeightShape& s = call.shape;
  const ShortSource source{s.image, s.line, s.channels, s.kernel, s.pixels, s.stride, s.padding, s.height, s.width};
  const int thread = static_cast<int>(threadIdx.x);
  const int n0 = work % call.column_tiles * T::BN, split = work / call.column_tiles;
  const int begin = split * s.chunks_per_split * kWeightChunk;
  const int end = min(s.pixels, begin + s.chunks_per_split * kWeightChunk);
  const int steps = (end - begin + T::P - 1) / T::P, all = steps * call.pairs.count;
  const int rows = s.rows + (call.bias ? 1 : 0);
  int2* table = reinterpret_cast<int2*>(shared + T::table_at);
  for (int q = thread; q < s.rows; q += T::threads) table[q] = source.entry(q);
  for (int e = thread; e < (T::BM - rows) * T::P; e += T::threads)  // rows that nobody fills
#pragma unroll
    for (int stage = 0; stage < 2; ++stage)
      shared[stage * T::stage_words + (rows + e / T::P) * T::pitch + e % T::P] = 0.0f;
  __syncthreads();

  const auto load = [&](int step) {
    const int term = step >= steps ? 1 : 0, first = begin + (step - term * steps) * T::P;
    float* stage = shared + step % 2 * T::stage_words;
    const int pixel = first + thread % T::P;
    ShortPixel(source, pixel < end ? pixel : s.pixels)
        .template copy<T::P, T::threads, T::pitch>(call.pairs.a(task, term), table, s.rows, stage);
    if (call.bias && thread < T::P) stage[s.rows * T::pitch + thread] = term == 0 && pixel < end ? 1.0f : 0.0f;
    stage += T::BM * T::pitch;
    constexpr int vectors = T::BN / 4, lines = T::threads / vectors;
    const int line = thread / vectors, n = n0 + thread % vectors * 4;
    const float* dz = call.pairs.b(task, term) + (static_cast<std::int64_t>(first + line) * s.columns + n);
#pragma unroll
    for (int p = 0; p < T::P; p += lines)
      copy_async<16>(stage + 4 * thread + p * T::BN, offset_by(dz, p * s.columns),
                     first + line + p < end && n < s.columns);
  };

  const int group = thread / T::group, row = thread % T::group / T::C, column = thread % T::C;
  float sum[T::TM][T::TN] = {};
  load(0);
  copy_async_commit();
  for (int step = 0; step < all; ++step) {
    if (step + 1 < all) load(step + 1);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    const float* stage = shared + step % 2 * T::stage_words;
    const float* a_from = stage + row * T::pitch + 4 * group;
    const float* b_from = stage + T::BM * T::pitch + 4 * group * T::BN + 4 * column;
#pragma unroll 1
    for (int p = 0; p < T::P; p += 4 * T::G) {
      float4 a[T::TM];
#pragma unroll
      for (int i = 0; i < T::TM; ++i) a[i] = *reinterpret_cast<const float4*>(a_from + p + T::R * i * T::pitch);
#pragma unroll
      for (int h = 0; h < 4; ++h) {
        float b[T::TN];
#pragma unroll
        for (int j = 0; j < T::TN; j += 4) {
          const float4 v = *reinterpret_cast<const float4*>(b_from + (p + h) * T::BN + T::C * j);
          b[j] = v.x, b[j + 1] = v.y, b[j + 2] = v.z, b[j + 3] = v.w;
        }
#pragma unroll
        for (int i = 0; i < T::TM; ++i)
#pragma unroll
          for (int j = 0; j < T::TN; ++j)
            sum[i][j] = fmaf(h == 0 ? a[i].x : h == 1 ? a[i].y : h == 2 ? a[i].z : a[i].w, b[j], sum[i][j]);
      }
    }
    __syncthreads();
  }
  copy_async_wait<0>();

  // The warp's two groups by a shuffle, then the warps in shared memory.
  constexpr int plane = T::BM * T::BN;
#pragma unroll
  for (int i = 0; i < T::TM; ++i)
#pragma unroll
    for (int j = 0; j < T::TN; ++j) sum[i][j] += __shfl_xor_sync(0xffffffffu, sum[i][j], T::group);
  if (thread % 32 < T::group)
#pragma unroll
    for (int i = 0; i < T::TM; ++i)
#pragma unroll
      for (int j = 0; j < T::TN; j += 4)
        *reinterpret_cast<float4*>(shared + thread / 32 * plane + (row + T::R * i) * T::BN + 4 * column + T::C * j) =
            make_float4(sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
  __syncthreads();
  float* out =
      call.out + task * call.out_stride + static_cast<std::int64_t>(split) * (s.rows + 1) * s.columns * (s.splits > 1);
  for (int v = thread; v < rows * (T::BN / 4); v += T::threads) {
    const int m = v / (T::BN / 4), n = v % (T::BN / 4) * 4;
    float4 total = *reinterpret_cast<const float4*>(shared + 4 * v);
#pragma unroll
    for (int warp = 1; warp < T::warps; ++warp) {
      const float4 part = *reinterpret_cast<const float4*>(shared + warp * plane + 4 * v);
      total.x += part.x, total.y += part.y, total.z += part.z, total.w += part.w;
    }
    store_columns(out + static_cast<std::int64_t>(m) * s.columns, n0 + n, s.columns, call.vector_out, total);
  }
}

}  // namespace cumeta
