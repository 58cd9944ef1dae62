// SPDX-License-Identifier: Apache-2.0
// Known before it runs: bytes, FLOPs, chunks and launches of a meta-update, for a machine that need not be here.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cumeta/algorithms.h"
#include "cumeta/device.h"
#include "cumeta/export.h"
#include "cumeta/model.h"
#include "cumeta/optimizer.h"

namespace cumeta {

/// The sizes of one meta-update.
struct TaskSizes {
  int tasks = 1;    ///< tasks of a meta-batch
  int support = 1;  ///< examples per task
  int query = 1;
};

/// What to do with the tapes of the inner steps: keep all, refill one before each Hessian product, or keep them if they
/// fit.
enum class Activations { automatic, store, recompute };

struct PlanOptions {
  Device device = Device::cpu;
  Precision precision = Precision::float32;
  Machine machine = cpu_machine();  ///< for cuda name a GPU: cuda_machine("h100"), or cuda_machine(0) of this machine
  std::int64_t memory_limit = 0;    ///< bytes; 0: the machine's memory
  /// Of the limit, what lies beside the arena: the images that train keeps on a GPU (Episodes::images().bytes()).
  std::int64_t resident_bytes = 0;
  int chunk = 0;  ///< tasks of a chunk; 0: chosen (1 per core on the CPU, all that fit on CUDA)
  Activations activations = Activations::automatic;
  Optimizer optimizer = Adam{};  ///< its moments are part of the arena
  Implementation implementation = Implementation::own;
};

/// A kind of array of the arena; those that lie over each other are counted each.
struct PlannedArray {
  std::string name;
  std::int64_t bytes = 0;
};

/// Neighbouring layers of the model that run as one, and by whom.
struct PlannedLayers {
  int first = 0, last = 0;  ///< [first, last] of the model's layers
  std::string kind;         ///< "conv2d+batch_norm+relu"
  std::string by;           ///< "own", "vendor (cuBLAS)", "vendor (cuDNN)", "own (small-model program)"
};

/// What a meta-update takes, and how it is cut.
struct Plan {
  Device device = Device::cpu;  ///< planned for
  Precision precision = Precision::float32;
  std::int64_t bytes = 0;                ///< of the arena, to the byte
  std::vector<PlannedArray> arrays;      ///< what they are made of
  std::int64_t resident_bytes = 0;       ///< beside them, as the options say
  int lanes = 1;                         ///< workers or streams that hold a workspace
  int chunk = 1;                         ///< tasks per chunk
  int chunks = 1;                        ///< of a meta-batch; the last one may hold fewer tasks
  int idle_cores = 0;                    ///< cores without a task in the last round
  bool recompute = false;                ///< tapes of inner steps are refilled; never where one tape is all there is
  Order order = Order::second;           ///< of the algorithm; Reptile's is first
  std::vector<std::string> adapted_set;  ///< names of what the inner loop changes
  double flops = 0;  ///< of one meta-update by the cost laws, 2 per multiply-add; padding taps and refilled tapes count
  double first_order_flops = 0;
  /// CUDA: kernel nodes of one meta-update's graph; 0 elsewhere. A call of cuBLAS or cuDNN counts as one, it may be
  /// more.
  int launches = 0;
  Implementation implementation = Implementation::own;  ///< as asked for
  /// fastest: whether `layers` is what a device measured; a plan for a machine that is not here counts with own
  /// kernels.
  bool measured = false;
  std::vector<PlannedLayers> layers;
  CUMETA_API std::string text() const;  ///< a table for people
};

/// Throws InvalidArgument for sizes that do not fit together and for a machine that is not of the device's kind,
/// OutOfMemory (needed, allowed, what to change) when nothing fits.
CUMETA_API Plan plan(const Model& model, const Algorithm& algorithm, const TaskSizes& sizes,
                     const PlanOptions& options);

}  // namespace cumeta
