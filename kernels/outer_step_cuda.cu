// SPDX-License-Identifier: Apache-2.0
// The outer step on CUDA: launch 1 reduces the tasks' rows, its last block decides and reports; launch 2 updates the
// parameters. For short rows the last block does that too, and one launch is all.
#include <algorithm>
#include <cassert>

#include "kernels/outer_step_cuda.h"
#include "kernels/tools/reduce_cuda.cuh"

namespace cumeta {
namespace {

constexpr int kThreads = 256;
constexpr int kLevels = 14;  ///< of the tree above groups of four tasks
static_assert(cuda_most_outer_tasks == (4 << kLevels) - 1);

/// What blocks and launches tell each other.
struct Workspace {
  unsigned finished;                 ///< blocks done; back to 0 at the end
  float apply, scale;                ///< the decision
  float correction1;                 ///< Adam's, of this step
  float correction2;                 ///< Adam's, of this step
  unsigned long long bad;            ///< ~(task * (K + 2) + step) of the first non-finite number; 0: none
  double squares[kMostOuterBlocks];  ///< of the gradient, by block
  double clipped[kMostOuterBlocks];  ///< after clip_value
};
static_assert(sizeof(Workspace) == kOuterStepWorkspace);

struct Arguments {
  const float* rows;
  std::int64_t stride;
  int tasks;
  RowLayout layout;
  float* mean;
  OuterStep::Rule rule;
  float momentum, beta1, rest1, beta2, rest2, eps, clip_value;  // rest = 1 - beta, taken in double
  double clip_norm, exact_beta1, exact_beta2;
  int halt_on_nonfinite;
  float *meta, *first, *second, *running, *inner_second;
  float running_momentum;
  const double* control;
  double* reports;
  std::int64_t report_stride;
  double *halted, *applied;
  Workspace* workspace;
};
struct Tied {
  int count;
  TiedGroup groups[cuda_most_tied_groups];  ///< in order, disjoint
};

__device__ __forceinline__ bool is_finite(float value) { return fabsf(value) <= 3.402823466e38f; }

/// -1 where nobody minds a number that is not finite, else the step that a report names.
__device__ __forceinline__ int judged_step(const RowLayout& layout, int column) {
  if (column < layout.gradient) return layout.steps + 1;
  const int loss = column - layout.support_loss_at();
  return loss >= 0 && loss <= layout.steps ? loss : -1;
}

__device__ __forceinline__ bool is_tied(const Tied& tied, int column) {
  int low = 0, high = tied.count;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (tied.groups[middle].end <= column)
      low = middle + 1;
    else
      high = middle;
  }
  return low < tied.count && tied.groups[low].begin <= column;
}

__device__ __forceinline__ float clamp_value(float g, float limit) {
  return limit > 0.0f ? fminf(fmaxf(g, -limit), limit) : g;
}

/// The mean of a column by the balanced tree over tasks; sums wait at their level until their partner comes.
__device__ float tree_mean(const Arguments& a, int column, int& bad_task) {
  float waiting[kLevels] = {};
  const float* next = a.rows + column;
  bad_task = -1;
  const auto take = [&](int task) {
    const float value = next[task * a.stride];
    if (!is_finite(value) && bad_task < 0) bad_task = task;
    return value;
  };
  const int fours = a.tasks / 4;
  for (int four = 0; four < fours; ++four) {
    const float v0 = take(4 * four), v1 = take(4 * four + 1), v2 = take(4 * four + 2), v3 = take(4 * four + 3);
    float sum = (v0 + v1) + (v2 + v3);
    bool placed = false;
#pragma unroll
    for (int level = 0; level < kLevels; ++level) {
      if (placed) continue;
      if (four >> level & 1) {
        sum = waiting[level] + sum;
      } else {
        waiting[level] = sum;
        placed = true;
      }
    }
  }
  bool any = false;
  float sum = 0.0f;
  const int rest = 4 * fours;
  if (rest < a.tasks) sum = take(rest), any = true;
  if (rest + 1 < a.tasks) sum = sum + take(rest + 1);
  if (rest + 2 < a.tasks) sum = sum + take(rest + 2);
#pragma unroll
  for (int level = 0; level < kLevels; ++level)
    if (fours >> level & 1) sum = any ? waiting[level] + sum : waiting[level], any = true;
  return sum / static_cast<float>(a.tasks);
}

/// What becomes of element i of the parameters, or of what follows the gradient in a row.
__device__ __forceinline__ void update_column(const Arguments& a, int column, float scale) {
  const RowLayout& layout = a.layout;
  if (column < layout.gradient) {
    const float g = clamp_value(__ldcg(a.mean + column), a.clip_value) * scale;
    float direction = g;
    if (a.rule == OuterStep::Rule::sgd && a.first) {
      direction = a.momentum * a.first[column] + g;
      a.first[column] = direction;
    } else if (a.rule == OuterStep::Rule::adam) {
      const float m = a.beta1 * a.first[column] + a.rest1 * g;
      const float v = a.beta2 * a.second[column] + a.rest2 * g * g;
      a.first[column] = m;
      a.second[column] = v;
      direction = m / a.workspace->correction1 / (sqrtf(v / a.workspace->correction2) + a.eps);
    }
    a.meta[column] -= static_cast<float>(a.control[kControlRate]) * direction;
  } else if (column < layout.second_at()) {
    if (!a.running) return;
    float& average = a.running[column - layout.statistics_at()];
    average += a.running_momentum * (__ldcg(a.mean + column) - average);
  } else if (column < layout.support_loss_at()) {
    if (a.inner_second) a.inner_second[column - layout.second_at()] = __ldcg(a.mean + column);
  }
}

/// Keeps the first task and, in it, the first step: the complement turns the least place into the largest number. A sum
/// that is not finite is marked behind all tasks.
__device__ __forceinline__ void mark_bad(const Arguments& a, int task, int step) {
  atomicMax(&a.workspace->bad, ~(static_cast<unsigned long long>(task) * static_cast<unsigned>(a.layout.steps + 2) +
                                 static_cast<unsigned>(step)));
}

/// Each tied element becomes the sum over its group; returns the squares of the sums, one a group, to every thread.
__device__ void tie(const Arguments& a, const Tied& tied, double* partial, double& squares, double& clipped) {
  squares = clipped = 0.0;
  for (int group = 0; group < tied.count; ++group) {
    const int begin = tied.groups[group].begin, end = tied.groups[group].end;
    double sum = 0.0;
    for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kThreads) sum += double(__ldcg(a.mean + i));
    const float total = static_cast<float>(block_sum(sum, partial));
    if (!is_finite(total) && threadIdx.x == 0) mark_bad(a, a.tasks, a.layout.steps + 1);
    for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kThreads) a.mean[i] = total;
    const double limited = clamp_value(total, a.clip_value);
    squares += double(total) * total, clipped += limited * limited;
  }
}

/// One thread: the report, the halt flag, and what the update shall do.
__device__ void decide(const Arguments& a, double squares, double clipped) {
  Workspace& w = *a.workspace;
  const RowLayout& layout = a.layout;
  const ReportLayout report{layout.steps};
  const unsigned long long bad = atomicExch(&w.bad, 0ULL);
  bool halted = a.halted && *a.halted != 0.0;
  if (bad && a.halt_on_nonfinite) halted = true;
  if (a.halted) *a.halted = halted;
  if (a.reports) {
    double* out = a.reports + static_cast<std::int64_t>(a.control[kControlReportSlot]) * a.report_stride;
    for (int k = 0; k < layout.steps; ++k) out[k] = __ldcg(a.mean + layout.support_loss_at() + k);
    out[report.query_loss_at()] = __ldcg(a.mean + layout.query_loss_at());
    out[report.hits_at()] = __ldcg(a.mean + layout.hits_at());
    out[report.norm_at()] = sqrt(squares);
    const long long place = static_cast<long long>(~bad);
    const long long task = place / (layout.steps + 2);
    out[report.bad_task_at()] = !bad ? -1.0 : task < a.tasks ? static_cast<double>(task) : 0.0;
    out[report.bad_step_at()] = bad ? static_cast<double>(place % (layout.steps + 2)) : -1.0;
    out[report.halted_at()] = halted;
  }
  const double length = sqrt(clipped);
  w.scale = a.clip_norm > 0.0 && length > a.clip_norm ? static_cast<float>(a.clip_norm / length) : 1.0f;
  const bool apply = a.rule != OuterStep::Rule::none && !halted && !bad;
  w.apply = apply;
  if (!apply) return;
  const double n = a.applied[kAppliedSteps] + 1.0;
  w.correction1 = static_cast<float>(adam_correction(a.exact_beta1, n));
  w.correction2 = static_cast<float>(adam_correction(a.exact_beta2, n));
  count_applied(a.applied, layout);
}

__global__ void __launch_bounds__(kThreads, 2) reduce_rows(Arguments a, Tied tied, int finish) {
  CUMETA_SHARED(double, partial, kThreads / kWarp);
  CUMETA_SHARED(int, is_last, 1);
  Workspace& w = *a.workspace;
  const int size = a.layout.size();
  double squares = 0.0, clipped = 0.0;
  for (int column = blockIdx.x * kThreads + threadIdx.x; column < size; column += gridDim.x * kThreads) {
    int bad_task;
    const float mean = tree_mean(a, column, bad_task);
    a.mean[column] = mean;
    if (const int step = judged_step(a.layout, column); step >= 0) {
      if (bad_task >= 0)
        mark_bad(a, bad_task, step);
      else if (!is_finite(mean))
        mark_bad(a, a.tasks, a.layout.steps + 1);  // every row is finite, their sum is not
    }
    if (column < a.layout.gradient && !is_tied(tied, column)) {
      const double limited = clamp_value(mean, a.clip_value);
      squares += double(mean) * mean, clipped += limited * limited;
    }
  }
  squares = block_sum(squares, partial);
  clipped = block_sum(clipped, partial);
  if (threadIdx.x == 0) w.squares[blockIdx.x] = squares, w.clipped[blockIdx.x] = clipped;
  // Behind block_sum's barriers thread 0's fence covers what the whole block wrote.
  __threadfence();
  if (threadIdx.x == 0) is_last[0] = atomicAdd(&w.finished, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!is_last[0]) return;

  __threadfence();
  double tied_squares, tied_clipped;
  tie(a, tied, partial, tied_squares, tied_clipped);
  squares = clipped = 0.0;
  for (unsigned block = threadIdx.x; block < gridDim.x; block += kThreads)
    squares += __ldcg(w.squares + block), clipped += __ldcg(w.clipped + block);
  squares = block_sum(squares, partial) + tied_squares;
  clipped = block_sum(clipped, partial) + tied_clipped;
  if (threadIdx.x == 0) {
    decide(a, squares, clipped);
    w.finished = 0;
  }
  __syncthreads();
  if (finish && w.apply != 0.0f) {
    const float scale = w.scale;
    for (int column = threadIdx.x; column < a.layout.support_loss_at(); column += kThreads)
      update_column(a, column, scale);
  }
}

__global__ void __launch_bounds__(kThreads, 4) update_columns(Arguments a) {
  if (a.workspace->apply == 0.0f) return;
  const float scale = a.workspace->scale;
  const int column = blockIdx.x * kThreads + threadIdx.x;
  if (column < a.layout.support_loss_at()) update_column(a, column, scale);
}

}  // namespace

void outer_step_cuda(const CudaLane& lane, const OuterStep& s, std::byte* workspace) {
  assert(s.rows.tasks > 0 && s.rows.size == s.layout.size() && s.mean.size == s.layout.size());
  assert(s.control.number == Number::float64 && s.reports.number == Number::float64);
  assert(s.rows.tasks <= cuda_most_outer_tasks && s.tied.size() <= cuda_most_tied_groups);
  Tied tied{static_cast<int>(s.tied.size()), {}};
  std::copy(s.tied.begin(), s.tied.end(), tied.groups);
  std::sort(tied.groups, tied.groups + tied.count,
            [](const TiedGroup& a, const TiedGroup& b) { return a.begin < b.begin; });
  Arguments a{};
  a.rows = s.rows.row<float>(0), a.stride = s.rows.stride, a.tasks = s.rows.tasks;
  a.layout = s.layout;
  a.mean = s.mean.row<float>(0);
  a.rule = s.rule;
  a.momentum = static_cast<float>(s.momentum), a.beta1 = static_cast<float>(s.beta1);
  a.beta2 = static_cast<float>(s.beta2), a.eps = static_cast<float>(s.eps);
  a.rest1 = static_cast<float>(1 - s.beta1), a.rest2 = static_cast<float>(1 - s.beta2);
  a.exact_beta1 = s.beta1, a.exact_beta2 = s.beta2;
  a.clip_value = static_cast<float>(s.clip_value), a.clip_norm = s.clip_norm;
  a.halt_on_nonfinite = s.halt_on_nonfinite;
  a.meta = s.meta.row<float>(0), a.first = s.first.row<float>(0), a.second = s.second.row<float>(0);
  a.running = s.running.row<float>(0), a.inner_second = s.inner_second.row<float>(0);
  a.running_momentum = static_cast<float>(s.running_momentum);
  a.control = s.control.row<const double>(0);
  a.reports = s.reports.row<double>(0), a.report_stride = s.reports.stride;
  a.halted = s.halted.row<double>(0), a.applied = s.applied.row<double>(0);
  a.workspace = reinterpret_cast<Workspace*>(workspace);
  const bool finish = s.layout.size() <= cuda_short_row;
  const unsigned blocks = blocks_for(s.layout.size(), kThreads);
  launch(lane, "outer step: mean over tasks", reduce_rows, std::min<unsigned>(blocks, kMostOuterBlocks), kThreads, 0, a,
         tied, finish);
  if (s.rule != OuterStep::Rule::none && !finish)
    launch(lane, "outer step: update", update_columns, blocks, kThreads, 0, a);
}

}  // namespace cumeta
