// SPDX-License-Identifier: Apache-2.0
// The thread pool: every job once, exceptions of the lowest job, many short runs, sleeping and waking, pinning inside
// the mask.
#include "kernels/tools/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cumeta/error.h"

#ifdef __linux__
#include <sched.h>
#endif

namespace cumeta {
namespace {

TEST(ThreadPool, EveryJobRunsOnceForAnyThreadAndJobCount) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads, false);
    EXPECT_EQ(pool.threads(), threads);
    for (const int jobs : {0, 1, 2, 7, 100}) {
      std::vector<int> count(static_cast<std::size_t>(jobs), 0);
      std::atomic<bool> worker_in_range{true};
      pool.run(jobs, [&](int job, int worker) {
        ++count[static_cast<std::size_t>(job)];
        if (worker < 0 || worker >= threads) worker_in_range = false;
      });
      for (const int c : count) EXPECT_EQ(c, 1);
      EXPECT_TRUE(worker_in_range);
    }
  }
}

TEST(ThreadPool, AWorkerIndexIsNeverUsedByTwoThreadsAtOnce) {
  ThreadPool pool(4, false);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<bool> clash{false};
  pool.run(200, [&](int, int worker) {
    if (busy[static_cast<std::size_t>(worker)].fetch_add(1) != 0) clash = true;
    std::this_thread::yield();
    busy[static_cast<std::size_t>(worker)].fetch_sub(1);
  });
  EXPECT_FALSE(clash);
}

TEST(ThreadPool, OneThreadRunsEverythingOnTheCaller) {
  ThreadPool pool(1, true);
  const auto self = std::this_thread::get_id();
  std::vector<int> order;
  pool.run(5, [&](int job, int worker) {
    EXPECT_EQ(std::this_thread::get_id(), self);
    EXPECT_EQ(worker, 0);
    order.push_back(job);
  });
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(ThreadPool, TheLowestFailingJobWinsAndThePoolStaysUsable) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads, false);
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::string message;
      try {
        pool.run(40, [](int job, int) {
          if (job >= 7 && job % 3 == 1) throw std::runtime_error("job " + std::to_string(job));
        });
      } catch (const std::runtime_error& error) { message = error.what(); }
      EXPECT_EQ(message, "job 7");
      std::atomic<int> sum{0};
      pool.run(10, [&](int job, int) { sum += job; });
      EXPECT_EQ(sum, 45);
    }
  }
}

TEST(ThreadPool, ManyShortRunsLoseNothing) {
  ThreadPool pool(3, false);
  std::vector<long> sums(3, 0);
  constexpr int kRuns = 5000;
  for (int run = 0; run < kRuns; ++run) {
    pool.run(3, [&](int job, int) { sums[static_cast<std::size_t>(job)] += run; });
  }
  for (const long sum : sums) EXPECT_EQ(sum, static_cast<long>(kRuns) * (kRuns - 1) / 2);
}

TEST(ThreadPool, SleepersWakeForTheNextRun) {
  ThreadPool pool(2, false);
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::mutex mutex;
    std::set<std::thread::id> ids;
    std::atomic<int> arrived{0};
    pool.run(2, [&](int, int) {
      // Neither job ends before the other has begun: both threads are needed.
      arrived.fetch_add(1);
      while (arrived.load() < 2) std::this_thread::yield();
      const std::lock_guard<std::mutex> lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
    EXPECT_EQ(ids.size(), 2u);
  }
}

TEST(ThreadPool, TheCallerSleepsThroughALongJob) {
  ThreadPool pool(2, false);
  std::atomic<int> arrived{0};
  pool.run(2, [&](int, int worker) {
    arrived.fetch_add(1);
    while (arrived.load() < 2) std::this_thread::yield();
    if (worker != 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  });
  EXPECT_EQ(arrived, 2);
}

TEST(ThreadPool, RefusesNoThreads) {
  EXPECT_THROW(ThreadPool(0, false), InvalidArgument);
  EXPECT_THROW(ThreadPool(-3, true), InvalidArgument);
}

#ifdef __linux__
TEST(ThreadPool, PinningStaysInsideTheCallersMaskAndLeavesTheCallerAlone) {
  cpu_set_t before;
  CPU_ZERO(&before);
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &before)) {
      CPU_SET(cpu, &one);
      break;
    }
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  {
    ThreadPool pool(3, true);
    std::atomic<bool> outside{false};
    pool.run(30, [&](int, int) {
      cpu_set_t mine;
      CPU_ZERO(&mine);
      sched_getaffinity(0, sizeof mine, &mine);
      if (!CPU_EQUAL(&mine, &one)) outside = true;
    });
    EXPECT_FALSE(outside);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  {
    ThreadPool pool(2, true);
    cpu_set_t now;
    CPU_ZERO(&now);
    ASSERT_EQ(sched_getaffinity(0, sizeof now, &now), 0);
    EXPECT_TRUE(CPU_EQUAL(&now, &before));
  }
}
#endif

}  // namespace
}  // namespace cumeta
