// SPDX-License-Identifier: Apache-2.0
// Fibers on Boost.Context's jump, with the annotations that the address and thread sanitizers need.
#include "tests/emulator/fiber.h"

#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstdio>
#include <cstdlib>

// This file is never instrumented by the ThreadSanitizer, so the build says whether the kernels are.
#ifdef CUMETA_EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {
namespace {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr size_t page = 4096;
#if defined(CUMETA_EMULATOR_TSAN) || defined(__SANITIZE_ADDRESS__)
constexpr size_t stack_bytes = 256 * 1024;
#else
constexpr size_t stack_bytes = 64 * 1024;
#endif

Fiber* arriving;  // where the switch under way leads

void arrive(transfer_t transfer) {
  auto* from = static_cast<Fiber*>(transfer.data);
  from->context = transfer.fctx;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(arriving->fake_stack, &from->stack_bottom, &from->stack_size);
#endif
}

void begin(transfer_t transfer) {
  Fiber* self = arriving;
#ifdef __SANITIZE_ADDRESS__
  self->fake_stack = nullptr;
#endif
  arrive(transfer);
  self->entry();
  std::abort();  // an entry ends with switch_fiber(..., finished)
}

}  // namespace

void prepare(Fiber& fiber, void (*entry)(), size_t colour) {
  // Stack tops one power of two apart would share their cache sets: each starts some lines lower than its neighbour.
  const size_t shift = colour % 61 * 64;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(fiber.stack, stack_bytes);
#endif
  fiber.entry = entry;
  fiber.context = make_fcontext(fiber.stack + stack_bytes - shift, stack_bytes - shift, begin);
}

void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool finished) {
  arriving = &to;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(finished ? nullptr : &from.fake_stack, to.stack_bottom, to.stack_size);
#endif
#ifdef CUMETA_EMULATOR_TSAN
  __tsan_switch_to_fiber(to.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
  arrive(jump_fcontext(to.context, &from));
}

void make_host_fiber([[maybe_unused]] Fiber& host) {
#ifdef CUMETA_EMULATOR_TSAN
  host.tsan_fiber = __tsan_get_current_fiber();
#endif
}

void allocate_stack(Fiber& fiber) {
  void* memory =
      mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE)) {
    std::perror("cuda emulator: the stack of an emulated thread");
    std::abort();
  }
  fiber.stack = static_cast<char*>(memory) + page;
  fiber.stack_bottom = fiber.stack;
  fiber.stack_size = stack_bytes;
#ifdef CUMETA_EMULATOR_TSAN
  fiber.tsan_fiber = __tsan_create_fiber(0);
#endif
}

void abandon([[maybe_unused]] Fiber& fiber, [[maybe_unused]] Fiber& host, [[maybe_unused]] void* tag) {
#ifdef CUMETA_EMULATOR_TSAN
  __tsan_switch_to_fiber(fiber.tsan_fiber, __tsan_switch_to_fiber_no_sync);
  __tsan_release(tag);
  __tsan_switch_to_fiber(host.tsan_fiber, __tsan_switch_to_fiber_no_sync);
  __tsan_destroy_fiber(fiber.tsan_fiber);  // its call stack is not the next run's
  fiber.tsan_fiber = __tsan_create_fiber(0);
#endif
}

void release([[maybe_unused]] void* tag) {
#ifdef CUMETA_EMULATOR_TSAN
  __tsan_release(tag);
#endif
}

void acquire([[maybe_unused]] void* tag) {
#ifdef CUMETA_EMULATOR_TSAN
  __tsan_acquire(tag);
#endif
}

}  // namespace emulator
