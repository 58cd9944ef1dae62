// SPDX-License-Identifier: Apache-2.0
// Tasks in host memory as the learner takes them: drawn from a source, support and query apart.
#pragma once
#include <cstdint>
#include <vector>

#include "cumeta/data.h"
#include "cumeta/task.h"

namespace cumeta::app {

struct HostTasks {
  int tasks = 0, support = 0, query = 0;
  std::vector<float> support_x, support_y, query_x, query_y;
  /// Valid as long as this object.
  TaskBatch batch() const;
};

/// Tasks [first, first + tasks) of an iteration.
HostTasks draw_tasks(const Episodes& episodes, std::uint64_t iteration, int first, int tasks);

}  // namespace cumeta::app
