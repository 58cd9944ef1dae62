// SPDX-License-Identifier: Apache-2.0
// A model: the shape of one example, a list of layers, a loss.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "cumeta/export.h"
#include "cumeta/layers.h"
#include "cumeta/shape.h"

namespace cumeta {

struct Model {
  Shape input;
  std::vector<Layer> layers;
  Loss loss = SoftmaxCrossEntropy{};
};

/// One parameter array in the order in which parameters lie in the flat vector.
struct Parameter {
  std::string name;        ///< as in PyTorch: "layers.3.weight"
  std::vector<int> shape;  ///< as in PyTorch: [out, in], [filters, channels, kernel, kernel], [channels]
  int layer = 0;
  int offset = 0;  ///< first element in the flat vector
  int size = 0;
  bool adapted = true;
};

/// All parameter arrays of a model. Throws InvalidArgument when the layers do not fit together.
CUMETA_API std::vector<Parameter> parameters(const Model& model);
/// Numbers in the flat vector. Throws InvalidArgument as parameters().
CUMETA_API int parameter_count(const Model& model);
/// One array of a flat vector in PyTorch's shape and order, as safetensors files hold it. The vector may be of
/// parameters, of rates or of derivatives (loss per parameter): only places change, never a value.
struct NamedArray {
  std::string name;
  std::vector<int> shape;
  std::vector<double> values;
};
/// A flat vector, in the library's own order, to PyTorch's arrays and back. Linear weights behind a Flatten go from
/// height-width-channel to channel-height-width. Throws InvalidArgument for a number of elements, a missing name or a
/// shape that is not the model's.
CUMETA_API std::vector<NamedArray> to_pytorch(const Model& model, std::span<const double> flat);
CUMETA_API std::vector<double> from_pytorch(const Model& model, std::span<const NamedArray> arrays);
/// Numbers per example that the loss sees (classes or outputs). Throws InvalidArgument as parameters().
CUMETA_API int output_count(const Model& model);

}  // namespace cumeta
