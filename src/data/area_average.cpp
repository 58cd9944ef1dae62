// SPDX-License-Identifier: Apache-2.0
// Resizing by exact area average, in integers: rows first, then columns.
#include "src/data/area_average.h"

#include <algorithm>

namespace cumeta {
namespace {

/// One axis: [outer][from][inner] -> [outer][to][inner], weights = overlaps in units of 1/to of an input pixel.
template <class Value>
std::vector<std::uint64_t> average_axis(std::span<const Value> values, std::size_t outer, std::size_t from,
                                        std::size_t to, std::size_t inner) {
  std::vector<std::uint64_t> sums(outer * to * inner, 0);
  for (std::size_t o = 0; o < to; ++o) {
    const std::size_t begin = o * from,
                      end = begin + from;  // of the box; input pixel p lies from p * to to (p + 1) * to
    for (std::size_t p = begin / to; p * to < end; ++p) {
      const std::uint64_t overlap = std::min(end, (p + 1) * to) - std::max(begin, p * to);
      for (std::size_t a = 0; a < outer; ++a) {
        const Value* source = values.data() + (a * from + p) * inner;
        std::uint64_t* sum = sums.data() + (a * to + o) * inner;
        for (std::size_t i = 0; i < inner; ++i) sum[i] += overlap * source[i];
      }
    }
  }
  return sums;
}

}  // namespace

std::vector<std::uint64_t> area_sums(std::span<const std::uint16_t> samples, int height, int width, int channels,
                                     int to_height, int to_width) {
  const auto h = static_cast<std::size_t>(height), w = static_cast<std::size_t>(width),
             c = static_cast<std::size_t>(channels);
  const auto to_h = static_cast<std::size_t>(to_height), to_w = static_cast<std::size_t>(to_width);
  const std::vector<std::uint64_t> rows = average_axis(samples, 1, h, to_h, w * c);
  return average_axis(std::span<const std::uint64_t>(rows), to_h, w, to_w, c);
}

std::uint8_t byte_of(std::uint64_t sum, std::uint64_t area) {
  const std::uint64_t whole = 65535 * area;
  return static_cast<std::uint8_t>((2 * 255 * sum + whole) / (2 * whole));
}

}  // namespace cumeta
