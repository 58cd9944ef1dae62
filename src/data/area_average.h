// SPDX-License-Identifier: Apache-2.0
// Resizing by exact area average: an output pixel is the mean of the box of the input that it covers.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace cumeta {

/// [height][width][channels] samples of 16 bits -> sums [to_height][to_width][channels]. Output pixel o covers the
/// input from o in/out to (o + 1) in/out; in units of 1/out of an input pixel all overlaps are whole numbers, so a sum
/// is exact: mean = sum / (height * width).
std::vector<std::uint64_t> area_sums(std::span<const std::uint16_t> samples, int height, int width, int channels,
                                     int to_height, int to_width);

/// round(255 * sum / (65535 * area)), halves up: the only rounding on the way from file to byte.
std::uint8_t byte_of(std::uint64_t sum, std::uint64_t area);

}  // namespace cumeta
