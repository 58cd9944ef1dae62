// SPDX-License-Identifier: Apache-2.0
// What the threads of a block do together: barriers, warp collectives, atomics, shared memory, asynchronous copies.
#pragma once
#include <cstring>
#include <type_traits>

#include "tests/emulator/cuda_language.h"

namespace emulator {

/// Where in the source a thread waits: two threads at one barrier must name the same place.
struct Site {
  const char* file;
  int line;
};

enum class Collective : unsigned char { sync_warp, shuffle, ballot, matrices };

/// Identity of one declaration of static shared memory (one per template instance).
struct SharedSite {
  char identity = 0;
};

struct AsyncCopy {
  unsigned char* destination;
  const unsigned char* source;
  unsigned bytes, zeros;  // bytes copied, then zeros written
};

/// Whether the barrier here is the one that CUMETA_EMULATOR_WITHOUT_BARRIER names (left_out_barrier.cpp).
bool leaves_out(Site site);
void barrier(bool predicate, Site site);
bool barrier_any();
bool barrier_all();
int barrier_count();
/// Waits for all live lanes of `mask`; a shuffle returns source_lane's value, a ballot the bits of the predicates.
uint64_t collective(unsigned mask, Collective kind, uint64_t value, unsigned source_lane, Site site);
/// What the lanes of a warp hand in for a product of two matrices on tensor cores (mma.m16n8k8).
struct MatrixFragments {
  unsigned a[32][4], b[32][2];
};
/// Waits for the whole warp; the result stands until the warp's next exchange but one. A warp that is not full fails.
const MatrixFragments& exchange_fragments(const unsigned (&a)[4], const unsigned (&b)[2], Site site);
void release_warp();
void acquire_warp();
unsigned lane();
unsigned live_lanes();
void* static_shared(const SharedSite* site, size_t bytes);
void* dynamic_shared();
void push_async_copy(const AsyncCopy& copy);
void commit_async_copies();
/// Takes the oldest copy of any group but the `pending` latest; false when there is none.
bool next_async_copy(int pending, AsyncCopy* copy);
/// Lets other threads of the block run: a thread that polls memory must call __nanosleep.
void pause();
[[noreturn]] void trap(const char* what);

/// The destination is undefined from here to cp_async_wait, so it is filled with NaN here and written there: both a
/// read that comes too early and a copy into memory that others still read show. (Kept inline: the ThreadSanitizer
/// must see both writes.)
inline void cp_async(void* destination, const void* source, unsigned bytes, unsigned zeros = 0) {
  auto* target = static_cast<unsigned char*>(destination);
  if ((reinterpret_cast<uintptr_t>(destination) | reinterpret_cast<uintptr_t>(source)) % (bytes + zeros))
    trap("cp.async of an address that is not a multiple of its size");
  for (unsigned i = 0; i < bytes + zeros; ++i) target[i] = 0xff;
  push_async_copy({target, static_cast<const unsigned char*>(source), bytes, zeros});
}
inline void cp_async_commit() { commit_async_copies(); }
inline void cp_async_wait(int pending) {
  AsyncCopy copy{};
  while (next_async_copy(pending, &copy)) {
    for (unsigned i = 0; i < copy.bytes; ++i) copy.destination[i] = copy.source[i];
    for (unsigned i = 0; i < copy.zeros; ++i) copy.destination[copy.bytes + i] = 0;
  }
}

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "shuffles take values of at most 64 bits");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T>
T shuffle(unsigned mask, T value, unsigned source, Site site) {
  return from_bits<T>(collective(mask, Collective::shuffle, to_bits(value), source, site));
}

}  // namespace emulator

#define CUMETA_SHARED(type, name, count)             \
  static constinit emulator::SharedSite name##_site; \
  type(&name)[count] = *static_cast<type(*)[count]>(emulator::static_shared(&name##_site, sizeof(type) * (count)))
#define CUMETA_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(emulator::dynamic_shared())

#define CUMETA_EMULATOR_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUMETA_EMULATOR_HERE) {
  if (!emulator::leaves_out({file, line})) emulator::barrier(false, {file, line});
}
inline int __syncthreads_or(int predicate, CUMETA_EMULATOR_HERE) {
  emulator::barrier(predicate != 0, {file, line});
  return emulator::barrier_any();
}
inline int __syncthreads_and(int predicate, CUMETA_EMULATOR_HERE) {
  emulator::barrier(predicate != 0, {file, line});
  return emulator::barrier_all();
}
inline int __syncthreads_count(int predicate, CUMETA_EMULATOR_HERE) {
  emulator::barrier(predicate != 0, {file, line});
  return emulator::barrier_count();
}

/// Of all warp collectives only this one orders memory.
inline void __syncwarp(unsigned mask = 0xffffffffu, CUMETA_EMULATOR_HERE) {
  if (emulator::leaves_out({file, line})) return;
  emulator::release_warp();
  emulator::collective(mask, emulator::Collective::sync_warp, 0, 0, {file, line});
  emulator::acquire_warp();
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUMETA_EMULATOR_HERE) {
  const unsigned last = unsigned(width) - 1, first = emulator::lane() & ~last;
  return emulator::shuffle(mask, value, first + (unsigned(source) & last), {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, CUMETA_EMULATOR_HERE) {
  const unsigned lane = emulator::lane(), end = lane | (unsigned(width) - 1), source = lane ^ unsigned(lane_mask);
  return emulator::shuffle(mask, value, source > end ? lane : source, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUMETA_EMULATOR_HERE) {
  const unsigned lane = emulator::lane(), end = lane | (unsigned(width) - 1);
  return emulator::shuffle(mask, value, delta > end - lane ? lane : lane + delta, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUMETA_EMULATOR_HERE) {
  const unsigned lane = emulator::lane(), first = lane & ~(unsigned(width) - 1);
  return emulator::shuffle(mask, value, delta > lane - first ? lane : lane - delta, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CUMETA_EMULATOR_HERE) {
  return unsigned(emulator::collective(mask, emulator::Collective::ballot, predicate != 0, 0, {file, line}));
}
inline int __any_sync(unsigned mask, int predicate, CUMETA_EMULATOR_HERE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUMETA_EMULATOR_HERE) {
  return __ballot_sync(mask, !predicate, file, line) == 0;
}
inline unsigned __activemask() { return emulator::live_lanes(); }
#undef CUMETA_EMULATOR_HERE

// Stronger than the device's relaxed order: the ThreadSanitizer does not model fences, and "the last block done"
// (fence, then counter) must not look like a race.
template <class T, class Change>
T emulator_atomic_update(T* address, Change change) {
  T old, next;
  __atomic_load(address, &old, __ATOMIC_ACQUIRE);
  do next = change(old);
  while (!__atomic_compare_exchange(address, &old, &next, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  return old;
}
template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return emulator_atomic_update(address, [=](T old) { return T(old + value); });
}
template <class T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return emulator_atomic_update(address, [=](T old) { return T(old - value); });
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return emulator_atomic_update(address, [=](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return emulator_atomic_update(address, [=](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return emulator_atomic_update(address, [=](T old) { return T(old | value); });
}
template <class T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return emulator_atomic_update(address, [=](T old) { return T(old & value); });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return emulator_atomic_update(address, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  __atomic_compare_exchange(address, &expected, &value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  return expected;
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return emulator_atomic_update(address, [=](unsigned old) { return old >= limit ? 0u : old + 1; });
}
inline void __nanosleep(unsigned) { emulator::pause(); }
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}
[[noreturn]] inline void __trap() { emulator::trap("__trap()"); }
