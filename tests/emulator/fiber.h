// SPDX-License-Identifier: Apache-2.0
// A stack that can be left and come back to: the switch between emulated threads, known to the sanitizers.
#pragma once
#include <cstddef>

namespace emulator {

struct Fiber {
  void* context = nullptr;
  void (*entry)() = nullptr;
  char* stack = nullptr;
  const void* stack_bottom = nullptr;  // as the AddressSanitizer wants it; learned at the first switch for the host's
  size_t stack_size = 0;
  void* fake_stack = nullptr;
  void* tsan_fiber = nullptr;
};

/// A fresh run of `entry` on the fiber's stack; what stood there before is forgotten.
void prepare(Fiber& fiber, void (*entry)(), size_t colour);
/// Leaves `from` (for good when `finished`) and continues `to`; returns when something switches back.
void switch_fiber(Fiber& from, Fiber& to, bool finished);
void make_host_fiber(Fiber& host);
/// A stack above a page that faults.
void allocate_stack(Fiber& fiber);
/// A fiber that will never go on: what it did happens before whoever acquires the tag.
void abandon(Fiber& fiber, Fiber& host, void* tag);
/// Happens-before, where the ThreadSanitizer looks on.
void release(void* tag);
void acquire(void* tag);

}  // namespace emulator
