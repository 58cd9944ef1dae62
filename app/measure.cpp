// SPDX-License-Identifier: Apache-2.0
#include "app/measure.h"

#include <algorithm>

#include "app/host_tasks.h"

namespace cumeta::app {

Evaluation measure(Learner& learner, const Episodes& episodes, int tasks, int steps, Statistics statistics) {
  constexpr int batch = 100;  // bounds the memory of the tasks themselves
  Evaluation all;
  for (int first = 0; first < tasks; first += batch) {
    const HostTasks drawn = draw_tasks(episodes, 0, first, std::min(batch, tasks - first));
    Evaluation part = learner.evaluate(drawn.batch(), steps, statistics);
    all.order = part.order, all.steps = part.steps, all.statistics = part.statistics;
    all.tasks += part.tasks;
    all.loss.insert(all.loss.end(), part.loss.begin(), part.loss.end());
    all.accuracy.insert(all.accuracy.end(), part.accuracy.begin(), part.accuracy.end());
  }
  return all;
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
