// SPDX-License-Identifier: Apache-2.0
// The one class of the library: a model, an algorithm and a device, and the parameters that are meta-learned.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cumeta/algorithms.h"
#include "cumeta/data.h"
#include "cumeta/device.h"
#include "cumeta/export.h"
#include "cumeta/model.h"
#include "cumeta/optimizer.h"
#include "cumeta/plan.h"
#include "cumeta/task.h"

namespace cumeta {

/// What a non-finite loss or gradient does: stop with NonFinite, or skip that update and count it; meta_gradient and
/// adapt then return the numbers as they are.
enum class OnNonFinite { stop, skip };

struct Options {
  Device device = Device::cpu;
  int ordinal = 0;  ///< which CUDA device
  Precision precision = Precision::float32;
  Optimizer optimizer = Adam{};
  Schedule schedule{};
  Clip clip{};
  std::uint64_t seed = 1;
  int tasks = 32;                 ///< of a meta-update that train draws
  int threads = 0;                ///< CPU: 0 = as many as the process may use
  bool pin = false;               ///< CPU: pin workers inside the caller's affinity mask
  std::int64_t memory_limit = 0;  ///< bytes of the arenas and of resident images; 0: the machine's memory
  int chunk = 0;                  ///< tasks per chunk; 0: chosen
  Activations activations = Activations::automatic;
  Implementation implementation = Implementation::own;  ///< CUDA: whose linear and convolution, and how fused
  OnNonFinite on_nonfinite = OnNonFinite::stop;
};

/// One meta-update. Losses are means over tasks.
struct Update {
  std::int64_t update = 0;           ///< its number, from 1
  double loss = 0;                   ///< query loss after the last inner step; Reptile's without a query set: the
                                     ///< support loss before it
  double accuracy = 0;               ///< of the query set; 0 for regression and without a query set
  double gradient_norm = 0;          ///< of the meta-gradient before clipping
  double rate = 0;                   ///< outer
  std::vector<double> support_loss;  ///< before each inner step
  Order order = Order::second;
  Precision precision = Precision::float32;
  int steps = 0;
  std::span<const std::string> adapted_set;  ///< names of what the inner loop changes; valid while the learner lives
  std::int64_t skipped = 0;                  ///< non-finite updates skipped so far
  std::int64_t bytes = 0;                    ///< of the arena
  Implementation implementation = Implementation::own;
};

/// A meta-gradient for callers with their own optimizer. Parameters in the flat order of parameters(model).
struct MetaGradient {
  Order order = Order::second;
  Precision precision = Precision::float32;
  int tasks = 0, steps = 0;
  std::vector<std::string> adapted_set;   ///< names of what the inner loop changes
  std::vector<double> gradient;           ///< mean over tasks, [P]
  std::vector<double> gradient_per_task;  ///< [tasks][P]
  std::vector<double> adapted;            ///< w[steps], [tasks][P]
  std::vector<double> support_loss;       ///< [tasks][steps], before each inner step
  std::vector<double> query_loss;         ///< [tasks]
  std::vector<double> accuracy;           ///< [tasks]
  std::vector<double> rate_gradient;  ///< [rate rows][P], summed over what shares the rate; empty when rates are fixed
};

/// Loss and accuracy on the query set after 0..steps inner steps, for every task.
struct Evaluation {
  Order order = Order::second;  ///< of the algorithm that was evaluated (adaptation itself has none)
  Precision precision = Precision::float32;
  int tasks = 0, steps = 0;
  std::vector<std::string> adapted_set;  ///< names of what the inner loop changes
  Statistics statistics = Statistics::batch;
  std::vector<double> loss;      ///< [tasks][steps + 1]
  std::vector<double> accuracy;  ///< [tasks][steps + 1]; zeros for regression
};

/// Parameters adapted to one task; keeps its own memory, allocated once.
class CUMETA_API AdaptedTask {
 public:
  AdaptedTask(AdaptedTask&&) noexcept;
  AdaptedTask& operator=(AdaptedTask&&) noexcept;
  ~AdaptedTask();
  /// Outputs (class scores before softmax, or regression values) of x [count][height][width][channels]:
  /// [count][outputs]. Batch norm uses the support set's statistics (inductive) unless the model says running or
  /// `statistics` says otherwise.
  /// Throws OutOfMemory where this task's arenas beside the learner's state would pass the learner's memory_limit; only
  /// under batch statistics, where all rows must go at once, does that depend on their number.
  std::vector<float> predict(std::span<const float> x);
  std::vector<float> predict(std::span<const float> x, Statistics statistics);
  const std::vector<double>& parameters() const;  ///< [P]
  double support_loss() const;                    ///< before the last inner step; NaN when none was taken
  Order order() const;                            ///< of the algorithm that trained it (adaptation itself has none)
  int steps() const;
  const std::vector<std::string>& adapted_set() const;
  std::int64_t bytes() const;  ///< of its arenas: of the adaptation, and of the predictions made so far
  struct Impl;

 private:
  friend class Learner;
  explicit AdaptedTask(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// One thread at a time may use a learner; several learners, and predictions of several adapted tasks of one learner
/// one after the other, are independent. Every call throws InvalidArgument for what does not fit, OutOfMemory before
/// anything runs, DeviceFault where a kernel failed; meta_update, train, meta_gradient and adapt throw NonFinite where
/// a loss or gradient is no number. evaluate says of every task what became of it: a loss may be infinite or NaN there.
class CUMETA_API Learner {
 public:
  /// Opens the device and draws initial parameters from options.seed. Throws InvalidArgument, DeviceUnavailable.
  Learner(const Model& model, const Algorithm& algorithm, const Options& options = {});
  Learner(Learner&&) noexcept;
  Learner& operator=(Learner&&) noexcept;
  ~Learner();

  /// One meta-update on tasks in host memory.
  Update meta_update(const TaskBatch& tasks);
  /// `updates` meta-updates of `tasks` tasks each; the backend draws the episodes itself where it can. Calls
  /// report(last update) every `every` updates and at the end; report may return false to stop early.
  void train(const Episodes& episodes, int tasks, std::int64_t updates,
             const std::function<bool(const Update&)>& report, std::int64_t every = 100);
  /// The same with options().tasks tasks.
  void train(const Episodes& episodes, std::int64_t updates, const std::function<bool(const Update&)>& report,
             std::int64_t every = 100);
  /// The meta-gradient at the present parameters; changes nothing.
  MetaGradient meta_gradient(const TaskBatch& tasks);
  /// Adapts to every task and measures the query set after each of 0..steps inner steps; changes nothing.
  /// Steps beyond the trained ones use the last step's rate. The tasks themselves lie in memory all at once.
  Evaluation evaluate(const TaskBatch& tasks, int steps, Statistics statistics);
  /// Adapts to one support set of any size (Reptile: that its mini-batches divide); steps = -1: as trained.
  AdaptedTask adapt(const Examples& support, int steps = -1);

  const Model& model() const;
  const Algorithm& algorithm() const;
  const Options& options() const;                       ///< as given: 0 still stands for what was chosen
  std::string device_name() const;                      ///< "cpu (AVX2, 2 threads)", "cuda (NVIDIA H100)"
  const std::vector<std::string>& adapted_set() const;  ///< names of the parameters that the inner loop changes
  std::int64_t updates() const;                         ///< meta-updates done so far
  std::int64_t skipped() const;                         ///< those of them that were not finite and changed nothing
  /// The plan of a meta-update of these sizes on the open device. Runs no update; but with implementation `fastest` the
  /// first call of a learner measures its layers, which runs kernels. Throws InvalidArgument, OutOfMemory.
  Plan plan_for(const TaskSizes& sizes) const;

  /// Flat, in the order of parameters(model); batch norm's running statistics are apart.
  std::vector<double> parameters() const;
  /// Moments, rates and counters stay. Throws InvalidArgument unless there are parameter_count(model)
  /// numbers, finite ones in the device's type.
  void set_parameters(std::span<const double> parameters);
  /// Inner rates, [1 or steps][P], learned or given by set_rates; empty when they are the algorithm's own.
  std::vector<double> rates() const;
  /// One for each parameter (and step): 0 for those that are not adapted, equal for those that share a learned rate.
  /// Checkpoints keep them. Throws InvalidArgument.
  void set_rates(std::span<const double> rates);

  /// Writes parameters, optimizer state, rates, counters and the text `recipe` to a safetensors file, atomically.
  /// Parameters carry PyTorch's names, shapes and orders. Equal state = equal file.
  void save(const std::string& path, const std::string& recipe = {}) const;
  /// Everything that save wrote: continues as if never stopped. Throws FileError for any file that does not fit, one of
  /// save_trained among them.
  void load(const std::string& path);
  /// The same file without the optimizer's moments, a third of the size under Adam: all that adapt and evaluate need
  /// (parameters, learned rates, running statistics, Reptile's carried second moment).
  void save_trained(const std::string& path, const std::string& recipe = {}) const;
  /// What save_trained wrote, from its file or from one of save; the optimizer starts afresh. Throws FileError.
  void load_trained(const std::string& path);
  /// Only the parameters (running statistics and rates too, if the file has them; learned rates only where this learner
  /// learns its own, fixed ones only where it does not): starts a new run from trained weights, at update 0, without
  /// moments of an earlier one. Throws FileError.
  void load_parameters(const std::string& path);
  /// The recipe text that save stored.
  static std::string recipe_in(const std::string& path);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cumeta
