// SPDX-License-Identifier: Apache-2.0
// A PNG in memory -> samples of 16 bits (0 ... 65535, whatever the file's depth).
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cumeta {

struct PngImage {
  int height = 0, width = 0;
  int channels = 0;                    ///< 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
  int file_bit_depth = 0;              ///< as in the file
  bool file_is_grey = false;           ///< the file is plain grey: no palette, no colour, no alpha
  std::vector<std::uint16_t> samples;  ///< [height][width][channels]
};

/// Decodes; FileError beginning with `where` when the bytes are no PNG, are damaged, or hold more than 32 megapixels.
PngImage decode_png(std::span<const std::byte> bytes, const std::string& where);

/// The samples as 1 (grey, weights .299 .587 .114) or 3 (RGB) channels; what is transparent lies on white.
std::vector<std::uint16_t> with_channels(const PngImage& image, int channels);

}  // namespace cumeta
