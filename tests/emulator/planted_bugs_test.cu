// SPDX-License-Identifier: Apache-2.0
// Kernels with one planted bug each must give a wrong result or a report under some order; their correct twins never.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/tools/cuda_shared.cuh"
#include "tests/emulator/sanitizer_hooks.h"

namespace {

constexpr int threads = 256;

enum Version { correct, wrong };

template <Version version>
__global__ void reverse(const float* x, float* y) {
  CUMETA_SHARED(float, tile, threads);
  tile[threadIdx.x] = x[threadIdx.x];
  if (version == correct) __syncthreads();
  y[threadIdx.x] = tile[threads - 1 - threadIdx.x];
}

// y = x[0] + x[1] + ..., a tile at a time; the next tile must not land while others still add this one.
template <Version version>
__global__ void sum_tiles(const float* x, float* y, int tiles) {
  CUMETA_SHARED(float, tile, threads);
  float sum = 0;
  for (int k = 0; k < tiles; ++k) {
    tile[threadIdx.x] = x[k * threads + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < threads; ++i) sum += tile[i];
    if (version == correct) __syncthreads();
  }
  y[threadIdx.x] = sum;
}

template <Version version>
__global__ void reduce(const float* x, float* y) {
  CUMETA_SHARED(float, partial, threads / 32);
  float value = x[threadIdx.x];
  for (int delta = 16; delta; delta /= 2) value += __shfl_down_sync(0xffffffffu, value, delta);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  if (version == correct) __syncthreads();
  if (threadIdx.x) return;
  y[0] = 0;
  for (int warp = 0; warp < threads / 32; ++warp) y[0] += partial[warp];
}

// Two reductions through the same room: the second must not begin while others still read the first.
template <Version version>
__global__ void reduce_twice(const float* x, float* y) {
  CUMETA_SHARED(float, partial, threads / 32);
  float total = 0;
  for (int k = 0; k < 2; ++k) {
    float value = x[k * threads + threadIdx.x];
    for (int delta = 16; delta; delta /= 2) value += __shfl_xor_sync(0xffffffffu, value, delta);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    for (int warp = 0; warp < threads / 32; ++warp) total += partial[warp];
    if (version == correct) __syncthreads();
  }
  y[threadIdx.x] = total;
}

// One warp adds in shared memory and believes that its lanes march together.
template <Version version>
__global__ void warp_sum(const float* x, float* y) {
  CUMETA_SHARED(float, value, 64);
  const unsigned lane = threadIdx.x;
  value[lane] = x[lane];
  value[lane + 32] = 0;
  __syncwarp();
  for (int delta = 16; delta; delta /= 2) {
    const float other = value[lane + delta];
    if (version == correct) __syncwarp();
    value[lane] += other;
    if (version == correct) __syncwarp();
  }
  if (lane == 0) y[0] = value[0];
}

template <Version version>
__global__ void early_read(const float* x, float* y) {
  CUMETA_SHARED(float, tile, threads);
  cumeta::copy_async<4>(&tile[threadIdx.x], &x[threadIdx.x]);
  cumeta::copy_async_commit();
  if (version == correct) cumeta::copy_async_wait<0>();
  __syncthreads();
  y[threadIdx.x] = tile[threads - 1 - threadIdx.x];
  cumeta::copy_async_wait<0>();
}

// Double buffering: the copy into the other buffer must not start before all have read it.
template <Version version>
__global__ void early_copy(const float* x, float* y, int tiles) {
  CUMETA_SHARED(float, tile, 2 * threads);
  const int t = int(threadIdx.x);
  float sum = 0;
  cumeta::copy_async<4>(&tile[t], &x[t]);
  cumeta::copy_async_commit();
  for (int k = 0; k < tiles; ++k) {
    if (version == correct && k) __syncthreads();
    if (k + 1 < tiles) cumeta::copy_async<4>(&tile[(k + 1) % 2 * threads + t], &x[(k + 1) * threads + t]);
    cumeta::copy_async_commit();
    cumeta::copy_async_wait<1>();
    __syncthreads();
    for (int i = 0; i < threads; ++i) sum += tile[k % 2 * threads + i];
  }
  y[t] = sum;
}

template <Version version>
__global__ void uninitialised(const float* x, float* y) {
  CUMETA_DYNAMIC_SHARED(float, sum);
  if (version == correct || threadIdx.x) sum[threadIdx.x] = 0;
  sum[threadIdx.x] += x[threadIdx.x];
  y[threadIdx.x] = sum[threadIdx.x];
}

// Every block adds to the same cell. In the emulator the threads' additions do not interleave: a race only.
template <Version version>
__global__ void count(float* y) {
  if (version == correct)
    atomicAdd(y, 1.0f);
  else if (threadIdx.x == 0)
    *y += float(threads);
}

// The last block to be done adds what the others left: fence, then counter.
template <Version version>
__global__ void last_block(const float* x, float* y, unsigned* counter) {
  CUMETA_SHARED(bool, last, 1);
  y[1 + blockIdx.x] = x[blockIdx.x];
  if (version == correct) __threadfence();
  if (threadIdx.x == 0) *last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
  __syncthreads();
  if (!(version == correct ? *last : blockIdx.x == 0) || threadIdx.x) return;
  y[0] = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) y[0] += y[1 + block];
}

class PlantedBug : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaDeviceReset(), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&x_, sizeof(float) * 4 * threads), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&y_, sizeof(float) * threads), cudaSuccess);
    std::mt19937 random(7);
    for (float& value : input_) value = float(random() % 1000);
    ASSERT_EQ(cudaMemcpy(x_, input_.data(), sizeof(float) * input_.size(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  void TearDown() override {
    emulator::set_seed(0);
    cudaDeviceReset();
  }

  float sum(int count) const { return std::accumulate(input_.begin(), input_.begin() + count, 0.0f); }

  /// How many of some seeds gave y = expected without a report or a race.
  template <class... P, class... A>
  int passes(const std::vector<float>& expected, void (*kernel)(P...), unsigned blocks, unsigned block, size_t shared,
             A... arguments) {
    int good = 0;
    for (int seed = 0; seed < seeds; ++seed) {
      emulator::set_seed(unsigned(seed));
      emulator_test::races = 0;
      cudaMemset(y_, 0, sizeof(float) * threads);
      emulator::launch(kernel, blocks, block, shared, nullptr, arguments...);
      std::vector<float> y(expected.size());
      if (cudaMemcpy(y.data(), y_, sizeof(float) * y.size(), cudaMemcpyDeviceToHost) == cudaSuccess)
        good += y == expected && !emulator_test::races;
      if (cudaPeekAtLastError() != cudaSuccess) SetUp();
    }
    return good;
  }

  static constexpr int seeds = 5;
  std::vector<float> input_ = std::vector<float>(4 * threads);
  float *x_ = nullptr, *y_ = nullptr;
};

#define EXPECT_CAUGHT(kernel, expected, block, shared, ...)                           \
  EXPECT_EQ(passes(expected, kernel<correct>, 1, block, shared, __VA_ARGS__), seeds); \
  EXPECT_LT(passes(expected, kernel<wrong>, 1, block, shared, __VA_ARGS__), seeds)

TEST_F(PlantedBug, NoBarrierBeforeReading) {
  const std::vector<float> expected(input_.rend() - threads, input_.rend());
  EXPECT_CAUGHT(reverse, expected, threads, 0, x_, y_);
}

TEST_F(PlantedBug, NoBarrierAtTheEndOfTheLoop) {
  const std::vector<float> expected(threads, sum(4 * threads));
  EXPECT_CAUGHT(sum_tiles, expected, threads, 0, x_, y_, 4);
}

TEST_F(PlantedBug, ReductionReadsEarly) { EXPECT_CAUGHT(reduce, std::vector<float>{sum(threads)}, threads, 0, x_, y_); }

TEST_F(PlantedBug, TwoReductionsWithNoBarrierBetween) {
  const std::vector<float> expected(threads, sum(2 * threads));
  EXPECT_CAUGHT(reduce_twice, expected, threads, 0, x_, y_);
}

TEST_F(PlantedBug, NoSyncwarp) { EXPECT_CAUGHT(warp_sum, std::vector<float>{sum(32)}, 32, 0, x_, y_); }

TEST_F(PlantedBug, AsynchronousCopyReadTooEarly) {
  const std::vector<float> expected(input_.rend() - threads, input_.rend());
  EXPECT_CAUGHT(early_read, expected, threads, 0, x_, y_);
}

TEST_F(PlantedBug, AsynchronousCopyIntoMemoryStillRead) {
  const std::vector<float> expected(threads, sum(4 * threads));
  EXPECT_CAUGHT(early_copy, expected, threads, 0, x_, y_, 4);
}

TEST_F(PlantedBug, SharedMemoryNotInitialised) {
  const std::vector<float> expected(input_.begin(), input_.begin() + threads);
  EXPECT_CAUGHT(uninitialised, expected, threads, threads * sizeof(float), x_, y_);
}

TEST_F(PlantedBug, NonAtomicIncrement) {
  const std::vector<float> expected{3.0f * threads};
  EXPECT_EQ(passes(expected, count<correct>, 3, threads, 0, y_), seeds);
  if (CUMETA_TEST_TSAN) { EXPECT_LT(passes(expected, count<wrong>, 3, threads, 0, y_), seeds); }
}

TEST_F(PlantedBug, ReadsOtherBlocksTooEarly) {
  unsigned* counter = nullptr;
  ASSERT_EQ(cudaMalloc(&counter, sizeof *counter), cudaSuccess);
  ASSERT_EQ(cudaMemset(counter, 0, sizeof *counter), cudaSuccess);
  const std::vector<float> expected{sum(20)};
  EXPECT_EQ(passes(expected, last_block<correct>, 20, 1, 0, x_, y_, counter), seeds);
  EXPECT_LT(passes(expected, last_block<wrong>, 20, 1, 0, x_, y_, counter), seeds);
}

}  // namespace
