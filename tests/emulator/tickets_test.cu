// SPDX-License-Identifier: Apache-2.0
// Phases inside one launch (kernels/tools/tickets_cuda.cuh): blocks of a later phase read what earlier ones wrote. That
// the barriers inside order those writes shows under the ThreadSanitizer alone, since emulated blocks run one by one.
#include <gtest/gtest.h>

#include <vector>

#include "kernels/tools/tickets_cuda.cuh"
#include "tests/emulator/sanitizer_hooks.h"

namespace {

constexpr int threads = 64, parts = 5, readers = 3, tasks = 2;

/// The first `parts` pieces of a task write 64 numbers each; the last of them adds the columns; `readers` double the
/// sums, and one more piece adds what they made.
constexpr int pieces = parts + readers + 1;
template <bool ahead>
__global__ void phases(float* written, float* sums, float* doubled, float* totals, cumeta::Tickets tickets) {
  CUMETA_SHARED(unsigned, slot, 1);
  const int t = static_cast<int>(threadIdx.x);
  for (cumeta::TakenPieces<ahead> piece(tickets, slot); piece.take();) {
    const int task = piece.number % tickets.tasks, work = piece.number / tickets.tasks;
    float *mine = written + task * parts * threads, *theirs = doubled + task * readers * threads;
    if (work < parts) {
      mine[work * threads + t] = static_cast<float>(100 * work + t);
      if (tickets.arrive(tickets.counter(task, 0), parts, slot)) {
        float sum = 0.0f;
        // Columns that other threads wrote.
        for (int part = 0; part < parts; ++part) sum += mine[part * threads + threads - 1 - t];
        sums[task * threads + threads - 1 - t] = sum;
        tickets.count(tickets.counter(task, 1));
      }
    } else if (work < parts + readers) {
      tickets.wait(tickets.counter(task, 1), 1);
      theirs[(work - parts) * threads + t] = 2.0f * sums[task * threads + t];
      tickets.count(tickets.counter(task, 2));
    } else {
      tickets.wait(tickets.counter(task, 2), readers);
      float sum = 0.0f;
      for (int reader = 0; reader < readers; ++reader) sum += theirs[reader * threads + threads - 1 - t];
      totals[task * threads + threads - 1 - t] = sum;
    }
  }
  tickets.leave(static_cast<int>(gridDim.x));
}

/// As many blocks as pieces, and fewer: then blocks take several.
void run(void (*kernel)(float*, float*, float*, float*, cumeta::Tickets), unsigned blocks) {
  emulator_test::races = 0;
  float *written = nullptr, *sums = nullptr, *doubled = nullptr, *totals = nullptr;
  ASSERT_EQ(cudaMalloc(&written, sizeof(float) * tasks * parts * threads), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&sums, sizeof(float) * tasks * threads), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&doubled, sizeof(float) * tasks * readers * threads), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&totals, sizeof(float) * tasks * threads), cudaSuccess);
  cumeta::Tickets tickets;
  tickets.first = 7, tickets.tasks = tasks, tickets.pieces = tasks * pieces;
  for (int launch = 0; launch < 3; ++launch) {  // each finds the words as the one before found them
    emulator::launch(kernel, blocks, threads, 0, nullptr, written, sums, doubled, totals, tickets);
    std::vector<float> out(tasks * threads);
    ASSERT_EQ(cudaMemcpy(out.data(), totals, sizeof(float) * out.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < static_cast<int>(out.size()); ++i)
      ASSERT_EQ(out[static_cast<std::size_t>(i)], static_cast<float>(2 * readers * (1000 + parts * (i % threads))))
          << i;
    for (int i = 0; i < cumeta::Tickets::words_for(tasks); ++i)
      EXPECT_EQ(cumeta::ticket_words[tickets.first + i], 0u) << i;
  }
  EXPECT_EQ(emulator_test::races, 0);
  cudaDeviceReset();
}

TEST(Tickets, LaterPhasesReadWhatEarlierOnesWrote) {
  for (const unsigned blocks : {static_cast<unsigned>(tasks * pieces), 5u, 1u}) {
    run(phases<false>, blocks);
    run(phases<true>, blocks);
  }
}

}  // namespace
