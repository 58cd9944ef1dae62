// SPDX-License-Identifier: Apache-2.0
// The reference's end of a meta-update: tree mean over tasks, ties, report, clipping, momentum or Adam, statistics.
#include <algorithm>
#include <cassert>
#include <cmath>

#include "kernels/backend_reference.h"

namespace cumeta {
namespace {

/// The sum of element i over tasks by a balanced binary tree: pairs (0,1), (2,3), ...; an odd one out moves up.
double tree_sum(const Array& rows, std::int64_t i) {
  std::vector<double> level;
  for (int task = 0; task < rows.tasks; ++task) level.push_back(rows.row<double>(task)[i]);
  while (level.size() > 1) {
    std::vector<double> above;
    for (std::size_t k = 0; k < level.size(); k += 2)
      above.push_back(k + 1 < level.size() ? level[k] + level[k + 1] : level[k]);
    level.swap(above);
  }
  return level[0];
}

/// The first task that is not finite and, in it, the first step: k the support loss of step k, K the query loss, K + 1
/// the gradient.
struct Bad {
  int task = -1, step = -1;
};
Bad first_bad(const OuterStep& s) {
  const RowLayout& l = s.layout;
  for (int task = 0; task < s.rows.tasks; ++task) {
    const double* row = s.rows.row<double>(task);
    for (int k = 0; k <= l.steps; ++k)
      if (!std::isfinite(row[l.support_loss_at() + k])) return {task, k};  // the query loss follows the support losses
    for (int i = 0; i < l.gradient; ++i)
      if (!std::isfinite(row[i])) return {task, l.steps + 1};
  }
  const double* mean = s.mean.row<double>(0);
  bool finite = true;  // else every row is finite, their sum is not
  for (int i = 0; i < l.gradient; ++i) finite &= std::isfinite(mean[i]);
  for (int k = 0; k <= l.steps; ++k) finite &= std::isfinite(mean[l.support_loss_at() + k]);
  return finite ? Bad{} : Bad{0, l.steps + 1};
}

/// A group of tied elements is one parameter and counts once: only its first element is marked.
std::vector<bool> counted_elements(const OuterStep& s) {
  std::vector<bool> counted(static_cast<std::size_t>(s.layout.gradient), true);
  for (const TiedGroup& group : s.tied)
    for (int i = group.begin + 1; i < group.end; ++i) counted[static_cast<std::size_t>(i)] = false;
  return counted;
}
double norm(const std::vector<double>& g, const std::vector<bool>& counted) {
  double sum = 0;
  for (std::size_t i = 0; i < g.size(); ++i) sum += counted[i] ? g[i] * g[i] : 0;
  return std::sqrt(sum);
}

void clip(std::vector<double>& g, const OuterStep& s, const std::vector<bool>& counted) {
  if (s.clip_value > 0)
    for (double& number : g) number = std::clamp(number, -s.clip_value, s.clip_value);
  if (s.clip_norm > 0) {
    const double length = norm(g, counted);
    if (length > s.clip_norm)
      for (double& number : g) number *= s.clip_norm / length;
  }
}

void update(const OuterStep& s, const std::vector<double>& g) {
  const double* control = s.control.row<double>(0);
  const double rate = control[kControlRate];
  double* applied = s.applied.row<double>(0);
  const double n = applied[kAppliedSteps] + 1;
  const double correction1 = adam_correction(s.beta1, n), correction2 = adam_correction(s.beta2, n);
  double* meta = s.meta.row<double>(0);
  for (std::size_t i = 0; i < g.size(); ++i) {
    double direction = g[i];
    if (s.rule == OuterStep::Rule::sgd && s.first) {
      double& m = s.first.row<double>(0)[i];
      direction = m = s.momentum * m + g[i];
    }
    if (s.rule == OuterStep::Rule::adam) {
      double& m = s.first.row<double>(0)[i];
      double& v = s.second.row<double>(0)[i];
      m = s.beta1 * m + (1 - s.beta1) * g[i];
      v = s.beta2 * v + (1 - s.beta2) * g[i] * g[i];
      direction = m / correction1 / (std::sqrt(v / correction2) + s.eps);
    }
    meta[i] -= rate * direction;
  }
  const double* mean = s.mean.row<double>(0);
  for (int i = 0; s.running && i < s.layout.statistics; ++i) {
    double& average = s.running.row<double>(0)[i];
    average += s.running_momentum * (mean[s.layout.statistics_at() + i] - average);
  }
  for (int i = 0; s.inner_second && i < s.layout.second; ++i)
    s.inner_second.row<double>(0)[i] = mean[s.layout.second_at() + i];
  count_applied(applied, s.layout);
}

}  // namespace

void outer_step_reference(const OuterStep& s) {
  const RowLayout& l = s.layout;
  assert(s.rows.tasks > 0 && s.rows.size == l.size() && s.mean.size == l.size());
  double* mean = s.mean.row<double>(0);
  for (int i = 0; i < l.size(); ++i) mean[i] = tree_sum(s.rows, i) / s.rows.tasks;
  for (const TiedGroup& group : s.tied) {
    double sum = 0;
    for (int i = group.begin; i < group.end; ++i) sum += mean[i];
    std::fill(mean + group.begin, mean + group.end, sum);
  }

  std::vector<double> g(mean, mean + l.gradient);
  const std::vector<bool> counted = counted_elements(s);
  const double length = norm(g, counted);
  const Bad bad = first_bad(s);
  const bool finite = bad.task < 0;
  bool halted = s.halted && *s.halted.row<double>(0) != 0;
  if (!finite && s.halt_on_nonfinite) halted = true;
  if (s.halted) *s.halted.row<double>(0) = halted;

  if (s.reports) {
    const ReportLayout report{l.steps};
    const int slot = static_cast<int>(s.control.row<double>(0)[kControlReportSlot]);
    double* out = s.reports.row<double>(slot);
    for (int k = 0; k < l.steps; ++k) out[k] = mean[l.support_loss_at() + k];
    out[report.query_loss_at()] = mean[l.query_loss_at()];
    out[report.hits_at()] = mean[l.hits_at()];
    out[report.norm_at()] = length;
    out[report.bad_task_at()] = bad.task;
    out[report.bad_step_at()] = bad.step;
    out[report.halted_at()] = halted;
  }

  if (s.rule == OuterStep::Rule::none || halted || !finite) return;
  clip(g, s, counted);
  update(s, g);
}

}  // namespace cumeta
