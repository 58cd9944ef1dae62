// SPDX-License-Identifier: Apache-2.0
// Tasks in host memory, as a caller hands them over.
#pragma once
#include <span>

namespace cumeta {

/// x: [tasks][examples][height][width][channels]; y: class indices as numbers [tasks][examples], or
/// [tasks][examples][outputs]. The spans are read during the call only.
struct Examples {
  int count = 0;  ///< examples per task
  std::span<const float> x;
  std::span<const float> y;
};
/// A meta-batch: every task has as many support examples, and as many query examples, as every other.
struct TaskBatch {
  int tasks = 0;
  Examples support;  ///< what a task adapts on
  Examples query;    ///< what it is judged by; Reptile alone may do without (count 0)
};

}  // namespace cumeta
