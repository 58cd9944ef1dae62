// SPDX-License-Identifier: Apache-2.0
#include "app/task_tensors.h"

namespace cumeta::app {
namespace {

/// Calls move(place in planes, place in memory) for every number of `rows` images.
template <class Move>
void for_each_number(std::size_t rows, const Shape& shape, Move move) {
  const auto pixels = static_cast<std::size_t>(shape.height) * static_cast<std::size_t>(shape.width);
  const auto channels = static_cast<std::size_t>(shape.channels);
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t c = 0; c < channels; ++c)
      for (std::size_t p = 0; p < pixels; ++p)
        move((row * channels + c) * pixels + p, (row * pixels + p) * channels + c);
}

}  // namespace

std::vector<double> to_planes(std::span<const float> x, const Shape& shape) {
  std::vector<double> planes(x.size());
  for_each_number(x.size() / static_cast<std::size_t>(shape.size()), shape,
                  [&](std::size_t to, std::size_t from) { planes[to] = static_cast<double>(x[from]); });
  return planes;
}

std::vector<float> from_planes(std::span<const double> x, const Shape& shape) {
  std::vector<float> memory(x.size());
  for_each_number(x.size() / static_cast<std::size_t>(shape.size()), shape,
                  [&](std::size_t from, std::size_t to) { memory[to] = static_cast<float>(x[from]); });
  return memory;
}

std::vector<std::int64_t> rows_shape(std::int64_t tasks, std::int64_t rows, const Shape& input) {
  std::vector<std::int64_t> shape;
  if (tasks >= 0) shape.push_back(tasks);
  shape.push_back(rows);
  shape.push_back(input.channels);
  if (input.height == 1 && input.width == 1) return shape;
  shape.push_back(input.height);
  shape.push_back(input.width);
  return shape;
}

void put_tasks(TensorFile& file, const HostTasks& tasks, const Shape& input, int targets, bool labels) {
  const auto put = [&](const std::string& part, int rows, const std::vector<float>& x, const std::vector<float>& y) {
    if (rows == 0) return;
    file.tensors[part + "_x"] = {FileTensor::Type::float32, rows_shape(tasks.tasks, rows, input), to_planes(x, input)};
    std::vector<std::int64_t> shape = {tasks.tasks, rows};
    if (!labels) shape.push_back(targets);
    file.tensors[part + "_y"] = {labels ? FileTensor::Type::int64 : FileTensor::Type::float32, shape,
                                 std::vector<double>(y.begin(), y.end())};
  };
  put("support", tasks.support, tasks.support_x, tasks.support_y);
  put("query", tasks.query, tasks.query_x, tasks.query_y);
}

}  // namespace cumeta::app
