// SPDX-License-Identifier: Apache-2.0
#include "tests/support/golden.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace cumeta::testing {

namespace {

const std::filesystem::path folder = std::filesystem::path(CUMETA_SOURCE_DIR) / "tests" / "golden";

Layer layer_from(const nlohmann::json& j) {
  const std::string kind = j.at("kind");
  if (kind == "linear") return Linear{.outputs = j.at("outputs"), .bias = j.at("bias")};
  if (kind == "conv2d")
    return Conv2d{.filters = j.at("filters"),
                  .kernel = j.at("kernel"),
                  .stride = j.at("stride"),
                  .padding = j.at("padding"),
                  .bias = j.at("bias")};
  if (kind == "batch_norm") return BatchNorm{.eps = j.at("eps")};
  if (kind == "relu") return Relu{};
  if (kind == "leaky_relu") return LeakyRelu{.slope = j.value("slope", 0.01)};
  if (kind == "tanh") return Tanh{};
  if (kind == "max_pool2d") return MaxPool2d{.kernel = j.at("kernel"), .stride = j.at("stride")};
  if (kind == "global_average_pool") return GlobalAveragePool{};
  if (kind == "flatten") return Flatten{};
  throw std::runtime_error("golden: unknown layer " + kind);
}

Algorithm algorithm_from(const nlohmann::json& j) {
  const std::string kind = j.at("kind");
  const int steps = j.at("steps");
  const double rate = j.at("rate");
  if (kind == "maml") return Maml{.steps = steps, .rate = rate};
  if (kind == "fomaml") return fomaml(steps, rate);
  if (kind == "anil") return Anil{.steps = steps, .rate = rate, .first_adapted_layer = j.at("adapted_from_layer")};
  if (kind == "meta_sgd") return MetaSgd{.steps = steps, .rate = rate};
  if (kind == "reptile") return Reptile{.steps = steps, .rate = rate};
  throw std::runtime_error("golden: unknown algorithm " + kind);
}

}  // namespace

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

Golden load_golden(const std::string& name) {
  Golden g;
  g.name = name;
  nlohmann::json j;
  std::ifstream(folder / (name + ".json")) >> j;
  const std::vector<int> in = j.at("input");
  g.model.input = in.size() == 1 ? features(in[0]) : image(in[1], in[2], in[0]);
  for (const auto& layer : j.at("layers")) g.model.layers.push_back(layer_from(layer));
  if (j.at("loss") == "mean_squared_error")
    g.model.loss = MeanSquaredError{};
  else
    g.model.loss = SoftmaxCrossEntropy{};
  g.algorithm = algorithm_from(j.at("algorithm"));
  g.tasks = j.at("tasks"), g.support = j.at("support"), g.query = j.at("query");
  g.path = (folder / (name + ".safetensors")).string();
  g.file = safetensors::read(g.path);
  return g;
}

std::vector<float> Golden::inputs(const std::string& tensor) const {
  const std::vector<float> file_order = safetensors::floats(file.at(tensor, path));
  const Shape s = model.input;
  std::vector<float> memory(file_order.size());
  const auto size = static_cast<std::size_t>(s.size());
  for (std::size_t example = 0; example < file_order.size() / size; ++example)
    for (int c = 0; c < s.channels; ++c)
      for (int y = 0; y < s.height; ++y)
        for (int x = 0; x < s.width; ++x)
          memory[example * size + static_cast<std::size_t>((y * s.width + x) * s.channels + c)] =
              file_order[example * size + static_cast<std::size_t>((c * s.height + y) * s.width + x)];
  return memory;
}

std::vector<float> Golden::targets(const std::string& tensor) const {
  return safetensors::floats(file.at(tensor, path));
}

std::vector<double> Golden::flat(const std::string& prefix, int rows) const {
  std::vector<double> all;
  for (int row = 0; row < rows; ++row) {
    std::vector<NamedArray> arrays;
    for (const Parameter& p : parameters(model)) {
      const std::vector<double> values = numbers(prefix + p.name);
      const auto size = static_cast<std::size_t>(p.size), first = static_cast<std::size_t>(row) * size;
      arrays.push_back({p.name,
                        p.shape,
                        {values.begin() + static_cast<std::ptrdiff_t>(first),
                         values.begin() + static_cast<std::ptrdiff_t>(first + size)}});
    }
    const std::vector<double> one = from_pytorch(model, arrays);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

}  // namespace cumeta::testing
