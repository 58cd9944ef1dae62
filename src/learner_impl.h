// SPDX-License-Identifier: Apache-2.0
// What a Learner keeps: its backend, its state in that backend's memory, and one execution per shape of task.
#pragma once
#include <map>
#include <memory>
#include <tuple>

#include "cumeta/learner.h"
#include "src/execution.h"
#include "src/plan.h"

namespace cumeta {

struct Learner::Impl {
  Model model;
  Algorithm algorithm;
  Options options;
  Problem shape;  ///< of one task with one example: layout, rates and rows do not depend on sizes
  std::shared_ptr<Backend> backend;
  Machine machine;  ///< the CUDA device's
  std::shared_ptr<std::byte> state_block;
  std::int64_t state_bytes = 0;
  State state;
  std::int64_t updates = 0;
  std::int64_t skipped = 0;

  Impl(const Model& model, const Algorithm& algorithm, const Options& options);

  /// An execution that is kept, with its outer step and its recording.
  struct Prepared {
    std::unique_ptr<Execution> execution;
    OuterStep step;
    std::unique_ptr<Recording> recording;
    std::vector<float> x, t;  ///< host staging of one meta-batch
  };
  Prepared& prepare(const TaskSizes& sizes, Goal goal, Statistics statistics, int steps, const Episodes* episodes);
  PlanOptions plan_options() const;
  Statistics training_statistics() const;

  void check(const TaskBatch& tasks, bool query_needed) const;
  void upload(Prepared& prepared, const TaskBatch& tasks);
  /// Writes what changes from update to update; returns the outer rate.
  double write_control(int slot);
  Update read_report(const Prepared& prepared, std::span<const double> report, std::int64_t number, double rate) const;
  /// Reads `count` reports of the updates that end with the present one; throws NonFinite, counts skipped ones.
  Update collect(const Prepared& prepared, int count);
  double outer_rate(std::int64_t update) const;
  std::vector<double> download(Array a) const;

  /// What adaptation needs; with `moments` also what the next meta-update needs.
  void write_checkpoint(const std::string& path, const std::string& recipe, bool moments) const;
  /// Reads all, then changes all: a file that does not fit leaves the learner as it was.
  void read_checkpoint(const std::string& path, bool moments);
  int inner_steps_done() const { return shape.steps; }

 private:
  std::map<std::tuple<int, int, int, Goal, Statistics, int, const void*>, Prepared> prepared_;
};

/// The backend that the options name. Throws DeviceUnavailable.
std::shared_ptr<Backend> open_backend(const Options& options);

}  // namespace cumeta
