// SPDX-License-Identifier: Apache-2.0
// Images: every kind of PNG, exact area averages, damaged files.
#include <gtest/gtest.h>

#include <cmath>

#include "cumeta/error.h"
#include "src/data/area_average.h"
#include "src/data/png_image.h"
#include "tests/support/pictures.h"

namespace cumeta {
namespace {

using test::Colour;

PngImage decode(const std::string& bytes) { return decode_png(std::as_bytes(std::span(bytes)), "file.png"); }

TEST(Png, GreyOfEveryDepth) {
  for (const int depth : {1, 2, 4, 8, 16})
    for (const bool interlaced : {false, true}) {
      const int most = (1 << depth) - 1;
      const auto value = [&](int y, int x, int) { return (y * 7919 + x * 104729) & most; };
      const PngImage image = decode(test::png(9, 13, depth, Colour::grey, value, interlaced));
      ASSERT_EQ(image.height, 9);
      ASSERT_EQ(image.width, 13);
      ASSERT_EQ(image.channels, 1);
      EXPECT_EQ(image.file_bit_depth, depth);
      EXPECT_TRUE(image.file_is_grey);
      for (int y = 0; y < 9; ++y)
        for (int x = 0; x < 13; ++x)
          EXPECT_EQ(image.samples[static_cast<std::size_t>(y * 13 + x)], value(y, x, 0) * (65535 / most));
    }
}

TEST(Png, ColourPaletteAndAlpha) {
  const auto value = [](int y, int x, int c) { return (y * 50 + x * 20 + c * 70) % 256; };
  const PngImage rgb = decode(test::png(4, 5, 8, Colour::rgb, value));
  EXPECT_EQ(rgb.channels, 3);
  EXPECT_FALSE(rgb.file_is_grey);
  const auto colours = with_channels(rgb, 3);
  const auto grey = with_channels(rgb, 1);
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 5; ++x) {
      const auto p = static_cast<std::size_t>(y * 5 + x);
      for (int c = 0; c < 3; ++c) EXPECT_EQ(colours[p * 3 + static_cast<std::size_t>(c)], value(y, x, c) * 257);
      EXPECT_NEAR(grey[p], 257 * (0.299 * value(y, x, 0) + 0.587 * value(y, x, 1) + 0.114 * value(y, x, 2)), 0.51);
    }

  const auto palette =
      with_channels(decode(test::png(2, 2, 4, Colour::palette, [](int y, int x, int) { return y * 2 + x + 5; })), 3);
  EXPECT_EQ(palette[0], 5 * 257);
  EXPECT_EQ(palette[1], 10 * 257);
  EXPECT_EQ(palette[11], 24 * 257);

  const auto on_white = with_channels(
      decode(test::png(1, 3, 8, Colour::rgb_alpha, [](int, int x, int c) { return c == 3 ? x * 255 / 2 : 100; })), 1);
  EXPECT_EQ(on_white[0], 65535);
  EXPECT_NEAR(on_white[1], 257 * (100 * 127 + 255 * 128) / 255.0, 1);
  EXPECT_EQ(on_white[2], 100 * 257);
  const auto grey_alpha = with_channels(
      decode(test::png(1, 1, 16, Colour::grey_alpha, [](int, int, int c) { return c == 0 ? 1234 : 65535; })), 3);
  EXPECT_EQ(grey_alpha, (std::vector<std::uint16_t>{1234, 1234, 1234}));
}

TEST(Png, EveryTruncationAndEveryFlippedByteIsRefusedOrHarmless) {
  const std::string whole =
      test::png(20, 20, 8, Colour::rgb, [](int y, int x, int c) { return (y * x * 31 + c * 9) % 256; });
  const PngImage right = decode(whole);
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(decode(whole.substr(0, size)), FileError) << size;
  for (std::size_t byte = 0; byte < whole.size(); ++byte)
    for (const int flip : {1, 0x20, 0x80}) {
      std::string flipped = whole;
      flipped[byte] = static_cast<char>(flipped[byte] ^ flip);
      try {
        EXPECT_EQ(decode(flipped).samples, right.samples) << "byte " << byte;
      } catch (const FileError& error) { EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos); }
    }
}

TEST(Png, ForeignAndGiganticFilesAreRefused) {
  EXPECT_THROW(decode("\xff\xd8\xff\xe0 a JPEG"), FileError);
  const std::string wide = test::png(1, 6000, 1, Colour::grey, [](int, int, int) { return 0; });
  EXPECT_EQ(decode(wide).width, 6000);
  const std::string large = test::png(6000, 6000, 1, Colour::grey, [](int, int, int) { return 0; });
  EXPECT_THROW(decode(large), FileError);
}

TEST(AreaAverage, IsTheIntegralOverTheBox) {
  const int height = 7, width = 5, channels = 2, to_height = 3, to_width = 4;
  std::vector<std::uint16_t> samples;
  for (int i = 0; i < height * width * channels; ++i) samples.push_back(static_cast<std::uint16_t>(i * 7919));
  const auto sums = area_sums(samples, height, width, channels, to_height, to_width);
  ASSERT_EQ(sums.size(), static_cast<std::size_t>(to_height * to_width * channels));
  const auto overlap = [](int p, int o, int from, int to) {
    const double step = static_cast<double>(from) / to;
    return std::max(0.0, std::min(p + 1.0, (o + 1) * step) - std::max<double>(p, o * step));
  };
  for (int oy = 0; oy < to_height; ++oy)
    for (int ox = 0; ox < to_width; ++ox)
      for (int c = 0; c < channels; ++c) {
        double mean = 0;
        for (int y = 0; y < height; ++y)
          for (int x = 0; x < width; ++x)
            mean += overlap(y, oy, height, to_height) * overlap(x, ox, width, to_width) *
                    samples[static_cast<std::size_t>((y * width + x) * channels + c)];
        mean /= static_cast<double>(height) / to_height * width / to_width;
        const auto sum = sums[static_cast<std::size_t>((oy * to_width + ox) * channels + c)];
        EXPECT_NEAR(static_cast<double>(sum) / (height * width), mean, 1e-6);
      }
}

TEST(AreaAverage, KeepsImagesOfTheSizeAskedAndEnlarges) {
  const std::vector<std::uint16_t> samples{0, 257 * 10, 257 * 200, 65535};
  const auto same = area_sums(samples, 2, 2, 1, 2, 2);
  EXPECT_EQ(byte_of(same[0], 4), 0);
  EXPECT_EQ(byte_of(same[1], 4), 10);
  EXPECT_EQ(byte_of(same[2], 4), 200);
  EXPECT_EQ(byte_of(same[3], 4), 255);
  const auto larger = area_sums(samples, 2, 2, 1, 4, 4);
  for (std::size_t y = 0; y < 4; ++y)
    for (std::size_t x = 0; x < 4; ++x) EXPECT_EQ(byte_of(larger[y * 4 + x], 4), byte_of(same[y / 2 * 2 + x / 2], 4));
}

TEST(AreaAverage, RoundsHalvesUpOnce) {
  EXPECT_EQ(byte_of(0, 1), 0);
  EXPECT_EQ(byte_of(65535, 1), 255);
  EXPECT_EQ(byte_of(257 * 3, 2), 2);  // 1.5
  EXPECT_EQ(byte_of(257 * 3 - 1, 2), 1);
}

}  // namespace
}  // namespace cumeta
