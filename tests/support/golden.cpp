// SPDX-License-Identifier: Apache-2.0
#include "tests/support/golden.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace cumeta::testing {

namespace {

const std::filesystem::path folder = std::filesystem::path(CUMETA_SOURCE_DIR) / "tests" / "golden";

/// Every tensor is an input, one of the answers that golden_test compares, or a parameter under one of their names.
void check_tensors(const Golden& g) {
  const auto all = parameters(g.model);
  for (const auto& [tensor, value] : g.file.tensors) {
    bool known = false;
    for (const char* name : {"support_x", "support_y", "query_x", "query_y", "support_loss", "query_loss"})
      known = known || tensor == name;
    for (const char* prefix :
         {"", "meta_gradient.", "meta_gradient_per_task.", "adapted.", "rates.", "rates_gradient."})
      known =
          known || std::any_of(all.begin(), all.end(), [&](const Parameter& p) { return tensor == prefix + p.name; });
    if (!known)
      throw std::runtime_error("golden: " + g.name + " has the tensor " + tensor + ", which the tests do not know");
  }
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
  std::ifstream text(folder / (name + ".json"));
  Golden g;
  static_cast<GoldenProblem&>(g) =
      golden_problem(name, {std::istreambuf_iterator<char>(text), std::istreambuf_iterator<char>()});
  g.path = (folder / (name + ".safetensors")).string();
  g.file = safetensors::read(g.path);
  check_tensors(g);
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

bool Golden::has(const std::string& prefix) const {
  const auto next = file.tensors.lower_bound(prefix);
  return next != file.tensors.end() && next->first.starts_with(prefix);
}

int Golden::rows_of(const std::string& prefix) const {
  const Parameter p = parameters(model).front();
  return static_cast<int>(safetensors::elements(file.at(prefix + p.name, path)) / static_cast<std::size_t>(p.size));
}

std::vector<double> Golden::flat(const std::string& prefix, int rows) const {
  std::vector<double> all;
  for (int row = 0; row < rows; ++row) {
    std::vector<NamedArray> arrays;
    for (const Parameter& p : parameters(model)) {
      const std::vector<double> values = numbers(prefix + p.name);
      const auto size = static_cast<std::size_t>(p.size), first = static_cast<std::size_t>(row) * size;
      if (values.size() != size * static_cast<std::size_t>(rows))
        throw std::runtime_error("golden: " + name + ", " + prefix + p.name + " has " + std::to_string(values.size()) +
                                 " numbers, " + std::to_string(rows) + " times " + std::to_string(size) +
                                 " are needed");
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
