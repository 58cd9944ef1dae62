// SPDX-License-Identifier: Apache-2.0
// What a GPU would punish must be reported: accesses out of bounds, divergent barriers, lost lanes, limits.
#include <gtest/gtest.h>

#include <string>

#include "kernels/tools/cuda_shared.cuh"
#include "tests/emulator/sanitizer_hooks.h"

namespace {

__global__ void write_at(float* y, int index) { y[index + int(threadIdx.x)] = 1; }

__global__ void write_static_shared(int index) {
  CUMETA_SHARED(float, tile, 64);
  CUMETA_SHARED(float, other, 64);
  other[threadIdx.x] = 0;
  tile[index + int(threadIdx.x)] = 1;
}

__global__ void write_dynamic_shared(int index) {
  CUMETA_DYNAMIC_SHARED(float, tile);
  tile[index + int(threadIdx.x)] = 1;
}

__global__ void divergent_barrier() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    // another place
    __syncthreads();
}

__global__ void early_exit(int* y) {
  if (threadIdx.x >= 48) return;
  __syncthreads();
  y[threadIdx.x] = 1;
}

__global__ void lost_lanes(int* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
  __syncthreads();
}

__global__ void exited_lanes(int* y) {
  if (threadIdx.x >= 16) return;
  y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, int(threadIdx.x), 1);
}

__global__ void mixed_collectives(unsigned* y) {
  if (threadIdx.x % 2)
    y[0] = __ballot_sync(0xffffffffu, 1);
  else
    y[1] = __shfl_sync(0xffffffffu, 1u, 0);
}

__global__ void wrong_mask(unsigned* y) { y[threadIdx.x] = __shfl_sync(0xffffu, 1u, 0); }

__global__ void forgotten_copy(const float* x) {
  CUMETA_SHARED(float, tile, 32);
  cumeta::copy_async<4>(&tile[threadIdx.x], &x[threadIdx.x]);
}

__global__ void misaligned_copy(const float* x) {
  CUMETA_SHARED(float, tile, 64);
  cumeta::copy_async<16>(&tile[1], x);
  cumeta::copy_async_commit();
  cumeta::copy_async_wait<0>();
}

__global__ void too_much_static() {
  CUMETA_SHARED(float, tile, 12 * 1024 + 1);
  tile[0] = 0;
}

__global__ void shared_memory(float* y) {
  CUMETA_SHARED(float, tile, 1024);
  CUMETA_DYNAMIC_SHARED(float, more);
  tile[0] = more[0] = 0;
  y[0] = tile[0] + more[0];
}

__global__ void nothing() {}

class Faults : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaDeviceReset(), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&y_, bytes), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&z_, bytes), cudaSuccess);
  }
  void TearDown() override { cudaDeviceReset(); }

  template <class... P, class... A>
  cudaError_t run(void (*kernel)(P...), unsigned block, size_t shared, A... arguments) {
    emulator::launch(kernel, 1, block, shared, nullptr, arguments...);
    if (const cudaError_t error = cudaPeekAtLastError()) return error;
    return cudaDeviceSynchronize();
  }
  static bool reported(const char* words) {
    return std::string(cudaGetErrorString(cudaPeekAtLastError())).find(words) != std::string::npos;
  }

  static constexpr size_t bytes = 100 * sizeof(float);
  float *y_ = nullptr, *z_ = nullptr;
};

// Under the AddressSanitizer the access itself ends the program.
#if CUMETA_TEST_ASAN
#define EXPECT_OUT_OF_BOUNDS(call, words) EXPECT_DEATH(call, "AddressSanitizer")
#else
#define EXPECT_OUT_OF_BOUNDS(call, words)             \
  EXPECT_EQ(call, cudaErrorIllegalAddress);           \
  EXPECT_TRUE(reported(words)) << emulator::report(); \
  SetUp()
#endif

TEST_F(Faults, GlobalMemory) {
  EXPECT_EQ(run(write_at, 32, 0, y_, 68), cudaSuccess);
  EXPECT_OUT_OF_BOUNDS(run(write_at, 32, 0, y_, 69), "behind an allocation of 400 bytes");
  EXPECT_OUT_OF_BOUNDS(run(write_at, 32, 0, y_, -1), "in front of an allocation of 400 bytes");
}

TEST_F(Faults, SharedMemory) {
  EXPECT_EQ(run(write_static_shared, 32, 0, 32), cudaSuccess);
  EXPECT_OUT_OF_BOUNDS(run(write_static_shared, 32, 0, 33), "static shared array of 256 bytes");
  EXPECT_OUT_OF_BOUNDS(run(write_static_shared, 32, 0, -1), "static shared array of 256 bytes");
  EXPECT_EQ(run(write_dynamic_shared, 32, 400, 68), cudaSuccess);
  EXPECT_OUT_OF_BOUNDS(run(write_dynamic_shared, 32, 400, 69), "dynamic shared array of 400 bytes");
}

TEST_F(Faults, DivergentBarrier) {
  EXPECT_EQ(run(divergent_barrier, 32, 0), cudaSuccess);
  EXPECT_EQ(run(divergent_barrier, 64, 0), cudaErrorLaunchFailure);
  EXPECT_TRUE(reported("waits at the barrier of")) << emulator::report();
}

TEST_F(Faults, ThreadsThatReturnNeedNotComeToTheBarrier) {
  EXPECT_EQ(run(early_exit, 64, 0, reinterpret_cast<int*>(y_)), cudaSuccess);
}

TEST_F(Faults, LostLanes) {
  EXPECT_EQ(run(lost_lanes, 16, 0, reinterpret_cast<int*>(y_)), cudaSuccess);
  EXPECT_EQ(run(exited_lanes, 32, 0, reinterpret_cast<int*>(y_)), cudaSuccess);
  EXPECT_EQ(run(lost_lanes, 32, 0, reinterpret_cast<int*>(y_)), cudaErrorLaunchFailure);
  EXPECT_TRUE(reported("for lanes of its mask that never come")) << emulator::report();
}

TEST_F(Faults, MixedCollectives) {
  EXPECT_EQ(run(mixed_collectives, 32, 0, reinterpret_cast<unsigned*>(y_)), cudaErrorLaunchFailure);
}

TEST_F(Faults, LaneOutsideItsMask) {
  EXPECT_EQ(run(wrong_mask, 16, 0, reinterpret_cast<unsigned*>(y_)), cudaSuccess);
  EXPECT_EQ(run(wrong_mask, 32, 0, reinterpret_cast<unsigned*>(y_)), cudaErrorLaunchFailure);
}

TEST_F(Faults, AsynchronousCopies) {
  EXPECT_EQ(run(forgotten_copy, 32, 0, y_), cudaErrorLaunchFailure);
  EXPECT_TRUE(reported("never waited for")) << emulator::report();
  SetUp();
  EXPECT_EQ(run(misaligned_copy, 1, 0, y_), cudaErrorLaunchFailure);
  EXPECT_TRUE(reported("not a multiple of its size")) << emulator::report();
}

TEST_F(Faults, LimitOfSharedMemory) {
  EXPECT_EQ(run(shared_memory, 1, 44 * 1024, y_), cudaSuccess);
  EXPECT_EQ(run(shared_memory, 1, 48 * 1024 + 4, y_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(shared_memory, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024 + 1),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(shared_memory, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 * 1024), cudaSuccess);
  EXPECT_EQ(run(shared_memory, 1, 100 * 1024, y_), cudaSuccess);
  EXPECT_EQ(run(shared_memory, 1, 101 * 1024, y_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(run(nothing, 1, 0), cudaSuccess);
  EXPECT_EQ(run(too_much_static, 1, 0), cudaErrorInvalidValue);
}

TEST_F(Faults, StaticAndDynamicSharedMemoryTogether) {
  EXPECT_EQ(run(shared_memory, 1, 44 * 1024 + 4, y_), cudaErrorInvalidValue);
  EXPECT_TRUE(reported("4096 bytes of static")) << emulator::report();
}

TEST_F(Faults, LaunchConfiguration) {
  EXPECT_EQ(run(nothing, 1025, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(run(nothing, 0, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  emulator::launch(nothing, dim3(1, 65536), 1, 0, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(Faults, AFaultStaysUntilTheDeviceIsReset) {
  EXPECT_EQ(run(divergent_barrier, 64, 0), cudaErrorLaunchFailure);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaFree(y_), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_STREQ(emulator::report(), "");
  EXPECT_EQ(run(nothing, 32, 0), cudaSuccess);
}

}  // namespace
