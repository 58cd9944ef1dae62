// SPDX-License-Identifier: Apache-2.0
// Built-in variables, warp functions, votes, atomics and intrinsics give what CUDA's reference says.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>
#include <tuple>
#include <vector>

namespace {

template <class T, class... P, class... A>
std::vector<T> results(size_t count, dim3 grid, dim3 block, void (*kernel)(P...), A... arguments) {
  T* device = nullptr;
  EXPECT_EQ(cudaMalloc(&device, count * sizeof(T)), cudaSuccess);
  EXPECT_EQ(cudaMemset(device, 0, count * sizeof(T)), cudaSuccess);
  emulator::launch(kernel, grid, block, 0, nullptr, device, arguments...);
  std::vector<T> host(count);
  EXPECT_EQ(cudaMemcpy(host.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
  return host;
}

__global__ void number_threads(int* y) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  __syncthreads();
  atomicAdd(&y[block * blockDim.x * blockDim.y * blockDim.z + thread], 1);
}

TEST(DeviceFunctions, EveryThreadRunsOnce) {
  for (const int count : results<int>(2 * 3 * 5 * 7 * 4 * 3, dim3(2, 3, 5), dim3(7, 4, 3), number_threads))
    EXPECT_EQ(count, 1);
}

template <class T>
__global__ void shuffles(T* y, int width) {
  const int lane = int(threadIdx.x) % 32;
  T* row = y + threadIdx.x * 4;
  const T value = T(100 + lane);
  row[0] = __shfl_sync(0xffffffffu, value, 5, width);
  row[1] = __shfl_up_sync(0xffffffffu, value, 3u, width);
  row[2] = __shfl_down_sync(0xffffffffu, value, 3u, width);
  row[3] = __shfl_xor_sync(0xffffffffu, value, 6, width);
}

template <class T>
void check_shuffles() {
  for (const int width : {32, 16, 8}) {
    const auto y = results<T>(64 * 4, 1, 64, shuffles<T>, width);
    for (int thread = 0; thread < 64; ++thread) {
      const int lane = thread % 32, first = lane / width * width, last = first + width - 1;
      EXPECT_EQ(y[size_t(thread) * 4], T(100 + first + 5 % width));
      EXPECT_EQ(y[size_t(thread) * 4 + 1], T(100 + (lane - 3 < first ? lane : lane - 3)));
      EXPECT_EQ(y[size_t(thread) * 4 + 2], T(100 + (lane + 3 > last ? lane : lane + 3)));
      EXPECT_EQ(y[size_t(thread) * 4 + 3], T(100 + (lane ^ 6)));
    }
  }
}

TEST(DeviceFunctions, Shuffles) {
  check_shuffles<int>();
  check_shuffles<float>();
  check_shuffles<double>();
  check_shuffles<unsigned long long>();
}

/// d = a b + c on tensor cores, a[16][8], b[8][8], c[16][8] one after another in x.
__global__ void tensor_product(float* y, const float* x) {
  const int lane = int(threadIdx.x), r = lane / 4, c = lane % 4;
  const float *a = x, *b = x + 128;
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = x[192 + (r + 8 * (i / 2)) * 8 + 2 * c + i % 2];
  const unsigned fa[4] = {emulator::round_to_tf32(a[r * 8 + c]), emulator::round_to_tf32(a[(r + 8) * 8 + c]),
                          emulator::round_to_tf32(a[r * 8 + c + 4]), emulator::round_to_tf32(a[(r + 8) * 8 + c + 4])};
  const unsigned fb[2] = {emulator::round_to_tf32(b[c * 8 + r]), emulator::round_to_tf32(b[(c + 4) * 8 + r])};
  emulator::multiply_m16n8k8(d, fa, fb);
  emulator::multiply_m16n8k8(d, fa, fb);
  for (int i = 0; i < 4; ++i) y[(r + 8 * (i / 2)) * 8 + 2 * c + i % 2] = d[i];
}

TEST(DeviceFunctions, ProductsOnTensorCores) {
  std::vector<float> x(320);
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i * 7 % 13) - 6;
  float* device = nullptr;
  ASSERT_EQ(cudaMalloc(&device, x.size() * sizeof(float)), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(device, x.data(), x.size() * sizeof(float), cudaMemcpyHostToDevice), cudaSuccess);
  const auto y = results<float>(128, 1, 32, tensor_product, (const float*)device);
  for (size_t m = 0; m < 16; ++m)
    for (size_t n = 0; n < 8; ++n) {
      float sum = x[192 + m * 8 + n];
      for (size_t k = 0; k < 8; ++k) sum += 2 * x[m * 8 + k] * x[128 + k * 8 + n];
      EXPECT_EQ(y[m * 8 + n], sum) << m << " " << n;
    }
  EXPECT_EQ(cudaFree(device), cudaSuccess);
}

TEST(DeviceFunctions, RoundingToTf32) {
  const float bit = 0x1p-10f;
  const auto rounded = [](float v) { return __uint_as_float(emulator::round_to_tf32(v)); };
  EXPECT_EQ(rounded(1 + bit), 1 + bit);
  EXPECT_EQ(rounded(1 + bit / 2), 1 + bit);
  EXPECT_EQ(rounded(-1 - bit / 2), -1 - bit);
  EXPECT_EQ(rounded(1 + bit / 2 - 0x1p-23f), 1.0f);
  EXPECT_EQ(rounded(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(rounded(NAN)));
  EXPECT_TRUE(std::isnan(rounded(__uint_as_float(0xffffffffu))));
}

__global__ void half_warps(int* y) {
  const int lane = int(threadIdx.x);
  if (lane < 16)
    y[lane] = __shfl_xor_sync(0x0000ffffu, lane, 1);
  else
    y[lane] = __shfl_xor_sync(0xffff0000u, lane, 2);
}

TEST(DeviceFunctions, HalvesOfAWarpOnTheirOwn) {
  const auto y = results<int>(32, 1, 32, half_warps);
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(y[size_t(lane)], lane ^ (lane < 16 ? 1 : 2));
}

__global__ void votes(unsigned* y) {
  const unsigned t = threadIdx.x;
  unsigned* row = y + t * 8;
  row[0] = __ballot_sync(0xffffffffu, t % 3 == 0);
  row[1] = unsigned(__any_sync(0xffffffffu, t == 40));
  row[2] = unsigned(__all_sync(0xffffffffu, t < 32));
  row[3] = __activemask();
  row[4] = unsigned(__syncthreads_or(t == 1));
  row[5] = unsigned(__syncthreads_and(t < 63));
  row[6] = unsigned(__syncthreads_count(t % 4 == 0));
  row[7] = unsigned(__syncthreads_or(0));
}

TEST(DeviceFunctions, Votes) {
  const auto y = results<unsigned>(64 * 8, 1, 64, votes);
  for (unsigned t = 0; t < 64; ++t) {
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < 32; ++lane) ballot |= unsigned((t / 32 * 32 + lane) % 3 == 0) << lane;
    const unsigned expected[] = {ballot, t >= 32, t < 32, 0xffffffffu, 1, 0, 16, 0};
    for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(y[t * 8 + i], expected[i]) << "thread " << t << ", vote " << i;
  }
}

__global__ void atomics(unsigned* y) {
  const unsigned t = threadIdx.x;
  atomicAdd(&y[0], t);
  atomicMax(&y[1], t);
  atomicMin(&y[2], t);
  atomicOr(&y[3], 1u << t % 32);
  atomicInc(&y[4], 9);
  while (atomicCAS(&y[5], t, t + 1) != t) __nanosleep(1);
  atomicExch(&y[6], 77);
  atomicAdd(reinterpret_cast<float*>(&y[7]), 0.5f);
  atomicAdd(reinterpret_cast<unsigned long long*>(&y[8]), 1ull << 33);
}

TEST(DeviceFunctions, Atomics) {
  const auto y = results<unsigned>(10, 1, 64, atomics);
  EXPECT_EQ(y[0], 64u * 63 / 2);
  EXPECT_EQ(y[1], 63u);
  EXPECT_EQ(y[2], 0u);
  EXPECT_EQ(y[3], 0xffffffffu);
  EXPECT_EQ(y[4], 4u);
  EXPECT_EQ(y[5], 64u);
  EXPECT_EQ(y[6], 77u);
  EXPECT_EQ(__uint_as_float(y[7]), 32.0f);
  EXPECT_EQ(y[9], 128u);
}

TEST(DeviceFunctions, Integers) {
  EXPECT_EQ(__umulhi(0x80000000u, 6u), 3u);
  EXPECT_EQ(__umul64hi(1ull << 63, 6ull), 3ull);
  EXPECT_EQ(__popc(0xf0f0u), 8);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__brev(1u), 0x80000000u);
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x7531u), 0x77553311u);
  EXPECT_EQ(__funnelshift_l(0x80000000u, 1u, 1u), 3u);
  EXPECT_EQ(__float_as_uint(1.0f), 0x3f800000u);
  EXPECT_EQ(__float2int_rn(2.5f), 2);
  EXPECT_EQ(min(3u, 2), 2u);
}

TEST(DeviceFunctions, MinimumIgnoresNaN) {
  EXPECT_EQ(fminf(NAN, 1.0f), 1.0f);
  EXPECT_EQ(max(NAN, 1.0f), 1.0f);
  EXPECT_EQ(__saturatef(NAN), 0.0f);
}

__global__ void order(int* y) { y[atomicAdd(&y[64], 1)] = int(threadIdx.x); }

TEST(DeviceFunctions, TheSeedChoosesTheOrder) {
  std::set<std::vector<int>> orders;
  for (unsigned seed = 1; seed <= 20; ++seed) {
    emulator::set_seed(seed);
    orders.insert(results<int>(65, 1, 64, order));
  }
  emulator::set_seed(0);
  EXPECT_GT(orders.size(), 10u);
}

}  // namespace
