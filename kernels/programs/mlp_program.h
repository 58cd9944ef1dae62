// SPDX-License-Identifier: Apache-2.0
// The whole inner loop of a small fully connected model as one piece of work: K steps, query, pull-back, for each task.
//   w[k+1] = w[k] - a[k] * g[k],  g[k] = grad S(w[k]);   l[K] = grad Q(w[K]);   l[k] = l[k+1] - H(w[k]) (a[k] * l[k+1])
//   row = [l[0] | rate gradients -sum g[k] * l[k+1] | support losses | query loss | hits]
// A model is Linear, activation, Linear, ..., Linear. Rates of 0 leave parameters alone, so ANIL is one of these, too.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <variant>

#include "cumeta/layers.h"
#include "cumeta/shape.h"
#include "kernels/array.h"
#include "kernels/outer_step.h"
#include "kernels/stage.h"
#include "kernels/tools/fast_divisor.h"

namespace cumeta {

enum class Activation : int { none, relu, leaky_relu, tanh };

/// A Linear and the activation behind it.
struct MlpLayer {
  int inputs = 0, outputs = 0;
  int bias = 1;
  int offset = 0;  ///< of its weights in the flat vector
  Activation activation = Activation::none;
  float slope = 0;  ///< leaky ReLU's
  int adapted = 1;  ///< 0: no rate gradient (its rates are 0)
};

struct MlpProgram {
  static constexpr int kMostLayers = 6;
  int layers = 0;
  MlpLayer layer[kMostLayers];
  int parameters = 0;
  int cross_entropy = 0;     ///< else mean squared error
  float support_factor = 1;  ///< the support gradient is that of factor x mean loss
  int support = 0, query = 0, steps = 0;
  int second_order = 1;
  int learned_rates = 0;
  int rate_rows = 1;  ///< 1, or one per step

  CUMETA_HD constexpr int outputs() const { return layer[layers - 1].outputs; }
  CUMETA_HD constexpr int targets() const { return cross_entropy ? 1 : outputs(); }
};

/// All of float32; a row per task.
struct MlpArrays {
  Array x, t;     ///< [T][support + query][...], support first; unused where the program draws its tasks
  Array theta;    ///< [1][P]
  Array rates;    ///< [1][rate rows x P]
  Array row;      ///< [T][layout.size()]
  Array adapted;  ///< [T][P]: w[K]; empty: not wanted
  RowLayout layout;
};

/// The layers, if this is a model of that kind: sizes of the run are still to be set. `slope` below 0 is not, since the
/// sign of its output says nothing.
inline std::optional<MlpProgram> mlp_program_of(std::span<const Stage> stages, Shape input, const Loss& loss) {
  MlpProgram p;
  p.cross_entropy = std::holds_alternative<SoftmaxCrossEntropy>(loss);
  int inputs = input.size();
  bool activated = true;  // a Linear comes next
  for (const Stage& stage : stages) {
    if (const auto* linear = std::get_if<Linear>(&stage)) {
      if (!activated && p.layers > 0) activated = true;  // Linear on Linear is one without an activation
      if (p.layers == MlpProgram::kMostLayers) return std::nullopt;
      // Far beyond any shared memory; what is not counted cannot overflow.
      const std::int64_t more = (std::int64_t{inputs} + (linear->bias ? 1 : 0)) * linear->outputs;
      if (p.parameters + more > (1 << 28)) return std::nullopt;
      p.layer[p.layers++] = {inputs, linear->outputs, linear->bias, p.parameters, Activation::none, 0, linear->adapted};
      p.parameters += static_cast<int>(more);
      inputs = linear->outputs;
      activated = false;
      continue;
    }
    if (activated) return std::nullopt;
    MlpLayer& layer = p.layer[p.layers - 1];
    if (std::holds_alternative<Relu>(stage)) {
      layer.activation = Activation::relu;
    } else if (std::holds_alternative<Tanh>(stage)) {
      layer.activation = Activation::tanh;
    } else if (const auto* leaky = std::get_if<LeakyRelu>(&stage); leaky && leaky->slope > 0) {
      layer.activation = Activation::leaky_relu, layer.slope = static_cast<float>(leaky->slope);
    } else {
      return std::nullopt;
    }
    activated = true;
  }
  if (activated || p.layers == 0) return std::nullopt;
  return p;
}

/// Whether sinusoids fit it: one number in, one out.
inline bool program_draws_sinusoids(const MlpProgram& p) {
  return !p.cross_entropy && p.layer[0].inputs == 1 && p.outputs() == 1;
}

/// Where a layer's numbers lie in shared memory, in floats, and how its sums are shared out. An array of examples goes
/// by fours: column c of example e is number (e / 4 * columns + c) * 4 + e % 4.
struct MlpPlace {
  int weights = 0;            ///< in a parameter vector: [weight_depth][weight_row], the bias its last true row
  int weight_row = 0;         ///< four times an odd number: four numbers at once, of rows or columns, meet in no bank
  int weight_depth = 0;       ///< inputs + bias, up to a multiple of four
  int columns = 0;            ///< of y, dy, dz, a multiple of four
  int y = 0, dz = 0, dy = 0;  ///< in a tape; dy where a tangent needs it: only tanh bends
  int forward = 0, backward = 0;  ///< 2^this lanes share a sum
  FastDivisor by_outputs, by_inputs, by_weight_row;
};

/// A task's arrays in shared memory. Activations end with a column of ones where the next layer has a bias: its
/// weights' last row. Behind that, behind weight rows and columns, and behind the last example lie zeros, or what only
/// zeros are multiplied by: all sums run in whole fours.
struct MlpSharedLayout {
  MlpPlace place[MlpProgram::kMostLayers];
  int vector = 0;                       ///< numbers of a parameter vector
  int tape = 0;                         ///< numbers of a tape of max(support, query) rows
  int input_columns = 0, examples = 0;  ///< of x, the query's behind the support's
  int query_x = 0, query_t = 0;         ///< of the query, behind the support's

  int weights = 0, weight_vectors = 0, adjoint = 0, direction = 0;
  int x = 0, t = 0, support_tape = 0, second_tape = 0, losses = 0, hits = 0;
  int loss = 0;  ///< 2^this lanes share an example's loss
  int size = 0;
  FastDivisor by_input_columns, by_targets;
  CUMETA_HD static constexpr int fours(int n) { return (n + 3) / 4 * 4; }
};

/// log2 of the lanes that share each of `items` sums over `fours` fours: as many as keep half of the block busy, and
/// each of them with two fours or more.
constexpr int mlp_lanes_of_a_sum(int items, int fours) {
  int power = 0;
  while (power < 5 && (items << (power + 1)) <= 256 && fours >= 4 << power) ++power;
  return power;
}

inline MlpSharedLayout mlp_shared_layout(const MlpProgram& p) {
  const auto fours = MlpSharedLayout::fours;
  MlpSharedLayout s{};
  const int rows = fours(p.support > p.query ? p.support : p.query);
  for (int i = 0; i < p.layers; ++i) {
    const MlpLayer& l = p.layer[i];
    MlpPlace& at = s.place[i];
    at.weights = s.vector, at.weight_row = 4 * ((l.outputs + 3) / 4 | 1), at.weight_depth = fours(l.inputs + l.bias);
    s.vector += at.weight_depth * at.weight_row;
    at.columns = fours(l.outputs + (i + 1 < p.layers ? p.layer[i + 1].bias : 0));
    at.y = s.tape, at.dz = s.tape + rows * at.columns, at.dy = s.tape + 2 * rows * at.columns;
    s.tape += (l.activation == Activation::tanh ? 3 : 2) * rows * at.columns;
    at.forward = mlp_lanes_of_a_sum(rows / 4 * l.outputs, at.weight_depth / 4);
    at.backward = mlp_lanes_of_a_sum(rows / 4 * l.inputs, fours(l.outputs) / 4);
    at.by_outputs = FastDivisor(l.outputs), at.by_inputs = FastDivisor(l.inputs);
    at.by_weight_row = FastDivisor(at.weight_row);
  }
  s.input_columns = fours(p.layer[0].inputs + p.layer[0].bias);
  s.examples = fours(p.support) + fours(p.query);
  s.query_x = fours(p.support) * s.input_columns, s.query_t = fours(p.support) * p.targets();
  s.by_input_columns = FastDivisor(s.input_columns), s.by_targets = FastDivisor(p.targets());
  while (s.loss < 5 && (1 << s.loss) < p.outputs()) ++s.loss;
  // The pull-back needs every w[k]; without it one is enough.
  s.weight_vectors = (p.second_order || p.learned_rates) ? p.steps + 1 : 1;
  s.x = 0;
  s.t = s.x + s.examples * s.input_columns;
  s.weights = s.t + s.examples * p.targets();
  s.adjoint = s.weights + s.weight_vectors * s.vector;
  s.direction = s.adjoint + s.vector;
  s.support_tape = s.direction + ((p.second_order || p.learned_rates) ? s.vector : 0);
  // The query's tape, then the tangents': never needed together.
  s.second_tape = s.support_tape + s.tape;
  s.losses = s.second_tape + s.tape;
  s.hits = s.losses + rows;
  s.size = s.hits + rows;
  return s;
}
inline std::int64_t mlp_shared_bytes(const MlpProgram& p) {
  std::int64_t parameters = 0, activations = 0;
  for (int i = 0; i < p.layers; ++i) {
    parameters += std::int64_t{p.layer[i].inputs + 4} * (p.layer[i].outputs + 7);
    activations += std::int64_t{p.support + p.query + 8} * (p.layer[i].outputs + p.layer[i].inputs + 8);
  }
  // What is far too large is not laid out: its offsets would not fit an int.
  if ((p.steps + 4) * parameters + 8 * activations > (std::int64_t{1} << 28)) return std::int64_t{1} << 40;
  return std::int64_t{4} * mlp_shared_layout(p).size;
}

}  // namespace cumeta
