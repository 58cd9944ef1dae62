// SPDX-License-Identifier: Apache-2.0
// Kernels for the interpreter's own tests: each is right with bug = 0, and every other number plants one bug.
#include <cstdint>

#include "kernels/tools/contraction_cuda.cuh"

/// c = a b for n x n matrices, 16 x 16 tiles. 1: no barrier before the tiles are read; 2: none before they are
/// overwritten; 3: a tile's last column is not loaded; 4: the tile is one row too long for its array.
template <int bug>
__global__ void __launch_bounds__(256, 1) matrix_product(const float* a, const float* b, float* c, int n) {
  __shared__ float a_tile[16][16], b_tile[16][16];
  const int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 16 + y, column = blockIdx.x * 16 + x;
  float sum = 0;
  for (int k = 0; k < n; k += 16) {
    if (bug != 3 || x < 15) a_tile[y][x] = a[row * n + k + x];
    b_tile[bug == 4 ? y + 1 : y][x] = b[(k + y) * n + column];
    if (bug != 1) __syncthreads();
    for (int i = 0; i < 16; ++i) sum += a_tile[y][i] * b_tile[i][x];
    if (bug != 2) __syncthreads();
  }
  c[row * n + column] = sum;
}

/// sums[block] = sum of 256 numbers: shuffles in the warp, shared memory between warps. 1: no barrier between the two;
/// 2: the first lane reads its neighbours' partial sums of a warp without __syncwarp.
template <int bug>
__global__ void __launch_bounds__(256, 1) block_sum(const float* x, float* sums) {
  __shared__ float partial[256];
  const int thread = threadIdx.x;
  float v = x[blockIdx.x * 256 + thread];
  if (bug == 2) {
    partial[thread] = v;
    if (thread % 32 == 0)
      for (int i = 1; i < 32; ++i) v += partial[thread + i];
  } else {
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  }
  __syncthreads();
  if (thread % 32 == 0) partial[thread / 32] = v;
  if (bug != 1) __syncthreads();
  if (thread == 0) {
    float total = 0;
    for (int w = 0; w < 8; ++w) total += partial[w];
    sums[blockIdx.x] = total;
  }
}

/// out = in reversed within every warp, through shared memory and __syncwarp. 1: without it; 2: only half the warp
/// takes part.
template <int bug>
__global__ void __launch_bounds__(64, 1) warp_reverse(const int* in, int* out) {
  extern __shared__ int line[];
  const int thread = threadIdx.x;
  line[thread] = in[thread];
  if (bug == 0) __syncwarp();
  if (bug == 2) __syncwarp(thread % 32 < 16 ? 0x0000ffffu : 0xffff0000u);
  out[thread] = line[thread / 32 * 32 + 31 - thread % 32];
}

__device__ __forceinline__ void copy_async_16(void* to, const void* from) {
  asm volatile("{ .reg .u32 a; cvt.u32.u64 a, %0; cp.async.cg.shared.global [a], [%1], 16; }" ::"l"(
                   __cvta_generic_to_shared(to)),
               "l"(from)
               : "memory");
}
/// out[i] = 2 in[i] in chunks of 128, the next chunk on its way. 1: no wait; 2: waits for the wrong group; 3: no
/// barrier after the wait; 4: the buffer that is being read is overwritten.
template <int bug>
__global__ void __launch_bounds__(32, 1) copy_pipeline(const float* in, float* out, int chunks) {
  __shared__ __align__(16) float stage[2][128];
  const int lane = threadIdx.x;
  copy_async_16(&stage[0][4 * lane], in + 4 * lane);
  asm volatile("cp.async.commit_group;" ::: "memory");
  for (int c = 0; c < chunks; ++c) {
    if (c + 1 < chunks) copy_async_16(&stage[bug == 4 ? c % 2 : (c + 1) % 2][4 * lane], in + 128 * (c + 1) + 4 * lane);
    asm volatile("cp.async.commit_group;" ::: "memory");
    if (bug == 2)
      asm volatile("cp.async.wait_group 2;" ::: "memory");
    else if (bug != 1)
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    if (bug != 3) __syncthreads();
    for (int i = lane; i < 128; i += 32) out[128 * c + i] = 2 * stage[c % 2][i];
    __syncthreads();
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
}

/// counts[in[i] % 8] += 1 with integer atomics. 1: without.
template <int bug>
__global__ void __launch_bounds__(64, 1) histogram(const unsigned* in, unsigned* counts) {
  const unsigned bin = in[blockIdx.x * 64 + threadIdx.x] % 8;
  if (bug == 1)
    counts[bin] += 1;
  else
    atomicAdd(&counts[bin], 1u);
}

/// Single mistakes. 0: none; 1: reads one past the end; 2: writes one before the beginning; 3: reads shared memory that
/// nobody wrote; 4: a barrier that half the block passes by; 5: blocks write one number; 6: a float4 from an odd
/// address; 7: a floating-point atomic; 8: reads a result that was never written.
template <int bug>
__global__ void __launch_bounds__(64, 1) mistake(const float* in, float* out, int n) {
  __shared__ float line[64];
  const int thread = threadIdx.x, i = blockIdx.x * 64 + thread;
  if (bug == 4 && thread < 32) __syncthreads();
  if (bug != 3 || thread != 7) line[thread] = in[bug == 1 ? i + 1 : i];
  __syncthreads();
  float v = line[63 - thread];
  if (bug == 6) {
    const float4 four = *reinterpret_cast<const float4*>(in + 1);
    v += four.x + four.y + four.z + four.w;
  }
  if (bug == 8) v += out[i];
  if (bug == 7) atomicAdd(out, v);
  if (bug == 5) out[thread] = v;
  if (i < n) out[bug == 2 ? i - 1 : i] = v;
}

/// The block that starts second sums what the first one wrote. state: [blocks started, messages]. 1: no fence before
/// the message is counted; 2: none after the count is seen; 3: it does not wait at all.
template <int bug>
__global__ void __launch_bounds__(64, 1) message(unsigned* state, float* line, float* sum) {
  __shared__ unsigned number;
  const int thread = threadIdx.x;
  if (thread == 0) number = atomicAdd(state, 1u);
  __syncthreads();
  if (number == 0) {
    line[thread] = static_cast<float>(thread);
    __syncthreads();
    if (thread != 0) return;
    if (bug != 1) __threadfence();
    atomicAdd(state + 1, 1u);
  } else {
    if (bug != 3 && thread == 0) {
      unsigned seen = 0;
      do {
        asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(state + 1) : "memory");
      } while (seen == 0);
      if (bug != 2) __threadfence();
    }
    __syncthreads();
    if (thread != 0) return;
    float total = 0;
    for (int i = 0; i < 64; ++i) total += line[i];
    *sum = total;
  }
}

/// Functions as nvcc writes them: out[i][12].
__global__ void __launch_bounds__(32, 1) functions(const float* x, float* out) {
  const float v = x[threadIdx.x];
  float* row = out + 12 * threadIdx.x;
  row[0] = expf(v), row[1] = logf(fabsf(v) + 0.5f), row[2] = sqrtf(fabsf(v)), row[3] = tanhf(v);
  row[4] = 1.0f / (v + 10.0f), row[5] = v / 3.0f, row[6] = rsqrtf(fabsf(v) + 1.0f), row[7] = fmaxf(v, 0.0f);
  row[8] = floorf(v), row[9] = static_cast<float>(static_cast<int>(v * 7)), row[10] = sinf(v),
  row[11] = __expf(v) / __fadd_rn(v, 9.0f);
}

/// Integer work as nvcc writes it: out[i][10].
__global__ void __launch_bounds__(32, 1) integers(const std::int32_t* x, std::int64_t* out) {
  const std::int32_t v = x[threadIdx.x];
  const auto u = static_cast<std::uint32_t>(v);
  std::int64_t* row = out + 10 * threadIdx.x;
  row[0] = v / 7, row[1] = v % 5, row[2] = u / 7u, row[3] = __umulhi(u, 0xD2511F53u);
  row[4] = static_cast<std::int64_t>(v) * 1'000'003, row[5] = v >> 3, row[6] = u >> 3, row[7] = __popc(u);
  row[8] = static_cast<std::int16_t>(v) + static_cast<std::uint8_t>(v), row[9] = static_cast<std::int64_t>(v) / -9;
}

/// d = a b + c for 16x8, 8x8 and 16x8 matrices on tensor cores.
__global__ void __launch_bounds__(32, 1) tensor_product(const float* a, const float* b, const float* c, float* d) {
  const int row = threadIdx.x / 4, column = threadIdx.x % 4;
  std::uint32_t fa[4], fb[2];
  float fc[4];
  for (int k = 0; k < 4; ++k)
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(fa[k]) : "f"(a[(row + 8 * (k & 1)) * 8 + column + 4 * (k >> 1)]));
  for (int k = 0; k < 2; ++k) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(fb[k]) : "f"(b[(column + 4 * k) * 8 + row]));
  for (int k = 0; k < 4; ++k) fc[k] = c[(row + 8 * (k >> 1)) * 8 + 2 * column + (k & 1)];
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(fc[0]), "+f"(fc[1]), "+f"(fc[2]), "+f"(fc[3])
      : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
  for (int k = 0; k < 4; ++k) d[(row + 8 * (k >> 1)) * 8 + 2 * column + (k & 1)] = fc[k];
}

/// Operands of a contraction: a[40][k], or transposed a[k][40], and b[k][32]; beyond k zeros.
template <class T, bool transposed>
struct MatrixOperands {
  static constexpr int window = 1 << 20;
  const float *a, *b;
  int k, chunk = 0;
  __device__ void open(int, int first) { chunk = first; }
  static __device__ int a_at() { return 0; }
  static __device__ int b_at() { return 0; }
  __device__ void load(float* a_to, float* b_to) {
    for (int i = threadIdx.x; i < T::KB * T::BM; i += T::threads) {
      const int m = i % T::BM, at = i / T::BM, from = chunk * T::KB + at;
      const int pitch = T::pitch(transposed ? cumeta::Layout::along_row : cumeta::Layout::along_k, T::BM);
      cumeta::copy_async<4>(a_to + (transposed ? at * pitch + m : m * pitch + at),
                            from < k ? a + (transposed ? from * T::BM + m : m * k + from) : a, from < k);
    }
    for (int i = threadIdx.x; i < T::KB * T::BN; i += T::threads) {
      const int n = i % T::BN, at = i / T::BN, from = chunk * T::KB + at;
      cumeta::copy_async<4>(b_to + at * T::pitch(cumeta::Layout::along_row, T::BN) + n,
                            from < k ? b + from * T::BN + n : b, from < k);
    }
    ++chunk;
  }
};

/// c[40][32] = a b in TF32 by the contraction of the convolutions.
template <bool transposed>
__global__ void __launch_bounds__(128, 1) tf32_contraction(const float* a, const float* b, float* c, int k) {
  using T = cumeta::Tile<5, 4, 8, 8, 2, 16, 2>::Tf32;
  constexpr cumeta::Layout A = transposed ? cumeta::Layout::along_row : cumeta::Layout::along_k;
  constexpr cumeta::Layout B = cumeta::Layout::along_row;
  CUMETA_SHARED(float4, shared, (T::shared_words<A, B>() / 4));
  MatrixOperands<T, transposed> operands{a, b, k};
  const auto store = [&](int m, int n, float4 v) { *reinterpret_cast<float4*>(c + m * T::BN + n) = v; };
  cumeta::contract<T, A, B>(reinterpret_cast<float*>(shared), 1, (k + T::KB - 1) / T::KB, operands, store);
}
template __global__ void tf32_contraction<false>(const float*, const float*, float*, int);
template __global__ void tf32_contraction<true>(const float*, const float*, float*, int);

/// An array in local memory, indexed by what only the run knows.
__global__ void __launch_bounds__(32, 1) local_array(const int* order, int* out) {
  int line[16];
  for (int i = 0; i < 16; ++i) line[order[i]] = i * static_cast<int>(threadIdx.x);
  for (int i = 0; i < 16; ++i) out[16 * threadIdx.x + i] = line[order[15 - i]];
}

#define KERNELS(N)                                                                     \
  template __global__ void matrix_product<N>(const float*, const float*, float*, int); \
  template __global__ void block_sum<N>(const float*, float*);                         \
  template __global__ void warp_reverse<N>(const int*, int*);                          \
  template __global__ void copy_pipeline<N>(const float*, float*, int);                \
  template __global__ void histogram<N>(const unsigned*, unsigned*);                   \
  template __global__ void message<N>(unsigned*, float*, float*);                      \
  template __global__ void mistake<N>(const float*, float*, int);
KERNELS(0)
KERNELS(1)
KERNELS(2)
KERNELS(3)
KERNELS(4)
KERNELS(5)
KERNELS(6)
KERNELS(7)
KERNELS(8)
