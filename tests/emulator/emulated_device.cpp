// SPDX-License-Identifier: Apache-2.0
// The emulated device: an H100's figures, errors with CUDA's stickiness, kernel attributes and launches.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "tests/emulator/device_state.h"
#include "tests/emulator/planned_trouble.h"

namespace emulator {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

std::map<const void*, size_t>& dynamic_limits() {
  static auto* limits = new std::map<const void*, size_t>;
  return *limits;
}

bool fits(const Launch& launch) {
  const dim3 g = launch.grid, b = launch.block;
  const uint64_t threads = uint64_t(b.x) * b.y * b.z;
  return g.x && g.y && g.z && g.x <= 0x7fffffffu && g.y <= 65535 && g.z <= 65535 && b.x <= 1024 && b.y <= 1024 &&
         b.z <= 64 && threads && threads <= 1024;
}

cudaError_t run_launch(const Launch& launch) {
  Device& d = device();
  if (fault_is_planned(launch.name)) {
    raise_fault(cudaErrorIllegalAddress, "a fault that was asked for");
    return d.fault;
  }
  const uint64_t order = (d.seed + 1) * 0x9e3779b97f4a7c15u + ++d.launches;
  const size_t limit = dynamic_shared_limit(launch.kernel) > shared_default ? shared_opt_in : shared_default;
  const Fault fault = grid_runner(launch, limit, order);
  if (fault.error)
    raise_fault(fault.error, fault.text);
  else
    check_guards(launch.name);
  return d.fault;
}

}  // namespace

Device& device() {
  static Device* const only = [] {
    auto* created = new Device;  // lives as long as any static destructor may call
    if (const char* seed = std::getenv("CUMETA_EMULATOR_SEED")) created->seed = std::strtoull(seed, nullptr, 10);
    return created;
  }();
  return *only;
}

cudaError_t answer(cudaError_t error) {
  if (device().fault) error = device().fault;
  if (error && error != cudaErrorNotReady) last_error = error;
  return error;
}

void raise_fault(cudaError_t error, const char* text) {
  Device& d = device();
  if (d.fault) return;
  d.fault = error;
  std::snprintf(d.report, sizeof d.report, "%s", text);
  std::fprintf(stderr, "cuda emulator: %s\n", text);
}

size_t dynamic_shared_limit(const void* kernel) {
  const auto found = dynamic_limits().find(kernel);
  return found == dynamic_limits().end() ? shared_default : found->second;
}

namespace {
/// CUMETA_EMULATOR_TRACE=file: a line for each kernel as it is queued, so that a graph's nodes can be read.
void trace(const Launch& launch) {
  static const char* path = std::getenv("CUMETA_EMULATOR_TRACE");
  if (!path) return;
  static std::FILE* file = std::fopen(path, "w");
  if (!file) return;
  std::fprintf(file, "%s grid %ux%ux%u block %u shared %zu\n", launch.name, launch.grid.x, launch.grid.y, launch.grid.z,
               launch.block.x * launch.block.y * launch.block.z, launch.dynamic_shared);
  std::fflush(file);
}
}  // namespace

void submit_launch(Launch launch, cudaStream_t stream) {
  Lock lock(device().mutex);
  trace(launch);
  if (!fits(launch)) return void(answer(cudaErrorInvalidConfiguration));
  if (launch.dynamic_shared > dynamic_shared_limit(launch.kernel)) return void(answer(cudaErrorInvalidValue));
  answer(submit(stream, {cudaGraphNodeTypeKernel, [launch] { return run_launch(launch); }}));
}

unsigned long long kernel_launches() {
  Lock lock(device().mutex);
  finish_all();
  return device().launches;
}

const char* report() { return device().report; }

void set_seed(unsigned long long seed) {
  Lock lock(device().mutex);
  finish_all();
  device().seed = seed;
}

}  // namespace emulator

extern "C" unsigned long long cumeta_emulator_kernel_launches() { return emulator::kernel_launches(); }

using namespace emulator;

cudaError_t cudaGetDeviceCount(int* count) {
  Lock lock(device().mutex);
  if (machine_is("no_driver") || machine_is("old_driver")) return answer(cudaErrorInsufficientDriver);
  if (machine_is("no_device")) return answer(cudaErrorNoDevice);
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int ordinal) {
  Lock lock(device().mutex);
  if (machine_is("busy")) return answer(cudaErrorDevicesUnavailable);
  return answer(ordinal == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int* ordinal) {
  Lock lock(device().mutex);
  *ordinal = 0;
  return answer(cudaSuccess);
}

cudaError_t cudaSetDeviceFlags(unsigned) { return cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal) {
  Lock lock(device().mutex);
  if (ordinal != 0) return answer(cudaErrorInvalidDevice);
  size_t free = 0, total = 0;
  if (const cudaError_t error = cudaMemGetInfo(&free, &total)) return error;
  cudaDeviceProp p{};
  std::snprintf(p.name, sizeof p.name, "emulated H100");
  p.totalGlobalMem = total;
  p.sharedMemPerBlock = shared_default;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.warpSize = 32;
  p.memPitch = 0x7fffffff;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 0x7fffffff;
  p.maxGridSize[1] = p.maxGridSize[2] = 65535;
  p.totalConstMem = 65536;
  p.major = machine_is("capability_6") ? 6 : machine_is("capability_75") ? 7 : 9;
  p.minor = machine_is("capability_75") ? 5 : 0;
  p.multiProcessorCount = 132;
  p.canMapHostMemory = p.concurrentKernels = p.ECCEnabled = p.unifiedAddressing = p.managedMemory = 1;
  p.asyncEngineCount = 3;
  p.memoryBusWidth = 5120;
  p.l2CacheSize = 50 << 20;
  p.persistingL2CacheMaxSize = 32 << 20;
  p.maxThreadsPerMultiProcessor = 2048;
  p.sharedMemPerMultiprocessor = 228 << 10;
  p.sharedMemPerBlockOptin = shared_opt_in;
  p.reservedSharedMemPerBlock = 1024;
  p.maxBlocksPerMultiProcessor = 32;
  *properties = p;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int ordinal) {
  cudaDeviceProp p{};
  if (const cudaError_t error = cudaGetDeviceProperties(&p, ordinal)) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = int(p.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrMaxRegistersPerBlock:
      *value = p.regsPerBlock;
      break;
    case cudaDevAttrClockRate:
      *value = 1980000;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrMemoryClockRate:
      *value = 2619000;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = p.memoryBusWidth;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = int(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = int(p.sharedMemPerBlockOptin);
      break;
    default:
      return answer(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Lock lock(device().mutex);
  if (const cudaError_t error = refuse_during_capture()) return answer(error);
  return answer(finish_all());
}

cudaError_t cudaDeviceReset() {
  Device& d = device();
  Lock lock(d.mutex);
  for (cudaStream_t stream : d.streams) delete stream;
  for (cudaEvent_t event : d.events) delete event;
  for (cudaGraph_t graph : d.graphs) delete graph;
  for (cudaGraphExec_t executable : d.executables) delete executable;
  d.streams.clear();
  d.events.clear();
  d.graphs.clear();
  d.executables.clear();
  d.captures.clear();
  d.legacy.queue.clear();
  free_all_memory();
  dynamic_limits().clear();
  d.fault = last_error = cudaSuccess;
  d.report[0] = 0;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine_is("no_driver") ? 0 : machine_is("old_driver") ? 12040 : CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaPeekAtLastError() {
  Lock lock(device().mutex);
  return device().fault ? device().fault : last_error;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  Lock lock(device().mutex);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return answer(cudaSuccess);
  if (value < 0 || size_t(value) > shared_opt_in) return answer(cudaErrorInvalidValue);
  dynamic_limits()[function] = size_t(value);
  return answer(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  Lock lock(device().mutex);
  if (machine_is("no_kernels")) return answer(cudaErrorNoKernelImageForDevice);
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 64;
  attributes->ptxVersion = attributes->binaryVersion = 90;
  attributes->maxDynamicSharedSizeBytes = int(dynamic_shared_limit(function));
  return answer(cudaSuccess);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads,
                                                          size_t dynamic_shared) {
  Lock lock(device().mutex);
  if (threads < 1 || threads > 1024) return answer(cudaErrorInvalidValue);
  const size_t by_threads = 2048 / ((size_t(threads) + 31) / 32 * 32),
               by_shared = (228 << 10) / (dynamic_shared + 1024);
  *blocks = int(std::min({by_threads, by_shared, size_t{32}}));
  return answer(cudaSuccess);
}
