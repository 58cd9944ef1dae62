// SPDX-License-Identifier: Apache-2.0
// Loss and accuracy of a learner over many tasks of a source, a batch of tasks at a time.
#pragma once
#include <cstdint>
#include <vector>

#include "cumeta/data.h"
#include "cumeta/learner.h"

namespace cumeta::app {

/// Tasks of a batch, which bounds the memory that the tasks themselves take.
constexpr int measured_at_once = 100;

/// Tasks 0 ... tasks - 1 of iteration 0: the same tasks and numbers whatever the `batch`, which a tight memory limit
/// lowers.
Evaluation measure(Learner& learner, const Episodes& episodes, int tasks, int steps, Statistics statistics,
                   int batch = measured_at_once);

/// So many, or as many as a file of tasks holds: counted twice they would make an interval too narrow.
int tasks_there(const Episodes& episodes, int wanted);

/// Column `step` of [tasks][steps + 1].
std::vector<double> column(const Evaluation& evaluation, const std::vector<double>& values, int step);

/// Where the model takes its batch norm's statistics from: its first batch norm's; batch when it has none.
Statistics statistics_of(const Model& model);

}  // namespace cumeta::app
