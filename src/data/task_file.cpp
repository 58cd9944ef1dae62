// SPDX-License-Identifier: Apache-2.0
// Reads tasks from a safetensors file: C, H, W in the file becomes H, W, C here; labels become floats.
#include "src/data/task_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "cumeta/error.h"
#include "src/safetensors.h"

namespace cumeta {
namespace {

using safetensors::Tensor;

constexpr std::int64_t most = std::numeric_limits<int>::max();

[[noreturn]] void refuse(const std::string& path, const char* name, const Tensor& tensor, const char* why) {
  throw FileError(fmt::format("{}: {} of shape {} and type {} {}", path, name, safetensors::text_of(tensor.shape),
                              safetensors::name_of(tensor.type), why));
}

bool is_integer(const Tensor& tensor) {
  return tensor.type != safetensors::Type::f32 && tensor.type != safetensors::Type::f64;
}

/// [tasks][examples][values] as floats, and what an example is.
struct Part {
  int examples = 0;
  Shape shape{};
  std::vector<float> values;
};

void check_extents(const std::string& path, const char* name, const Tensor& tensor) {
  std::int64_t per_task = 1;
  for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
    const std::int64_t extent = tensor.shape[axis];
    if (extent < 1) refuse(path, name, tensor, "is empty");
    if (extent > most || (axis > 0 && (per_task *= extent) > most)) refuse(path, name, tensor, "is too large");
  }
}

void check_finite(const std::string& path, const char* name, const std::vector<float>& values) {
  const auto bad = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (bad != values.end())
    throw FileError(fmt::format("{}: {} has the value {} at place {}", path, name, *bad, bad - values.begin()));
}

Part read_inputs(const std::string& path, const char* name, const Tensor& tensor) {
  const std::size_t rank = tensor.shape.size();
  if (rank != 3 && rank != 5)
    refuse(path, name, tensor, "is not [tasks, examples, features] or [tasks, examples, C, H, W]");
  check_extents(path, name, tensor);
  Part part{static_cast<int>(tensor.shape[1]), {}, safetensors::floats(tensor)};
  check_finite(path, name, part.values);
  if (rank == 3) {
    part.shape = features(static_cast<int>(tensor.shape[2]));
    return part;
  }
  const auto channels = static_cast<int>(tensor.shape[2]), height = static_cast<int>(tensor.shape[3]),
             width = static_cast<int>(tensor.shape[4]);
  part.shape = image(height, width, channels);
  std::vector<float> turned(part.values.size());
  const std::size_t pixels = static_cast<std::size_t>(height) * static_cast<std::size_t>(width),
                    planes = static_cast<std::size_t>(channels);
  for (std::size_t first = 0; first < turned.size(); first += pixels * planes)
    for (std::size_t c = 0; c < planes; ++c)
      for (std::size_t p = 0; p < pixels; ++p) turned[first + p * planes + c] = part.values[first + c * pixels + p];
  part.values = std::move(turned);
  return part;
}

Part read_targets(const std::string& path, const char* name, const Tensor& tensor, int& ways) {
  const std::size_t rank = tensor.shape.size();
  const bool labels = is_integer(tensor);
  if (rank != (labels ? 2U : 3U))
    refuse(path, name, tensor, "is neither integers [tasks, examples] nor floats [tasks, examples, outputs]");
  check_extents(path, name, tensor);
  Part part{static_cast<int>(tensor.shape[1]), features(labels ? 1 : static_cast<int>(tensor.shape[2])),
            safetensors::floats(tensor)};
  check_finite(path, name, part.values);
  if (labels)
    for (const std::int64_t label : safetensors::integers(tensor)) {
      if (label < 0 || label >= 1 << 24)
        throw FileError(fmt::format("{}: {} has the label {}; labels are 0, 1, 2, ...", path, name, label));
      ways = std::max(ways, static_cast<int>(label) + 1);
    }
  return part;
}

/// [task][support + query][values] from the two parts.
std::vector<float> join(const std::vector<float>& support, const std::vector<float>& query, std::size_t tasks) {
  const std::size_t from_support = support.size() / tasks, from_query = query.size() / tasks;
  std::vector<float> both;
  both.reserve(support.size() + query.size());
  for (std::size_t task = 0; task < tasks; ++task) {
    const auto s = support.begin() + static_cast<std::ptrdiff_t>(task * from_support);
    const auto q = query.begin() + static_cast<std::ptrdiff_t>(task * from_query);
    both.insert(both.end(), s, s + static_cast<std::ptrdiff_t>(from_support));
    both.insert(both.end(), q, q + static_cast<std::ptrdiff_t>(from_query));
  }
  return both;
}

/// Tasks to judge by that are those learnt from would say how well they were learnt by heart.
const std::string& path_of(const TaskFile& source, Subset subset) {
  const std::pair<const char*, const std::string&> all[] = {{"data.path", source.path},
                                                            {"data.validation_path", source.validation_path},
                                                            {"data.test_path", source.test_path}};
  const auto& [key, path] = all[static_cast<std::size_t>(subset)];
  if (path.empty())
    throw InvalidArgument(fmt::format("task file: {} is not set; name a file of tasks to {}", key,
                                      subset == Subset::train ? "learn from (--data FILE)"
                                      : subset == Subset::validation
                                          ? "choose a checkpoint by, none of which is learnt from, or set "
                                            "run.validate_every=0"
                                          : "report, none of which is learnt from"));
  for (const auto& [other_key, other] : all) {
    std::error_code none;
    if (&other != &path && !other.empty() && (other == path || std::filesystem::equivalent(other, path, none)))
      throw InvalidArgument(
          fmt::format("task file: {} and {} are both {}; the tasks of each subset are its own: name two "
                      "files",
                      key, other_key, path));
  }
  return path;
}

}  // namespace

FileTasks::FileTasks(const TaskFile& source, Subset subset) {
  const std::string& path = path_of(source, subset);
  const safetensors::File file = safetensors::read(path);
  const Tensor &sx = file.at("support_x", path), &sy = file.at("support_y", path);
  const Part support_x = read_inputs(path, "support_x", sx);
  const Part support_y = read_targets(path, "support_y", sy, sizes_.ways);
  Part query_x, query_y;
  std::vector<const Tensor*> all{&sx, &sy};
  if (file.tensors.contains("query_x") || file.tensors.contains("query_y")) {
    const Tensor &qx = file.at("query_x", path), &qy = file.at("query_y", path);
    query_x = read_inputs(path, "query_x", qx);
    query_y = read_targets(path, "query_y", qy, sizes_.ways);
    if (query_x.shape != support_x.shape) refuse(path, "query_x", qx, "has examples of another shape than support_x");
    if (is_integer(qy) != is_integer(sy) || query_y.shape != support_y.shape)
      refuse(path, "query_y", qy, "has targets of another kind than support_y");
    all.insert(all.end(), {&qx, &qy});
  }
  for (const Tensor* tensor : all)
    if (tensor->shape[0] != sx.shape[0])
      throw FileError(
          fmt::format("{}: {} tasks in one tensor and {} in support_x", path, tensor->shape[0], sx.shape[0]));
  if (support_y.examples != support_x.examples)
    refuse(path, "support_y", sy, "does not have the examples of support_x");
  if (query_y.examples != query_x.examples)
    refuse(path, "query_y", file.at("query_y", path), "does not have the examples of query_x");

  sizes_.support = support_x.examples;
  sizes_.query = query_x.examples;
  sizes_.input = support_x.shape;
  sizes_.targets = support_y.shape.channels;
  sizes_.classes = sizes_.ways;
  sizes_.tasks = static_cast<std::size_t>(sx.shape[0]);
  x_ = join(support_x.values, query_x.values, sizes_.tasks);
  t_ = join(support_y.values, query_y.values, sizes_.tasks);
}

void FileTasks::draw(const TaskName& name, float* x, float* t) const {
  const auto count = static_cast<std::uint32_t>(sizes_.tasks);
  const std::size_t chosen = name.purpose == Purpose::train ? name.draws().choose(0, count) : name.task % count;
  const std::size_t inputs = x_.size() / sizes_.tasks, targets = t_.size() / sizes_.tasks;
  std::copy_n(x_.data() + chosen * inputs, inputs, x);
  std::copy_n(t_.data() + chosen * targets, targets, t);
}

}  // namespace cumeta
