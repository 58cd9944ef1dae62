// SPDX-License-Identifier: Apache-2.0
// The sections data and model: sources, layers one by one, and the presets mlp and conv4.
#include <fmt/format.h>

#include "app/recipe.h"
#include "cumeta/error.h"

namespace cumeta::app {
namespace {

constexpr int most_examples = 1 << 20;

Initializer parse_initializer(Section section) {
  using Kind = Initializer::Kind;
  Initializer initializer;
  initializer.kind = section.choice<Kind>("kind", "glorot_uniform",
                                          {{"glorot_uniform", Kind::glorot_uniform},
                                           {"he_normal", Kind::he_normal},
                                           {"normal", Kind::normal},
                                           {"truncated_normal", Kind::truncated_normal},
                                           {"zeros", Kind::zeros}});
  initializer.scale = section.number("scale", 1, 0, 1e6);
  section.finish();
  return initializer;
}

Statistics parse_statistics(Section& section) {
  return section.choice<Statistics>(
      "statistics", "batch",
      {{"batch", Statistics::batch}, {"support", Statistics::support}, {"running", Statistics::running}});
}

BatchNorm parse_batch_norm(Section& section) {
  BatchNorm norm;
  norm.scale = section.flag("scale", norm.scale);
  norm.shift = section.flag("shift", norm.shift);
  norm.statistics = parse_statistics(section);
  norm.eps = section.number("eps", norm.eps);
  norm.momentum = section.number("momentum", norm.momentum);
  norm.adapted = section.flag("adapted", norm.adapted);
  return norm;
}

Layer parse_linear(Section& section) {
  Linear linear;
  linear.outputs = section.integer("outputs", linear.outputs, 1, 1 << 20);
  linear.bias = section.flag("bias", linear.bias);
  linear.initializer = parse_initializer(section.table("initializer"));
  linear.adapted = section.flag("adapted", linear.adapted);
  return linear;
}

Layer parse_conv2d(Section& section) {
  Conv2d conv;
  conv.filters = section.integer("filters", conv.filters, 1, 1 << 20);
  conv.kernel = section.integer("kernel", conv.kernel, 1, 1024);
  conv.stride = section.integer("stride", conv.stride, 1, 1024);
  conv.padding = section.integer("padding", conv.padding, 0, 1024);
  conv.bias = section.flag("bias", conv.bias);
  conv.initializer = parse_initializer(section.table("initializer"));
  conv.adapted = section.flag("adapted", conv.adapted);
  return conv;
}

Layer parse_max_pool2d(Section& section) {
  MaxPool2d pool;
  pool.kernel = section.integer("kernel", pool.kernel, 1, 1024);
  pool.stride = section.integer("stride", pool.stride, 1, 1024);
  return pool;
}

/// A layer that has no keys.
template <class Plain>
Layer parse_plain(Section&) {
  return Plain{};
}

Layer parse_layer(Section section) {
  using Parser = Layer (*)(Section&);
  const auto parser = section.choice<Parser>(
      "kind", "",
      {{"linear", parse_linear},
       {"conv2d", parse_conv2d},
       {"batch_norm", [](Section& s) { return Layer{parse_batch_norm(s)}; }},
       {"relu", parse_plain<Relu>},
       {"leaky_relu", [](Section& s) { return Layer{LeakyRelu{s.number("slope", LeakyRelu{}.slope)}}; }},
       {"tanh", parse_plain<Tanh>},
       {"max_pool2d", parse_max_pool2d},
       {"global_average_pool", parse_plain<GlobalAveragePool>},
       {"flatten", parse_plain<Flatten>}});
  const Layer layer = parser(section);
  section.finish();
  return layer;
}

Shape input_of(const Source& source) {
  if (std::holds_alternative<Sinusoid>(source)) return features(1);
  if (std::holds_alternative<Omniglot>(source)) return image(28, 28, 1);
  if (const auto* folder = std::get_if<ImageFolder>(&source))
    return image(folder->height, folder->width, folder->channels);
  return {};
}
/// Classes or outputs of the source's tasks; 0: not known without opening it.
int outputs_of(const Source& source) {
  if (std::holds_alternative<Sinusoid>(source)) return 1;
  if (const auto* omniglot = std::get_if<Omniglot>(&source)) return omniglot->ways;
  if (const auto* folder = std::get_if<ImageFolder>(&source)) return folder->ways;
  return 0;
}

/// [features] or [channels, height, width], as tensors of files are shaped.
Shape parse_input(Section& section, const Source* source) {
  const std::vector<int> shape = section.integers("input", {}, 1);
  if (shape.size() == 1) return features(shape[0]);
  if (shape.size() == 3) return image(shape[1], shape[2], shape[0]);
  if (!shape.empty()) section.refuse("input", "is neither [features] nor [channels, height, width]");
  const Shape shape_of_source = source ? input_of(*source) : Shape{};
  if (shape_of_source.channels == 0)
    section.refuse("input", "is not set; write [features] or [channels, height, width]");
  return shape_of_source;
}

int parse_outputs(Section& section, const Source* source) {
  const int of_source = source ? outputs_of(*source) : 0;
  const int outputs = section.integer("outputs", of_source, 1, 1 << 20);
  if (outputs == 0) section.refuse("outputs", "is not set; write the number of classes or outputs");
  return outputs;
}

/// hidden -> activation, ..., then a linear head.
std::vector<Layer> parse_mlp(Section& section, const Source* source) {
  const std::vector<int> hidden = section.integers("hidden", {40, 40}, 1);
  const Layer activation =
      section.choice<Layer>("activation", "relu", {{"relu", Relu{}}, {"tanh", Tanh{}}, {"leaky_relu", LeakyRelu{}}});
  const bool normalized = section.flag("batch_norm", false);
  const Initializer initializer = parse_initializer(section.table("initializer"));
  std::vector<Layer> layers;
  for (const int width : hidden) {
    layers.emplace_back(Linear{.outputs = width, .initializer = initializer});
    if (normalized) layers.emplace_back(BatchNorm{});
    layers.push_back(activation);
  }
  layers.emplace_back(Linear{.outputs = parse_outputs(section, source), .initializer = initializer});
  return layers;
}

/// blocks x [convolution 3x3, batch norm, ReLU, (max-pool)], then mean or flatten, then a linear head.
std::vector<Layer> parse_conv4(Section& section, const Source* source) {
  const int filters = section.integer("filters", 64, 1, 1 << 16), blocks = section.integer("blocks", 4, 1, 16);
  const bool pooled = section.flag("pool", false);
  const int stride = section.integer("stride", pooled ? 1 : 2, 1, 8);
  const bool bias = section.flag("bias", true);
  const bool flattened = section.choice<bool>("head", "mean", {{"mean", false}, {"flatten", true}});
  const Initializer initializer = parse_initializer(section.table("initializer"));
  Section norm_section = section.table("norm");
  const BatchNorm norm = parse_batch_norm(norm_section);
  norm_section.finish();
  std::vector<Layer> layers;
  for (int block = 0; block < blocks; ++block) {
    layers.emplace_back(Conv2d{
        .filters = filters, .kernel = 3, .stride = stride, .padding = 1, .bias = bias, .initializer = initializer});
    layers.emplace_back(norm);
    layers.emplace_back(Relu{});
    if (pooled) layers.emplace_back(MaxPool2d{});
  }
  if (flattened)
    layers.emplace_back(Flatten{});
  else
    layers.emplace_back(GlobalAveragePool{});
  layers.emplace_back(Linear{.outputs = parse_outputs(section, source), .initializer = initializer});
  return layers;
}

void parse_episode(Section& section, int& shots, int& query) {
  shots = section.integer("shots", shots, 1, most_examples);
  query = section.integer("query", query, 0, most_examples);
}

/// Rows of a task in a random order instead of class by class (Reptile's mini-batches need it).
template <class Kind>
void parse_shuffle(Section& section, Kind& source) {
  const bool shuffled = section.flag("shuffle", false);
  if constexpr (requires { source.shuffle; })
    source.shuffle = shuffled;
  else if (shuffled)
    section.refuse("shuffle", "is not offered by this source");
}

Source parse_omniglot(Section& section) {
  Omniglot omniglot;
  omniglot.root = section.text("root", "");
  omniglot.split = section.choice<OmniglotSplit>(
      "split", "vinyals", {{"vinyals", OmniglotSplit::vinyals}, {"random", OmniglotSplit::random}});
  if (omniglot.split == OmniglotSplit::vinyals)
    section.only_with({"split_seed", "train_classes", "validation_classes"}, "data.split = \"random\"");
  omniglot.split_seed = static_cast<std::uint64_t>(section.whole("split_seed", 0, 0, std::int64_t{1} << 62));
  omniglot.train_classes = section.integer("train_classes", omniglot.train_classes, 1, 1623);
  omniglot.validation_classes = section.integer("validation_classes", omniglot.validation_classes, 0, 1623);
  omniglot.rotations = section.flag("rotations", omniglot.rotations);
  Section warp = section.table("warp");
  omniglot.warp.shear = warp.number("shear", 0, -10, 10);
  omniglot.warp.scale = warp.number("scale", 1, 0.01, 100);
  warp.finish();
  omniglot.ways = section.integer("ways", omniglot.ways, 1);
  parse_episode(section, omniglot.shots, omniglot.query);
  parse_shuffle(section, omniglot);
  return omniglot;
}

Source parse_image_folder(Section& section) {
  ImageFolder folder;
  folder.root = section.text("root", "");
  folder.height = section.integer("height", folder.height, 1, 4096);
  folder.width = section.integer("width", folder.width, 1, 4096);
  folder.channels = section.integer("channels", folder.channels, 1, 3);
  folder.split_seed = static_cast<std::uint64_t>(section.whole("split_seed", 0, 0, std::int64_t{1} << 62));
  folder.validation_classes = section.integer("validation_classes", 0, 0, most_examples);
  folder.test_classes = section.integer("test_classes", 0, 0, most_examples);
  folder.ways = section.integer("ways", folder.ways, 1);
  parse_episode(section, folder.shots, folder.query);
  parse_shuffle(section, folder);
  return folder;
}

Source parse_sinusoid(Section& section) {
  Sinusoid sinusoid;
  sinusoid.amplitude = section.range("amplitude", sinusoid.amplitude);
  sinusoid.phase = section.range("phase", sinusoid.phase);
  sinusoid.input = section.range("input", sinusoid.input);
  parse_episode(section, sinusoid.shots, sinusoid.query);
  return sinusoid;
}

Source parse_task_files(Section& section) {
  return TaskFile{section.text("path", ""), section.text("validation_path", ""), section.text("test_path", "")};
}

}  // namespace

std::optional<Source> parse_source(Section section) {
  if (!section.has("kind")) {
    section.text("kind", "");
    section.finish();
    return std::nullopt;
  }
  using Parser = Source (*)(Section&);
  const Source source = section.choice<Parser>("kind", "",
                                               {{"sinusoid", parse_sinusoid},
                                                {"omniglot", parse_omniglot},
                                                {"image_folder", parse_image_folder},
                                                {"tasks", parse_task_files}})(section);
  section.finish();
  return source;
}

Model parse_model(Section section, const Source* source) {
  Model model;
  model.input = parse_input(section, source);
  const bool regression = source != nullptr && std::holds_alternative<Sinusoid>(*source);
  const bool squared = section.choice<bool>("loss", regression ? "mean_squared_error" : "softmax_cross_entropy",
                                            {{"softmax_cross_entropy", false}, {"mean_squared_error", true}});
  const Reduction reduction = section.choice<Reduction>(
      "reduction", "mean",
      {{"mean", Reduction::mean}, {"sum", Reduction::sum}, {"sum_over_ways", Reduction::sum_over_ways}});
  if (squared && reduction == Reduction::sum_over_ways)
    section.refuse("reduction", "goes with softmax_cross_entropy only: a squared error has no classes");
  if (squared)
    model.loss = MeanSquaredError{reduction};
  else
    model.loss = SoftmaxCrossEntropy{reduction};

  bool given = false;
  std::vector<Section> layers = section.tables("layers", given);
  const std::string kind = section.choice<std::string>("kind",
                                                       given        ? "layers"
                                                       : regression ? "mlp"
                                                                    : "conv4",
                                                       {{"layers", "layers"}, {"mlp", "mlp"}, {"conv4", "conv4"}});
  if (given != (kind == "layers"))
    section.refuse("kind", given ? "does not go with model.layers; leave one of the two out"
                                 : "needs model.layers = [{ kind = \"...\" }, ...]");
  if (kind == "layers")
    for (Section& layer : layers) model.layers.push_back(parse_layer(layer));
  else if (kind == "mlp")
    model.layers = parse_mlp(section, source);
  else
    model.layers = parse_conv4(section, source);
  section.finish();
  return model;
}

}  // namespace cumeta::app
