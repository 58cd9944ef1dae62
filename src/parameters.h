// SPDX-License-Identifier: Apache-2.0
// A model's parameter arrays: names, shapes and orders as in PyTorch's files, and how each is drawn.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "cumeta/model.h"

namespace cumeta {

/// How an array's elements lie in a file, against memory ([in][out] for linear, [kernel][kernel][in][out] for
/// convolution, [height][width][channels] for one number per element of a flattened image).
enum class FileOrder { same, linear, convolution, flattened };

struct ParameterArray {
  Parameter parameter;
  FileOrder order = FileOrder::same;
  Shape image{1, 1, 0};  ///< behind a Flatten: the image, whose file order is channels first; channels 0: none
  Initializer initializer{};
  double constant = 0;  ///< value where the initializer is zeros: 1 for scales
  int fan_in = 1, fan_out = 1;
};
std::vector<ParameterArray> parameter_arrays(const Model& model);
/// Of every batch norm that keeps running statistics, its running_mean and running_var; offsets into all of them. The
/// variance is over the rows, where PyTorch takes one less.
std::vector<ParameterArray> running_arrays(const Model& model);

/// One array (`memory` is its part of the flat vector) to and from file order.
std::vector<double> to_file_order(const ParameterArray& array, std::span<const double> memory);
void from_file_order(const ParameterArray& array, std::span<const double> file, std::span<double> memory);

/// Initial values of the flat vector, drawn from (seed, purpose initialisation, array, element); exact in float32.
std::vector<double> initial_parameters(const Model& model, std::uint64_t seed);

}  // namespace cumeta
