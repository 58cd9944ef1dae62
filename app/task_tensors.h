// SPDX-License-Identifier: Apache-2.0
// Host tasks as tensors of a file: support_x, support_y, query_x, query_y; images as channels, height, width.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "app/host_tasks.h"
#include "cumeta/shape.h"
#include "cumeta/tensor_file.h"

namespace cumeta::app {

/// x in memory order [rows][h][w][c] <-> file order [rows][c][h][w].
std::vector<double> to_planes(std::span<const float> x, const Shape& shape);
std::vector<float> from_planes(std::span<const double> x, const Shape& shape);

/// `targets`: numbers per example; labels are integers.
void put_tasks(TensorFile& file, const HostTasks& tasks, const Shape& input, int targets, bool labels);

/// {tasks, rows, features} or {tasks, rows, c, h, w}; a leading axis below 0 is left out.
std::vector<std::int64_t> rows_shape(std::int64_t tasks, std::int64_t rows, const Shape& input);

}  // namespace cumeta::app
