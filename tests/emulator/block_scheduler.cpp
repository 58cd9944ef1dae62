// SPDX-License-Identifier: Apache-2.0
// One block at a time: a thread runs until it must wait, then the next one in the block's present order. Nothing here
// may call a template of the standard library on a fiber: its instrumented twin could be linked and be seen as a race.
#include "tests/emulator/block_scheduler.h"

#include <bit>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "tests/emulator/cuda_threads.h"
#include "tests/emulator/fiber.h"
#include "tests/emulator/shared_memory.h"
#include "tests/emulator/thread_order.h"

uint3 threadIdx{}, blockIdx{};
dim3 blockDim, gridDim;

namespace emulator {
namespace {

constexpr unsigned most_threads = 1024, lanes = 32, most_warps = most_threads / lanes;

// What the ThreadSanitizer sees: the blocks of a group are not ordered, so each has its own tags, shared memory and, as
// far as a rotation goes, fibers; between two groups the host makes everything happen before.
#ifdef CUMETA_EMULATOR_TSAN
constexpr unsigned group_blocks = 64, spare_fibers = 256;
#else
constexpr unsigned group_blocks = 1, spare_fibers = 0;
#endif

enum class State : unsigned char { ready, at_barrier, at_collective, done };

struct PendingCopy {
  AsyncCopy copy;
  int group;
};

constexpr unsigned most_copies = 1024;

struct Thread {
  Fiber* fiber = nullptr;
  State state = State::done;
  uint3 index{};
  unsigned number = 0;
  Site site{};
  uint64_t value = 0, result = 0;
  unsigned source_lane = 0;
  unsigned barriers = 0, warp_syncs = 0;  // parity picks the happens-before tag
  unsigned exchanges = 0;                 // parity picks the fragments' place: a slow lane may still read the last ones
  unsigned copies_pushed = 0, copies_done = 0;
  int group = 0;
};

struct Waiting {
  unsigned mask, arrived;
  Collective kind;
};

struct Warp {
  unsigned live = 0;
  Waiting waiting[lanes];
  int count = 0;
  MatrixFragments fragments[2];
};

// Two tags for each kind of wait: a thread may reach the next barrier before a slow one has left this one, and a
// single tag would then order what nothing orders.
struct Tags {
  char barrier[2], warp[most_warps][2];
};
char start_tag, end_tag;
Tags tags[group_blocks];

struct Scheduler : ThreadOrder {
  Fiber fibers[most_threads + spare_fibers];
  Thread threads[most_threads];
  Warp warps[most_warps];
  SharedMemory shared;
  Fiber host;
  Thread* current = nullptr;
  const Launch* launch = nullptr;
  size_t shared_limit = 0;
  Fault fault;
  unsigned count = 0, allocated = 0, live = 0, waiting = 0, slot = 0;
  unsigned predicates_true = 0, barrier_true = 0, barrier_threads = 0;
  bool progress = false;
};

Scheduler scheduler;
PendingCopy copies[most_threads][most_copies];  // a ring for each thread
Scheduler& s = scheduler;

__attribute__((format(printf, 3, 4))) void fail(cudaError_t error, const Thread* thread, const char* format, ...) {
  if (s.fault.error) return;
  s.fault.error = error;
  char what[300];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  char where[64] = "";
  if (thread) {
    const uint3& t = thread->index;
    std::snprintf(where, sizeof where, ", thread (%u,%u,%u)", t.x, t.y, t.z);
  }
  std::snprintf(s.fault.text, sizeof s.fault.text, "kernel %s, block (%u,%u,%u)%s: %s", s.launch->name, blockIdx.x,
                blockIdx.y, blockIdx.z, where, what);
}

void complete_barrier() {
  const Thread* first = nullptr;
  for (unsigned i = 0; i < s.count; ++i) {
    Thread& thread = s.threads[i];
    if (thread.state != State::at_barrier) continue;
    if (!first) first = &thread;
    if (thread.site.line != first->site.line || thread.site.file != first->site.file)
      return fail(cudaErrorLaunchFailure, &thread, "waits at the barrier of %s:%d while thread %u waits at %s:%d",
                  thread.site.file, thread.site.line, first->number, first->site.file, first->site.line);
    thread.state = State::ready;
  }
  s.barrier_true = s.predicates_true;
  s.barrier_threads = s.waiting;
  s.predicates_true = s.waiting = 0;
}

void report_deadlock() {
  for (unsigned i = 0; i < s.count; ++i)
    if (const Thread& thread = s.threads[i]; thread.state == State::at_collective)
      return fail(cudaErrorLaunchFailure, &thread,
                  "waits in the warp collective of %s:%d for lanes of its mask that never come", thread.site.file,
                  thread.site.line);
  fail(cudaErrorLaunchFailure, nullptr, "deadlock");
}

/// The next thread to run; null when the block is over or wrong.
Thread* next_thread() {
  for (;;) {
    while (s.position < s.span) {
      const unsigned number = (s.multiplier * s.position++ + s.offset) & (s.span - 1);
      if (number >= s.count) continue;
      Thread& thread = s.threads[number];
      if (thread.state != State::ready) continue;
      s.progress = true;
      return &thread;
    }
    if (!s.live || s.fault.error) return nullptr;
    if (s.waiting == s.live) {
      complete_barrier();
      s.shuffle_order();
    } else if (!s.progress) {
      report_deadlock();
    }
    if (s.fault.error) return nullptr;
    s.position = 0;
    s.progress = false;
  }
}

void leave(Thread& thread, bool finished) {
  Thread* next = s.fault.error ? nullptr : next_thread();
  if (next == &thread) return;
  s.current = next;
  if (next) threadIdx = next->index;
  switch_fiber(*thread.fiber, next ? *next->fiber : s.host, finished);
}

void complete(Warp& warp, int which) {
  const Waiting done = warp.waiting[which];
  warp.waiting[which] = warp.waiting[--warp.count];
  Thread* first = s.threads + (&warp - s.warps) * lanes;
  uint64_t ballot = 0;
  if (done.kind == Collective::ballot)
    for (unsigned lane = 0; lane < lanes; ++lane)
      if (done.arrived >> lane & 1) ballot |= first[lane].value << lane;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    if (!(done.arrived >> lane & 1)) continue;
    Thread& thread = first[lane];
    const bool heard = thread.source_lane < lanes && done.arrived >> thread.source_lane & 1;
    thread.result = done.kind == Collective::ballot ? ballot : heard ? first[thread.source_lane].value : ~uint64_t{0};
    thread.state = State::ready;
  }
  if (s.hurry) s.position = 0;
}

void complete_all(Warp& warp) {
  for (int i = warp.count - 1; i >= 0; --i)
    if (!(warp.waiting[i].mask & warp.live & ~warp.waiting[i].arrived)) complete(warp, i);
}

void run_thread() {
  acquire(&start_tag);
  s.launch->thread();
  release(&end_tag);
  Thread& self = *s.current;
  if (self.copies_pushed != self.copies_done)
    fail(cudaErrorLaunchFailure, &self, "ends with asynchronous copies that it never waited for");
  self.state = State::done;
  --s.live;
  Warp& warp = s.warps[self.number / lanes];
  warp.live &= ~(1u << self.number % lanes);
  complete_all(warp);
  leave(self, true);
}

void run_block() {
  s.shared.start_block(s.slot, s.launch->dynamic_shared);
  s.live = s.count;
  s.waiting = s.predicates_true = 0;
  const dim3 size = blockDim;
  // A block of at most 256 threads shares no fiber with the one before: a shared one would order the two.
  const unsigned pool = s.count + spare_fibers, rotation = spare_fibers ? s.slot * s.count % pool : 0;
  for (unsigned i = 0; i < s.count; ++i) {
    Thread& thread = s.threads[i];
    thread.state = State::ready;
    thread.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    thread.number = i;
    thread.barriers = thread.warp_syncs = thread.exchanges = 0;
    thread.copies_pushed = thread.copies_done = 0;
    thread.group = 0;
    thread.fiber = &s.fibers[(i + rotation) % pool];
    prepare(*thread.fiber, run_thread, i);
  }
  for (unsigned w = 0; w * lanes < s.count; ++w) {
    const unsigned size_of_warp = s.count - w * lanes;
    s.warps[w].live = size_of_warp >= lanes ? ~0u : (1u << size_of_warp) - 1;
    s.warps[w].count = 0;
  }
  s.shuffle_order();
  s.progress = false;
  release(&start_tag);
  s.current = next_thread();
  threadIdx = s.current->index;
  switch_fiber(s.host, *s.current->fiber, false);
  s.current = nullptr;
  if (s.fault.error) return;
  size_t bytes = 0;
  if (const int array = s.shared.damaged(&bytes); array >= 0)
    fail(cudaErrorIllegalAddress, nullptr, "wrote outside the %s shared array of %zu bytes",
         array ? "static" : "dynamic", bytes);
}

[[noreturn]] void stop(Thread& self) {
  leave(self, true);
  std::abort();
}

}  // namespace

Fault run_grid(const Launch& launch, size_t shared_limit, unsigned long long seed) {
  s.launch = &launch;
  s.shared_limit = shared_limit;
  s.fault = {};
  s.random = seed;
  s.count = launch.block.x * launch.block.y * launch.block.z;
  s.span = std::bit_ceil(s.count);
  for (; s.allocated < s.count + spare_fibers; ++s.allocated) allocate_stack(s.fibers[s.allocated]);
  make_host_fiber(s.host);
  blockDim = launch.block;
  gridDim = launch.grid;
  const uint64_t total = uint64_t(gridDim.x) * gridDim.y * gridDim.z, span = std::bit_ceil(total);
  const uint64_t multiplier = s.draw() | 1, offset = s.draw();
  unsigned blocks = 0;
  for (uint64_t position = 0; position < span && !s.fault.error; ++position) {
    const uint64_t number = (multiplier * position + offset) & (span - 1);
    if (number >= total) continue;
    blockIdx = {unsigned(number % gridDim.x), unsigned(number / gridDim.x % gridDim.y),
                unsigned(number / (uint64_t(gridDim.x) * gridDim.y))};
    s.slot = blocks++ % group_blocks;
    if (s.slot == 0) acquire(&end_tag);
    run_block();
  }
  if (s.fault.error)
    for (unsigned i = 0; i < s.count; ++i) abandon(*s.threads[i].fiber, s.host, &end_tag);
  acquire(&end_tag);
  return s.fault;
}

void barrier(bool predicate, Site site) {
  Thread& self = *s.current;
  self.site = site;
  self.state = State::at_barrier;
  s.predicates_true += predicate;
  ++s.waiting;
  char* tag = &tags[s.slot].barrier[++self.barriers & 1];
  release(tag);
  leave(self, false);
  acquire(tag);
}

bool barrier_any() { return s.barrier_true != 0; }
bool barrier_all() { return s.barrier_true == s.barrier_threads; }
int barrier_count() { return int(s.barrier_true); }

uint64_t collective(unsigned mask, Collective kind, uint64_t value, unsigned source_lane, Site site) {
  Thread& self = *s.current;
  const unsigned bit = 1u << self.number % lanes;
  Warp& warp = s.warps[self.number / lanes];
  self.site = site;
  self.value = value;
  self.source_lane = source_lane;
  if (!(mask & bit)) {
    fail(cudaErrorLaunchFailure, &self, "calls the warp collective of %s:%d with a mask that leaves it out", site.file,
         site.line);
    stop(self);
  }
  int which = 0;
  while (which < warp.count && warp.waiting[which].mask != mask) ++which;
  if (which == warp.count) warp.waiting[warp.count++] = {mask, 0, kind};
  Waiting& waiting = warp.waiting[which];
  if (waiting.kind != kind) {
    fail(cudaErrorLaunchFailure, &self, "waits in another kind of warp collective than the lanes of its mask (%s:%d)",
         site.file, site.line);
    stop(self);
  }
  waiting.arrived |= bit;
  self.state = State::at_collective;
  if (mask & warp.live & ~waiting.arrived)
    leave(self, false);
  else
    complete(warp, which);
  return self.result;
}

const MatrixFragments& exchange_fragments(const unsigned (&a)[4], const unsigned (&b)[2], Site site) {
  Thread& self = *s.current;
  Warp& warp = s.warps[self.number / lanes];
  if (warp.live != ~0u) trap("a product on tensor cores by a warp of less than 32 lanes");
  MatrixFragments& all = warp.fragments[++self.exchanges & 1];
  const unsigned lane = self.number % lanes;
  for (int i = 0; i < 4; ++i) all.a[lane][i] = a[i];
  for (int i = 0; i < 2; ++i) all.b[lane][i] = b[i];
  collective(~0u, Collective::matrices, 0, 0, site);
  return all;
}

void release_warp() {
  Thread& self = *s.current;
  release(&tags[s.slot].warp[self.number / lanes][++self.warp_syncs & 1]);
}
void acquire_warp() {
  Thread& self = *s.current;
  acquire(&tags[s.slot].warp[self.number / lanes][self.warp_syncs & 1]);
}

unsigned lane() { return s.current->number % lanes; }
unsigned live_lanes() { return s.warps[s.current->number / lanes].live; }

void* static_shared(const SharedSite* site, size_t bytes) {
  void* array = s.shared.find_or_add(site, bytes);
  const size_t total = s.shared.static_bytes();
  if (array && total <= shared_default && total + s.launch->dynamic_shared <= s.shared_limit) return array;
  fail(cudaErrorInvalidValue, s.current, "%zu bytes of static and %zu of dynamic shared memory; the limit is %zu",
       total, s.launch->dynamic_shared, s.shared_limit);
  stop(*s.current);
}

void* dynamic_shared() { return s.shared.dynamic(); }

void push_async_copy(const AsyncCopy& copy) {
  Thread& self = *s.current;
  if (self.copies_pushed - self.copies_done == most_copies) trap("more than 1024 asynchronous copies under way");
  copies[self.number][self.copies_pushed++ % most_copies] = {copy, self.group};
}

void commit_async_copies() { ++s.current->group; }

bool next_async_copy(int pending, AsyncCopy* copy) {
  Thread& self = *s.current;
  if (self.copies_done == self.copies_pushed) return false;
  const PendingCopy& oldest = copies[self.number][self.copies_done % most_copies];
  if (oldest.group >= self.group - pending) return false;
  *copy = oldest.copy;
  ++self.copies_done;
  return true;
}

void pause() { leave(*s.current, false); }

void trap(const char* what) {
  fail(cudaErrorLaunchFailure, s.current, "%s", what);
  stop(*s.current);
}

}  // namespace emulator
