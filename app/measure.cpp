// SPDX-License-Identifier: Apache-2.0
#include "app/measure.h"

#include <algorithm>

#include "app/host_tasks.h"
#include "cumeta/error.h"

namespace cumeta::app {

Evaluation measure(Learner& learner, const Episodes& episodes, int tasks, int steps, Statistics statistics, int batch) {
  Evaluation all;
  for (int first = 0; first < tasks;) {
    const int count = std::min(batch, tasks - first);
    const HostTasks drawn = draw_tasks(episodes, 0, first, count);
    Evaluation part;
    try {
      part = learner.evaluate(drawn.batch(), steps, statistics);
    } catch (const OutOfMemory&) {
      if (count == 1) throw;
      batch = (count + 1) / 2;
      continue;
    }
    first += count;
    all.adapted_set = std::move(part.adapted_set);
    all.order = part.order, all.precision = part.precision, all.steps = part.steps, all.statistics = part.statistics;
    all.tasks += part.tasks;
    all.loss.insert(all.loss.end(), part.loss.begin(), part.loss.end());
    all.accuracy.insert(all.accuracy.end(), part.accuracy.begin(), part.accuracy.end());
  }
  return all;
}

int tasks_there(const Episodes& episodes, int wanted) {
  const std::size_t there = episodes.tasks();
  return there == 0 ? wanted : static_cast<int>(std::min(static_cast<std::size_t>(wanted), there));
}

std::vector<double> column(const Evaluation& evaluation, const std::vector<double>& values, int step) {
  std::vector<double> picked;
  const auto width = static_cast<std::size_t>(evaluation.steps + 1);
  for (std::size_t i = static_cast<std::size_t>(step); i < values.size(); i += width) picked.push_back(values[i]);
  return picked;
}

Statistics statistics_of(const Model& model) {
  for (const Layer& layer : model.layers)
    if (const auto* norm = std::get_if<BatchNorm>(&layer)) return norm->statistics;
  return Statistics::batch;
}

}  // namespace cumeta::app
