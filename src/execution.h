// SPDX-License-Identifier: Apache-2.0
// A problem laid out in memory and ready to run: the plan's chunks spread over lanes, then the outer step.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "cumeta/optimizer.h"
#include "kernels/backend.h"
#include "src/algorithms/workspace.h"
#include "src/arena.h"
#include "src/problem.h"

namespace cumeta {

/// How a problem is cut: chosen by plan, never by what it computes.
struct Cut {
  int lanes = 1;
  int chunk = 1;
  bool recompute = false;
  bool program = false;  ///< the problem's program runs instead of its stages
  int chunks(int tasks) const { return (tasks + chunk - 1) / chunk; }
};

/// The learner's own arrays, whatever the task sizes.
struct State {
  Array meta, first, second;  ///< [1][M]
  Array rates;                ///< [1][rate_rows x P]: a part of meta when learned
  Array running;              ///< [1][B]
  Array inner_second;         ///< [1][P]
  Array control;              ///< [1][kControlSize] float64
  Array reports;              ///< [report_slots][...] float64
  Array halted;               ///< [1][1] float64
  Array applied;              ///< [1][kAppliedSize] float64
};
constexpr int report_slots = 64;
State take_state(Arena& arena, const Problem& problem, const Optimizer& optimizer);

/// The arrays of one meta-update.
struct Memory {
  Array x, t;     ///< [T][support + query][...]
  Array rows;     ///< [T][row]
  Array mean;     ///< [1][row]
  Array adapted;  ///< [T][P], only where the goal wants it
  std::vector<Workspace> lanes;
};
Memory take_memory(Arena& arena, const Problem& problem, const Cut& cut);
int row_size(const Problem& problem);

/// A pure function of its arguments: the arena of (state, memory) run dry.
struct Bytes {
  std::int64_t total = 0;
  std::vector<PlannedArray> arrays;
};
Bytes count_bytes(const Problem& problem, const Cut& cut, const Optimizer& optimizer, Implementation implementation);

/// Memory that executions use in turn.
struct Block {
  std::shared_ptr<std::byte> data;
  std::int64_t bytes = 0;
};

class Execution {
 public:
  /// Bytes of the arena of such an execution.
  static std::int64_t bytes_of(const Problem& problem, const Cut& cut);
  /// `block` is at least that large. A run reads nothing but the state that it has not written itself, so executions
  /// that run one after another may lie in the same block.
  Execution(Backend& backend, const Problem& problem, const Cut& cut, const State& state, Block block);
  /// In a block of its own.
  Execution(Backend& backend, const Problem& problem, const Cut& cut, const State& state);

  /// Where tasks come from.
  struct Source {
    /// Fills a chunk's x and t just before it runs, in the lane that runs it: so, where there are several, one chunk's
    /// are uploaded while another lane computes.
    std::function<void(int first_task, int tasks, Lane& lane)> fill;
    /// These are the backend's open episodes: a program may draw them itself instead.
    bool open_episodes = false;
  };
  /// Queues all chunks and, if `step` is given, the outer step.
  void run(const Source& source, const OuterStep* step);

  const Problem& problem() const { return problem_; }
  const Cut& cut() const { return cut_; }
  const Memory& memory() const { return memory_; }
  std::int64_t bytes() const { return bytes_; }
  const Block& block() const { return block_; }

 private:
  void run_program(const Source& source, int first_task, int tasks, Lane& lane);

  Backend& backend_;
  Problem problem_;
  Cut cut_;
  State state_;
  Block block_;
  std::int64_t bytes_ = 0;
  Memory memory_;
};

}  // namespace cumeta
