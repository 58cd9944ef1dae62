// SPDX-License-Identifier: Apache-2.0
// Phases inside one launch: blocks take pieces of work in their order until none is left, count what is done per task,
// and wait for the counts of earlier phases.
//
// A block waits only for work with a smaller number. Smaller numbers were taken before, and every block does what it
// took before it takes more, so some block can always go on, whatever number of blocks fits the device. A grid is as
// large as the phase that has the arithmetic: blocks that only wait would stand where others multiply, and numbers are
// taken in no order of multiprocessors.
#pragma once
#include "kernels/tools/cuda_shared.cuh"

namespace cumeta {

constexpr int kTicketWords = 1 << 18;
/// Whoever launches phased kernels holds a range of its own, so kernels on several streams never meet.
static __device__ unsigned ticket_words[kTicketWords];

/// words: [next work | blocks done | per task kCounters counts], all zero before and after a launch.
struct Tickets {
  static constexpr int kCounters = 4;
  int first = 0, tasks = 0;  // range of ticket_words, tasks of this launch
  int pieces = 0;            // of work

  static constexpr int words_for(int task_count) { return 2 + kCounters * task_count; }
  __device__ unsigned* counter(int task, int which) const {
    return ticket_words + first + 2 + kCounters * task + which;
  }

  /// This block's next piece; `pieces` or more: none is left. `slot` is a shared word.
  __device__ int take(unsigned* slot) const {
    __syncthreads();
    if (threadIdx.x == 0) *slot = ask();
    __syncthreads();
    return static_cast<int>(*slot);
  }
  /// As take(), but asks for the block's next number at once, in `next` of thread 0, so that the piece in hand hides
  /// the way to memory and back. For pieces of equal length: who holds a number is the one to do it. Begin with ask().
  __device__ int take_ahead(unsigned* slot, unsigned& next) const {
    __syncthreads();
    if (threadIdx.x == 0) *slot = next, next = ask();
    __syncthreads();
    return static_cast<int>(*slot);
  }
  __device__ unsigned ask() const { return atomicAdd(ticket_words + first, 1u); }

  /// The whole block's writes come before the count. True for the block that makes it `all`.
  __device__ bool arrive(unsigned* count, int all, unsigned* slot) const {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      *slot = atomicAdd(count, 1u) + 1u == static_cast<unsigned>(all);
      __threadfence();
    }
    __syncthreads();
    return *slot != 0;
  }
  /// The same where nobody asks who was last.
  __device__ void count(unsigned* number) const {
    __syncthreads();
    if (threadIdx.x != 0) return;
    __threadfence();
    atomicAdd(number, 1u);
  }
  __device__ void wait(unsigned* count, int all) const {
    if (threadIdx.x == 0) {
#if defined(CUMETA_CUDA_EMULATED)
      if (atomicAdd(count, 0u) < static_cast<unsigned>(all)) __trap();  // blocks run in order: nobody else can help
#elif defined(__CUDA_ARCH__)
      // Relaxed reads, then one fence: together an acquire.
      unsigned seen = 0;
      do {
        asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(count) : "memory");
      } while (seen < static_cast<unsigned>(all));
#endif
      __threadfence();
    }
    __syncthreads();
  }
  /// Last call of every block: the last one leaves the words as they were found. Only threads 0 touch the words, so no
  /// barrier stands here.
  __device__ void leave(int blocks) const {
    if (threadIdx.x != 0) return;
    if (atomicAdd(ticket_words + first + 1, 1u) + 1u != static_cast<unsigned>(blocks)) return;
    for (int i = 0; i < 2 + kCounters * tasks; ++i) ticket_words[first + i] = 0;
    __threadfence();
  }
};

}  // namespace cumeta
