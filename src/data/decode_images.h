// SPDX-License-Identifier: Apache-2.0
// Decodes the images of an image table on all cores.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "src/data/file_tree.h"
#include "src/data/image_table.h"
#include "src/data/png_image.h"

namespace cumeta {

struct ImageFile {
  const FileTree* tree;
  std::size_t file;
};

/// From a decoded PNG to the bytes of one image of the table; `where` names the file in messages.
using Convert = std::function<void(const PngImage& png, const std::string& where, std::span<std::uint8_t> bytes)>;

/// Fills table.pixels with the files in their order. Of several bad files always the first is reported.
void decode_images(ImageTable& table, const std::vector<ImageFile>& files, const Convert& convert);

/// Appends a class with its files to the table and to the list of files.
void add_class(ImageTable& table, std::vector<ImageFile>& files, const std::string& name,
               std::span<const ImageFile> of_class);

}  // namespace cumeta
