// SPDX-License-Identifier: Apache-2.0
// Safetensors on disk: reading with every number checked, writing atomically.
#include "src/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "cumeta/error.h"
#include "src/atomic_file.h"
#include "src/file_descriptor.h"

namespace cumeta::safetensors {
namespace {

using nlohmann::json;

constexpr std::size_t length_bytes = 8;
constexpr std::uint64_t longest_header = 100'000'000;  // the bound of the format's own reader
constexpr std::string_view checksum_key = "cumeta.crc32";
constexpr std::string_view blank_digits = "00000000";

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw FileError(fmt::format("{}: {}", path, why));
}

std::vector<std::byte> whole_file(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (file.number() < 0 || ::fstat(file.number(), &status) != 0)
    refuse(path, fmt::format("cannot be opened: {}", std::strerror(errno)));
  if (!S_ISREG(status.st_mode)) refuse(path, "is not a regular file; give a .safetensors file");
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
  for (std::size_t have = 0; have < bytes.size();) {
    const ssize_t got = ::read(file.number(), bytes.data() + have, bytes.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse(path, fmt::format("cannot be read: {}", std::strerror(errno)));
    if (got == 0) refuse(path, fmt::format("ended after {} of {} bytes", have, bytes.size()));
    have += static_cast<std::size_t>(got);
  }
  return bytes;
}

/// The JSON header; names given twice and nesting that the format does not have are refused.
json parse_header(const std::string& path, std::string_view text) {
  std::vector<std::set<std::string>> open_objects;
  std::string twice;
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > 3) throw FileError("nested too deep");
    if (event == json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == json::parse_event_t::object_end) open_objects.pop_back();
    if (event == json::parse_event_t::key && !open_objects.back().insert(parsed.get<std::string>()).second)
      throw FileError(fmt::format("key {} is there twice", parsed.dump(-1, ' ', true, json::error_handler_t::replace)));
    return true;
  };
  try {
    json header = json::parse(text, check);
    if (!header.is_object()) refuse(path, "its header is not a JSON object; this is not a safetensors file");
    return header;
  } catch (const json::exception& failure) {
    refuse(path,
           fmt::format("its header is not JSON (byte {})", dynamic_cast<const json::parse_error*>(&failure) != nullptr
                                                               ? static_cast<const json::parse_error&>(failure).byte
                                                               : 0));
  } catch (const FileError& failure) {
    const std::string why = failure.what();
    refuse(path, why.starts_with(path) ? why.substr(path.size() + 2) : "in its header: " + why);
  }
}

std::uint64_t natural(const std::string& path, const std::string& name, const json& value, const char* what) {
  if (!value.is_number_unsigned()) refuse(path, fmt::format("tensor {}: {} is not a whole number from 0", name, what));
  return value.get<std::uint64_t>();
}

struct Place {
  Tensor tensor;
  std::uint64_t begin = 0, end = 0;
};

Place parse_tensor(const std::string& path, const std::string& name, const json& entry, std::uint64_t data_size) {
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets"))
    refuse(path, fmt::format("tensor {}: needs dtype, shape and data_offsets, nothing else", name));
  Place place;
  const json &type = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  bool known = false;
  for (const Type candidate : {Type::f32, Type::f64, Type::i64, Type::i32, Type::u8})
    if (type.is_string() && type.get_ref<const std::string&>() == name_of(candidate)) {
      place.tensor.type = candidate;
      known = true;
    }
  if (!known)
    refuse(path,
           fmt::format("tensor {}: type {} is not one of F32, F64, I64, I32, U8", name, type.dump(-1, ' ', true)));
  if (!shape.is_array()) refuse(path, fmt::format("tensor {}: its shape is not a list", name));
  if (!offsets.is_array() || offsets.size() != 2)
    refuse(path, fmt::format("tensor {}: data_offsets are not two numbers", name));
  std::uint64_t size = size_of(place.tensor.type);
  for (const json& extent : shape) {
    const std::uint64_t length = natural(path, name, extent, "an extent");
    if (length > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) ||
        __builtin_mul_overflow(size, length, &size))
      refuse(path, fmt::format("tensor {}: its shape {} is too large", name, shape.dump()));
    place.tensor.shape.push_back(static_cast<std::int64_t>(length));
  }
  place.begin = natural(path, name, offsets[0], "an offset");
  place.end = natural(path, name, offsets[1], "an offset");
  if (place.begin > place.end || place.end > data_size)
    refuse(path, fmt::format("tensor {}: bytes {} to {} are outside the file's {} bytes of data", name, place.begin,
                             place.end, data_size));
  if (place.end - place.begin != size)
    refuse(path, fmt::format("tensor {}: {} bytes for shape {} of {}, which needs {}", name, place.end - place.begin,
                             shape.dump(), name_of(place.tensor.type), size));
  return place;
}

/// CRC-32 of the file with the eight digits at `digits` taken as zeros.
std::uint32_t checksum_of(std::span<const std::byte> bytes, std::size_t digits) {
  const auto* start = reinterpret_cast<const Bytef*>(bytes.data());
  uLong sum = crc32_z(0, start, digits);
  sum = crc32_z(sum, reinterpret_cast<const Bytef*>(blank_digits.data()), blank_digits.size());
  const std::size_t rest = digits + blank_digits.size();
  return static_cast<std::uint32_t>(crc32_z(sum, start + rest, bytes.size() - rest));
}

/// Where the digits of the checksum lie; npos when there are none. No JSON string can hold the unescaped quotes.
std::size_t find_digits(std::string_view header) {
  const std::string marker = fmt::format("\"{}\":\"", checksum_key);
  const std::size_t found = header.find(marker);
  const std::size_t digits = found + marker.size();
  return found == std::string_view::npos || digits + blank_digits.size() > header.size() ? std::string_view::npos
                                                                                         : digits;
}

void verify_checksum(const std::string& path, std::span<const std::byte> bytes, std::string_view header,
                     const std::string* stated, Checksum checksum) {
  if (stated == nullptr) {
    if (checksum == Checksum::required)
      refuse(path, fmt::format("has no checksum (metadata key {}); it was not written by cumeta, or it is damaged",
                               checksum_key));
    return;
  }
  const std::size_t digits = find_digits(header);
  if (digits == std::string_view::npos || stated->size() != blank_digits.size())
    refuse(path, fmt::format("the checksum in metadata key {} is not 8 digits", checksum_key));
  const std::string found = fmt::format("{:08x}", checksum_of(bytes, length_bytes + digits));
  if (found != *stated)
    refuse(path, fmt::format("checksum {} where {} is stated: damaged, or changed by another program (which should "
                             "drop the metadata key {})",
                             found, *stated, checksum_key));
}

}  // namespace

File read(const std::string& path, Checksum checksum) {
  const std::vector<std::byte> bytes = whole_file(path);
  if (bytes.size() < length_bytes + 2)
    refuse(path, fmt::format("{} bytes are too few for a safetensors file", bytes.size()));
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), length_bytes);
  if (header_size > std::min<std::uint64_t>(longest_header, bytes.size() - length_bytes))
    refuse(path, fmt::format("states a header of {} bytes in a file of {}: truncated, or not a safetensors file",
                             header_size, bytes.size()));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + length_bytes, header_size);
  if (!text.starts_with('{')) refuse(path, "its header does not begin with '{'; this is not a safetensors file");
  const json header = parse_header(path, text);
  const std::byte* data = bytes.data() + length_bytes + header_size;
  const std::uint64_t data_size = bytes.size() - length_bytes - header_size;

  File file;
  std::vector<std::pair<std::string, Place>> places;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      places.emplace_back(name, parse_tensor(path, name, entry, data_size));
      continue;
    }
    if (!entry.is_object()) refuse(path, "its __metadata__ is not an object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) refuse(path, fmt::format("its metadata key {} is not a text", key));
      file.metadata.emplace(key, value.get<std::string>());
    }
  }
  const auto stated = file.metadata.find(std::string(checksum_key));
  verify_checksum(path, bytes, text, stated == file.metadata.end() ? nullptr : &stated->second, checksum);
  if (stated != file.metadata.end()) file.metadata.erase(stated);

  std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.begin, a.second.end) < std::pair(b.second.begin, b.second.end);
  });
  std::uint64_t filled = 0;
  for (auto& [name, place] : places) {
    if (place.begin != filled)
      refuse(path,
             fmt::format("tensor {} begins at byte {} where the one before ends at {}", name, place.begin, filled));
    filled = place.end;
    place.tensor.bytes.assign(data + place.begin, data + place.end);
    file.tensors.emplace(name, std::move(place.tensor));
  }
  if (filled != data_size) refuse(path, fmt::format("{} bytes of data where its tensors take {}", data_size, filled));
  return file;
}

namespace {

/// Length, header and data as one block of bytes, the checksum filled in.
std::vector<std::byte> image_of(const std::string& path, const File& file) {
  std::vector<const std::pair<const std::string, Tensor>*> order;
  for (const auto& entry : file.tensors) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return size_of(a->second.type) > size_of(b->second.type); });
  nlohmann::ordered_json header;
  auto metadata = file.metadata;
  metadata[std::string(checksum_key)] = blank_digits;
  header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const auto* entry : order) {
    const auto& [name, value] = *entry;
    const bool negative = std::any_of(value.shape.begin(), value.shape.end(), [](std::int64_t n) { return n < 0; });
    if (name == "__metadata__" || negative || value.bytes.size() != elements(value) * size_of(value.type))
      throw InvalidArgument(fmt::format("{}: tensor {} of shape {} and type {} has {} bytes", path, name,
                                        text_of(value.shape), name_of(value.type), value.bytes.size()));
    header[name] = {{"dtype", name_of(value.type)},
                    {"shape", value.shape},
                    {"data_offsets", {offset, offset + value.bytes.size()}}};
    offset += value.bytes.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    throw InvalidArgument(fmt::format("{}: a tensor's name or the metadata is not UTF-8", path));
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::vector<std::byte> bytes(length_bytes + text.size() + offset);
  const std::uint64_t header_size = text.size();
  std::memcpy(bytes.data(), &header_size, length_bytes);
  std::memcpy(bytes.data() + length_bytes, text.data(), text.size());
  std::byte* next = bytes.data() + length_bytes + text.size();
  for (const auto* entry : order) next = std::copy(entry->second.bytes.begin(), entry->second.bytes.end(), next);
  const std::size_t digits = length_bytes + find_digits(text);
  const std::string sum = fmt::format("{:08x}", checksum_of(bytes, digits));
  std::memcpy(bytes.data() + digits, sum.data(), sum.size());
  return bytes;
}

}  // namespace

void write(const std::string& path, const File& file) { write_atomically(path, image_of(path, file)); }

}  // namespace cumeta::safetensors
