// SPDX-License-Identifier: Apache-2.0
// Shared memory and copies into it: CUMETA_SHARED(type, name, count) is an array, CUMETA_DYNAMIC_SHARED(type, name) a
// pointer, copy_async fills them behind the kernel's back (cp.async on sm_80 and later, a plain copy before).
#pragma once
#include <cuda_runtime.h>

#ifndef CUMETA_CUDA_EMULATED
#define CUMETA_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define CUMETA_DYNAMIC_SHARED(type, name)                                       \
  extern __shared__ __align__(16) unsigned char cumeta_dynamic_shared_memory[]; \
  type* const name = reinterpret_cast<type*>(cumeta_dynamic_shared_memory)
#endif

namespace cumeta {

/// shared[0..bytes) = global[0..bytes), or zeros where `valid` is false (global is not read then); both aligned to
/// `bytes`, which is 4, 8 or 16. The thread itself may read it after copy_async_wait, the others after a barrier too.
template <int bytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid = true) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if defined(CUMETA_CUDA_EMULATED)
  emulator::cp_async(shared, global, valid ? bytes : 0, valid ? 0 : bytes);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int count = valid ? bytes : 0;
  if constexpr (bytes == 16) {
    // .cg passes the first-level cache by: what comes this way is read from shared memory afterwards.
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(count) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(global), "n"(bytes), "r"(count)
                 : "memory");
  }
#else
  if constexpr (bytes == 16) {
    *static_cast<int4*>(shared) = valid ? *static_cast<const int4*>(global) : make_int4(0, 0, 0, 0);
  } else if constexpr (bytes == 8) {
    *static_cast<int2*>(shared) = valid ? *static_cast<const int2*>(global) : make_int2(0, 0);
  } else {
    *static_cast<int*>(shared) = valid ? *static_cast<const int*>(global) : 0;
  }
#endif
}

/// p + n as one instruction. The compiler would add up the indices first, in 64 bits, and anew in every loop.
__device__ __forceinline__ const float* offset_by(const float* p, int n) {
#if defined(__CUDA_ARCH__) && !defined(CUMETA_CUDA_EMULATED)
  const float* moved;
  asm("mad.wide.s32 %0, %1, 4, %2;" : "=l"(moved) : "r"(n), "l"(p));
  return moved;
#else
  return p + n;
#endif
}

/// Closes a group of copies.
__device__ __forceinline__ void copy_async_commit() {
#if defined(CUMETA_CUDA_EMULATED)
  emulator::cp_async_commit();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most `pending` of this thread's latest groups are still under way.
template <int pending>
__device__ __forceinline__ void copy_async_wait() {
#if defined(CUMETA_CUDA_EMULATED)
  emulator::cp_async_wait(pending);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

}  // namespace cumeta
