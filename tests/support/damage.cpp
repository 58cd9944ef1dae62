// SPDX-License-Identifier: Apache-2.0
#include "tests/support/damage.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cctype>
#include <cstring>

namespace cumeta::test {
namespace {

template <class Number>
Number number_at(const std::string& bytes, std::size_t at) {
  Number value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
std::uint32_t checksum(const std::string& bytes) {
  return static_cast<std::uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}
std::string big_end_first(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 255);
  return bytes;
}

/// Words and numbers, or single other characters.
std::vector<std::string> tokens_of(const std::string& text) {
  std::vector<std::string> tokens;
  const auto in_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-' || c == '+';
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (tokens.empty() || !in_word(text[i]) || !in_word(text[i - 1]))
      tokens.emplace_back(1, text[i]);
    else
      tokens.back() += text[i];
  }
  return tokens;
}

constexpr const char* awkward_words[] = {"-1",
                                         "0",
                                         "1",
                                         "2",
                                         "65536",
                                         "1048576",
                                         "2147483647",
                                         "2147483648",
                                         "4294967295",
                                         "999999999999",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "1e308",
                                         "1e999",
                                         "-0.0",
                                         "nan",
                                         "inf",
                                         "-inf",
                                         "0x7fffffff",
                                         "1979-05-27T07:32:00Z",
                                         "true",
                                         "null",
                                         "\"\"",
                                         "[]",
                                         "{}",
                                         "[[]]",
                                         "\"\\u0000\"",
                                         "\"\\n\"",
                                         "\xc3\x28",
                                         "=",
                                         ".",
                                         "\"",
                                         "'''",
                                         "#"};

}  // namespace

std::uint64_t Damage::awkward() {
  const std::uint64_t values[] = {
      0,          1,         2,          127,         128,         255,         256,          32767,
      32768,      65535,     0x7fffffff, 0x80000000U, 0xfffffffeU, 0xffffffffU, 0x100000000U, ~0ULL >> 1,
      ~0ULL >> 8, ~0ULL - 7, ~0ULL,      1U << 20,    100'000'000, 30'000'000,  40'000,       5000};
  return below(3) == 0 ? random_() : values[below(std::size(values))];
}

void Damage::overwrite(std::string& bytes, std::size_t at, std::size_t width, std::uint64_t value, bool turned) {
  for (std::size_t i = 0; i < width && at + i < bytes.size(); ++i)
    bytes[at + i] = static_cast<char>(value >> (8 * (turned ? width - 1 - i : i)) & 255);
}

void Damage::one(std::string& bytes) {
  if (bytes.empty()) return;
  const std::size_t at = below(bytes.size()), length = 1 + below(std::min<std::size_t>(bytes.size() - at, 64));
  switch (below(7)) {
    case 0:
      bytes.resize(at);
      break;
    case 1:
    case 2:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      break;
    case 3:
      overwrite(bytes, at, std::size_t{1} << below(4), awkward(), below(2) == 0);
      break;
    case 4:
      bytes.erase(at, length);
      break;
    case 5:
      bytes.insert(at, std::string(1 + below(64), static_cast<char>(below(256))));
      break;
    default:
      bytes.insert(below(bytes.size()), bytes.substr(at, length));
  }
}

std::string Damage::bytes(std::string whole) {
  for (std::uint64_t left = 1 + below(3); left > 0; --left) one(whole);
  return whole;
}

std::string Damage::text(std::string whole, std::span<const char* const> words) {
  if (below(8) == 0) return bytes(std::move(whole));
  std::vector<std::string> tokens = tokens_of(whole);
  for (std::uint64_t left = 1 + below(3); left > 0 && !tokens.empty(); --left) {
    // Blanks and comments change nothing: most damage belongs where something stands.
    std::size_t at = below(tokens.size());
    for (int tries = 0; tries < 4 && tokens[at].size() == 1 && tokens[at][0] <= ' '; ++tries) at = below(tokens.size());
    switch (below(8)) {
      case 0:
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at));
        break;
      case 1:
        tokens[at] += tokens[at];
        break;
      case 2:
        std::swap(tokens[at], tokens[below(tokens.size())]);
        break;
      case 3: {
        const std::size_t depth = 1 + below(below(2) == 0 ? 20'000 : 40);
        const char* open = below(2) == 0 ? "[" : "{a=";
        std::string nest;
        for (std::size_t i = 0; i < depth; ++i) nest += open;
        tokens[at] = nest;
        break;
      }
      case 4:
        if (!words.empty()) tokens[at] = words[below(words.size())];
        break;
      default:
        tokens[at] = awkward_words[below(std::size(awkward_words))];
    }
  }
  std::string damaged;
  for (const std::string& token : tokens) damaged += token;
  return damaged;
}

std::string sealed_safetensors(const std::string& header, const std::string& data) {
  std::string whole(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(whole.data(), &length, sizeof length);
  whole += header;
  const std::string marker = "\"cumeta.crc32\":\"";
  const std::size_t found = whole.find(marker), digits = found + marker.size();
  const bool stated = found != std::string::npos && digits + 8 <= whole.size();
  if (stated) whole.replace(digits, 8, "00000000");
  whole += data;
  if (stated) whole.replace(digits, 8, fmt::format("{:08x}", checksum(whole)));
  return whole;
}

std::string Damage::safetensors(const std::string& whole) {
  static constexpr const char* words[] = {"F32",  "F64",      "I64",    "I32",          "U8",
                                          "BF16", "dtype",    "shape",  "data_offsets", "__metadata__",
                                          "adam", "sinusoid", "second", "layers"};
  const auto length = static_cast<std::size_t>(number_at<std::uint64_t>(whole, 0));
  std::string data = whole.substr(8 + length);
  if (below(6) == 0) data = bytes(data);
  return sealed_safetensors(text(whole.substr(8, length), words), data);
}

std::string Damage::png(const std::string& whole) {
  struct Chunk {
    std::string type, content;
  };
  std::vector<Chunk> chunks;
  for (std::size_t at = 8; at + 12 <= whole.size();) {
    std::uint32_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(whole[at + i]);
    chunks.push_back({whole.substr(at + 4, 4), whole.substr(at + 8, length)});
    at += 12 + length;
  }
  const std::size_t at = below(chunks.size()), forged_length = below(6) == 0 ? below(chunks.size()) : chunks.size();
  const auto place = [&](std::size_t i) { return chunks.begin() + static_cast<std::ptrdiff_t>(i); };
  static constexpr const char* types[] = {"IHDR", "IDAT", "PLTE", "tRNS", "IEND",
                                          "gAMA", "zTXt", "iCCP", "sBIT", "????"};
  switch (below(7)) {
    case 0:
      chunks[at].content = bytes(chunks[at].content);
      break;
    case 1:
      chunks.insert(place(below(chunks.size())), Chunk(chunks[at]));
      break;
    case 2:
      chunks.erase(place(at));
      break;
    case 3:
      chunks[at].type = types[below(std::size(types))];
      break;
    case 4:
      std::swap(chunks[at], chunks[below(chunks.size())]);
      break;
    default:  // width, height, depth, colour, interlace
      if (below(2) == 0)
        overwrite(chunks[0].content, 4 * below(2), 4, awkward(), true);
      else
        overwrite(chunks[0].content, 8 + below(5), 1, below(20), true);
  }
  std::string damaged = whole.substr(0, 8);
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const std::string body = chunks[i].type + chunks[i].content;
    const auto length = i == forged_length ? awkward() : chunks[i].content.size();
    damaged += big_end_first(static_cast<std::uint32_t>(length)) + body + big_end_first(checksum(body));
  }
  return damaged;
}

std::string Damage::zip(std::string whole) {
  // Offset and width of the numbers of a directory entry, and where the same number stands in front of the data.
  struct Field {
    std::size_t at, width, local;
  };
  static constexpr Field fields[] = {{8, 2, 6},   {10, 2, 8},  {16, 4, 14}, {20, 4, 18}, {24, 4, 22},
                                     {28, 2, 26}, {30, 2, 28}, {32, 2, 0},  {38, 4, 0},  {42, 4, 0}};
  const std::size_t end = whole.rfind("PK\5\6");
  if (end == std::string::npos || end + 22 > whole.size()) return whole;
  for (std::uint64_t left = 1 + below(3); left > 0; --left) {
    if (below(3) == 0) {
      static constexpr Field of_end[] = {{4, 2, 0}, {8, 2, 0}, {10, 2, 0}, {12, 4, 0}, {16, 4, 0}, {20, 2, 0}};
      const Field& field = of_end[below(std::size(of_end))];
      overwrite(whole, end + field.at, field.width, awkward(), false);
      continue;
    }
    std::vector<std::size_t> entries;
    for (std::size_t at = whole.find("PK\1\2"); at != std::string::npos; at = whole.find("PK\1\2", at + 4))
      if (at + 46 <= whole.size()) entries.push_back(at);
    if (entries.empty()) return whole;
    const std::size_t entry = entries[below(entries.size())];
    const Field& field = fields[below(std::size(fields))];
    const std::uint64_t value = awkward();
    const std::size_t local = number_at<std::uint32_t>(whole, entry + 42);
    if (below(4) == 0) {  // an entry of megabytes, wherever the zip says how long it is
      const std::uint64_t size = below(std::uint64_t{64} << 20);
      overwrite(whole, entry + 24, 4, size, false);
      overwrite(whole, local + 22, 4, size, false);
      continue;
    }
    overwrite(whole, entry + field.at, field.width, value, false);
    if (field.local != 0 && below(2) == 0) overwrite(whole, local + field.local, field.width, value, false);
  }
  return whole;
}

}  // namespace cumeta::test
