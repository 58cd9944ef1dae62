// SPDX-License-Identifier: Apache-2.0
// The public door to safetensors files: converts types and the orders of parameter arrays.
#include "cumeta/tensor_file.h"

#include <fmt/format.h>

#include <cmath>

#include "cumeta/error.h"
#include "src/safetensors.h"

namespace cumeta {
namespace {

FileTensor::Type type_of(safetensors::Type type) {
  switch (type) {
    case safetensors::Type::f32:
      return FileTensor::Type::float32;
    case safetensors::Type::f64:
      return FileTensor::Type::float64;
    case safetensors::Type::i64:
    case safetensors::Type::i32:
    case safetensors::Type::u8:
      break;
  }
  return FileTensor::Type::int64;
}

safetensors::Tensor stored(const std::string& name, const FileTensor& tensor) {
  const std::span<const double> values = tensor.values;
  if (tensor.type == FileTensor::Type::float64) return safetensors::tensor(values, tensor.shape);
  if (tensor.type == FileTensor::Type::float32)
    return safetensors::tensor(std::span<const float>(std::vector<float>(values.begin(), values.end())), tensor.shape);
  std::vector<std::int64_t> whole;
  whole.reserve(values.size());
  for (const double value : values) {
    if (!(std::abs(value) <= 9007199254740992.0) ||
        value != std::floor(value))  // 2^53: every double up to here is exact
      throw InvalidArgument(fmt::format("tensor {}: {} is no whole number that int64 and float64 share", name, value));
    whole.push_back(static_cast<std::int64_t>(value));
  }
  return safetensors::tensor(std::span<const std::int64_t>(whole), tensor.shape);
}

std::vector<std::int64_t> file_shape(const std::vector<int>& array, int rows) {
  std::vector<std::int64_t> shape(array.begin(), array.end());
  if (rows > 0) shape.insert(shape.begin(), rows);
  return shape;
}

}  // namespace

TensorFile read_tensors(const std::string& path) {
  safetensors::File stored_file = safetensors::read(path);
  TensorFile file;
  for (auto& [name, tensor] : stored_file.tensors)
    file.tensors[name] = {type_of(tensor.type), tensor.shape, safetensors::doubles(tensor)};
  file.metadata = std::move(stored_file.metadata);
  return file;
}

void write_tensors(const std::string& path, const TensorFile& file) {
  safetensors::File stored_file;
  for (const auto& [name, tensor] : file.tensors) stored_file.tensors[name] = stored(name, tensor);
  stored_file.metadata = file.metadata;
  safetensors::write(path, stored_file);
}

void put_parameters(TensorFile& file, const Model& model, const std::string& prefix, std::span<const double> flat,
                    int rows, FileTensor::Type type) {
  const auto count = static_cast<std::size_t>(parameter_count(model));
  if (flat.size() != count * static_cast<std::size_t>(rows > 0 ? rows : 1))
    throw InvalidArgument(fmt::format("put_parameters({}): {} numbers for {} rows of {} parameters", prefix,
                                      flat.size(), rows > 0 ? rows : 1, count));
  for (const Parameter& a : parameters(model)) file.tensors[prefix + a.name] = {type, file_shape(a.shape, rows), {}};
  for (std::size_t at = 0; at < flat.size(); at += count)
    for (const NamedArray& a : to_pytorch(model, flat.subspan(at, count))) {
      std::vector<double>& values = file.tensors[prefix + a.name].values;
      values.insert(values.end(), a.values.begin(), a.values.end());
    }
}

std::vector<double> get_parameters(const TensorFile& file, const Model& model, const std::string& prefix,
                                   const std::string& path, int rows) {
  const auto all_rows = static_cast<std::size_t>(rows > 0 ? rows : 1);
  std::vector<std::vector<NamedArray>> arrays(all_rows);
  for (const Parameter& a : parameters(model)) {
    const std::string name = prefix + a.name;
    const auto found = file.tensors.find(name);
    if (found == file.tensors.end())
      throw FileError(fmt::format("{}: has no tensor {}; it does not belong to this model", path, name));
    const std::vector<std::int64_t> expected = file_shape(a.shape, rows);
    if (found->second.shape != expected)
      throw FileError(fmt::format("{}: {} has the shape {}, the model needs {}", path, name,
                                  safetensors::text_of(found->second.shape), safetensors::text_of(expected)));
    const std::span<const double> values(found->second.values);
    const auto size = static_cast<std::size_t>(a.size);
    for (std::size_t row = 0; row < all_rows; ++row) {
      const auto part = values.subspan(row * size, size);
      arrays[row].push_back({a.name, a.shape, {part.begin(), part.end()}});
    }
  }
  std::vector<double> flat;
  for (const std::vector<NamedArray>& row : arrays) {
    const std::vector<double> one = from_pytorch(model, row);
    flat.insert(flat.end(), one.begin(), one.end());
  }
  return flat;
}

}  // namespace cumeta
