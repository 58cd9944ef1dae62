// SPDX-License-Identifier: Apache-2.0
#include "src/model_layout.h"

#include <fmt/format.h>

#include <optional>

#include "cumeta/error.h"
#include "kernels/all_layers.h"

namespace cumeta {

Shape output(const Stage& stage, Shape input) {
  return std::visit([&](const auto& s) { return cumeta::output(s, input); }, stage);
}
int parameters(const Stage& stage, Shape input) {
  return std::visit([&](const auto& s) { return cumeta::parameters(s, input); }, stage);
}
std::int64_t record(const Stage& stage, const Geometry& geometry) {
  return std::visit([&](const auto& s) { return cumeta::record(s, geometry); }, stage);
}
std::int64_t tangent_record(const Stage& stage, const Geometry& geometry) {
  return std::visit([&](const auto& s) { return cumeta::tangent_record(s, geometry); }, stage);
}
std::int64_t multiply_adds(const Stage& stage, Shape input) {
  return std::visit([&](const auto& s) { return cumeta::multiply_adds(s, input); }, stage);
}
std::int64_t scratch(const Stage& stage, const Geometry& geometry, Device device) {
  using Column = std::variant<OnReference, OnCpu, OnCuda>;  // in the order of Device
  static constexpr Column columns[] = {OnReference{}, OnCpu{}, OnCuda{}};
  return std::visit([&](const auto& s, auto column) { return cumeta::scratch(s, geometry, column); }, stage,
                    columns[static_cast<std::size_t>(device)]);
}
double reduction_factor(const Loss& loss, int outputs, int rows) {
  return std::visit([&](const auto& l) { return cumeta::reduction_factor(l, outputs, rows); }, loss);
}
const BatchNorm* PlacedStage::norm() const {
  if (const auto* block = std::get_if<ConvBlock>(&stage)) return &block->norm;
  return std::get_if<BatchNorm>(&stage);
}
std::int64_t PlacedStage::norm_record_at(const Geometry& geometry) const {
  const auto* block = std::get_if<ConvBlock>(&stage);
  return block ? std::int64_t{geometry.examples} * cumeta::output(block->convolution, geometry.input).size() : 0;
}

bool is_classification(const Loss& loss) { return std::holds_alternative<SoftmaxCrossEntropy>(loss); }

namespace {

void require(bool holds, int layer, const char* kind, const std::string& text) {
  if (!holds) throw InvalidArgument(fmt::format("model: layers[{}] ({}): {}", layer, kind, text));
}

/// Sizes are int below this door; 2^30 numbers of one example or one layer are refused here.
constexpr std::int64_t most_numbers = 1'000'000'000;

struct Checker {
  int layer;
  Shape in;

  void at_most(const char* kind, const char* what, std::initializer_list<std::int64_t> factors) const {
    std::int64_t product = 1;
    for (const std::int64_t factor : factors) {
      require(factor == 0 || product <= most_numbers / factor, layer, kind,
              fmt::format("{} are more than {} numbers", what, most_numbers));
      product *= factor;
    }
  }

  void positive(const char* kind, const char* what, double value) const {
    require(value > 0, layer, kind, fmt::format("{} is {}; it must be positive", what, value));
  }
  void operator()(const Linear& l) const {
    positive("linear", "outputs", l.outputs);
    require(in.height == 1 && in.width == 1, layer, "linear",
            fmt::format("the input is an image of {}x{}x{}; put Flatten or GlobalAveragePool in front", in.height,
                        in.width, in.channels));
    at_most("linear", "weights", {std::int64_t{in.size()} + 1, l.outputs});
  }
  void operator()(const Conv2d& l) const {
    positive("conv2d", "filters", l.filters), positive("conv2d", "kernel", l.kernel),
        positive("conv2d", "stride", l.stride);
    require(l.padding >= 0, layer, "conv2d", fmt::format("padding is {}; it must not be negative", l.padding));
    require(l.padding < l.kernel, layer, "conv2d",
            fmt::format("padding {} is not smaller than the kernel {}", l.padding, l.kernel));
    at_most("conv2d", "weights", {l.kernel, l.kernel, in.channels, l.filters});
    const Shape out = output(l, in);
    require(out.height > 0 && out.width > 0, layer, "conv2d",
            fmt::format("a kernel of {} with padding {} does not fit an image of {}x{}", l.kernel, l.padding, in.height,
                        in.width));
    at_most("conv2d", "outputs", {out.height, out.width, l.filters});
  }
  void operator()(const BatchNorm& l) const {
    positive("batch_norm", "eps", l.eps);
    require(l.momentum > 0 && l.momentum <= 1, layer, "batch_norm",
            fmt::format("momentum is {}; it must lie in (0, 1]", l.momentum));
  }
  void operator()(const MaxPool2d& l) const {
    positive("max_pool2d", "kernel", l.kernel), positive("max_pool2d", "stride", l.stride);
    const Shape out = output(l, in);
    require(out.height > 0 && out.width > 0, layer, "max_pool2d",
            fmt::format("a window of {} does not fit an image of {}x{}", l.kernel, in.height, in.width));
  }
  void operator()(const LeakyRelu& l) const {
    require(l.slope >= 0 && l.slope <= 1, layer, "leaky_relu",
            fmt::format("slope is {}; it must lie in [0, 1]", l.slope));
  }
  void operator()(const Relu&) const {}
  void operator()(const Tanh&) const {}
  void operator()(const GlobalAveragePool&) const {}
  void operator()(const Flatten&) const {}
};

/// CUDA runs convolution + batch norm + ReLU (+ max-pool) as one row. All layers of a block lie on one side of the
/// head's boundary and adapt alike or not: rates do not care, so only the boundary counts.
std::optional<ConvBlock> block_at(const Model& model, std::size_t first, int first_head_layer) {
  const auto& layers = model.layers;
  if (first + 2 >= layers.size()) return std::nullopt;
  const auto* convolution = std::get_if<Conv2d>(&layers[first]);
  const auto* norm = std::get_if<BatchNorm>(&layers[first + 1]);
  if (!convolution || !norm || !std::holds_alternative<Relu>(layers[first + 2])) return std::nullopt;
  const auto inside = [&](std::size_t last) {
    const int head = first_head_layer;
    return head <= static_cast<int>(first) || head > static_cast<int>(last);
  };
  if (!inside(first + 2)) return std::nullopt;
  ConvBlock block{.convolution = *convolution, .norm = *norm, .pooled = false, .pool = {}};
  if (first + 3 < layers.size() && inside(first + 3))
    if (const auto* pool = std::get_if<MaxPool2d>(&layers[first + 3])) block.pooled = true, block.pool = *pool;
  return block;
}

Implementation implementation_of(const LayerImplementations& implementations, int layer) {
  return implementations.empty() ? Implementation::own : implementations[static_cast<std::size_t>(layer)];
}

/// The stages of vendor layers; all others stay as they are.
void hand_to_vendor(const LayerImplementations& implementations, std::vector<PlacedStage>& stages) {
  for (PlacedStage& stage : stages) {
    if (implementation_of(implementations, stage.first_layer) != Implementation::vendor) continue;
    if (const auto* linear = std::get_if<Linear>(&stage.stage))
      stage.stage = Vendor<Linear>{*linear};
    else if (const auto* convolution = std::get_if<Conv2d>(&stage.stage))
      stage.stage = Vendor<Conv2d>{*convolution};
  }
}

/// Replaces runs of layer stages by blocks; offsets and names of parameters stay as they are.
void fuse_blocks(const Model& model, int first_head_layer, const LayerImplementations& implementations,
                 std::vector<PlacedStage>& stages) {
  std::vector<PlacedStage> fused;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    PlacedStage stage = stages[i];
    const auto block = implementation_of(implementations, stage.first_layer) == Implementation::own
                           ? block_at(model, static_cast<std::size_t>(stage.first_layer), first_head_layer)
                           : std::nullopt;
    if (block) {
      const std::size_t last = i + (block->pooled ? 3 : 2);
      stage.stage = *block;
      for (std::size_t part = i + 1; part <= last; ++part) {
        stage.output = stages[part].output, stage.last_layer = stages[part].last_layer;
        stage.size += stages[part].size;
        if (stages[part].statistics_size) {
          stage.statistics_at = stages[part].statistics_at;
          stage.statistics_size = stages[part].statistics_size;
        }
      }
      i = last;
    }
    fused.push_back(stage);
  }
  stages = std::move(fused);
}

/// Global average pool + linear, neighbours on one side of the boundary, become one stage.
void fuse_pooled_linears(int first_head_layer, const LayerImplementations& implementations,
                         std::vector<PlacedStage>& stages) {
  for (std::size_t i = 0; i + 1 < stages.size(); ++i) {
    const PlacedStage &pool = stages[i], &after = stages[i + 1];
    const auto* linear = std::get_if<Linear>(&after.stage);
    const bool apart = first_head_layer > pool.first_layer && first_head_layer <= after.first_layer;
    if (!linear || apart || implementation_of(implementations, after.first_layer) != Implementation::own) continue;
    if (!std::holds_alternative<GlobalAveragePool>(pool.stage)) continue;
    PlacedStage fused = after;
    fused.stage = PooledLinear{*linear}, fused.input = pool.input, fused.first_layer = pool.first_layer;
    stages[i] = fused;
    stages.erase(stages.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  }
}

}  // namespace

LayerImplementations for_all_layers(const Model& model, Implementation implementation) {
  if (implementation == Implementation::fastest) implementation = Implementation::own;
  LayerImplementations all;
  for (const Layer& layer : model.layers) {
    const bool is_contraction = std::holds_alternative<Linear>(layer) || std::holds_alternative<Conv2d>(layer);
    all.push_back(is_contraction ? implementation : Implementation::own);
  }
  return all;
}

ModelLayout lay_out(const Model& model, Device device, int first_head_layer,
                    const LayerImplementations& implementations, Precision precision) {
  const Shape in = model.input;
  if (in.height < 1 || in.width < 1 || in.channels < 1)
    throw InvalidArgument(fmt::format("model: the input shape is {}x{}x{}; every size must be positive", in.height,
                                      in.width, in.channels));
  if (std::int64_t{in.height} * in.width > most_numbers / in.channels)
    throw InvalidArgument(fmt::format("model: the input shape is {}x{}x{}; more than {} numbers", in.height, in.width,
                                      in.channels, most_numbers));
  if (model.layers.empty()) throw InvalidArgument("model: it has no layers");
  ModelLayout all;
  Shape shape = in;
  std::int64_t offset = 0;
  for (int i = 0; i < static_cast<int>(model.layers.size()); ++i) {
    const Layer& layer = model.layers[static_cast<std::size_t>(i)];
    std::visit(Checker{i, shape}, layer);
    if (std::holds_alternative<Flatten>(layer)) {
      shape = features(shape.size());
      if (!all.stages.empty()) all.stages.back().last_layer = i;
      continue;
    }
    PlacedStage placed;
    std::visit(
        [&](const auto& l) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(l)>, Flatten>) placed.stage = l;
        },
        layer);
    placed.input = shape;
    placed.output = output(placed.stage, shape);
    placed.first_layer = placed.last_layer = i;
    placed.offset = static_cast<int>(offset);
    placed.size = cumeta::parameters(placed.stage, shape);
    offset += placed.size;
    if (offset > 1'000'000'000)
      throw InvalidArgument(fmt::format("model: more than {} parameters up to layers[{}]", 1'000'000'000, i));
    if (const auto* norm = std::get_if<BatchNorm>(&layer)) {
      all.has_batch_norm = true;
      if (norm->statistics == Statistics::running) {
        placed.statistics_at = all.statistics;
        placed.statistics_size = 2 * shape.channels;
        all.statistics += placed.statistics_size;
      }
    }
    shape = placed.output;
    all.stages.push_back(placed);
  }
  if (device == Device::cuda) {
    fuse_blocks(model, first_head_layer, implementations, all.stages);
    hand_to_vendor(implementations, all.stages);
    // The fused head computes in float32 only.
    if (precision == Precision::float32) fuse_pooled_linears(first_head_layer, implementations, all.stages);
  }
  if (all.stages.empty()) throw InvalidArgument("model: it has no layer that computes");
  if (shape.height != 1 || shape.width != 1)
    throw InvalidArgument(
        fmt::format("model: the last layer leaves an image of {}x{}x{}; end with Flatten or GlobalAveragePool",
                    shape.height, shape.width, shape.channels));
  all.parameters = static_cast<int>(offset);
  if (all.parameters == 0) throw InvalidArgument("model: it has no parameters to learn");
  all.outputs = shape.size();
  if (is_classification(model.loss) && all.outputs < 2)
    throw InvalidArgument("model: softmax cross-entropy needs at least 2 outputs, the last layer has 1");
  if (const auto* l = std::get_if<MeanSquaredError>(&model.loss); l && l->reduction == Reduction::sum_over_ways)
    throw InvalidArgument("model: reduction sum_over_ways is for classes; mean_squared_error takes mean or sum");
  all.targets = std::visit([&](const auto& l) { return targets(l, all.outputs); }, model.loss);
  return all;
}

}  // namespace cumeta
