// SPDX-License-Identifier: Apache-2.0
// The end of a meta-update on a device: mean over tasks in a fixed order, clipping, the outer optimizer, the report.
//
//   g = mean over tasks of rows;  g tied over groups;  g clipped;  optimizer: meta -= rate ...;  report <- losses,
//   norm, halt
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/array.h"

namespace cumeta {

/// What changes from update to update is read from memory, so that a recording never has to be made again.
/// control: [1][kControlSize], float64 on every device.
enum Control : int {
  kControlRate,        // the outer rate of this update, schedule applied
  kControlIteration,   // for episodes drawn on the device
  kControlReportSlot,  // row of `reports` that this update writes
  kControlSize = 8
};

/// What was applied so far: a device knows at once that an update is skipped, the host too late. float64.
enum Applied : int {
  kAppliedSteps,       // of the optimizer since its moments were zero
  kAppliedInnerSteps,  // inner Adam steps behind the carried second moment (Reptile)
  kAppliedSize
};

/// A task's row of results: [gradient M | statistics B | second moment E | support loss K | query loss | hits].
struct RowLayout {
  int gradient = 0;    ///< M: parameters P, then learned rates (one per step kept and parameter)
  int statistics = 0;  ///< B: [mean | variance] of every batch norm with running statistics
  int second = 0;      ///< E: P when Reptile's inner Adam carries its state, else 0
  int steps = 0;       ///< K support losses, before each inner step
  CUMETA_HD int statistics_at() const { return gradient; }
  CUMETA_HD int second_at() const { return gradient + statistics; }
  CUMETA_HD int support_loss_at() const { return second_at() + second; }
  CUMETA_HD int query_loss_at() const { return support_loss_at() + steps; }
  CUMETA_HD int hits_at() const { return query_loss_at() + 1; }
  CUMETA_HD int size() const { return hits_at() + 1; }
};

/// A report: [mean support losses K | mean query loss | mean hits | gradient norm before clipping | bad task or -1 |
/// bad step or -1 | halted]. bad step: k < K support loss of step k, K the query loss, K + 1 the gradient; of
/// the first such task the first such step (0 and K + 1 where only the sum over tasks overflows). Means and norm are
/// reported as they are, finite or not.
struct ReportLayout {
  int steps = 0;
  CUMETA_HD int query_loss_at() const { return steps; }
  CUMETA_HD int hits_at() const { return steps + 1; }
  CUMETA_HD int norm_at() const { return steps + 2; }
  CUMETA_HD int bad_task_at() const { return steps + 3; }
  CUMETA_HD int bad_step_at() const { return steps + 4; }
  CUMETA_HD int halted_at() const { return steps + 5; }
  CUMETA_HD int size() const { return steps + 6; }
};

/// Elements [begin, end) of the meta-gradient share one value: each becomes the sum over the group (a rate of a layer,
/// of all), in `mean` too. A group is one parameter: it counts once in the gradient's norm.
struct TiedGroup {
  int begin = 0, end = 0;
};

/// 1 - beta^n of Adam's step n; by squaring, so that every device has the same bits.
CUMETA_HD inline double adam_correction(double beta, double n) {
  double power = 1;
  for (auto rest = static_cast<std::int64_t>(n); rest > 0; rest /= 2, beta *= beta)
    if (rest % 2 == 1) power *= beta;
  return 1 - power;
}
CUMETA_HD inline void count_applied(double* applied, const RowLayout& layout) {
  applied[kAppliedSteps] += 1;
  if (layout.second > 0) applied[kAppliedInnerSteps] += layout.steps;
}

struct OuterStep {
  enum class Rule { none, sgd, adam };
  RowLayout layout;
  Array rows;  ///< [T][layout.size()]
  /// [1][layout.size()]: the fixed-order mean of rows. The order: a balanced binary tree over tasks, pairs (0,1),
  /// (2,3), ...
  Array mean;
  std::vector<TiedGroup> tied;

  Rule rule = Rule::none;                         ///< none: `mean` and the report are all that is wanted
  double momentum = 0.0;                          ///< sgd: m = momentum m + g; meta -= rate m
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  ///< adam, as Kingma & Ba, eps outside the root
  double clip_value = 0.0;                        ///< > 0: g clamped to [-clip_value, clip_value]
  double clip_norm = 0.0;                         ///< > 0: g scaled so that its norm is at most this (after clip_value)
  /// true: after a non-finite loss or gradient this and every later step leaves the state alone (`halted` stays 1);
  /// false: only that update is skipped.
  bool halt_on_nonfinite = true;

  Array meta;           ///< [1][M]
  Array first, second;  ///< [1][M] moments; empty where the rule has none
  Array running;        ///< [1][B] running statistics: running += momentum_running (mean - running); empty when B = 0
  double running_momentum = 0.1;
  Array inner_second;  ///< [1][E]: Reptile's carried second moment <- its mean over tasks; empty when E = 0
  Array control;       ///< [1][kControlSize]
  Array reports;       ///< [slots][ReportLayout::size()], float64 on every device
  Array halted;        ///< [1][1], float64: sticky
  Array applied;       ///< [1][kAppliedSize]; empty only where the rule is none
};

/// What CUDA's kernels hold: tasks of one mean, and tied groups.
constexpr int cuda_most_outer_tasks = 65'535;
constexpr int cuda_most_tied_groups = 400;
/// Kernel launches on CUDA. Rows up to this length are finished by the block of the first launch that ends last.
constexpr int cuda_short_row = 8192;
inline int cuda_outer_step_launches(const OuterStep& step) {
  return step.rule == OuterStep::Rule::none || step.layout.size() <= cuda_short_row ? 1 : 2;
}

}  // namespace cumeta
