// SPDX-License-Identifier: Apache-2.0
// PNGs, zips and folders that tests write for themselves, and a small Omniglot made of them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace cumeta::test {

/// A folder of this test's own, removed with the object.
class Folder {
 public:
  Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder();
  std::string path(const std::string& name = "") const;
  void put(const std::string& name, const std::string& bytes) const;  ///< makes the folders on the way

 private:
  std::filesystem::path path_;
};

std::string file_bytes(const std::string& path);

enum class Colour { grey, grey_alpha, rgb, rgb_alpha, palette };
/// A PNG as libpng writes it; value(y, x, channel) is a sample of the given depth (of a palette: the index; entry i is
/// (i, 2i, 3i) modulo 256).
std::string png(int height, int width, int bit_depth, Colour colour, const std::function<int(int, int, int)>& value,
                bool interlaced = false);

/// A zip of these files.
void write_zip(const std::string& path, const std::map<std::string, std::string>& files);

/// Three background and three evaluation characters of `images` images, each 105 x 105: image i of character c has a
/// black square of (c + 1) * 10 pixels in its top left corner, moved right by i. Names -> PNG, per set.
std::map<std::string, std::string> small_omniglot_set(const std::string& set, int images);
/// Both zips, omniglot28_classes.tsv and a split of 3 train, 1 val and 2 test classes.
void write_small_omniglot(const Folder& folder, int images);

}  // namespace cumeta::test
