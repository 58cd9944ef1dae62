// SPDX-License-Identifier: Apache-2.0
// The thread pool: a run is published by one store, jobs are taken by compare-and-swap, sleepers are woken only if
// there are any.
#include "kernels/tools/thread_pool.h"

#include <fmt/format.h>

#include <cassert>
#include <limits>
#include <system_error>
#include <utility>

#include "cumeta/error.h"

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cumeta {
namespace {

constexpr int kSpins = 4000;  // some tens of microseconds: longer than the gap between the runs of one update
constexpr int kNoJob = std::numeric_limits<int>::max();

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The processors that the calling thread may use, in ascending order; empty where that cannot be asked.
std::vector<int> allowed_processors() {
  std::vector<int> processors;
#ifdef __linux__
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &mask)) processors.push_back(cpu);
    }
  }
#endif
  return processors;
}

void pin_to([[maybe_unused]] std::thread& thread, [[maybe_unused]] int processor) {
#ifdef __linux__
  cpu_set_t mask;
  CPU_ZERO(&mask);
  CPU_SET(processor, &mask);
  // Only a hint for speed: a refusal (a container's rules) changes no result.
  (void)pthread_setaffinity_np(thread.native_handle(), sizeof mask, &mask);
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads, bool pin) : threads_(threads) {
  if (threads < 1)
    throw InvalidArgument(fmt::format("thread pool: {} threads asked for, at least 1 is needed", threads));
  const std::vector<int> processors = allowed_processors();
  // Spinning only helps while every thread has a processor of its own.
  spins_ = processors.empty() || static_cast<int>(processors.size()) >= threads ? kSpins : 0;
  try {
    for (int worker = 1; worker < threads; ++worker) {
      workers_.emplace_back([this, worker] { work(worker); });
      if (pin && !processors.empty())
        pin_to(workers_.back(), processors[static_cast<std::size_t>(worker) % processors.size()]);
    }
  } catch (const std::system_error& error) {
    const std::size_t started = workers_.size();
    stop();
    throw Error(fmt::format("thread pool: thread {} of {} could not be started ({}); ask for fewer threads",
                            started + 2, threads, error.what()));
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stop_.store(true);
  runs_.fetch_add(1);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    wake_workers_.notify_all();
  }
  for (auto& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::execute(int job, int worker) {
  if (failed_job_.load(std::memory_order_relaxed) < job)
    return;  // jobs are taken in ascending order: a lower one has failed
  try {
    call_(context_, job, worker);
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (job < failed_job_.load(std::memory_order_relaxed)) {
      failed_job_.store(job, std::memory_order_relaxed);
      failure_ = std::current_exception();
    }
  }
}

bool ThreadPool::run_one_job(int worker) {
  std::uint64_t ticket = tickets_.load(std::memory_order_acquire);
  do {
    if ((ticket & 0xffffffffu) == 0) return false;
  } while (!tickets_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel, std::memory_order_acquire));
  // From here until done_ is counted up the run cannot end, so its plain members may be read.
  const int jobs = jobs_;
  execute(jobs - static_cast<int>(ticket & 0xffffffffu), worker);
  if (done_.fetch_add(1) + 1 == jobs && caller_sleeps_.load()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    wake_caller_.notify_one();
  }
  return true;
}

void ThreadPool::wait_for_work(std::uint32_t seen) {
  for (int i = 0; i < spins_; ++i) {
    if (runs_.load(std::memory_order_acquire) != seen) return;
    pause();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  wake_workers_.wait(lock, [&] { return runs_.load() != seen; });
  sleepers_.fetch_sub(1);
}

void ThreadPool::work(int worker) {
  for (;;) {
    const std::uint32_t seen = runs_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    while (run_one_job(worker)) {}
    wait_for_work(seen);
  }
}

void ThreadPool::wait_for_the_others() {
  for (int i = 0; i < spins_; ++i) {
    if (done_.load(std::memory_order_acquire) == jobs_) return;
    pause();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  caller_sleeps_.store(true);
  wake_caller_.wait(lock, [&] { return done_.load() == jobs_; });
  caller_sleeps_.store(false);
}

void ThreadPool::run_erased(int jobs, Call call, void* context) {
  assert(done_.load() == jobs_ && "ThreadPool::run was called from two threads or from a job");
  if (jobs <= 0) return;
  call_ = call;
  context_ = context;
  jobs_ = jobs;
  failure_ = nullptr;
  failed_job_.store(kNoJob, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const std::uint64_t run = (tickets_.load(std::memory_order_relaxed) >> 32) + 1;
  tickets_.store(run << 32 | static_cast<std::uint32_t>(jobs), std::memory_order_release);
  if (threads_ > 1 && jobs > 1) {
    runs_.fetch_add(1);
    if (sleepers_.load() > 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake_workers_.notify_all();
    }
  }
  while (run_one_job(0)) {}
  wait_for_the_others();
  if (failure_) {
    // Taken out first: the exception must not outlive the caller's interest in it.
    const std::exception_ptr failure = std::exchange(failure_, nullptr);
    std::rethrow_exception(failure);
  }
}

}  // namespace cumeta
