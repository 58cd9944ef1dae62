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

/// Where a task's arrays lie in shared memory, in floats. Weight rows have an odd length, so that neither their rows
/// nor their columns meet in one bank; rows of activations have a multiple of four, for 128-bit loads.
struct MlpSharedLayout {
  int weights_of[MlpProgram::kMostLayers];  ///< in a parameter vector: layer's first number
  int vector = 0;                           ///< numbers of a parameter vector
  int tape_y[MlpProgram::kMostLayers], tape_dy[MlpProgram::kMostLayers], tape_dz[MlpProgram::kMostLayers];
  int tape = 0;  ///< numbers of a tape of max(support, query) rows
  int input_row = 0;
  int weights = 0, weight_vectors = 0, gradient = 0, adjoint = 0, direction = 0;
  int x = 0, t = 0, support_tape = 0, second_tape = 0, losses = 0;
  int size = 0;
  CUMETA_HD static constexpr int odd(int n) { return n | 1; }
  CUMETA_HD static constexpr int fours(int n) { return (n + 3) / 4 * 4; }
};
CUMETA_HD constexpr MlpSharedLayout mlp_shared_layout(const MlpProgram& p) {
  MlpSharedLayout s{};
  const int rows = p.support > p.query ? p.support : p.query;
  for (int i = 0; i < p.layers; ++i) {
    const MlpLayer& l = p.layer[i];
    s.weights_of[i] = s.vector;
    s.vector += (l.inputs + l.bias) * MlpSharedLayout::odd(l.outputs);
    const int activations = rows * MlpSharedLayout::fours(l.outputs);
    s.tape_y[i] = s.tape, s.tape_dy[i] = s.tape + activations, s.tape_dz[i] = s.tape + 2 * activations;
    s.tape += 3 * activations;
  }
  s.vector = MlpSharedLayout::fours(s.vector);
  s.input_row = MlpSharedLayout::fours(p.layer[0].inputs);
  // The pull-back needs every w[k]; without it one is enough.
  s.weight_vectors = (p.second_order || p.learned_rates) ? p.steps + 1 : 1;
  s.weights = 0;
  s.gradient = s.weights + s.weight_vectors * s.vector;
  s.adjoint = s.gradient + s.vector;
  s.direction = s.adjoint + s.vector;
  s.x = s.direction + (p.second_order ? s.vector : 0);
  s.t = s.x + (p.support + p.query) * s.input_row;
  s.support_tape = s.t + MlpSharedLayout::fours((p.support + p.query) * p.targets());
  // The query's tape, then the tangents': never needed together.
  s.second_tape = s.support_tape + s.tape;
  s.losses = s.second_tape + s.tape;
  s.size = s.losses + 2 * MlpSharedLayout::fours(rows);
  return s;
}
constexpr std::int64_t mlp_shared_bytes(const MlpProgram& p) {
  std::int64_t parameters = 0, activations = 0;
  for (int i = 0; i < p.layers; ++i) {
    parameters += std::int64_t{p.layer[i].inputs + 2} * (p.layer[i].outputs + 2);
    activations += std::int64_t{p.support + p.query} * (p.layer[i].outputs + p.layer[i].inputs + 8);
  }
  // What is far too large is not laid out: its offsets would not fit an int.
  if ((p.steps + 4) * parameters + 8 * activations > (std::int64_t{1} << 28)) return std::int64_t{1} << 40;
  return std::int64_t{4} * mlp_shared_layout(p).size;
}

}  // namespace cumeta
