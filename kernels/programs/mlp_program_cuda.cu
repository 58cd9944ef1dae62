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
  float support_scale, query_scale;  ///< of a gradient of the loss
};

/// The number of row `at` of the padded examples, among all; -1: padding.
__device__ __forceinline__ int example_of(const MlpBlock& b, int at) {
  const int query = at - MlpSharedLayout::fours(b.p.support);
  if (query < 0) return at < b.p.support ? at : -1;
  return query < b.p.query ? b.p.support + query : -1;
}

/// The task's examples into shared memory; drawn here where the program draws. Arrives with the thread's copies.
__device__ __forceinline__ void load_examples(const MlpBlock& b, const Borders& g, const DrawnSinusoids& drawn,
                                              std::uint64_t iteration, std::int64_t task) {
  const int inputs = b.p.layer[0].inputs, targets = b.p.targets();
  const float one = b.p.layer[0].bias ? 1.0f : 0.0f;
  float *x = b.shared + b.s.x, *t = b.shared + b.s.t;
  if (drawn.control) {
#pragma unroll 1
    for (int at = threadIdx.x; at < b.s.examples; at += kMlpThreads) {
      const int e = example_of(b, at);
      // Streams of their own, so that what they compute can overlap.
      const std::uint32_t number = static_cast<std::uint32_t>(drawn.first_task) + static_cast<std::uint32_t>(task);
      Draws of_task(drawn.seed, drawn.purpose, iteration, number), of_row(drawn.seed, drawn.purpose, iteration, number);
      const float amplitude = sinusoid_amplitude(of_task, drawn.ranges), phase = sinusoid_phase(of_task, drawn.ranges);
      const float input = sinusoid_input(of_row, drawn.ranges, max(e, 0));
      float* column = x + at / 4 * 16 + at % 4;
      column[0] = e < 0 ? 0.0f : input, column[4] = one, column[8] = 0.0f, column[12] = 0.0f;
      t[at] = e < 0 ? 0.0f : sinusoid_target(amplitude, phase, input);
    }
    return;
  }
  // Neighbouring threads take neighbouring numbers of memory.
  const float *from = g.x.data + task * g.x.stride, *label = g.t.data + task * g.t.stride;
#pragma unroll 1
  for (int i = threadIdx.x; i < b.s.examples * b.s.input_columns; i += kMlpThreads) {
    const int at = b.s.by_input_columns.quotient(i), column = i - at * b.s.input_columns, e = example_of(b, at);
    float* to = x + (at / 4 * b.s.input_columns + column) * 4 + at % 4;
    if (column < inputs)
      copy_async<4>(to, from + (e < 0 ? 0 : e * inputs + column), e >= 0);
    else
      *to = column == inputs ? one : 0.0f;
  }
#pragma unroll 1
  for (int i = threadIdx.x; i < b.s.examples * targets; i += kMlpThreads) {
    const int at = b.s.by_targets.quotient(i), column = i - at * targets, e = example_of(b, at);
    copy_async<4>(t + (at / 4 * targets + column) * 4 + at % 4, label + (e < 0 ? 0 : e * targets + column), e >= 0);
  }
}

/// theta into w[0], padded with zeros. Arrives with the thread's copies.
__device__ __forceinline__ void load_weights(const MlpBlock& b, const float* theta, float* w) {
#pragma unroll 1
  for (int i = 0; i < b.p.layers; ++i) {
    const MlpLayer& l = b.p.layer[i];
    const MlpPlace& place = b.s.place[i];
#pragma unroll 1
    for (int at = threadIdx.x; at < place.weight_depth * place.weight_row; at += kMlpThreads) {
      const int m = place.by_weight_row.quotient(at), n = at - m * place.weight_row;
      const bool there = m < l.inputs + l.bias && n < l.outputs;
      copy_async<4>(w + place.weights + at, theta + (there ? l.offset + m * l.outputs + n : 0), there);
    }
  }
}

/// The last warp: sum of the numbers, in an order that depends only on their count.
__device__ __forceinline__ float sum_of(const float* numbers, int count) {
  float sum = 0.0f;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) % kWarp; i < count; i += kWarp) sum += numbers[i];
  return warp_sum(sum);
}

/// What a pass is for.
enum class Goal : int {
  step,     ///< w[k+1] from the gradient at w[k]
  query,    ///< l[K]
  again,    ///< an earlier step's tape, and g[k] where rates are learned, by the same operations
  product,  ///< l[k] from H(w[k]) (a[k] * l[k+1])
};

/// Four numbers of a parameter vector, or of the flat one.
struct Four {
  float number[4] = {};
};

__global__ void __launch_bounds__(kMlpThreads, 1)
    mlp_program(const __grid_constant__ MlpProgram program, const __grid_constant__ MlpSharedLayout layout,
                const __grid_constant__ Borders g, const __grid_constant__ DrawnSinusoids drawn) {
  CUMETA_DYNAMIC_SHARED(float, shared);
  const std::int64_t task = blockIdx.x;
  const MlpBlock b{program, layout, shared};
  float* const out = g.row.data + task * g.row.stride;
  float *const adjoint = shared + layout.adjoint, *const direction = shared + layout.direction;
  const int K = program.steps;
  const bool pulls = program.second_order || program.learned_rates;
  const auto weights = [&](int k) {
    return shared + layout.weights + min(k, layout.weight_vectors - 1) * layout.vector;
  };
  const auto rate_row = [&](int k) { return min(k, program.rate_rows - 1); };

  // Asked for first: the draws wait for it.
  const double iteration = drawn.control ? drawn.control[kControlIteration] : 0.0;
  load_weights(b, g.theta, weights(0));
  load_examples(b, g, drawn, static_cast<std::uint64_t>(iteration), task);
  const int zeros = layout.weights + layout.vector;
#pragma unroll 4
  for (int i = zeros / 4 + static_cast<int>(threadIdx.x); i < layout.size / 4; i += kMlpThreads)
    reinterpret_cast<float4*>(shared)[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();

  Goal goal = K > 0 ? Goal::step : Goal::query;
  int k = 0;
#pragma unroll 1
  while (true) {
    const bool query = goal == Goal::query, product = goal == Goal::product;
    const int rows = query ? program.query : program.support;
    MlpPass pass;
    pass.x = shared + layout.x + (query ? layout.query_x : 0);
    pass.t = shared + layout.t + (query ? layout.query_t : 0);
    pass.rows = rows;
    pass.tape = shared + (query ? layout.second_tape : layout.support_tape);
    pass.tangents = shared + layout.second_tape;
    pass.tangent = product;
    pass.scale = query ? g.query_scale : g.support_scale;
    pass.w = weights(query ? K : k), pass.v = direction;

    mlp_forward(b, pass);
    if (program.cross_entropy) mlp_class_loss(b, pass);
    // The numbers stay until another pass' loss is written.
    if (threadIdx.x >= kMlpThreads - kWarp && (query || goal == Goal::step)) {
      const MlpPlace& last = layout.place[program.layers - 1];
      const float loss = program.cross_entropy
                             ? sum_of(shared + layout.losses, rows)
                             : sum_of(pass.tape + last.y, MlpSharedLayout::fours(rows) * last.columns);
      const float hits = query && program.cross_entropy ? sum_of(shared + layout.hits, rows) : 0.0f;
      if (threadIdx.x == kMlpThreads - 1) {
        out[query ? g.layout.query_loss_at() : g.layout.support_loss_at() + k] =
            loss / static_cast<float>(rows * (program.cross_entropy ? 1 : program.outputs()));
        if (query) out[g.layout.hits_at()] = hits;
      }
    }
    mlp_backward(b, pass);

    // From here to the barrier, and from one round to the next, a thread touches only its own parameters.
    const bool done = query ? K == 0 || !program.second_order : product && k == 0;  // then l[0] is known
    const int rates_of = query ? (program.second_order ? K - 1 : -1) : product ? k - 1 : goal == Goal::step ? k : -1;
    const float* rates = g.rates + std::int64_t{rate_row(max(rates_of, 0))} * program.parameters;
    const auto read_rates = [&](const MlpWeights& at) {
      Four rate;
      if (rates_of >= 0) {
        const float* from[4];
        at.find(rates, from);
#pragma unroll
        for (int r = 0; r < 4; ++r)
          if (r < at.count) rate.number[r] = __ldg(from[r]);
      }
      return rate;
    };
    const auto use = [&](const MlpWeights& at, const Four& rate, const float(&sum)[4]) {
      if (goal == Goal::step) {
        const float* from = pass.w + at.shared;
        float *to = weights(k + 1) + at.shared, *gradient = direction + at.shared;
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          to[r * at.shared_row] = fmaf(-rate.number[r], sum[r], from[r * at.shared_row]);
          // of the last step, for the query's pass
          if (program.learned_rates) gradient[r * at.shared_row] = sum[r];
        }
        return;
      }
      float* to[4];
      if (query && g.adapted.data) {
        at.find(g.adapted.data + task * g.adapted.stride, to);
#pragma unroll
        for (int r = 0; r < 4; ++r)
          if (r < at.count) *to[r] = pass.w[at.shared + r * at.shared_row];
      }
      float *const l = adjoint + at.shared, *const moves = direction + at.shared;
      if (program.learned_rates && !product) {
        // g[k] * l[k+1]; a query's pass also gives all the others their zeros.
        const int last = query ? program.rate_rows - 1 : rate_row(k);
#pragma unroll 1
        for (int row = query ? 0 : last; row <= last; ++row) {
          at.find(out + program.parameters * (row + 1), to);
          const bool counts = at.adapted && (!query || (K > 0 && row == rate_row(K - 1)));
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            if (r >= at.count) continue;
            const float before = query ? 0.0f : *to[r], of_step = query ? moves[r * at.shared_row] : sum[r];
            *to[r] = counts ? fmaf(-of_step, query ? sum[r] : l[r * at.shared_row], before) : before;
          }
        }
      }
      if (goal == Goal::again) return;
      float value[4];
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        value[r] = product ? l[r * at.shared_row] - sum[r] : sum[r];
        if (program.second_order && !done) moves[r * at.shared_row] = rate.number[r] * value[r];
        if (pulls) l[r * at.shared_row] = value[r];
      }
      if (!done) return;
      at.find(out, to);
#pragma unroll
      for (int r = 0; r < 4; ++r)
        if (r < at.count) *to[r] = value[r];
    };
    if (goal != Goal::again || program.learned_rates) {
      mlp_weights(b, pass, read_rates, use);
      __syncthreads();
    }

    if (goal == Goal::step) {
      if (++k == K) goal = Goal::query;
    } else if (goal == Goal::again && program.second_order) {
      goal = Goal::product;
    } else {
      // l[k] is known; the last step's tape and gradient are still there.
      if (query && !pulls) break;
      if (query && program.second_order && K > 0) {
        k = K - 1, goal = Goal::product;
        continue;
      }
      k = query ? K - 2 : k - 1;
      if (k < 0) break;
      goal = Goal::again;
    }
  }
}

}  // namespace

bool runs_mlp_program(const CudaLane& lane, const MlpProgram& program) {
  return program.layers > 0 && program.support > 0 && program.query > 0 &&
         mlp_shared_bytes(program) <= static_cast<std::int64_t>(lane.device().shared_memory);
}

void run_mlp_program(const CudaLane& lane, const MlpProgram& program, const MlpArrays& arrays,
                     const DrawnSinusoids& drawn) {
  const MlpSharedLayout layout = mlp_shared_layout(program);
  // factor / n for classes, factor 2 / (n outputs) for squared errors
  const auto scale = [](const MlpProgram& p, float factor, int n) {
    return p.cross_entropy ? factor / static_cast<float>(n) : 2 * factor / static_cast<float>(n * p.outputs());
  };
  const Borders borders{TaskRows(arrays.x),
                        TaskRows(arrays.t),
                        TaskRows(arrays.row),
                        TaskRows(arrays.adapted),
                        arrays.theta.row<const float>(0),
                        arrays.rates.row<const float>(0),
                        arrays.layout,
                        scale(program, program.support_factor, program.support),
                        scale(program, 1, program.query)};
  launch(lane, "small-model program", mlp_program, static_cast<unsigned>(arrays.row.tasks), kMlpThreads,
         static_cast<std::size_t>(mlp_shared_bytes(program)), program, layout, borders, drawn);
}

}  // namespace cumeta
