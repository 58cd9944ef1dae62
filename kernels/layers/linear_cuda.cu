// SPDX-License-Identifier: Apache-2.0
// Linear on CUDA: every pass is one or two products  C[m][n] = bias[n] + sum over terms and k of A[m][k] B[k][n],
// a tangent's two terms in one loop, both products of a backward pass in one launch (blocks take roles).
//   forward  Y = X W + b       backward  dX = dY W',  [dW; db] = [X 1]' dY  (a row of ones gives the bias' gradient)
// Layers of more than 32 outputs (or more than 2^22 products a task) take tiles: each sum runs over terms, then k, in
// order, in one thread (in TF32, by eights of k, in one warp), so the bits are the same for every tile. Those of few
// outputs have too few tiles to fill a GPU and give each number 1 to 64 threads instead, by k: a thread sums its slice
// of k, halves of the slices are added.
#include "kernels/layers/linear.h"
#include "kernels/tools/cuda_launch.cuh"
#include "kernels/tools/fast_divisor.h"
#include "kernels/tools/tensor_core_cuda.cuh"

namespace cumeta {
namespace {

/// One A B. `ones` is what row `real_rows` and beyond of A hold (the bias' row).
struct LinearTerm {
  const float *a, *b;
  std::int64_t a_task, b_task;
  float ones;
};
struct Product {
  LinearTerm terms[2];
  int term_count;
  int m, n, k;
  int real_rows;           ///< rows of A in memory; m is this or one more
  int a_m, a_k, b_k, b_n;  ///< strides of A and B
  float* c;                ///< [m][n]
  std::int64_t c_task;
  const float* bias;  ///< [n], or null
  std::int64_t bias_task;
  int tiles_m, tiles_n;  ///< or blocks, 1
  FastDivisor columns;   ///< n
  int slices;            ///< of k, where each number has threads of its own
};
struct Products {
  Product product[2];
  int count;
};

constexpr int kDepth = 16;  ///< k of a tile

/// A thread owns rows x columns numbers: in float32 neighbours, in TF32 fours of 16 x 8 products by tensor cores.
template <int tile_m, int tile_n, int rows, int columns, bool tf32 = false>
struct LinearTile {
  static constexpr int kM = tile_m, kN = tile_n, kRows = rows, kColumns = columns;
  static constexpr bool kTf32 = tf32;
  static constexpr int kThreads = (tile_m / rows) * (tile_n / columns);
  // Padded rows keep 16-byte alignment and spread the banks: of one row of k, in TF32 of four.
  static constexpr int kStrideA = tile_m + (tf32 ? 8 : 4), kStrideB = tile_n + (tf32 ? 8 : 4);
  static constexpr int kSums = tf32 ? rows * columns / 4 : rows, kSumsEach = tf32 ? 4 : columns;
};
using SmallTile = LinearTile<16, 16, 2, 1>;
using LargeTile = LinearTile<64, 64, 4, 4>;
using SmallTileTf32 = LinearTile<16, 16, 2, 2, true>;
using LargeTileTf32 = LinearTile<64, 64, 4, 4, true>;

/// Where the numbers of a thread lie in its tile, and what a chunk of kDepth adds to them.
template <class T>
struct OwnNumbers {
  static constexpr int across = T::kN / T::kColumns;
  const int row = static_cast<int>(threadIdx.x) / across * T::kRows;
  const int column = static_cast<int>(threadIdx.x) % across * T::kColumns;

  __device__ int m(int i, int) const { return row + i; }
  __device__ int n(int, int j) const { return column + j; }
  __device__ __forceinline__ void add(const float* a_tile, const float* b_tile,
                                      float (&sum)[T::kSums][T::kSumsEach]) const {
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float left[T::kRows], right[T::kColumns];
#pragma unroll
      for (int i = 0; i < T::kRows; ++i) left[i] = a_tile[k * T::kStrideA + row + i];
#pragma unroll
      for (int j = 0; j < T::kColumns; ++j) right[j] = b_tile[k * T::kStrideB + column + j];
#pragma unroll
      for (int i = 0; i < T::kRows; ++i)
#pragma unroll
        for (int j = 0; j < T::kColumns; ++j) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
    }
  }
};

/// The same in TF32: warps share 16 rows, each has kSums products of 16 x 8 side by side.
template <class T>
requires(T::kTf32) struct OwnNumbers<T> {
  static constexpr int warps_across = T::kN / (8 * T::kSums);
  static_assert(T::kThreads / 32 == T::kM / 16 * warps_across && kDepth % 8 == 0);
  const int r = static_cast<int>(threadIdx.x) % 32 / 4, c = static_cast<int>(threadIdx.x) % 4;
  const int row = static_cast<int>(threadIdx.x) / 32 / warps_across * 16 + r;
  const int column = static_cast<int>(threadIdx.x) / 32 % warps_across * (8 * T::kSums);

  __device__ int m(int, int j) const { return row + j / 2 * 8; }
  __device__ int n(int i, int j) const { return column + 8 * i + 2 * c + j % 2; }
  __device__ __forceinline__ void add(const float* a_tile, const float* b_tile,
                                      float (&sum)[T::kSums][T::kSumsEach]) const {
#pragma unroll
    for (int k = 0; k < kDepth; k += 8) {
      const float* a_line = a_tile + (k + c) * T::kStrideA + row;
      const float* b_line = b_tile + (k + c) * T::kStrideB + column + r;
      const unsigned a[4] = {to_tf32(a_line[0]), to_tf32(a_line[8]), to_tf32(a_line[4 * T::kStrideA]),
                             to_tf32(a_line[4 * T::kStrideA + 8])};
#pragma unroll
      for (int i = 0; i < T::kSums; ++i) {
        const unsigned b[2] = {to_tf32(b_line[8 * i]), to_tf32(b_line[4 * T::kStrideB + 8 * i])};
        multiply_tf32(sum[i], a, b);
      }
    }
  }
};

/// Elements (i, k) of an operand, i < kTile, to shared[k][i]; zeros outside. Threads walk along whichever index is
/// contiguous in memory.
template <int tile, int stride, int threads, class Load>
__device__ __forceinline__ void load_tile(float* shared, bool k_first, Load load) {
  for (int e = threadIdx.x; e < tile * kDepth; e += threads) {
    const int i = k_first ? e / kDepth : e % tile;
    const int k = k_first ? e % kDepth : e / tile;
    shared[k * stride + i] = load(i, k);
  }
}

template <class T>
__global__ void __launch_bounds__(T::kThreads, 2) multiply(Products products, int tasks) {
  CUMETA_SHARED(float, a_tile, kDepth* T::kStrideA);
  CUMETA_SHARED(float, b_tile, kDepth* T::kStrideB);
  int tile = blockIdx.x, role = 0;
  const int first_tiles = products.product[0].tiles_m * products.product[0].tiles_n;
  if (tile >= first_tiles) tile -= first_tiles, role = 1;
  const Product& p = products.product[role];
  const int m0 = tile / p.tiles_n * T::kM, n0 = tile % p.tiles_n * T::kN;
  const OwnNumbers<T> own;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    float sum[T::kSums][T::kSumsEach] = {};
    for (int t = 0; t < p.term_count; ++t) {
      const LinearTerm& term = p.terms[t];
      const float* a = term.a + task * term.a_task;
      const float* b = term.b + task * term.b_task;
      for (int k0 = 0; k0 < p.k; k0 += kDepth) {
        load_tile<T::kM, T::kStrideA, T::kThreads>(a_tile, p.a_k == 1, [&](int i, int k) {
          if (m0 + i >= p.m || k0 + k >= p.k) return 0.0f;
          if (m0 + i >= p.real_rows) return term.ones;
          return a[std::int64_t{m0 + i} * p.a_m + std::int64_t{k0 + k} * p.a_k];
        });
        load_tile<T::kN, T::kStrideB, T::kThreads>(b_tile, p.b_k == 1 && p.b_n != 1, [&](int i, int k) {
          return n0 + i < p.n && k0 + k < p.k ? b[std::int64_t{n0 + i} * p.b_n + std::int64_t{k0 + k} * p.b_k] : 0.0f;
        });
        __syncthreads();
        own.add(a_tile, b_tile, sum);
        __syncthreads();
      }
    }
    float* c = p.c + task * p.c_task;
    const float* bias = p.bias ? p.bias + task * p.bias_task : nullptr;
#pragma unroll
    for (int i = 0; i < T::kSums; ++i)
#pragma unroll
      for (int j = 0; j < T::kSumsEach; ++j) {
        const int m = m0 + own.m(i, j), n = n0 + own.n(i, j);
        if (m < p.m && n < p.n) c[std::int64_t{m} * p.n + n] = bias ? sum[i][j] + bias[n] : sum[i][j];
      }
  }
}

constexpr int kFewThreads = 256, kMostSlices = 64;
constexpr int slices_of(int k) {
  int slices = 1;
  while (slices < kMostSlices && k >= 16 * slices) slices *= 2;
  return slices;
}

/// Thread t of a block takes number t mod (threads / slices) of the block's and the k of slice t / (threads / slices).
__global__ void __launch_bounds__(kFewThreads, 4) multiply_few(const __grid_constant__ Products products, int tasks) {
  CUMETA_SHARED(float, parts, kFewThreads);
  const int thread = static_cast<int>(threadIdx.x);
  int block = static_cast<int>(blockIdx.x), role = 0;
  if (block >= products.product[0].tiles_m) block -= products.product[0].tiles_m, role = 1;
  const Product& p = products.product[role];
  const int numbers = kFewThreads / p.slices, slice = thread / numbers;
  const int i = block * numbers + thread % numbers, m = p.columns.quotient(i), n = i - m * p.n;
  const std::int64_t a_step = std::int64_t{p.slices} * p.a_k, b_step = std::int64_t{p.slices} * p.b_k;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    float sum = 0.0f;
    if (m < p.m)
      for (int t = 0; t < p.term_count; ++t) {
        const LinearTerm& term = p.terms[t];
        const float* b = term.b + task * term.b_task + (std::int64_t{n} * p.b_n + std::int64_t{slice} * p.b_k);
        if (m < p.real_rows) {
          const float* a = term.a + task * term.a_task + (std::int64_t{m} * p.a_m + std::int64_t{slice} * p.a_k);
#pragma unroll 8
          for (int k = slice; k < p.k; k += p.slices, a += a_step, b += b_step) sum = fmaf(*a, *b, sum);
        } else if (term.ones != 0.0f) {
#pragma unroll 8
          for (int k = slice; k < p.k; k += p.slices, b += b_step) sum = fmaf(term.ones, *b, sum);
        }
      }
    if (p.slices > 1) {
      __syncthreads();  // the task before has read its parts
      parts[thread] = sum;
      for (int half = p.slices / 2; half > 0; half /= 2) {
        __syncthreads();
        if (slice < half) parts[thread] = sum += parts[thread + half * numbers];
      }
    }
    if (slice > 0 || m >= p.m) continue;
    const float* bias = p.bias ? p.bias + task * p.bias_task : nullptr;
    p.c[task * p.c_task + i] = bias ? sum + bias[n] : sum;
  }
}

class LinearPasses final : public LayerPasses {
 public:
  LinearPasses(const Linear& layer, const Geometry& g, const CudaLane& lane)
      : lane_(lane), rows_(g.examples), inputs_(g.input.size()), outputs_(layer.outputs), bias_(layer.bias) {}

  void forward(const Values& v) const override {
    Product p = output_product(v.y);
    add_term(p, v.x, v.w);
    add_bias(p, v.w);
    run("linear forward", v.y.tasks, {p});
  }
  void backward(const Values& v, const Gradients& d) const override {
    Product dx = input_product(d.x), dw = weight_product(d.w);
    add_term(dx, d.y, v.w);
    add_term(dw, v.x, d.y, 1.0f);
    run("linear backward", v.y.tasks, {dx, dw});
  }
  void tangent_forward(const Values& v, const Values& R) const override {
    Product p = output_product(R.y);
    add_term(p, R.x, v.w);
    add_term(p, v.x, R.w);
    add_bias(p, R.w);
    run("linear tangent forward", v.y.tasks, {p});
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    Product dx = input_product(Rd.x), dw = weight_product(Rd.w);
    add_term(dx, Rd.y, v.w);
    add_term(dx, d.y, R.w);
    add_term(dw, v.x, Rd.y, 1.0f);
    add_term(dw, R.x, d.y, 0.0f);
    run("linear tangent backward", v.y.tasks, {dx, dw});
  }

 private:
  Product output_product(const Array& y) const {
    Product p{};
    p.m = p.real_rows = rows_, p.n = outputs_, p.k = inputs_;
    p.a_m = inputs_, p.a_k = 1, p.b_k = outputs_, p.b_n = 1;
    p.c = y.row<float>(0), p.c_task = y.stride;
    return p;
  }
  Product input_product(const Array& dx) const {
    Product p{};
    p.m = p.real_rows = rows_, p.n = inputs_, p.k = outputs_;
    p.a_m = outputs_, p.a_k = 1, p.b_k = 1, p.b_n = outputs_;
    p.c = dx.row<float>(0), p.c_task = dx.stride;
    return p;
  }
  Product weight_product(const Array& dw) const {
    Product p{};
    p.m = inputs_ + (bias_ ? 1 : 0), p.real_rows = inputs_, p.n = outputs_, p.k = rows_;
    p.a_m = 1, p.a_k = inputs_, p.b_k = outputs_, p.b_n = 1;
    p.c = dw.row<float>(0), p.c_task = dw.stride;
    return p;
  }
  /// An operand that is not there is zero: no term.
  static void add_term(Product& p, const Array& a, const Array& b, float ones = 0.0f) {
    if (!b || (!a && ones == 0.0f)) return;
    p.terms[p.term_count++] = {a.row<const float>(0), b.row<const float>(0), a.stride, b.stride, ones};
  }
  void add_bias(Product& p, const Array& w) const {
    if (!bias_ || !w) return;
    p.bias = w.row<const float>(0) + std::int64_t{inputs_} * outputs_, p.bias_task = w.stride;
  }

  /// By one task's sizes alone, as all that orders a sum. Under TF32 short inputs stay with the tensor cores.
  bool few_outputs() const {
    return outputs_ <= 32 && std::int64_t{rows_} * inputs_ * outputs_ <= 1 << 22 && (!lane_.tf32() || inputs_ >= 256);
  }
  void run_few(Op op, int tasks, Products products) const {
    unsigned blocks = 0;
    for (int i = 0; i < products.count; ++i) {
      Product& p = products.product[i];
      p.columns = FastDivisor(p.n), p.slices = slices_of(p.k);
      p.tiles_m = static_cast<int>(blocks_for(std::int64_t{p.m} * p.n, kFewThreads / p.slices));
      blocks += static_cast<unsigned>(p.tiles_m);
    }
    launch(lane_, op, multiply_few, dim3(blocks, task_blocks(tasks)), kFewThreads, 0, products, tasks);
  }
  template <class T>
  void run_tiles(Op op, int tasks, Products products) const {
    unsigned tiles = 0;
    for (int i = 0; i < products.count; ++i) {
      Product& p = products.product[i];
      p.tiles_m = (p.m + T::kM - 1) / T::kM, p.tiles_n = (p.n + T::kN - 1) / T::kN;
      tiles += static_cast<unsigned>(p.tiles_m * p.tiles_n);
    }
    launch(lane_, op, multiply<T>, dim3(tiles, task_blocks(tasks)), T::kThreads, 0, products, tasks);
  }
  /// Products without an output are not wanted.
  void run(Op op, int tasks, std::initializer_list<Product> wanted) const {
    Products products{};
    bool large = true;
    for (const Product& p : wanted)
      if (p.c) {
        products.product[products.count++] = p;
        large = large && p.m > 48 && p.n > 48;
      }
    if (products.count == 0) return;
    if (few_outputs()) return run_few(op, tasks, products);
    if (lane_.tf32())
      large ? run_tiles<LargeTileTf32>(op, tasks, products) : run_tiles<SmallTileTf32>(op, tasks, products);
    else
      large ? run_tiles<LargeTile>(op, tasks, products) : run_tiles<SmallTile>(op, tasks, products);
  }

  const CudaLane& lane_;
  int rows_, inputs_, outputs_;
  bool bias_;
};

}  // namespace

std::unique_ptr<LayerPasses> bind(const Linear& layer, const Geometry& geometry, Array, CudaLane& lane) {
  return std::make_unique<LinearPasses>(layer, geometry, lane);
}

}  // namespace cumeta
