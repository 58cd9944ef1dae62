// SPDX-License-Identifier: Apache-2.0
// The names, shapes and file orders of a model's parameter arrays, and their initial values.
#include "src/parameters.h"

#include <fmt/format.h>

#include "cumeta/error.h"
#include "src/model_layout.h"

namespace cumeta {

namespace {

/// Calls visit(index, layer, its stage, image) for every layer that computes. image: what a Flatten in front of it
/// unrolled, while its order lasts; channels 0 where none did.
template <class Visit>
void for_each_layer(const Model& model, Visit visit) {
  const ModelLayout layout = lay_out(model, Device::reference, 0);
  std::size_t stage = 0;
  Shape shape = model.input, image{1, 1, 0};
  for (int i = 0; i < static_cast<int>(model.layers.size()); ++i) {
    const Layer& layer = model.layers[static_cast<std::size_t>(i)];
    if (std::holds_alternative<Flatten>(layer)) {
      if (image.channels == 0) image = shape;
      shape = features(shape.size());
      continue;
    }
    const PlacedStage& placed = layout.stages[stage++];
    visit(i, layer, placed, image);
    // An activation keeps the order of what a Flatten unrolled.
    const bool elementwise = std::holds_alternative<Relu>(layer) || std::holds_alternative<LeakyRelu>(layer) ||
                             std::holds_alternative<Tanh>(layer) || std::holds_alternative<BatchNorm>(layer);
    if (!elementwise) image = {1, 1, 0};
    shape = placed.output;
  }
}

std::string name_in_file(int layer, const char* name) { return fmt::format("layers.{}.{}", layer, name); }

}  // namespace

std::vector<ParameterArray> parameter_arrays(const Model& model) {
  std::vector<ParameterArray> all;
  for_each_layer(model, [&](int i, const Layer& layer, const PlacedStage& placed, const Shape& image) {
    int offset = placed.offset;
    const auto push = [&](const char* name, std::vector<int> dims, FileOrder order, const Initializer& initializer,
                          double constant, int fan_in, int fan_out, bool adapted) {
      ParameterArray a;
      a.parameter.name = name_in_file(i, name);
      a.parameter.shape = std::move(dims);
      a.parameter.layer = i;
      a.parameter.offset = offset;
      a.parameter.size = 1;
      for (int d : a.parameter.shape) a.parameter.size *= d;
      a.parameter.adapted = adapted;
      a.order = order, a.initializer = initializer, a.constant = constant, a.fan_in = fan_in, a.fan_out = fan_out;
      if (order != FileOrder::convolution) a.image = image;
      offset += a.parameter.size;
      all.push_back(std::move(a));
    };
    const Initializer none{Initializer::Kind::zeros, 0};
    const int channels = placed.input.channels;
    if (const auto* l = std::get_if<Linear>(&layer)) {
      const int n = placed.input.size();
      push("weight", {l->outputs, n}, FileOrder::linear, l->initializer, 0, n, l->outputs, l->adapted);
      if (l->bias) push("bias", {l->outputs}, FileOrder::same, none, 0, n, l->outputs, l->adapted);
    } else if (const auto* c = std::get_if<Conv2d>(&layer)) {
      const int taps = c->kernel * c->kernel;
      push("weight", {c->filters, channels, c->kernel, c->kernel}, FileOrder::convolution, c->initializer, 0,
           taps * channels, taps * c->filters, c->adapted);
      if (c->bias) push("bias", {c->filters}, FileOrder::same, none, 0, 1, 1, c->adapted);
    } else if (const auto* b = std::get_if<BatchNorm>(&layer)) {
      if (b->scale) push("weight", {channels}, FileOrder::flattened, none, 1, 1, 1, b->adapted);
      if (b->shift) push("bias", {channels}, FileOrder::flattened, none, 0, 1, 1, b->adapted);
    }
  });
  return all;
}

std::vector<ParameterArray> running_arrays(const Model& model) {
  std::vector<ParameterArray> all;
  for_each_layer(model, [&](int i, const Layer&, const PlacedStage& placed, const Shape& image) {
    const int channels = placed.statistics_size / 2;
    int offset = placed.statistics_at;
    for (const char* name : {"running_mean", "running_var"}) {
      if (channels == 0) continue;
      ParameterArray a;
      a.parameter.name = name_in_file(i, name);
      a.parameter.shape = {channels};
      a.parameter.layer = i, a.parameter.offset = offset, a.parameter.size = channels;
      a.order = FileOrder::flattened, a.image = image;
      offset += channels;
      all.push_back(std::move(a));
    }
  });
  return all;
}

std::vector<Parameter> parameters(const Model& model) {
  std::vector<Parameter> all;
  for (auto& a : parameter_arrays(model)) all.push_back(std::move(a.parameter));
  return all;
}
int parameter_count(const Model& model) { return lay_out(model, Device::reference, 0).parameters; }
int output_count(const Model& model) { return lay_out(model, Device::reference, 0).outputs; }

namespace {

/// For file element i, the element of the same array in memory.
template <class Visit>
void for_each_element(const ParameterArray& a, Visit visit) {
  const std::vector<int>& d = a.parameter.shape;
  if (a.order == FileOrder::linear) {  // file [out][c][h][w], memory [h][w][c][out]
    const int outs = d[0], ins = d[1];
    const Shape s = a.image.channels ? a.image : features(ins);
    for (int o = 0, file = 0; o < outs; ++o)
      for (int c = 0; c < s.channels; ++c)
        for (int y = 0; y < s.height; ++y)
          for (int x = 0; x < s.width; ++x, ++file) visit(file, ((y * s.width + x) * s.channels + c) * outs + o);
  } else if (a.order == FileOrder::convolution) {  // file [out][in][kh][kw], memory [kh][kw][in][out]
    for (int o = 0, file = 0; o < d[0]; ++o)
      for (int c = 0; c < d[1]; ++c)
        for (int y = 0; y < d[2]; ++y)
          for (int x = 0; x < d[3]; ++x, ++file) visit(file, ((y * d[3] + x) * d[1] + c) * d[0] + o);
  } else if (a.order == FileOrder::flattened && a.image.channels) {  // file [c][h][w], memory [h][w][c]
    const Shape s = a.image;
    for (int c = 0, file = 0; c < s.channels; ++c)
      for (int y = 0; y < s.height; ++y)
        for (int x = 0; x < s.width; ++x, ++file) visit(file, (y * s.width + x) * s.channels + c);
  } else {
    for (int i = 0; i < a.parameter.size; ++i) visit(i, i);
  }
}

}  // namespace

std::vector<double> to_file_order(const ParameterArray& a, std::span<const double> memory) {
  std::vector<double> file(static_cast<std::size_t>(a.parameter.size));
  for_each_element(a, [&](int f, int m) { file[static_cast<std::size_t>(f)] = memory[static_cast<std::size_t>(m)]; });
  return file;
}
void from_file_order(const ParameterArray& a, std::span<const double> file, std::span<double> memory) {
  for_each_element(a, [&](int f, int m) { memory[static_cast<std::size_t>(m)] = file[static_cast<std::size_t>(f)]; });
}

std::vector<NamedArray> to_pytorch(const Model& model, std::span<const double> flat) {
  if (flat.size() != static_cast<std::size_t>(parameter_count(model)))
    throw InvalidArgument(fmt::format("the model has {} parameters, not {}", parameter_count(model), flat.size()));
  std::vector<NamedArray> all;
  for (const ParameterArray& a : parameter_arrays(model))
    all.push_back({a.parameter.name, a.parameter.shape,
                   to_file_order(a, flat.subspan(static_cast<std::size_t>(a.parameter.offset),
                                                 static_cast<std::size_t>(a.parameter.size)))});
  return all;
}

std::vector<double> from_pytorch(const Model& model, std::span<const NamedArray> arrays) {
  std::vector<double> flat(static_cast<std::size_t>(parameter_count(model)));
  for (const ParameterArray& a : parameter_arrays(model)) {
    const NamedArray* found = nullptr;
    for (const NamedArray& given : arrays)
      if (given.name == a.parameter.name) found = &given;
    if (!found) throw InvalidArgument(fmt::format("parameter {} is missing", a.parameter.name));
    if (found->shape != a.parameter.shape || found->values.size() != static_cast<std::size_t>(a.parameter.size))
      throw InvalidArgument(fmt::format("parameter {} has {} numbers in another shape than the model's {}",
                                        a.parameter.name, found->values.size(), a.parameter.size));
    from_file_order(a, found->values,
                    std::span(flat).subspan(static_cast<std::size_t>(a.parameter.offset),
                                            static_cast<std::size_t>(a.parameter.size)));
  }
  return flat;
}

}  // namespace cumeta
