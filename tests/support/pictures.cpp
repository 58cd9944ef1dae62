// SPDX-License-Identifier: Apache-2.0
// Writes PNGs, zips and a small Omniglot for tests.
#include "tests/support/pictures.h"

#include <gtest/gtest.h>
#include <png.h>
#include <unistd.h>
#include <zip.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace cumeta::test {

namespace fs = std::filesystem;

Folder::Folder() {
  static std::atomic<int> count{0};
  path_ = fs::path(testing::TempDir()) / ("cumeta_test_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
  fs::remove_all(path_);
  fs::create_directories(path_);
}
Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}
std::string Folder::path(const std::string& name) const {
  return name.empty() ? path_.string() : (path_ / name).string();
}
void Folder::put(const std::string& name, const std::string& bytes) const {
  fs::create_directories((path_ / name).parent_path());
  std::ofstream(path_ / name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string file_bytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string png(int height, int width, int bit_depth, Colour colour, const std::function<int(int, int, int)>& value,
                bool interlaced) {
  const int types[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGB_ALPHA,
                       PNG_COLOR_TYPE_PALETTE};
  const int channels_of[] = {1, 2, 3, 4, 1};
  const int type = types[static_cast<int>(colour)], channels = channels_of[static_cast<int>(colour)];
  std::string bytes;
  png_structp writer = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(writer);
  png_set_write_fn(
      writer, &bytes,
      [](png_structp w, png_bytep data, png_size_t size) {
        static_cast<std::string*>(png_get_io_ptr(w))->append(reinterpret_cast<const char*>(data), size);
      },
      nullptr);
  png_set_IHDR(writer, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), bit_depth, type,
               interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  std::vector<png_color> palette(std::size_t{1} << (bit_depth < 8 ? bit_depth : 8));
  for (std::size_t i = 0; i < palette.size(); ++i)
    palette[i] = {static_cast<png_byte>(i), static_cast<png_byte>(2 * i), static_cast<png_byte>(3 * i)};
  if (colour == Colour::palette) png_set_PLTE(writer, info, palette.data(), static_cast<int>(palette.size()));
  png_write_info(writer, info);
  png_set_packing(writer);  // one byte per sample in, packed in the file
  const std::size_t sample = bit_depth == 16 ? 2 : 1;
  std::vector<png_byte> row(static_cast<std::size_t>(width * channels) * sample);
  for (int pass = png_set_interlace_handling(writer); pass > 0; --pass)
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < channels; ++c) {
          const int v = value(y, x, c);
          png_byte* to = row.data() + static_cast<std::size_t>(x * channels + c) * sample;
          if (sample == 2) *to++ = static_cast<png_byte>(v >> 8);
          *to = static_cast<png_byte>(v);
        }
      png_write_row(writer, row.data());
    }
  png_write_end(writer, info);
  png_destroy_write_struct(&writer, &info);
  return bytes;
}

void write_zip(const std::string& path, const std::map<std::string, std::string>& files) {
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  if (archive == nullptr) throw std::runtime_error("cannot write " + path);
  for (const auto& [name, bytes] : files) {
    if (name.ends_with('/')) {
      zip_dir_add(archive, name.c_str(), 0);
      continue;
    }
    zip_file_add(archive, name.c_str(), zip_source_buffer(archive, bytes.data(), bytes.size(), 0), 0);
  }
  if (zip_close(archive) != 0) throw std::runtime_error("cannot write " + path);
}

std::map<std::string, std::string> small_omniglot_set(const std::string& set, int images) {
  const std::string top = "images_" + set + "/";
  std::map<std::string, std::string> files{{top, ""}, {top + "Beta/", ""}};
  const char* names[] = {"Alpha/character01", "Alpha/character02", "Beta/character01"};
  for (int c = 0; c < 3; ++c)
    for (int i = 0; i < images; ++i) {
      const int side = (c + (set == "background" ? 1 : 4)) * 10;
      files[top + names[c] + "/000" + std::to_string(c) + "_" + (i < 9 ? "0" : "") + std::to_string(i + 1) + ".png"] =
          png(105, 105, 1, Colour::grey, [=](int y, int x, int) { return y < side && x >= i && x < side + i ? 0 : 1; });
    }
  return files;
}

void write_small_omniglot(const Folder& folder, int images) {
  std::string classes = "index\tset\talphabet\tcharacter\tlake_id\n";
  int index = 0;
  for (const char* set : {"background", "evaluation"}) {
    write_zip(folder.path(std::string("images_") + set + ".zip"), small_omniglot_set(set, images));
    for (const char* name : {"Alpha\tcharacter01", "Alpha\tcharacter02", "Beta\tcharacter01"})
      classes += std::to_string(index++) + "\t" + set + "\t" + name + "\t0001\n";
  }
  folder.put("omniglot28_classes.tsv", classes);
  folder.put("omniglot28_split_vinyals.tsv", "index\tsplit\n0\ttrain\n1\tval\n2\ttrain\n3\ttest\n4\ttrain\n5\ttest\n");
}

}  // namespace cumeta::test
