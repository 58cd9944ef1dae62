// SPDX-License-Identifier: Apache-2.0
// The emulated device behind the runtime API: its lock, errors, work, streams and captures.
#pragma once
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tests/emulator/block_scheduler.h"
#include "tests/emulator/cuda_runtime_calls.h"

namespace emulator {

/// One thing a stream does; `run` returns what went wrong.
struct Work {
  cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
  std::function<cudaError_t()> run;
};

struct Capture;

}  // namespace emulator

struct EmulatedGraphNode {
  emulator::Work work;
  std::vector<const EmulatedGraphNode*> after;
};

struct EmulatedGraph {
  std::vector<std::shared_ptr<EmulatedGraphNode>> nodes;
};

struct EmulatedGraphExec {
  std::vector<std::shared_ptr<EmulatedGraphNode>> nodes;
};

struct EmulatedStream {
  bool blocking = true;
  std::shared_ptr<emulator::Capture> capture;
  std::vector<const EmulatedGraphNode*> frontier;  // nodes that the next one of this stream comes after
  struct Entry {
    unsigned long long number;
    emulator::Work work;
  };
  std::deque<Entry> queue;
};

struct EmulatedEvent {
  bool timed = true, recorded = false, reached = false;
  std::chrono::steady_clock::time_point time;
  EmulatedStream* stream = nullptr;
  unsigned long long number = 0;  // of the latest record
  std::shared_ptr<emulator::Capture> capture;
  std::vector<const EmulatedGraphNode*> frontier;
};

namespace emulator {

struct Capture {
  cudaGraph_t graph = nullptr;
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread = std::this_thread::get_id();
  bool valid = true;
  std::vector<cudaStream_t> streams;
};

struct Device {
  std::recursive_mutex mutex;
  cudaError_t fault = cudaSuccess;  // sticky: every later call returns it
  char report[640] = "";
  unsigned long long seed = 0, launches = 0, work_number = 0;
  EmulatedStream legacy;
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
  std::set<cudaGraph_t> graphs;
  std::set<cudaGraphExec_t> executables;
  std::vector<std::shared_ptr<Capture>> captures;
};

/// Every API call holds this; a reference that is never destroyed.
Device& device();
using Lock = std::lock_guard<std::recursive_mutex>;

/// Notes the error for cudaGetLastError() and returns it.
cudaError_t answer(cudaError_t error);
/// A kernel went wrong: from now on every call fails.
void raise_fault(cudaError_t error, const char* text);
/// Dynamic shared memory that a kernel may ask for: the default, or what cudaFuncSetAttribute set.
size_t dynamic_shared_limit(const void* kernel);

/// Queues the work, or records it when the stream captures.
cudaError_t submit(cudaStream_t stream, Work work);
cudaStream_t resolve(cudaStream_t stream);
bool exists(cudaStream_t stream);
/// Runs what the stream still has to do (up to that number).
cudaError_t finish(cudaStream_t stream, unsigned long long number = ~0ull);
cudaError_t finish_all();

/// An error when somebody captures in a way that forbids calls like cudaMalloc; the capture is lost then.
cudaError_t refuse_during_capture();
/// The same for work on the legacy stream.
cudaError_t refuse_legacy_stream();
cudaError_t record_in_capture(cudaStream_t stream, Work work);
void lose(Capture& capture);

/// Whether something wrote beside an allocation; raises the fault and names the kernel.
bool check_guards(const char* kernel);
void free_all_memory();
/// The allocation, of the device or pinned, that holds the address; {nullptr, 0} when none does.
std::pair<unsigned char*, size_t> find_allocation(const void* address);

}  // namespace emulator
