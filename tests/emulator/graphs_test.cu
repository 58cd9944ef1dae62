// SPDX-License-Identifier: Apache-2.0
// Stream capture and graphs: arguments copied at capture, forbidden calls refused, forks joined by events.
#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace {

__global__ void append(int* y, int digit) { *y = *y * 10 + digit; }
__global__ void add(int* y, const int* x) { *y += *x; }

class Graphs : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaDeviceReset(), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&y_, sizeof(int)), cudaSuccess);
    ASSERT_EQ(cudaMemset(y_, 0, sizeof(int)), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // streams that do not block would not wait for it
    for (cudaStream_t* stream : {&a_, &b_})
      ASSERT_EQ(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), cudaSuccess);
    for (cudaEvent_t* event : {&fork_, &join_}) ASSERT_EQ(cudaEventCreate(event, cudaEventDisableTiming), cudaSuccess);
  }
  void TearDown() override { cudaDeviceReset(); }

  int value() {
    int host = -1;
    EXPECT_EQ(cudaMemcpy(&host, y_, sizeof host, cudaMemcpyDeviceToHost), cudaSuccess);
    return host;
  }
  void reset(int to = 0) { ASSERT_EQ(cudaMemcpy(y_, &to, sizeof to, cudaMemcpyHostToDevice), cudaSuccess); }
  cudaGraphExec_t instantiate(cudaGraph_t graph) {
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    return executable;
  }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    ASSERT_EQ(cudaStreamBeginCapture(a_, mode), cudaSuccess);
  }
  /// After a forbidden call the capture is lost and the stream usable again.
  void expect_lost() {
    cudaStreamCaptureStatus status{};
    EXPECT_EQ(cudaStreamIsCapturing(a_, &status), cudaSuccess);
    EXPECT_EQ(status, cudaStreamCaptureStatusInvalidated);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(a_, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(cudaStreamIsCapturing(a_, &status), cudaSuccess);
    EXPECT_EQ(status, cudaStreamCaptureStatusNone);
    cudaGetLastError();
    emulator::launch(append, 1, 1, 0, a_, y_, 1);
    EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  }

  int* y_ = nullptr;
  cudaStream_t a_ = nullptr, b_ = nullptr;
  cudaEvent_t fork_ = nullptr, join_ = nullptr;
};

TEST_F(Graphs, WorkIsRecordedAndReplayed) {
  int digit = 1;
  begin();
  emulator::launch(append, 1, 1, 0, a_, y_, digit);
  digit = 2;
  emulator::launch(append, 1, 1, 0, a_, y_, digit);
  digit = 9;
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(a_, &graph), cudaSuccess);
  EXPECT_EQ(value(), 0) << "capture runs nothing";
  cudaGraphExec_t executable = instantiate(graph);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  const auto before = cumeta_emulator_kernel_launches();
  for (int i = 0; i < 2; ++i) ASSERT_EQ(cudaGraphLaunch(executable, a_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  EXPECT_EQ(value(), 1212);
  EXPECT_EQ(cumeta_emulator_kernel_launches() - before, 4u);
  ASSERT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST_F(Graphs, CopiesReadTheirSourceAtReplay) {
  int source = 3;
  begin();
  ASSERT_EQ(cudaMemcpyAsync(y_, &source, sizeof source, cudaMemcpyHostToDevice, a_), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(y_, 0, 1, a_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(a_, &graph), cudaSuccess);
  cudaGraphExec_t executable = instantiate(graph);
  source = 0x1234;
  ASSERT_EQ(cudaGraphLaunch(executable, a_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
  EXPECT_EQ(value(), 0x1200);
}

TEST_F(Graphs, NodesAndTheirTypes) {
  begin();
  emulator::launch(append, 1, 1, 0, a_, y_, 1);
  ASSERT_EQ(cudaMemsetAsync(y_, 0, 4, a_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(a_, &graph), cudaSuccess);
  size_t count = 0;
  ASSERT_EQ(cudaGraphGetNodes(graph, nullptr, &count), cudaSuccess);
  ASSERT_EQ(count, 2u);
  std::vector<cudaGraphNode_t> nodes(count);
  ASSERT_EQ(cudaGraphGetNodes(graph, nodes.data(), &count), cudaSuccess);
  std::vector<cudaGraphNodeType> types(count);
  for (size_t i = 0; i < count; ++i) ASSERT_EQ(cudaGraphNodeGetType(nodes[i], &types[i]), cudaSuccess);
  EXPECT_EQ(types, (std::vector{cudaGraphNodeTypeKernel, cudaGraphNodeTypeMemset}));
}

TEST_F(Graphs, MallocIsRefused) {
  begin();
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaErrorStreamCaptureUnsupported);
  expect_lost();
}

TEST_F(Graphs, MallocIsAllowedInRelaxedMode) {
  begin(cudaStreamCaptureModeRelaxed);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 4), cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(a_, &graph), cudaSuccess);
}

TEST_F(Graphs, SynchronisationIsRefused) {
  begin();
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaErrorStreamCaptureUnsupported);
  expect_lost();
  begin();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  expect_lost();
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, a_), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(fork_), cudaErrorCapturedEvent);
  expect_lost();
}

TEST_F(Graphs, TheLegacyStreamIsRefused) {
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
  ASSERT_EQ(cudaStreamCreate(&a_), cudaSuccess);
  begin();
  EXPECT_EQ(cudaMemset(y_, 0, 4), cudaErrorStreamCaptureImplicit);
  expect_lost();
}

TEST_F(Graphs, AnUncapturedEventIsRefused) {
  ASSERT_EQ(cudaEventRecord(fork_, b_), cudaSuccess);
  begin();
  EXPECT_EQ(cudaStreamWaitEvent(a_, fork_), cudaErrorStreamCaptureIsolation);
  expect_lost();
}

TEST_F(Graphs, ForkAndJoin) {
  int *left = nullptr, *right = nullptr;
  ASSERT_EQ(cudaMalloc(&left, 4), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&right, 4), cudaSuccess);
  begin();
  for (int* pointer : {left, right, y_}) ASSERT_EQ(cudaMemsetAsync(pointer, 0, 4, a_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork_, a_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(b_, fork_), cudaSuccess);
  emulator::launch(append, 1, 1, 0, a_, left, 1);
  emulator::launch(append, 1, 1, 0, b_, right, 2);
  ASSERT_EQ(cudaEventRecord(join_, b_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(a_, join_), cudaSuccess);
  emulator::launch(add, 1, 1, 0, a_, y_, left);
  emulator::launch(add, 1, 1, 0, a_, y_, right);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(a_, &graph), cudaSuccess);
  cudaGraphExec_t executable = instantiate(graph);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(cudaGraphLaunch(executable, a_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
    ASSERT_EQ(value(), 3);
  }
}

TEST_F(Graphs, WhatNoEventOrdersRunsInBothOrders) {
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, a_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(b_, fork_), cudaSuccess);
  emulator::launch(append, 1, 1, 0, a_, y_, 1);
  emulator::launch(append, 1, 1, 0, b_, y_, 2);
  ASSERT_EQ(cudaEventRecord(join_, b_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(a_, join_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(a_, &graph), cudaSuccess);
  cudaGraphExec_t executable = instantiate(graph);
  std::set<int> seen;
  for (int i = 0; i < 20; ++i) {
    reset();
    ASSERT_EQ(cudaGraphLaunch(executable, a_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
    seen.insert(value());
  }
  EXPECT_EQ(seen, (std::set<int>{12, 21}));
}

TEST_F(Graphs, AForkThatIsNotJoinedIsRefused) {
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, a_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(b_, fork_), cudaSuccess);
  emulator::launch(append, 1, 1, 0, b_, y_, 2);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(b_, &graph), cudaErrorStreamCaptureUnmatched);
  expect_lost();
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, a_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(b_, fork_), cudaSuccess);
  emulator::launch(append, 1, 1, 0, b_, y_, 2);
  EXPECT_EQ(cudaStreamEndCapture(a_, &graph), cudaErrorStreamCaptureUnjoined);
  cudaStreamCaptureStatus status{};
  EXPECT_EQ(cudaStreamIsCapturing(b_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
}

}  // namespace
