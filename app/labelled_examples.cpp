// SPDX-License-Identifier: Apache-2.0
#include "app/labelled_examples.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "app/task_tensors.h"
#include "cumeta/error.h"
#include "cumeta/tensor_file.h"

namespace cumeta::app {
namespace {

namespace fs = std::filesystem;

/// Tensor part_name or name; null when there is none.
const FileTensor* find(const TensorFile& file, const std::string& part, const std::string& name) {
  for (const std::string& full : {part + "_" + name, name})
    if (const auto found = file.tensors.find(full); found != file.tensors.end()) return &found->second;
  return nullptr;
}

/// The shape without a leading axis of one task.
std::vector<std::int64_t> one_task(const FileTensor& tensor, std::size_t rank) {
  std::vector<std::int64_t> shape = tensor.shape;
  if (shape.size() == rank + 1 && shape[0] == 1) shape.erase(shape.begin());
  return shape;
}

LabelledExamples from_file(const std::string& path, const std::string& part, const Recipe& recipe) {
  const TensorFile file = read_tensors(path);
  const FileTensor *x = find(file, part, "x"), *y = find(file, part, "y");
  if (x == nullptr) throw FileError(fmt::format("{}: has neither a tensor {}_x nor x", path, part));
  const Shape& input = recipe.model.input;
  std::vector<std::int64_t> expected = rows_shape(-1, 0, input), shape = one_task(*x, expected.size());
  if (!shape.empty()) expected[0] = shape[0];
  if (shape != expected || shape[0] < 1 || shape[0] > (1 << 24))
    throw FileError(fmt::format("{}: x has the shape [{}]; the model needs [examples, {}]", path,
                                fmt::join(x->shape, ", "),
                                fmt::join(std::vector(expected.begin() + 1, expected.end()), ", ")));
  LabelledExamples examples;
  examples.count = static_cast<int>(shape[0]);
  examples.x = from_planes(x->values, input);
  for (const float value : examples.x)
    if (!std::isfinite(value)) throw FileError(fmt::format("{}: x holds the value {}", path, value));
  if (y == nullptr) return examples;
  const bool labels = recipe.classification();
  const int outputs = output_count(recipe.model);
  std::vector<std::int64_t> wanted = {shape[0]};
  if (!labels) wanted.push_back(outputs);
  if (one_task(*y, wanted.size()) != wanted)
    throw FileError(fmt::format("{}: y has the shape [{}]; [{}] is needed", path, fmt::join(y->shape, ", "),
                                fmt::join(wanted, ", ")));
  for (const double value : y->values)
    if (labels ? !(value >= 0 && value < outputs && value == std::floor(value)) : !std::isfinite(value))
      throw FileError(fmt::format("{}: y holds {}, which is {}", path, value,
                                  labels ? fmt::format("no label from 0 to {}", outputs - 1) : "no finite number"));
  examples.y.assign(y->values.begin(), y->values.end());
  return examples;
}

LabelledExamples from_folder(const std::string& root, const Recipe& recipe, const std::vector<std::string>& classes) {
  const Shape& input = recipe.model.input;
  ImageFolder folder{.root = root, .height = input.height, .width = input.width, .channels = input.channels};
  folder.ways = 1, folder.shots = 1, folder.query = 0;
  const Episodes episodes(folder, Subset::train);
  const ImageView images = episodes.images();
  LabelledExamples examples;
  examples.class_names.assign(images.class_names.begin(), images.class_names.end());
  examples.count = static_cast<int>(images.class_begin.back());
  // Omniglot's ink is black on white in the files and 1 on 0 for the model.
  const bool ink = recipe.source && std::holds_alternative<Omniglot>(*recipe.source);
  examples.x.reserve(images.pixels.size());
  for (const std::uint8_t byte : images.pixels)
    examples.x.push_back(static_cast<float>(ink ? 255 - byte : byte) * (1.0F / 255));
  for (std::size_t c = 0; c + 1 < images.class_begin.size(); ++c) {
    auto label = static_cast<float>(c);
    if (!classes.empty()) {
      const auto found = std::find(classes.begin(), classes.end(), examples.class_names[c]);
      label = found == classes.end() ? -1.0F : static_cast<float>(found - classes.begin());
    }
    examples.y.insert(examples.y.end(), images.class_begin[c + 1] - images.class_begin[c], label);
  }
  return examples;
}

}  // namespace

LabelledExamples read_examples(const std::string& path, const std::string& part, const Recipe& recipe,
                               const std::vector<std::string>& classes) {
  std::error_code none;
  if (fs::is_directory(path, none) && !recipe.classification())
    throw FileError(fmt::format(
        "{}: is a folder of classes, but the run is a regression; give a safetensors file of x and y", path));
  return fs::is_directory(path, none) ? from_folder(path, recipe, classes) : from_file(path, part, recipe);
}

}  // namespace cumeta::app
