// SPDX-License-Identifier: Apache-2.0
// What a Learner keeps: its backend, its state in that backend's memory, and one execution per shape of task.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "cumeta/learner.h"
#include "src/execution.h"
#include "src/plan.h"

namespace cumeta {

struct EpisodeTables;

struct Learner::Impl {
  Model model;
  Algorithm algorithm;
  Options options;
  Problem shape;  ///< of one task, as small as it can be: layout, rates and rows do not depend on sizes
  std::shared_ptr<Backend> backend;
  Machine machine;  ///< the CUDA device's
  LayerImplementations implementations;
  bool measured = false;  ///< implementation fastest: `implementations` were measured, here or before a checkpoint
  std::shared_ptr<std::byte> state_block;
  std::int64_t state_bytes = 0;
  State state;
  std::vector<std::string> adapted_set;
  std::int64_t updates = 0;
  std::int64_t skipped = 0;
  bool rates_given = false;  ///< fixed rates that set_rates changed: a checkpoint keeps them
  bool training = false;
  std::uint64_t open_episodes = 0;  ///< whose images or ranges the backend holds
  std::int64_t resident_bytes = 0;  ///< of those images

  Impl(const Model& model, const Algorithm& algorithm, const Options& options);

  /// A recording, and the meta-batch of the host that it uploads, chunk by chunk, where each chunk runs.
  struct Feed {
    std::unique_ptr<UploadBuffer> host;  ///< null where tasks are drawn on the device or in place
    std::span<float> x, t;               ///< [T][support + query][...], in `host`
    std::unique_ptr<Recording> recording;
    /// What the buffer holds is run.
    void run();
  };
  /// An execution that is kept, with its outer step and its recordings.
  struct Prepared {
    std::unique_ptr<Execution> execution;
    OuterStep step;
    std::vector<Feed> feeds;  ///< empty until the first run
    const Episodes* episodes = nullptr;
  };
  /// `episodes`: the identity of what train draws from, 0 for tasks of the caller. Kept until memory is needed. All lie
  /// in one block where that is possible, since they run one after another: training and validation take as much as
  /// the larger of the two.
  std::shared_ptr<Prepared> prepare(const TaskSizes& sizes, Goal goal, Statistics statistics, int steps,
                                    std::uint64_t episodes = 0);
  /// A recording that takes its tasks from the host.
  Feed feed_from_host(Prepared& prepared);
  /// Runs tasks of the caller through an execution, recorded at its first run.
  void run(Prepared& prepared, const TaskBatch& tasks, int slot);
  /// Host devices that compute in float32 draw a task where it runs; others get it uploaded.
  bool draws_in_place() const { return backend->on_host() && backend->number() == Number::float32; }
  /// Hands the backend what it draws from; what it drew from before is gone, and the recordings that read it.
  void open(const EpisodeTables& tables, const Episodes& episodes);
  void record_training(Prepared& prepared, const Episodes& episodes, bool on_device);
  /// implementation fastest: chooses on the first call, by these sizes.
  void choose_layers(const TaskSizes& sizes, Goal goal, Statistics statistics, int steps);
  /// The choice of a checkpoint.
  void adopt(LayerImplementations layers);
  Place place() const { return {options.device, options.precision}; }
  PlanOptions plan_options() const;
  Statistics training_statistics() const;

  void check(const TaskBatch& tasks, bool query_needed) const;
  /// Writes what changes from update to update; returns the outer rate.
  double write_control(int slot);
  Update read_report(const Prepared& prepared, std::span<const double> report, std::int64_t number, double rate) const;
  /// Throws NonFinite; `what` was not finite: "update 3", "meta_gradient".
  [[noreturn]] void refuse_nonfinite(const std::string& what, int task, int step) const;
  /// Reads `count` reports of the updates that end with the present one; throws NonFinite, counts skipped ones.
  Update collect(const Prepared& prepared, int count);
  double outer_rate(std::int64_t update) const;
  std::vector<double> download(Array a) const;
  /// bytes; 0: none
  std::int64_t memory_limit() const { return options.memory_limit > 0 ? options.memory_limit : machine.memory; }
  /// Counters, moments and statistics as before the first update; parameters and rates stay.
  void start_run();
  /// Zeros, if there is such an array.
  void clear(Array row);

  /// What adaptation needs; with `moments` also what the next meta-update needs.
  void write_checkpoint(const std::string& path, const std::string& recipe, bool moments) const;
  /// Reads all, then changes all: a file that does not fit leaves the learner as it was.
  void read_checkpoint(const std::string& path, bool moments);

 private:
  /// Makes room: drops executions that nobody runs until the rest and `bytes` more stay within the limit.
  void evict_for(std::int64_t bytes, std::int64_t limit);
  /// Bytes of the blocks of all executions, or of those that somebody runs.
  std::int64_t block_bytes(bool busy_only) const;
  /// A block for an execution of `needed` bytes: one that is there, or a new one in place of those that nobody uses.
  Block block_for(std::int64_t needed, std::int64_t limit);

  std::map<std::tuple<int, int, int, Goal, Statistics, int, std::uint64_t>, std::shared_ptr<Prepared>> prepared_;
  std::vector<double> reports_;  ///< of the last collect: taken once
};

/// The backend that the options name. Throws DeviceUnavailable.
std::shared_ptr<Backend> open_backend(const Options& options);

}  // namespace cumeta
