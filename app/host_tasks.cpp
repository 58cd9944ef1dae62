// SPDX-License-Identifier: Apache-2.0
// Splits the rows that a source draws, support first, into the two parts of every task.
#include "app/host_tasks.h"

namespace cumeta::app {

TaskBatch HostTasks::batch() const { return {tasks, {support, support_x, support_y}, {query, query_x, query_y}}; }

HostTasks draw_tasks(const Episodes& episodes, std::uint64_t iteration, int first, int tasks) {
  HostTasks drawn{tasks, episodes.support(), episodes.query(), {}, {}, {}, {}};
  const auto inputs = static_cast<std::size_t>(episodes.input().size());
  const auto targets = static_cast<std::size_t>(episodes.targets());
  const auto support = static_cast<std::size_t>(drawn.support), query = static_cast<std::size_t>(drawn.query);
  const std::size_t count = static_cast<std::size_t>(tasks), rows = support + query;
  std::vector<float> x(count * rows * inputs), y(count * rows * targets);
  episodes.draw(iteration, first, tasks, x, y);
  const auto part = [&](const std::vector<float>& from, std::size_t width, std::size_t begin, std::size_t end) {
    std::vector<float> to;
    to.reserve(count * (end - begin) * width);
    for (std::size_t task = 0; task < count; ++task) {
      const auto row = from.begin() + static_cast<std::ptrdiff_t>(task * rows * width);
      to.insert(to.end(), row + static_cast<std::ptrdiff_t>(begin * width),
                row + static_cast<std::ptrdiff_t>(end * width));
    }
    return to;
  };
  drawn.support_x = part(x, inputs, 0, support), drawn.support_y = part(y, targets, 0, support);
  drawn.query_x = part(x, inputs, support, rows), drawn.query_y = part(y, targets, support, rows);
  return drawn;
}

}  // namespace cumeta::app
