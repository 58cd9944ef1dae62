// SPDX-License-Identifier: Apache-2.0
// Safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes without gaps.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace cumeta::safetensors {

enum class Type { f32, f64, i64, i32, u8 };
std::size_t size_of(Type type);
const char* name_of(Type type);  ///< as in the header: "F32"

struct Tensor {
  Type type = Type::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;  ///< row-major, little-endian
};
Tensor tensor(std::span<const float> values, std::vector<std::int64_t> shape);
Tensor tensor(std::span<const double> values, std::vector<std::int64_t> shape);
Tensor tensor(std::span<const std::int64_t> values, std::vector<std::int64_t> shape);
Tensor tensor(std::span<const std::int32_t> values, std::vector<std::int64_t> shape);
Tensor tensor(std::span<const std::uint8_t> values, std::vector<std::int64_t> shape);
std::size_t elements(const Tensor& value);
std::string text_of(const std::vector<std::int64_t>& shape);  ///< "[2, 3]"

/// The values, each converted from the stored type (rounded to the nearest where the target is narrower).
std::vector<double> doubles(const Tensor& value);
std::vector<float> floats(const Tensor& value);
std::vector<std::int64_t> integers(const Tensor& value);  ///< InvalidArgument unless the type is an integer

struct File {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;

  /// The tensor of that name; FileError naming `path` and the name when there is none.
  const Tensor& at(const std::string& name, const std::string& path) const;
};

/// What read() does about the checksum that write() leaves in the metadata (key cumeta.crc32, of the whole file).
enum class Checksum {
  if_present,  ///< files from elsewhere have none
  required     ///< our own checkpoints: any changed bit is refused
};

/// Reads and validates a file; FileError, one line, on anything wrong. The checksum is not part of `metadata`.
File read(const std::string& path, Checksum checksum = Checksum::if_present);

/// Writes atomically: path.tmp beside it, fsync, rename. Wide types first, then by name, so that every tensor is
/// aligned to its type; equal content gives an equal file.
void write(const std::string& path, const File& file);

}  // namespace cumeta::safetensors
