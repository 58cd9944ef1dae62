// SPDX-License-Identifier: Apache-2.0
// The small-model program: descend, query and pull-back of one task in one block (the formulas stand in mlp_program.h).
#include "kernels/programs/mlp_passes_cuda.cuh"
#include "kernels/programs/mlp_program_cuda.h"
#include "kernels/tools/task_rows_cuda.cuh"

namespace cumeta {
namespace {

struct Borders {
  TaskRows x, t, row, adapted;
  const float *theta, *rates;
  RowLayout layout;
};

/// Calls use(index in the flat vector, index in shared memory, layer) for every parameter, always from the same thread.
template <class Use>
__device__ __forceinline__ void for_each_parameter(const MlpBlock& b, Use use) {
  for (int i = 0; i < b.p.layers; ++i) {
    const MlpLayer& l = b.p.layer[i];
    const int row = b.weight_row(i);
    for (int at = threadIdx.x; at < (l.inputs + l.bias) * l.outputs; at += kMlpThreads)
      use(l.offset + at, b.s.weights_of[i] + at / l.outputs * row + at % l.outputs, l);
  }
}

/// The task's examples into shared memory, rows padded with zeros; drawn here where the program draws.
__device__ void load_examples(const MlpBlock& b, const Borders& g, const DrawnSinusoids& drawn, std::int64_t task) {
  const int rows = b.p.support + b.p.query, inputs = b.p.layer[0].inputs, targets = b.p.targets();
  float *x = b.shared + b.s.x, *t = b.shared + b.s.t;
  if (drawn.control) {
    for (int e = threadIdx.x; e < rows; e += kMlpThreads) {
      Draws draws(drawn.seed, drawn.purpose, static_cast<std::uint64_t>(drawn.control[kControlIteration]),
                  static_cast<std::uint32_t>(drawn.first_task) + static_cast<std::uint32_t>(task));
      const float amplitude = sinusoid_amplitude(draws, drawn.ranges), phase = sinusoid_phase(draws, drawn.ranges);
      const float input = sinusoid_input(draws, drawn.ranges, e);
      x[e * b.s.input_row] = input;
      for (int i = 1; i < b.s.input_row; ++i) x[e * b.s.input_row + i] = 0.0f;
      t[e] = sinusoid_target(amplitude, phase, input);
    }
    return;
  }
  const float* from = g.x.data + task * g.x.stride;
  for (int i = threadIdx.x; i < rows * b.s.input_row; i += kMlpThreads) {
    const int e = i / b.s.input_row, column = i % b.s.input_row;
    x[i] = column < inputs ? from[e * inputs + column] : 0.0f;
  }
  const float* label = g.t.data + task * g.t.stride;
  for (int i = threadIdx.x; i < rows * targets; i += kMlpThreads) t[i] = label[i];
}

/// One thread, between two barriers: the rows' numbers added in order.
__device__ float sum_of(const float* numbers, int count) {
  float sum = 0.0f;
  for (int i = 0; i < count; ++i) sum += numbers[i];
  return sum;
}

__device__ void gradient(const MlpBlock& b, const MlpRows& r, const float* w, float* dw) {
  float* losses = b.shared + b.s.losses;
  mlp_forward<false>(b, r, w, nullptr, nullptr);
  mlp_loss(b, r, losses, losses + MlpSharedLayout::fours(r.rows));
  mlp_backward<false>(b, r, w, nullptr, b.shared, dw);
}

__global__ void __launch_bounds__(kMlpThreads, 1)
    mlp_program(const __grid_constant__ MlpProgram program, const __grid_constant__ MlpSharedLayout layout,
                const __grid_constant__ Borders g, const __grid_constant__ DrawnSinusoids drawn) {
  CUMETA_DYNAMIC_SHARED(float, shared);
  const std::int64_t task = blockIdx.x;
  const MlpBlock b{program, layout, shared};
  float* out = g.row.data + task * g.row.stride;
  float *dw = shared + layout.gradient, *adjoint = shared + layout.adjoint, *direction = shared + layout.direction;
  float *tangents = shared + layout.second_tape, *losses = shared + layout.losses;
  const float outputs = static_cast<float>(program.cross_entropy ? 1 : program.outputs());
  const float gain = program.cross_entropy ? 1.0f : 2.0f;
  const auto weights = [&](int k) {
    return shared + layout.weights + min(k, layout.weight_vectors - 1) * layout.vector;
  };
  const auto rates = [&](int k) { return g.rates + std::int64_t{min(k, program.rate_rows - 1)} * program.parameters; };

  // Padding is read where four numbers are read at once.
  for (int i = threadIdx.x; i < layout.size; i += kMlpThreads) shared[i] = 0.0f;
  __syncthreads();
  load_examples(b, g, drawn, task);
  for_each_parameter(b, [&](int flat, int at, const MlpLayer&) { weights(0)[at] = g.theta[flat]; });
  __syncthreads();

  const MlpRows support{shared + layout.x, shared + layout.t, program.support, shared + layout.support_tape,
                        program.support_factor * gain / (static_cast<float>(program.support) * outputs)};
  const MlpRows query{support.x + program.support * layout.input_row, support.t + program.support * program.targets(),
                      program.query, shared + layout.second_tape, gain / (static_cast<float>(program.query) * outputs)};

  for (int k = 0; k < program.steps; ++k) {
    gradient(b, support, weights(k), dw);
    if (threadIdx.x == 0)
      out[g.layout.support_loss_at() + k] =
          sum_of(losses, program.support) / (static_cast<float>(program.support) * outputs);
    const float *from = weights(k), *rate = rates(k);
    float* to = weights(k + 1);
    for_each_parameter(b, [&](int flat, int at, const MlpLayer&) { to[at] = fmaf(-rate[flat], dw[at], from[at]); });
    __syncthreads();
  }

  gradient(b, query, weights(program.steps), adjoint);
  if (threadIdx.x == 0) {
    const int padded = MlpSharedLayout::fours(program.query);
    out[g.layout.query_loss_at()] = sum_of(losses, program.query) / (static_cast<float>(program.query) * outputs);
    out[g.layout.hits_at()] = sum_of(losses + padded, program.query);
  }
  if (g.adapted.data)
    for_each_parameter(b, [&](int flat, int at, const MlpLayer&) {
      g.adapted.data[task * g.adapted.stride + flat] = weights(program.steps)[at];
    });
  if (program.learned_rates)
    for_each_parameter(b, [&](int flat, int, const MlpLayer&) {
      for (int k = 0; k < program.rate_rows; ++k) out[program.parameters * (k + 1) + flat] = 0.0f;
    });

  // Between here and the first barrier below, and from one round to the next, a thread touches only its own parameters,
  // and thread 0 the losses, which are written again behind a forward pass' barriers.
  for (int k = program.steps - 1; k >= 0 && (program.second_order || program.learned_rates); --k) {
    // The last step's tape and gradient are still there; an earlier one's are made again by the same operations.
    if (k < program.steps - 1) gradient(b, support, weights(k), dw);
    const float* rate = rates(k);
    for_each_parameter(b, [&](int flat, int at, const MlpLayer& l) {
      if (program.learned_rates && l.adapted) {
        float& sum = out[program.parameters * (min(k, program.rate_rows - 1) + 1) + flat];
        sum = fmaf(-dw[at], adjoint[at], sum);
      }
      if (program.second_order) direction[at] = rate[flat] * adjoint[at];
    });
    __syncthreads();
    if (!program.second_order) continue;
    mlp_forward<true>(b, support, weights(k), direction, tangents);
    mlp_loss_tangent(b, support, tangents);
    mlp_backward<true>(b, support, weights(k), direction, tangents, dw);
    for_each_parameter(b, [&](int, int at, const MlpLayer&) { adjoint[at] -= dw[at]; });
  }
  for_each_parameter(b, [&](int flat, int at, const MlpLayer&) { out[flat] = adjoint[at]; });
}

}  // namespace

bool runs_mlp_program(const CudaLane& lane, const MlpProgram& program) {
  return program.layers > 0 && program.support > 0 && program.query > 0 &&
         mlp_shared_bytes(program) <= static_cast<std::int64_t>(lane.device().shared_memory);
}

void run_mlp_program(const CudaLane& lane, const MlpProgram& program, const MlpArrays& arrays,
                     const DrawnSinusoids& drawn) {
  const MlpSharedLayout layout = mlp_shared_layout(program);
  const Borders borders{TaskRows(arrays.x),
                        TaskRows(arrays.t),
                        TaskRows(arrays.row),
                        TaskRows(arrays.adapted),
                        arrays.theta.row<const float>(0),
                        arrays.rates.row<const float>(0),
                        arrays.layout};
  launch(lane, "small-model program", mlp_program, static_cast<unsigned>(arrays.row.tasks), kMlpThreads,
         static_cast<std::size_t>(mlp_shared_bytes(program)), program, layout, borders, drawn);
}

}  // namespace cumeta
