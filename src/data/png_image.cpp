// SPDX-License-Identifier: Apache-2.0
// PNG decoding by libpng. Its errors come by longjmp: nothing with a destructor lives in the function that it leaves.
#include "src/data/png_image.h"

#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <new>

#include "cumeta/error.h"

namespace cumeta {
namespace {

constexpr std::uint64_t most_pixels = std::uint64_t{1} << 25;
constexpr std::size_t signature_bytes = 8;
constexpr std::uint64_t most_expansion = 1032;

/// What the C callbacks share with the decoder.
struct Session {
  const std::byte* next;
  std::size_t left;
  char error[120];
};

void on_error(png_structp png, png_const_charp message) {
  auto* session = static_cast<Session*>(png_get_error_ptr(png));
  std::strncpy(session->error, message, sizeof(session->error) - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep to, png_size_t size) {
  auto* session = static_cast<Session*>(png_get_io_ptr(png));
  if (size > session->left) png_error(png, "truncated");
  std::memcpy(to, session->next, size);
  session->next += size;
  session->left -= size;
}

/// Calls step under libpng's error jump; false when libpng gave up. Neither this frame nor the step's may own anything.
template <class Step>
bool guarded(png_structp png, Step step) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  step();
  return true;
}

class Reader {
 public:
  explicit Reader(Session& session)
      : png_(png_create_read_struct(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning)) {
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  png_structp png() const { return png_; }
  png_infop info() const { return info_; }

 private:
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

PngImage decode_png(std::span<const std::byte> bytes, const std::string& where) {
  if (bytes.size() < signature_bytes ||
      png_sig_cmp(reinterpret_cast<png_const_bytep>(bytes.data()), 0, signature_bytes) != 0)
    throw FileError(fmt::format("{}: is not a PNG; only PNG images are read", where));
  Session session{bytes.data(), bytes.size(), {}};
  const Reader reader(session);
  const png_structp png = reader.png();
  const png_infop info = reader.info();
  const auto refuse = [&] { throw FileError(fmt::format("{}: is a damaged PNG ({})", where, session.error)); };

  if (!guarded(png, [&] {
        png_set_read_fn(png, &session, on_read);
        png_read_info(png, info);
      }))
    refuse();
  PngImage image;
  const std::uint64_t height = png_get_image_height(png, info), width = png_get_image_width(png, info);
  image.file_bit_depth = png_get_bit_depth(png, info);
  image.file_is_grey =
      png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY && png_get_valid(png, info, PNG_INFO_tRNS) == 0;
  if (height * width > most_pixels)
    throw FileError(fmt::format("{}: {} x {} pixels are more than the {} million that are read", where, height, width,
                                most_pixels >> 20));
  // Deflate makes at most 1032 bytes of one: a forged size must not ask for memory that no data will fill.
  const std::uint64_t stored = height * ((width * static_cast<std::uint64_t>(image.file_bit_depth) *
                                              static_cast<std::uint64_t>(png_get_channels(png, info)) +
                                          7) /
                                         8);
  if (stored / most_expansion > bytes.size())
    throw FileError(fmt::format("{}: states {} x {} pixels, which {} bytes cannot hold; the PNG is damaged", where,
                                height, width, bytes.size()));
  image.height = static_cast<int>(height);
  image.width = static_cast<int>(width);

  if (!guarded(png, [&] {
        png_set_expand_16(png);  // palettes, low bit depths and transparent colours too
        png_set_swap(png);
        png_set_interlace_handling(png);
        png_read_update_info(png, info);
      }))
    refuse();
  image.channels = png_get_channels(png, info);
  const std::size_t row = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.channels);
  image.samples.resize(row * static_cast<std::size_t>(image.height));
  std::vector<png_bytep> rows(static_cast<std::size_t>(image.height));
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = reinterpret_cast<png_bytep>(image.samples.data() + y * row);
  if (!guarded(png, [&] {
        png_read_image(png, rows.data());
        png_read_end(png, nullptr);
      }))
    refuse();
  return image;
}

std::vector<std::uint16_t> with_channels(const PngImage& image, int channels) {
  const std::size_t pixels = static_cast<std::size_t>(image.height) * static_cast<std::size_t>(image.width);
  const auto from = static_cast<std::size_t>(image.channels), to = static_cast<std::size_t>(channels);
  const bool colour = from >= 3, transparent = from % 2 == 0;
  std::vector<std::uint16_t> result(pixels * to);
  for (std::size_t p = 0; p < pixels; ++p) {
    const std::uint16_t* sample = image.samples.data() + p * from;
    std::uint32_t rgb[3] = {sample[0], sample[colour ? 1 : 0], sample[colour ? 2 : 0]};
    if (transparent)
      for (std::uint32_t& value : rgb) {
        const std::uint64_t alpha = sample[from - 1];
        value = static_cast<std::uint32_t>((value * alpha + 65535 * (65535 - alpha) + 32767) / 65535);
      }
    if (channels == 1) {
      const std::uint32_t grey = colour ? (299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000 : rgb[0];
      result[p] = static_cast<std::uint16_t>(grey);
    } else {
      for (std::size_t c = 0; c < 3; ++c) result[p * to + c] = static_cast<std::uint16_t>(rgb[c]);
    }
  }
  return result;
}

}  // namespace cumeta
