// SPDX-License-Identifier: Apache-2.0
// Tensors in memory: their types, shapes and conversions.
#include <fmt/format.h>

#include <bit>
#include <cassert>
#include <cstring>

#include "cumeta/error.h"
#include "src/safetensors.h"

static_assert(std::endian::native == std::endian::little, "tensors in files are little-endian");

namespace cumeta::safetensors {
namespace {

template <class T>
Tensor pack(Type type, std::span<const T> values, std::vector<std::int64_t> shape) {
  Tensor result{type, std::move(shape), {}};
  assert(elements(result) == values.size());
  result.bytes.resize(values.size_bytes());
  if (!values.empty()) std::memcpy(result.bytes.data(), values.data(), values.size_bytes());
  return result;
}

template <class Stored, class Result>
std::vector<Result> convert(const Tensor& value) {
  std::vector<Result> result(value.bytes.size() / sizeof(Stored));
  for (std::size_t i = 0; i < result.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, value.bytes.data() + i * sizeof(Stored), sizeof(Stored));
    result[i] = static_cast<Result>(stored);
  }
  return result;
}

template <class Result>
std::vector<Result> convert(const Tensor& value) {
  switch (value.type) {
    case Type::f32:
      return convert<float, Result>(value);
    case Type::f64:
      return convert<double, Result>(value);
    case Type::i64:
      return convert<std::int64_t, Result>(value);
    case Type::i32:
      return convert<std::int32_t, Result>(value);
    case Type::u8:
      break;
  }
  return convert<std::uint8_t, Result>(value);
}

}  // namespace

std::size_t size_of(Type type) {
  switch (type) {
    case Type::f64:
    case Type::i64:
      return 8;
    case Type::f32:
    case Type::i32:
      return 4;
    case Type::u8:
      break;
  }
  return 1;
}

const char* name_of(Type type) {
  switch (type) {
    case Type::f32:
      return "F32";
    case Type::f64:
      return "F64";
    case Type::i64:
      return "I64";
    case Type::i32:
      return "I32";
    case Type::u8:
      break;
  }
  return "U8";
}

Tensor tensor(std::span<const float> values, std::vector<std::int64_t> shape) {
  return pack(Type::f32, values, std::move(shape));
}
Tensor tensor(std::span<const double> values, std::vector<std::int64_t> shape) {
  return pack(Type::f64, values, std::move(shape));
}
Tensor tensor(std::span<const std::int64_t> values, std::vector<std::int64_t> shape) {
  return pack(Type::i64, values, std::move(shape));
}
Tensor tensor(std::span<const std::int32_t> values, std::vector<std::int64_t> shape) {
  return pack(Type::i32, values, std::move(shape));
}
Tensor tensor(std::span<const std::uint8_t> values, std::vector<std::int64_t> shape) {
  return pack(Type::u8, values, std::move(shape));
}

std::size_t elements(const Tensor& value) {
  std::size_t product = 1;
  for (const std::int64_t extent : value.shape) product *= static_cast<std::size_t>(extent);
  return product;
}

std::string text_of(const std::vector<std::int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::vector<double> doubles(const Tensor& value) { return convert<double>(value); }
std::vector<float> floats(const Tensor& value) { return convert<float>(value); }
std::vector<std::int64_t> integers(const Tensor& value) {
  if (value.type == Type::f32 || value.type == Type::f64)
    throw InvalidArgument(fmt::format("integers are wanted of a tensor of type {}", name_of(value.type)));
  return convert<std::int64_t>(value);
}

const Tensor& File::at(const std::string& name, const std::string& path) const {
  const auto found = tensors.find(name);
  if (found == tensors.end())
    throw FileError(fmt::format("{}: no tensor {} among its {} tensors", path, name, tensors.size()));
  return found->second;
}

}  // namespace cumeta::safetensors
