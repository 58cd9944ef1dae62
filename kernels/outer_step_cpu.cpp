// SPDX-License-Identifier: Apache-2.0
// The CPU's end of a meta-update: tree mean over tasks and optimizer by blocks of columns, one pass each.
#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

#include "kernels/backend_cpu.h"
#include "kernels/tools/elementwise_cpu.h"

namespace cumeta {
namespace {

constexpr int kBlock = 256;               // columns of one tree: its partial sums stay in the first-level cache
constexpr int kLevels = 31;               // of a tree over as many tasks as an int can count
constexpr std::int64_t kSerial = 100000;  // numbers below which waking other threads costs more than it saves

/// mean[c] = sum over tasks of rows[.][c] / tasks for columns [begin, begin + n), n <= kBlock. A balanced tree over
/// pairs (0,1), (2,3), ...: `partial[l]` holds the open sum of 2^l tasks, as in a binary counter.
void tree_mean(const Array& rows, float* mean, std::int64_t begin, std::int64_t n) {
  std::array<std::array<float, kBlock>, kLevels> partial;
  std::array<float, kBlock> sum;
  const auto open = [&](int level, int last) {
    return level == 0 ? rows.row<float>(last) + begin : partial[static_cast<std::size_t>(level)].data();
  };
  for (int task = 1; task < rows.tasks; task += 2) {
    const float* current = rows.row<float>(task) + begin;
    int level = 0;
    for (int bits = task; bits & 1; bits >>= 1, ++level) {
      const bool closes = !(bits & 2);
      float* out = closes ? partial[static_cast<std::size_t>(level) + 1].data() : sum.data();
      cpu::add(out, open(level, task - 1), current, n);
      current = out;
    }
  }
  const float* current = nullptr;
  for (int level = 0; level < kLevels; ++level) {
    if (!(rows.tasks >> level & 1)) continue;
    const float* left = open(level, rows.tasks - 1);
    if (current) {
      cpu::add(sum.data(), left, current, n);
      current = sum.data();
    } else {
      current = left;
    }
  }
  cpu::scale(mean + begin, 1.0f / static_cast<float>(rows.tasks), current, n);
}

/// Calls f(begin, count) for blocks of the columns [0, columns); each number costs about `depth` operations.
template <class F>
void for_each_block(ThreadPool& pool, std::int64_t columns, std::int64_t depth, F&& f) {
  const auto blocks = static_cast<int>((columns + kBlock - 1) / kBlock);
  const auto block = [&](int index) {
    const std::int64_t begin = std::int64_t{index} * kBlock;
    f(begin, std::min<std::int64_t>(kBlock, columns - begin));
  };
  if (columns * depth < kSerial) {
    for (int index = 0; index < blocks; ++index) block(index);
  } else {
    pool.run(blocks, [&](int index, int) { block(index); });
  }
}

double sum_of_squares(const float* x, std::int64_t n) {
  std::array<double, 8> sums{};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (std::int64_t j = 0; j < 8; ++j) sums[static_cast<std::size_t>(j)] += static_cast<double>(x[i + j]) * x[i + j];
  }
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  for (const double part : sums) sum += part;
  return sum;
}

/// Norm of `mean`, or of it clamped; a tied group is one parameter and counts by its first element.
double gradient_norm(const OuterStep& s, float limit) {
  const float* g = s.mean.row<float>(0);
  std::array<float, kBlock> clamped;
  const auto range = [&](std::int64_t begin, std::int64_t end) {
    if (limit <= 0) return sum_of_squares(g + begin, end - begin);
    double sum = 0;
    for (; begin < end; begin += kBlock) {
      const std::int64_t n = std::min<std::int64_t>(kBlock, end - begin);
      cpu::clamp(clamped.data(), g + begin, limit, n);
      sum += sum_of_squares(clamped.data(), n);
    }
    return sum;
  };
  double sum = 0;
  int from = 0;
  for (const TiedGroup& group : s.tied) {
    assert(group.begin >= from && group.end > group.begin);
    sum += range(from, group.begin + 1);
    from = group.end;
  }
  return std::sqrt(sum + range(from, s.layout.gradient));
}

/// The first task that is not finite and, in it, the first step; the gradient counts as step K + 1.
struct Bad {
  int task = -1, step = -1;
};
Bad first_bad(const OuterStep& s) {
  const RowLayout& l = s.layout;
  for (int task = 0; task < s.rows.tasks; ++task) {
    const float* row = s.rows.row<float>(task);
    for (int k = 0; k <= l.steps; ++k) {
      if (!std::isfinite(row[l.support_loss_at() + k])) return {task, k};
    }
    for (int i = 0; i < l.gradient; ++i) {
      if (!std::isfinite(row[i])) return {task, l.steps + 1};
    }
  }
  return {0, l.steps + 1};  // every row is finite, their sum is not
}

void update(const OuterStep& s, ThreadPool& pool) {
  const RowLayout& l = s.layout;
  const double* control = s.control.row<double>(0);
  const auto rate = static_cast<float>(control[kControlRate]);
  double* applied = s.applied.row<double>(0);
  const double step = applied[kAppliedSteps] + 1;
  const float* mean = s.mean.row<float>(0);
  const auto limit = static_cast<float>(s.clip_value);
  float shrink = 1;
  if (s.clip_norm > 0) {
    const double length = gradient_norm(s, limit);
    if (length > s.clip_norm) shrink = static_cast<float>(s.clip_norm / length);
  }
  const cpu::AdamStep adam{rate,
                           static_cast<float>(s.beta1),
                           static_cast<float>(1 - s.beta1),
                           static_cast<float>(s.beta2),
                           static_cast<float>(1 - s.beta2),
                           static_cast<float>(1 / adam_correction(s.beta1, step)),
                           static_cast<float>(1 / adam_correction(s.beta2, step)),
                           static_cast<float>(s.eps)};
  for_each_block(pool, l.gradient, 8, [&](std::int64_t begin, std::int64_t n) {
    std::array<float, kBlock> clipped;
    const float* g = mean + begin;
    if (limit > 0) {
      cpu::clamp(clipped.data(), g, limit, n);
      g = clipped.data();
    }
    if (shrink != 1) {
      cpu::scale(clipped.data(), shrink, g, n);
      g = clipped.data();
    }
    float* meta = s.meta.row<float>(0) + begin;
    if (s.rule == OuterStep::Rule::adam) {
      cpu::adam_step(meta, s.first.row<float>(0) + begin, s.second.row<float>(0) + begin, g, adam, n);
    } else if (s.first) {
      cpu::momentum_step(meta, s.first.row<float>(0) + begin, g, rate, static_cast<float>(s.momentum), n);
    } else {
      cpu::add_scaled(meta, -rate, g, n);
    }
  });
  if (s.running) {
    float* running = s.running.row<float>(0);
    const auto momentum = static_cast<float>(s.running_momentum);
    for (int i = 0; i < l.statistics; ++i) running[i] += momentum * (mean[l.statistics_at() + i] - running[i]);
  }
  if (s.inner_second) { std::copy_n(mean + l.second_at(), l.second, s.inner_second.row<float>(0)); }
  count_applied(applied, l);
}

}  // namespace

void outer_step_cpu(const OuterStep& s, ThreadPool& pool) {
  const RowLayout& l = s.layout;
  assert(s.rows.tasks > 0 && s.rows.size == l.size() && s.mean.size == l.size());
  float* mean = s.mean.row<float>(0);
  for_each_block(pool, l.size(), s.rows.tasks,
                 [&](std::int64_t begin, std::int64_t n) { tree_mean(s.rows, mean, begin, n); });
  for (const TiedGroup& group : s.tied) {
    double sum = 0;
    for (int i = group.begin; i < group.end; ++i) sum += mean[i];
    std::fill(mean + group.begin, mean + group.end, static_cast<float>(sum));
  }

  // The norm of finite floats is finite in double, so it stands for the whole gradient.
  const double length = gradient_norm(s, 0);
  bool finite = std::isfinite(length);
  for (int k = 0; k <= l.steps; ++k) finite = finite && std::isfinite(mean[l.support_loss_at() + k]);
  const Bad bad = finite ? Bad{} : first_bad(s);
  bool halted = s.halted && *s.halted.row<double>(0) != 0;
  if (!finite && s.halt_on_nonfinite) halted = true;
  if (s.halted) *s.halted.row<double>(0) = halted;

  if (s.reports) {
    const ReportLayout report{l.steps};
    double* out = s.reports.row<double>(static_cast<int>(s.control.row<double>(0)[kControlReportSlot]));
    for (int k = 0; k < l.steps; ++k) out[k] = mean[l.support_loss_at() + k];
    out[report.query_loss_at()] = mean[l.query_loss_at()];
    out[report.hits_at()] = mean[l.hits_at()];
    out[report.norm_at()] = length;
    out[report.bad_task_at()] = bad.task;
    out[report.bad_step_at()] = bad.step;
    out[report.halted_at()] = halted;
  }

  if (s.rule == OuterStep::Rule::none || halted || !finite) return;
  update(s, pool);
}

}  // namespace cumeta
