// SPDX-License-Identifier: Apache-2.0
// Memory, streams and events behave as on a GPU: limits, bad copies refused, work that is not done before somebody
// waits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/emulator/sanitizer_hooks.h"

namespace {

__global__ void set(int* y, int value) { *y = value; }
__global__ void append(int* y, int digit) { *y = *y * 10 + digit; }

class Runtime : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaDeviceReset(), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&y_, sizeof(int)), cudaSuccess);
    ASSERT_EQ(cudaMemset(y_, 0, sizeof(int)), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // streams that do not block would not wait for it
    for (cudaStream_t* stream : {&a_, &b_})
      ASSERT_EQ(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaEventCreate(&event_), cudaSuccess);
  }
  void TearDown() override { cudaDeviceReset(); }
  /// The value without waiting for any stream but the one that copies.
  int value() {
    int host = -1;
    EXPECT_EQ(cudaMemcpy(&host, y_, sizeof host, cudaMemcpyDeviceToHost), cudaSuccess);
    return host;
  }

  int* y_ = nullptr;
  cudaStream_t a_ = nullptr, b_ = nullptr;
  cudaEvent_t event_ = nullptr;
};

TEST_F(Runtime, MemoryIsBornAsNaN) {
  float* x = nullptr;
  ASSERT_EQ(cudaMalloc(&x, 12), cudaSuccess);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(x) % 256, 0u);
  float host[3] = {};
  ASSERT_EQ(cudaMemcpy(host, x, 12, cudaMemcpyDeviceToHost), cudaSuccess);
  for (const float value : host) EXPECT_TRUE(std::isnan(value));
}

TEST_F(Runtime, OutOfMemory) {
  size_t free = 0, total = 0, free_after = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, free + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(pointer, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&pointer, 1000), cudaSuccess);
  ASSERT_EQ(cudaMemGetInfo(&free_after, &total), cudaSuccess);
  EXPECT_EQ(free - free_after, 1024u);
  EXPECT_EQ(cudaFree(pointer), cudaSuccess);
  EXPECT_EQ(cudaFree(pointer), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
}

TEST_F(Runtime, CopiesAreChecked) {
  int host[2] = {1, 2};
  EXPECT_EQ(cudaMemcpy(y_, host, 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue) << "longer than the allocation";
  EXPECT_EQ(cudaMemcpy(host, y_, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue) << "the wrong way round";
  EXPECT_EQ(cudaMemcpy(host, host + 1, 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host, host + 1, 4, cudaMemcpyKind(9)), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaMemset(host, 0, 4), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(y_, host, 4, cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(value(), 1);
}

TEST_F(Runtime, RowsAreCopied) {
  int* matrix = nullptr;
  ASSERT_EQ(cudaMalloc(&matrix, 6 * sizeof(int)), cudaSuccess);
  const std::vector<int> host{1, 2, 3, 4, 5, 6};
  ASSERT_EQ(cudaMemcpy(matrix, host.data(), 24, cudaMemcpyHostToDevice), cudaSuccess);
  std::vector<int> column(2);
  EXPECT_EQ(cudaMemcpy2D(column.data(), 4, matrix + 1, 12, 4, 2, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(column, (std::vector<int>{2, 5}));
  EXPECT_EQ(cudaMemcpy2D(column.data(), 4, matrix + 1, 12, 4, 3, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
}

TEST_F(Runtime, NothingIsDoneBeforeSomebodyWaits) {
  int host = 7;
  emulator::launch(set, 1, 1, 0, a_, y_, 5);
  ASSERT_EQ(cudaMemcpyAsync(&host, y_, sizeof host, cudaMemcpyDeviceToHost, a_), cudaSuccess);
  EXPECT_EQ(host, 7) << "the copy has not happened yet";
  ASSERT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  EXPECT_EQ(host, 5);
}

TEST_F(Runtime, EventsOrderStreams) {
  emulator::launch(append, 1, 1, 0, a_, y_, 1);
  ASSERT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  emulator::launch(append, 1, 1, 0, a_, y_, 3);
  ASSERT_EQ(cudaStreamWaitEvent(b_, event_), cudaSuccess);
  emulator::launch(append, 1, 1, 0, b_, y_, 2);
  ASSERT_EQ(cudaStreamSynchronize(b_), cudaSuccess);
  EXPECT_EQ(value(), 12) << "b waits for the record, not for all of a";
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(value(), 123);
}

TEST_F(Runtime, TheLegacyStreamWaitsForBlockingStreams) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  emulator::launch(append, 1, 1, 0, blocking, y_, 1);
  emulator::launch(append, 1, 1, 0, nullptr, y_, 2);
  emulator::launch(append, 1, 1, 0, blocking, y_, 3);
  ASSERT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
  EXPECT_EQ(value(), 123);
  ASSERT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(blocking), cudaErrorInvalidResourceHandle);
}

TEST_F(Runtime, EventsMeasureTime) {
  cudaEvent_t end = nullptr;
  float milliseconds = -1;
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, event_, end), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaEventRecord(event_, a_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end, a_), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, event_, end), cudaErrorNotReady);
  ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, event_, end), cudaSuccess);
  EXPECT_GE(milliseconds, 0.0f);
}

TEST_F(Runtime, LaunchesAreCounted) {
  const unsigned long long before = cumeta_emulator_kernel_launches();
  for (int i = 0; i < 3; ++i) emulator::launch(set, 1, 1, 0, a_, y_, i);
  EXPECT_EQ(cumeta_emulator_kernel_launches() - before, 3u);
}

TEST_F(Runtime, ManyThreadsOfTheHost) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([] {
      cudaStream_t stream = nullptr;
      int* y = nullptr;
      ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
      ASSERT_EQ(cudaMalloc(&y, sizeof(int)), cudaSuccess);
      for (int i = 0; i < 50; ++i) {
        emulator::launch(set, 1, 1, 0, stream, y, 1);
        emulator::launch(append, 1, 1, 0, stream, y, i % 10);
        int host = 0;
        ASSERT_EQ(cudaMemcpyAsync(&host, y, sizeof host, cudaMemcpyDeviceToHost, stream), cudaSuccess);
        ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
        ASSERT_EQ(host, 10 + i % 10);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST_F(Runtime, TheDeviceIsLikeAnH100) {
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(properties.multiProcessorCount, 132);
  EXPECT_EQ(properties.sharedMemPerBlockOptin, 227u * 1024);
  EXPECT_EQ(properties.sharedMemPerBlock, 48u * 1024);
  int count = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 1);
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
}

}  // namespace
