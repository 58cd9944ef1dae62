// SPDX-License-Identifier: Apache-2.0
// A small fixed thread pool: run(jobs, f) calls f(job, worker) for every job, spread over workers by one atomic
// counter.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace cumeta {

/// The calling thread is worker 0; threads - 1 others spin for a moment after each run and then sleep. One thread at a
/// time may call run, and a job may not. With pin, worker i > 0 is bound to the i-th processor of the mask that the
/// constructing thread has; the caller's own mask is never touched.
class ThreadPool {
 public:
  ThreadPool(int threads, bool pin);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  /// Calls f(job, worker) once for each job in 0..jobs-1 and returns when all are done. If jobs throw, the exception of
  /// the lowest one is rethrown here; jobs above a failed one may be left out.
  template <class Function>
  void run(int jobs, Function&& f) {
    using Plain = std::remove_reference_t<Function>;
    run_erased(
        jobs, [](void* context, int job, int worker) { (*static_cast<Plain*>(context))(job, worker); },
        const_cast<void*>(static_cast<const void*>(std::addressof(f))));
  }

 private:
  using Call = void (*)(void* context, int job, int worker);

  void run_erased(int jobs, Call call, void* context);
  void work(int worker);
  bool run_one_job(int worker);
  void wait_for_work(std::uint32_t seen);
  void wait_for_the_others();
  void execute(int job, int worker);
  void stop();

  const int threads_;
  int spins_ = 0;
  std::vector<std::thread> workers_;

  // What the current run is. Written by the caller before it publishes `tickets_`, read only by who holds one of its
  // jobs.
  Call call_ = nullptr;
  void* context_ = nullptr;
  int jobs_ = 0;
  std::exception_ptr failure_;
  std::atomic<int> failed_job_{0};

  // High half: number of the run; low half: jobs not yet taken. One word, so that a late worker can never take a job of
  // a run it has not seen.
  alignas(64) std::atomic<std::uint64_t> tickets_{0};
  alignas(64) std::atomic<int> done_{0};
  alignas(64) std::atomic<std::uint32_t> runs_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_workers_;
  std::condition_variable wake_caller_;
};

}  // namespace cumeta
