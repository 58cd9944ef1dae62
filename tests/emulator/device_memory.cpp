// SPDX-License-Identifier: Apache-2.0
// Device memory between guard bands, born as NaN; copies that check both ends.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "tests/emulator/device_state.h"
#include "tests/emulator/shared_memory.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace emulator {
namespace {

constexpr size_t band = 256;  // before and behind; also the alignment that cudaMalloc promises

struct Allocation {
  size_t bytes;
  size_t padded() const { return (bytes + band - 1) / band * band; }
};

struct Memory {
  std::map<const char*, Allocation> device, host;
  size_t used = 0, total = size_t{8} << 30;
};

Memory& memory() {
  static Memory* const only = [] {
    auto* created = new Memory;
    if (const char* limit = std::getenv("CUMETA_EMULATED_MEMORY")) created->total = std::strtoull(limit, nullptr, 10);
    return created;
  }();
  return *only;
}

/// The allocation that holds this address, or the end.
template <class Map>
auto holder(Map& allocations, const void* pointer) {
  const auto* address = static_cast<const char*>(pointer);
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return allocations.end();
  --next;
  return address < next->first + next->second.bytes ? next : allocations.end();
}

void guard([[maybe_unused]] const char* start, [[maybe_unused]] const Allocation& allocation,
           [[maybe_unused]] bool on) {
#ifdef __SANITIZE_ADDRESS__
  const size_t behind = allocation.padded() - allocation.bytes + band;
  if (on) {
    __asan_poison_memory_region(start - band, band);
    __asan_poison_memory_region(start + allocation.bytes, behind);
  } else {
    __asan_unpoison_memory_region(start - band, allocation.padded() + 2 * band);
  }
#endif
}

bool check_guard(const char* start, const Allocation& allocation, const char* kernel) {
  const bool before = is_all_nan(start - band, band);
  if (before && is_all_nan(start + allocation.bytes, allocation.padded() - allocation.bytes + band)) return true;
  char text[400];
  std::snprintf(text, sizeof text, "kernel %s wrote %s an allocation of %zu bytes", kernel,
                before ? "behind" : "in front of", allocation.bytes);
  raise_fault(cudaErrorIllegalAddress, text);
  return false;
}

/// Device addresses must lie inside one allocation, host addresses outside all of them.
bool valid(const void* pointer, size_t bytes, bool on_device) {
  Memory& m = memory();
  const auto found = holder(m.device, pointer);
  if (!on_device) return found == m.device.end();
  return found != m.device.end() && static_cast<const char*>(pointer) + bytes <= found->first + found->second.bytes;
}

struct Copy {
  char* destination;
  size_t destination_pitch;
  const char* source;
  size_t source_pitch, width, height;

  size_t destination_bytes() const { return height ? (height - 1) * destination_pitch + width : 0; }
  size_t source_bytes() const { return height ? (height - 1) * source_pitch + width : 0; }
  cudaError_t operator()() const {
    for (size_t row = 0; row < height; ++row)
      std::memmove(destination + row * destination_pitch, source + row * source_pitch, width);
    return cudaSuccess;
  }
};

cudaError_t check_copy(const Copy& copy, cudaMemcpyKind kind) {
  if (copy.width > copy.destination_pitch || copy.width > copy.source_pitch) return cudaErrorInvalidValue;
  Memory& m = memory();
  if (kind == cudaMemcpyDefault)
    kind = cudaMemcpyKind((holder(m.device, copy.source) != m.device.end() ? 2 : 0) +
                          (holder(m.device, copy.destination) != m.device.end() ? 1 : 0));
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDeviceToDevice) return cudaErrorInvalidMemcpyDirection;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool good = copy.destination && copy.source && valid(copy.destination, copy.destination_bytes(), to_device) &&
                    valid(copy.source, copy.source_bytes(), from_device);
  return good ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t submit_copy(const Copy& copy, cudaMemcpyKind kind, cudaStream_t stream, bool wait) {
  Lock lock(device().mutex);
  if (!copy.width || !copy.height) return answer(cudaSuccess);
  if (const cudaError_t error = check_copy(copy, kind)) return answer(error);
  if (const cudaError_t error = submit(stream, {cudaGraphNodeTypeMemcpy, copy})) return answer(error);
  return answer(wait ? finish(stream) : cudaSuccess);
}

}  // namespace

bool check_guards(const char* kernel) {
  for (const auto& [start, allocation] : memory().device)
    if (!check_guard(start, allocation, kernel)) return false;
  return true;
}

std::pair<unsigned char*, size_t> find_allocation(const void* address) {
  for (auto* all : {&memory().device, &memory().host})
    if (const auto found = holder(*all, address); found != all->end())
      return {reinterpret_cast<unsigned char*>(const_cast<char*>(found->first)), found->second.bytes};
  return {nullptr, 0};
}

void free_all_memory() {
  Memory& m = memory();
  for (auto* all : {&m.device, &m.host})
    for (const auto& [start, allocation] : *all) {
      guard(start, allocation, false);
      std::free(const_cast<char*>(start) - band);
    }
  m.device.clear();
  m.host.clear();
  m.used = 0;
}

cudaError_t copy_symbol(void* destination, const void* source, size_t bytes, size_t limit, cudaStream_t stream) {
  Lock lock(device().mutex);
  if (bytes > limit) return answer(cudaErrorInvalidValue);
  const Copy copy{static_cast<char*>(destination), bytes, static_cast<const char*>(source), bytes, bytes, 1};
  if (const cudaError_t error = submit(stream, {cudaGraphNodeTypeMemcpy, copy})) return answer(error);
  return answer(finish(stream));
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Lock lock(device().mutex);
  *total = memory().total;
  *free = memory().total - memory().used;
  return answer(cudaSuccess);
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  Lock lock(device().mutex);
  *pointer = nullptr;
  if (const cudaError_t error = refuse_during_capture()) return answer(error);
  if (device().fault || !bytes) return answer(cudaSuccess);
  Memory& m = memory();
  const Allocation allocation{bytes};
  if (bytes > m.total || allocation.padded() > m.total - m.used) return answer(cudaErrorMemoryAllocation);
  auto* base = static_cast<char*>(std::aligned_alloc(band, allocation.padded() + 2 * band));
  if (!base) return answer(cudaErrorMemoryAllocation);
  fill_with_nan(base, allocation.padded() + 2 * band);
  m.device.emplace(base + band, allocation);
  m.used += allocation.padded();
  guard(base + band, allocation, true);
  *pointer = base + band;
  return answer(cudaSuccess);
}

cudaError_t cudaFree(void* pointer) {
  Lock lock(device().mutex);
  if (const cudaError_t error = refuse_during_capture()) return answer(error);
  if (!pointer) return answer(cudaSuccess);
  finish_all();
  Memory& m = memory();
  const auto found = m.device.find(static_cast<char*>(pointer));
  if (found == m.device.end()) return answer(cudaErrorInvalidValue);
  const Allocation allocation = found->second;
  check_guard(found->first, allocation, "before cudaFree");
  guard(found->first, allocation, false);
  fill_with_nan(static_cast<char*>(pointer) - band, allocation.padded() + 2 * band);
  std::free(static_cast<char*>(pointer) - band);
  m.used -= allocation.padded();
  m.device.erase(found);
  return answer(cudaSuccess);
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  Lock lock(device().mutex);
  *pointer = nullptr;
  if (const cudaError_t error = refuse_during_capture()) return answer(error);
  if (!bytes) return answer(cudaSuccess);
  const Allocation allocation{bytes};
  auto* base = static_cast<char*>(std::aligned_alloc(band, allocation.padded() + 2 * band));
  if (!base) return answer(cudaErrorMemoryAllocation);
  fill_with_nan(base, allocation.padded() + 2 * band);
  memory().host.emplace(base + band, allocation);
  guard(base + band, allocation, true);
  *pointer = base + band;
  return answer(cudaSuccess);
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes, unsigned flags) {
  return cudaHostAlloc(pointer, bytes, flags);
}

cudaError_t cudaFreeHost(void* pointer) {
  Lock lock(device().mutex);
  if (const cudaError_t error = refuse_during_capture()) return answer(error);
  if (!pointer) return answer(cudaSuccess);
  finish_all();
  const auto found = memory().host.find(static_cast<char*>(pointer));
  if (found == memory().host.end()) return answer(cudaErrorInvalidValue);
  guard(found->first, found->second, false);
  std::free(static_cast<char*>(pointer) - band);
  memory().host.erase(found);
  return answer(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  Lock lock(device().mutex);
  Memory& m = memory();
  auto* address = const_cast<void*>(pointer);
  *attributes = {cudaMemoryTypeUnregistered, -1, nullptr, address};
  if (holder(m.device, pointer) != m.device.end()) *attributes = {cudaMemoryTypeDevice, 0, address, nullptr};
  if (holder(m.host, pointer) != m.host.end()) *attributes = {cudaMemoryTypeHost, 0, address, address};
  return answer(cudaSuccess);
}

cudaError_t cudaMemcpy(void* destination, const void* source, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpy2D(destination, bytes, source, bytes, bytes, 1, kind);
}

cudaError_t cudaMemcpyAsync(void* destination, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return cudaMemcpy2DAsync(destination, bytes, source, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy2D(void* destination, size_t destination_pitch, const void* source, size_t source_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind) {
  return submit_copy({static_cast<char*>(destination), destination_pitch, static_cast<const char*>(source),
                      source_pitch, width, height},
                     kind, nullptr, true);
}

cudaError_t cudaMemcpy2DAsync(void* destination, size_t destination_pitch, const void* source, size_t source_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return submit_copy({static_cast<char*>(destination), destination_pitch, static_cast<const char*>(source),
                      source_pitch, width, height},
                     kind, stream, false);
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  return cudaMemsetAsync(pointer, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  Lock lock(device().mutex);
  if (!bytes) return answer(cudaSuccess);
  if (!valid(pointer, bytes, true)) return answer(cudaErrorInvalidValue);
  return answer(submit(stream, {cudaGraphNodeTypeMemset, [=] {
                                  std::memset(pointer, value, bytes);
                                  return cudaSuccess;
                                }}));
}
