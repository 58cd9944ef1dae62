// SPDX-License-Identifier: Apache-2.0
// Class folders of PNGs: lists them, takes those of the subset, resizes by area average.
#include "src/data/image_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "cumeta/error.h"
#include "src/data/area_average.h"
#include "src/data/class_split.h"
#include "src/data/decode_images.h"

namespace cumeta {
namespace {

constexpr int longest_side = 4096;

std::string lower_suffix(const std::string& name) {
  std::string suffix = std::filesystem::path(name).extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return suffix;
}

/// Folder -> its PNGs. Pictures of other formats are refused, since leaving them out would change the data unseen.
std::map<std::string, std::vector<ImageFile>> list_classes(const FileTree& tree) {
  std::map<std::string, std::vector<ImageFile>> classes;
  for (std::size_t i = 0; i < tree.names().size(); ++i) {
    const std::string& name = tree.names()[i];
    const std::string suffix = lower_suffix(name);
    for (const char* other : {".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
      if (suffix == other) throw FileError(fmt::format("{}: is not a PNG; convert the images to PNG", tree.where(i)));
    if (suffix != ".png") continue;
    const std::size_t slash = name.rfind('/');
    if (slash == std::string::npos)
      throw FileError(fmt::format("{}: lies in no class folder; images belong into <root>/<class>/", tree.where(i)));
    classes[name.substr(0, slash)].push_back({&tree, i});
  }
  return classes;
}

/// Whether root holds a folder train of class folders. One that holds PNGs and no folder is a class of that name.
bool holds_subsets(const std::string& root) {
  if (!is_folder(root))
    throw FileError(fmt::format("{}: is not a folder; name a folder of class folders of PNGs", root));
  if (!is_folder(root + "/train")) return false;
  const FileTree train = FileTree::folder(root + "/train");
  return train.names().empty() || std::any_of(train.names().begin(), train.names().end(), [](const std::string& name) {
           return name.find('/') != std::string::npos;
         });
}

/// The remedy where there is no class to validate or test on.
const char* without(Subset subset) {
  return subset == Subset::validation ? ", or set run.validate_every=0 to train without validation" : "";
}

/// The folder of the subset beside the folder train.
std::string folder_of(const std::string& root, Subset subset) {
  if (subset == Subset::validation && !is_folder(root + "/validation") && is_folder(root + "/val"))
    return root + "/val";
  std::string folder = root + "/" + name_of(subset);
  if (!is_folder(folder))
    throw FileError(fmt::format("{}: has a folder train, but none for {}; make {}{}", root, name_of(subset), folder,
                                without(subset)));
  return folder;
}

void check_split(const ImageFolder& source, bool has_subsets, std::int64_t count) {
  if (has_subsets && (source.validation_classes != 0 || source.test_classes != 0 || source.split_seed != 0))
    throw InvalidArgument(fmt::format(
        "image folder: {} validation_classes and {} test_classes by split_seed {}, but {} has a folder train: its "
        "folders are the subsets; leave data.validation_classes, data.test_classes and data.split_seed out",
        source.validation_classes, source.test_classes, source.split_seed, source.root));
  if (!has_subsets && (source.validation_classes < 0 || source.test_classes < 0 ||
                       source.validation_classes + std::int64_t{source.test_classes} >= count))
    throw InvalidArgument(fmt::format(
        "image folder: {} validation_classes and {} test_classes of the {} classes in {}; leave some to learn from",
        source.validation_classes, source.test_classes, count, source.root));
}

/// How a split by numbers gives a subset more classes, for messages.
std::string more_classes(const ImageFolder& source, Subset subset) {
  if (subset == Subset::train)
    return fmt::format("lower data.validation_classes ({}) or data.test_classes ({})", source.validation_classes,
                       source.test_classes);
  if (subset == Subset::test) return fmt::format("raise data.test_classes ({})", source.test_classes);
  return fmt::format("raise data.validation_classes ({}){}", source.validation_classes, without(subset));
}

void convert(const PngImage& png, const Shape& to, std::span<std::uint8_t> bytes) {
  const std::vector<std::uint16_t> samples = with_channels(png, to.channels);
  const std::vector<std::uint64_t> sums = area_sums(samples, png.height, png.width, to.channels, to.height, to.width);
  const std::uint64_t area = static_cast<std::uint64_t>(png.height) * static_cast<std::uint64_t>(png.width);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_of(sums[i], area);
}

}  // namespace

ImageTable open_image_folder(const ImageFolder& source, Subset subset) {
  for (const int extent : {source.height, source.width})
    if (extent < 1 || extent > longest_side)
      throw InvalidArgument(fmt::format("image folder: a side of {} pixels; give 1 to {}", extent, longest_side));
  if (source.channels != 1 && source.channels != 3)
    throw InvalidArgument(fmt::format("image folder: {} channels; give 1 (grey) or 3 (RGB)", source.channels));

  const bool has_subsets = holds_subsets(source.root);
  const FileTree tree = FileTree::folder(has_subsets ? folder_of(source.root, subset) : source.root);
  const auto classes = list_classes(tree);
  if (classes.empty()) throw FileError(fmt::format("{}: has no class folder with PNGs", tree.path()));
  check_split(source, has_subsets, static_cast<std::int64_t>(classes.size()));
  std::vector<std::uint32_t> chosen(classes.size());
  for (std::size_t i = 0; i < chosen.size(); ++i) chosen[i] = static_cast<std::uint32_t>(i);
  if (!has_subsets) {
    const auto all = static_cast<std::uint32_t>(classes.size()),
               validation = static_cast<std::uint32_t>(source.validation_classes),
               test = static_cast<std::uint32_t>(source.test_classes);
    chosen = random_split(all, all - validation - test, validation, source.split_seed, subset);
  }

  ImageTable table;
  if (!has_subsets) table.more = more_classes(source, subset);
  table.where = fmt::format("{} ({})", source.root, name_of(subset));
  table.shape = image(source.height, source.width, source.channels);
  std::vector<ImageFile> files;
  std::vector<const std::pair<const std::string, std::vector<ImageFile>>*> by_place;
  for (const auto& entry : classes) by_place.push_back(&entry);
  for (const std::uint32_t c : chosen) add_class(table, files, by_place[c]->first, by_place[c]->second);
  decode_images(table, files, [&](const PngImage& png, const std::string&, std::span<std::uint8_t> bytes) {
    convert(png, table.shape, bytes);
  });
  return table;
}

}  // namespace cumeta
