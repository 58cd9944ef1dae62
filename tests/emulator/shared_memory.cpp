// SPDX-License-Identifier: Apache-2.0
// Layout of a block's shared memory: zone, array, zone, array, ..., zone; every byte 0xff until somebody writes it.
#include "tests/emulator/shared_memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

#include "tests/emulator/block_scheduler.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace emulator {
namespace {
constexpr size_t zone = 64, alignment = 16;
constexpr size_t arena_bytes = 512 << 10, slots = 64;
}  // namespace

void fill_with_nan(void* pointer, size_t bytes) {
#ifdef __x86_64__
  asm volatile("rep stosb" : "+D"(pointer), "+c"(bytes) : "a"(0xff) : "memory");
#else
  auto* byte = static_cast<volatile unsigned char*>(pointer);
  for (size_t i = 0; i < bytes; ++i) byte[i] = 0xff;
#endif
}

__attribute__((no_sanitize("address"))) bool is_all_nan(const void* pointer, size_t bytes) {
  const auto* byte = static_cast<const volatile unsigned char*>(pointer);
  for (size_t i = 0; i < bytes; ++i)
    if (byte[i] != 0xff) return false;
  return true;
}

void SharedMemory::start_block(unsigned slot, size_t dynamic_bytes) {
  if (!arenas_) {
    void* memory =
        mmap(nullptr, slots * arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("cuda emulator: shared memory");
      std::abort();
    }
    arenas_ = static_cast<unsigned char*>(memory);
  }
  arena_ = arenas_ + slot % slots * arena_bytes;
  fill_with_nan(arena_, zone);
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(arena_, arena_bytes);
#endif
  count_ = 0;
  used_ = zone;
  dynamic_ = add(nullptr, dynamic_bytes);
  static_bytes_ = 0;
}

void* SharedMemory::add(const SharedSite* site, size_t bytes) {
  const size_t room = (bytes + alignment - 1) / alignment * alignment + zone;
  if (count_ == most_arrays || used_ + room > arena_bytes) return nullptr;
  unsigned char* start = arena_ + used_;
  arrays_[count_++] = {site, used_, bytes};
  static_bytes_ += bytes;
  used_ += room;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(start, room);
#endif
  fill_with_nan(start, room);
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(start + bytes, room - bytes);
#endif
  return start;
}

void* SharedMemory::find_or_add(const SharedSite* site, size_t bytes) {
  for (int i = 1; i < count_; ++i)
    if (arrays_[i].site == site) return arena_ + arrays_[i].offset;
  return add(site, bytes);
}

int SharedMemory::damaged(size_t* bytes) const {
  for (int i = 0; i < count_; ++i) {
    const Array& array = arrays_[i];
    if (!array.bytes && count_ > 1) continue;  // its only zone is its neighbour's too
    const size_t end = array.offset + array.bytes, next = i + 1 < count_ ? arrays_[i + 1].offset : used_;
    *bytes = array.bytes;
    if (!is_all_nan(arena_ + array.offset - zone, zone) || !is_all_nan(arena_ + end, next - end)) return i;
  }
  return -1;
}

}  // namespace emulator
