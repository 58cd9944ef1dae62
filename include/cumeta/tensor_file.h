// SPDX-License-Identifier: Apache-2.0
// Tensors by name in a safetensors file, and a model's parameters among them in PyTorch's names, shapes and orders.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cumeta/export.h"
#include "cumeta/model.h"

namespace cumeta {

/// One tensor, its numbers as doubles whatever its type in the file.
struct FileTensor {
  enum class Type { float32, float64, int64 };  ///< what write_tensors writes
  Type type = Type::float32;
  std::vector<std::int64_t> shape;
  std::vector<double> values;  ///< row-major
};

/// A whole safetensors file: tensors and texts by name.
struct TensorFile {
  std::map<std::string, FileTensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Throws FileError, one line, for a file that is missing, truncated or not safetensors.
CUMETA_API TensorFile read_tensors(const std::string& path);
/// Atomic: a file that is not whole never appears under `path`. Equal content gives an equal file.
CUMETA_API void write_tensors(const std::string& path, const TensorFile& file);

/// Adds prefix + name for every parameter array. `flat` holds rows of parameters(model), as Learner gives them;
/// rows = 0: one row and no leading axis, otherwise a leading axis of `rows`. Throws InvalidArgument where `flat` is no
/// whole number of such rows.
CUMETA_API void put_parameters(TensorFile& file, const Model& model, const std::string& prefix,
                               std::span<const double> flat, int rows = 0,
                               FileTensor::Type type = FileTensor::Type::float64);
/// The reverse. Throws FileError naming `path` when an array is missing or has another shape.
CUMETA_API std::vector<double> get_parameters(const TensorFile& file, const Model& model, const std::string& prefix,
                                              const std::string& path, int rows = 0);

}  // namespace cumeta
