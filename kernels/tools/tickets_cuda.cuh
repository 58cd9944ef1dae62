// SPDX-License-Identifier: Apache-2.0
// Phases inside one launch: blocks take pieces of work in their order until none is left, count what is done per task,
// and wait for the counts of earlier phases.
//
// A block waits only for work with a smaller number, and holds at most one larger number meanwhile. So the block that
// has the smallest number in hand can always go on, whatever number of blocks fits the device.
#pragma once
#include "kernels/tools/cuda_shared.cuh"
#include "kernels/tools/ticket_range_cuda.h"

namespace cumeta {

/// Whoever launches phased kernels holds a range of these: see TicketRange.
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

  /// The next number.
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
    __threadfence();  // a count that nobody waited for comes before the zeros all the same
    if (atomicAdd(ticket_words + first + 1, 1u) + 1u != static_cast<unsigned>(blocks)) return;
    __threadfence();
    for (int i = 0; i < 2 + kCounters * tasks; ++i) ticket_words[first + i] = 0;
    __threadfence();
  }
};

/// A block's way through the pieces:  for (TakenPieces<ahead> piece(tickets, slot); piece.take();) ... piece.number ...
/// `ahead`: it asks for its next number before it does the piece in hand, which hides the way to memory and back; for
/// pieces of equal length, since who holds a number is the one to do it. `slot` is a shared word.
template <bool ahead>
class TakenPieces {
 public:
  int number = 0;

  __device__ TakenPieces(const Tickets& tickets, unsigned* slot) : tickets_(tickets), slot_(slot) {
#if defined(CUMETA_CUDA_EMULATED)
    // Blocks run one after the other: the first would do everything, and none would meet what another one wrote.
    left_ = (tickets.pieces + static_cast<int>(gridDim.x) - 1) / static_cast<int>(gridDim.x);
#endif
    if (ahead && threadIdx.x == 0) next_ = tickets.ask();
  }
  /// False: none is left.
  __device__ bool take() {
#if defined(CUMETA_CUDA_EMULATED)
    if (left_-- == 0) return false;
    const bool more = left_ > 0;
#else
    constexpr bool more = true;
#endif
    __syncthreads();
    if (threadIdx.x == 0) {
      *slot_ = ahead ? next_ : tickets_.ask();
      if (ahead && more) next_ = tickets_.ask();
    }
    __syncthreads();
    number = static_cast<int>(*slot_);
    return number < tickets_.pieces;
  }

 private:
  const Tickets& tickets_;
  unsigned* slot_;
  unsigned next_ = 0;
#if defined(CUMETA_CUDA_EMULATED)
  int left_;
#endif
};

}  // namespace cumeta
