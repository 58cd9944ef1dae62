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

/// Sums of a column wait at their level until their partner comes; `number` counts the sums that came to the lowest
/// level before.
template <int lowest>
__device__ __forceinline__ void place_sum(float (&waiting)[kLevels], int number, float sum) {
  bool placed = false;
#pragma unroll
  for (int level = lowest; level < kLevels; ++level) {
    if (placed) continue;
    if (number >> (level - lowest) & 1) {
      sum = waiting[level] + sum;
    } else {
      waiting[level] = sum;
      placed = true;
    }
  }
}

/// The mean of a column by the balanced tree over tasks. Sixteen tasks are asked for at once, which is a tree by
/// itself, and those behind the last sixteen before all others.
__device__ __forceinline__ float tree_mean(const Arguments& a, int column) {
  constexpr int kGroup = 16;
  float waiting[kLevels] = {};
  const float* next = a.rows + column;
  const int groups = a.tasks / kGroup, left = a.tasks % kGroup;
  float rest[kGroup], value[kGroup];
  const float* behind = next + static_cast<std::int64_t>(groups) * kGroup * a.stride;
#pragma unroll
  for (int i = 0; i < kGroup - 1; ++i) rest[i] = i < left ? __ldg(behind + i * a.stride) : 0.0f;
#pragma unroll 1
  for (int group = 0; group < groups; ++group) {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) value[i] = __ldg(next + i * a.stride);
    next += kGroup * a.stride;
#pragma unroll
    for (int distance = 1; distance < kGroup; distance *= 2) {
#pragma unroll
      for (int i = 0; i < kGroup; i += 2 * distance) value[i] = value[i] + value[i + distance];
    }
    place_sum<2>(waiting, group, value[0]);
  }
  // Chosen by comparisons: an index computed at run time would put the sums into local memory.
  const int fours = left / 4;
  const auto four = [&](int i) { return (rest[i] + rest[i + 1]) + (rest[i + 2] + rest[i + 3]); };
  waiting[1] = four(0) + four(4), waiting[0] = fours == 3 ? four(8) : four(0);
  const auto single = [&](int i) {
    const float low = fours == 0 ? rest[i] : rest[4 + i], high = fours == 2 ? rest[8 + i] : rest[12 + i];
    return fours < 2 ? low : high;
  };
  bool any = left % 4 > 0;
  float sum = any ? single(0) : 0.0f;
  if (left % 4 > 1) sum = sum + single(1);
  if (left % 4 > 2) sum = sum + single(2);
#pragma unroll
  for (int level = 0; level < kLevels; ++level)
    if (a.tasks / 4 >> level & 1) sum = any ? waiting[level] + sum : waiting[level], any = true;
  return sum / static_cast<float>(a.tasks);
}

/// The first task whose number of a column is not finite, or -1.
__device__ __forceinline__ int bad_task_of(const float* next, std::int64_t stride, int tasks) {
#pragma unroll 1
  for (int task = 0; task < tasks; ++task)
    if (!is_finite(next[task * stride])) return task;
  return -1;
}

/// What the update of element i of the parameters reads, or of what follows the gradient in a row.
struct Column {
  float mean, old, first, second;
};
__device__ __forceinline__ Column read_column(const Arguments& a, int column) {
  const RowLayout& layout = a.layout;
  Column c{};
  if (column >= layout.support_loss_at()) return c;
  c.mean = __ldcg(a.mean + column);
  if (column < layout.gradient) {
    c.old = a.meta[column];
    if (a.first) c.first = a.first[column];
    if (a.second) c.second = a.second[column];
  } else if (column < layout.second_at() && a.running) {
    c.old = a.running[column - layout.statistics_at()];
  }
  return c;
}
/// What all columns' updates share.
struct Update {
  float rate, scale, correction1, correction2;
};
__device__ __forceinline__ void update_column(const Arguments& a, int column, const Column& c, const Update& update) {
  const RowLayout& layout = a.layout;
  if (column < layout.gradient) {
    const float g = clamp_value(c.mean, a.clip_value) * update.scale;
    float direction = g;
    if (a.rule == OuterStep::Rule::sgd && a.first) {
      direction = a.momentum * c.first + g;
      a.first[column] = direction;
    } else if (a.rule == OuterStep::Rule::adam) {
      const float m = a.beta1 * c.first + a.rest1 * g;
      const float v = a.beta2 * c.second + a.rest2 * g * g;
      a.first[column] = m;
      a.second[column] = v;
      direction = m / update.correction1 / (sqrtf(v / update.correction2) + a.eps);
    }
    a.meta[column] = c.old - update.rate * direction;
  } else if (column < layout.second_at()) {
    if (a.running) a.running[column - layout.statistics_at()] = c.old + a.running_momentum * (c.mean - c.old);
  } else if (column < layout.support_loss_at()) {
    if (a.inner_second) a.inner_second[column - layout.second_at()] = c.mean;
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

/// block_sum of two numbers at once; `partial` is free again behind the caller's next barrier.
__device__ __forceinline__ double2 block_sums(double2 value, double2* partial) {
  value.x = warp_sum(value.x), value.y = warp_sum(value.y);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  double2 sum = partial[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / kWarp; ++warp) sum.x += partial[warp].x, sum.y += partial[warp].y;
  return sum;
}

/// What an update reads from memory, and nothing before the last block writes.
struct Inputs {
  double rate, slot, halted, applied;
};

/// One thread: the rest of the report.
__device__ __forceinline__ void report_state(const Arguments& a, double* out, double squares, unsigned long long bad,
                                             bool halted) {
  const ReportLayout report{a.layout.steps};
  int task = -1, step = -1;
  if (bad) {
    const auto steps = static_cast<unsigned>(a.layout.steps + 2);
    const unsigned long long place = ~bad, of_task = place / steps;
    task = of_task < static_cast<unsigned long long>(a.tasks) ? static_cast<int>(of_task) : 0;
    step = static_cast<int>(place % steps);
  }
  out[report.norm_at()] = sqrt(squares);
  out[report.bad_task_at()] = task;
  out[report.bad_step_at()] = step;
  out[report.halted_at()] = halted;
}

constexpr int kBatch = 3;  ///< columns that a thread of the last block asks for at once
__device__ __forceinline__ void read_batch(const Arguments& a, int first, Column (&columns)[kBatch]) {
#pragma unroll
  for (int i = 0; i < kBatch; ++i) columns[i] = read_column(a, first + i * kThreads);
}

__global__ void __launch_bounds__(kThreads, 4)
    reduce_rows(const __grid_constant__ Arguments a, const __grid_constant__ Tied tied, int finish) {
  CUMETA_SHARED(double2, partials, kThreads / kWarp);
  CUMETA_SHARED(double, partial, kThreads / kWarp);
  CUMETA_SHARED(float, corrections, 2);
  CUMETA_SHARED(unsigned long long, bad_place, 1);
  CUMETA_SHARED(int, is_last, 1);
  Workspace& w = *a.workspace;
  const int size = a.layout.size(), thread = static_cast<int>(threadIdx.x);
  const Inputs inputs{a.control ? a.control[kControlRate] : 0.0, a.control ? a.control[kControlReportSlot] : 0.0,
                      a.halted ? *a.halted : 0.0, a.applied ? a.applied[kAppliedSteps] : 0.0};
  double2 squares{};
  for (int column = blockIdx.x * kThreads + threadIdx.x; column < size; column += gridDim.x * kThreads) {
    const float mean = tree_mean(a, column);
    a.mean[column] = mean;
    if (!is_finite(mean)) {
      // A sum keeps what is not finite.
      if (const int step = judged_step(a.layout, column); step >= 0) {
        const int bad_task = bad_task_of(a.rows + column, a.stride, a.tasks);
        if (bad_task >= 0)
          mark_bad(a, bad_task, step);
        else
          mark_bad(a, a.tasks, a.layout.steps + 1);  // every row is finite, their sum is not
      }
    }
    if (column < a.layout.gradient && !is_tied(tied, column)) {
      const double limited = clamp_value(mean, a.clip_value);
      squares.x += double(mean) * mean, squares.y += limited * limited;
    }
  }
  squares = block_sums(squares, partials);
  if (thread == 0) {
    w.squares[blockIdx.x] = squares.x, w.clipped[blockIdx.x] = squares.y;
    // Behind block_sums' barrier this fence covers what the whole block wrote.
    __threadfence();
    is_last[0] = atomicAdd(&w.finished, 1u) == gridDim.x - 1;
    __threadfence();
  } else if (thread >= kThreads - 2) {
    // While the first warp waits for memory; should this be the last block, it has them.
    const bool second = thread == kThreads - 1;
    corrections[second] =
        a.rule != OuterStep::Rule::adam
            ? 1.0f
            : static_cast<float>(adam_correction(second ? a.exact_beta2 : a.exact_beta1, inputs.applied + 1.0));
  }
  __syncthreads();
  if (!is_last[0]) return;

  double tied_squares = 0.0, tied_clipped = 0.0;
  if (tied.count > 0) {
    tie(a, tied, partial, tied_squares, tied_clipped);
    __syncthreads();  // the sums it wrote are read below
  }
  const int end = finish && a.rule != OuterStep::Rule::none ? a.layout.support_loss_at() : 0;
  Column columns[kBatch] = {};
  if (end > 0) read_batch(a, thread, columns);
  const int means = a.layout.steps + 2;  // support losses, query loss, hits
  const float* losses = a.mean + a.layout.support_loss_at();
  const float mean_of_a_loss = thread < means ? __ldcg(losses + thread) : 0.0f;
  if (thread == 0) {
    bad_place[0] = __ldcg(&w.bad);
    w.finished = 0;
  }
  squares = {};
  for (unsigned block = threadIdx.x; block < gridDim.x; block += kThreads)
    squares.x += __ldcg(w.squares + block), squares.y += __ldcg(w.clipped + block);
  squares = block_sums(squares, partials);
  squares.x += tied_squares, squares.y += tied_clipped;

  const unsigned long long bad = bad_place[0];
  const bool halted = inputs.halted != 0.0 || (bad && a.halt_on_nonfinite);
  const bool apply = a.rule != OuterStep::Rule::none && !halted && !bad;
  Update update{static_cast<float>(inputs.rate), 1.0f, corrections[0], corrections[1]};
  if (a.clip_norm > 0.0) {
    const double length = sqrt(squares.y);
    if (length > a.clip_norm) update.scale = static_cast<float>(a.clip_norm / length);
  }
  if (apply) {
    for (int first = 0; first < end; first += kBatch * kThreads) {
      Column later[kBatch];
      read_batch(a, first + kBatch * kThreads + thread, later);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        update_column(a, first + i * kThreads + thread, columns[i], update);
        columns[i] = later[i];
      }
    }
  }
  double* out = a.reports ? a.reports + static_cast<std::int64_t>(inputs.slot) * a.report_stride : nullptr;
  if (out)
    for (int i = thread; i < means; i += kThreads) out[i] = i == thread ? mean_of_a_loss : __ldcg(losses + i);
  if (thread == kThreads - 1) {
    // Not the thread that waited for all the others.
    if (out) report_state(a, out, squares.x, bad, halted);
    if (a.halted) *a.halted = halted;
    if (bad) w.bad = 0;
    w.apply = apply, w.scale = update.scale;
    w.correction1 = update.correction1, w.correction2 = update.correction2;
    if (apply) count_applied(a.applied, a.layout);
  }
}

__global__ void __launch_bounds__(kThreads, 4) update_columns(const __grid_constant__ Arguments a) {
  const Workspace& w = *a.workspace;
  const int column = blockIdx.x * kThreads + threadIdx.x;
  const Column c = read_column(a, column);
  if (w.apply == 0.0f) return;
  update_column(a, column, c, {static_cast<float>(a.control[kControlRate]), w.scale, w.correction1, w.correction2});
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
