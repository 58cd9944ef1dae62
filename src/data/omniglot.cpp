// SPDX-License-Identifier: Apache-2.0
// Omniglot: lists the characters of both sets, takes those of the subset, shrinks and warps their images.
#include "src/data/omniglot.h"

#include <fmt/format.h>

#include <cmath>
#include <deque>

#include "cumeta/error.h"
#include "src/data/area_average.h"
#include "src/data/class_split.h"
#include "src/data/decode_images.h"
#include "src/data/omniglot_tables.h"

namespace cumeta {
namespace {

constexpr int file_side = 105;
constexpr int side = 28;
constexpr std::uint64_t file_area = std::uint64_t{file_side} * file_side;

FileTree open_set(const std::string& root, const std::string& set) {
  const std::string folder = root + "/" + set, zip = folder + ".zip";
  if (is_folder(folder)) return FileTree::folder(folder);
  if (!is_there(zip))
    throw FileError(fmt::format(
        "{}: has neither {}.zip nor a folder {}; name the folder that holds Omniglot's two zips", root, set, set));
  return FileTree::zip(zip);
}

struct Character {
  OmniglotCharacter name;
  std::vector<ImageFile> files;
};

/// The files of a set, grouped: [set/]alphabet/character/image.png, in the order of their sorted names.
void list_characters(const FileTree& tree, const std::string& set, std::vector<Character>& characters) {
  const std::string prefix = "images_" + set + "/";
  for (std::size_t i = 0; i < tree.names().size(); ++i) {
    const std::string& name = tree.names()[i];
    const std::size_t start = name.starts_with(prefix) ? prefix.size() : 0;
    const std::size_t first = name.find('/', start), last = name.rfind('/');
    if (first == std::string::npos || first == last || name.find('/', first + 1) != last || !name.ends_with(".png"))
      throw FileError(fmt::format("{}: is not <alphabet>/<character>/<image>.png", tree.where(i)));
    OmniglotCharacter character{set, name.substr(start, first - start), name.substr(first + 1, last - first - 1)};
    if (characters.empty() || characters.back().name != character) characters.push_back({std::move(character), {}});
    characters.back().files.push_back({&tree, i});
  }
}

std::vector<std::uint32_t> characters_of(const Omniglot& source, Subset subset, std::size_t characters) {
  if (source.split == OmniglotSplit::vinyals) return vinyals_split(source.root, characters, subset);
  const auto count = static_cast<std::int64_t>(characters);
  if (source.train_classes < 1 || source.train_classes > count)
    throw InvalidArgument(
        fmt::format("omniglot: {} train_classes; {} has {} characters", source.train_classes, source.root, count));
  if (source.validation_classes < 0 || source.validation_classes >= source.train_classes)
    throw InvalidArgument(
        fmt::format("omniglot: {} validation_classes of {} train_classes; leave at least one to learn from",
                    source.validation_classes, source.train_classes));
  return random_split(static_cast<std::uint32_t>(characters),
                      static_cast<std::uint32_t>(source.train_classes - source.validation_classes),
                      static_cast<std::uint32_t>(source.validation_classes), source.split_seed, subset);
}

/// The value of the unwarped image at (y, x), bilinear between pixel centres, 0 outside.
double bilinear(std::span<const double> pixels, double y, double x) {
  if (!(y > -1 && y < side && x > -1 && x < side)) return 0;
  const double top = std::floor(y), left = std::floor(x);
  const auto at = [&](double row, double column) {
    return row < 0 || row >= side || column < 0 || column >= side
               ? 0.0
               : pixels[static_cast<std::size_t>(row * side + column)];
  };
  const double v = y - top, u = x - left;
  return (1 - v) * ((1 - u) * at(top, left) + u * at(top, left + 1)) +
         v * ((1 - u) * at(top + 1, left) + u * at(top + 1, left + 1));
}

void warp_image(std::span<const std::uint64_t> sums, const Warp& warp, std::span<std::uint8_t> bytes) {
  std::vector<double> pixels(sums.size());
  for (std::size_t i = 0; i < sums.size(); ++i)
    pixels[i] = static_cast<double>(sums[i]) / static_cast<double>(65535 * file_area);
  constexpr double centre = (side - 1) / 2.0;
  for (int row = 0; row < side; ++row)
    for (int column = 0; column < side; ++column) {
      const double v = row - centre, u = column - centre;
      const double value = bilinear(pixels, centre + v / warp.scale, centre + (u - warp.shear * v) / warp.scale);
      bytes[static_cast<std::size_t>(row * side + column)] = static_cast<std::uint8_t>(std::floor(255 * value + 0.5));
    }
}

void convert(const PngImage& png, const std::string& where, const Warp& warp, std::span<std::uint8_t> bytes) {
  if (png.height != file_side || png.width != file_side || png.file_bit_depth != 1 || !png.file_is_grey)
    throw FileError(fmt::format(
        "{}: {} x {} pixels of {} bits{}; Omniglot's images are {} x {} of 1 bit, black on white", where, png.height,
        png.width, png.file_bit_depth, png.file_is_grey ? "" : " with colour", file_side, file_side));
  std::vector<std::uint16_t> ink(png.samples.size());
  for (std::size_t i = 0; i < ink.size(); ++i) ink[i] = static_cast<std::uint16_t>(65535 - png.samples[i]);
  const std::vector<std::uint64_t> sums = area_sums(ink, file_side, file_side, 1, side, side);
  if (warp.shear != 0 || warp.scale != 1) return warp_image(sums, warp, bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_of(sums[i], file_area);
}

}  // namespace

ImageTable open_omniglot(const Omniglot& source, Subset subset) {
  if (!std::isfinite(source.warp.shear) || !std::isfinite(source.warp.scale) || source.warp.scale <= 0)
    throw InvalidArgument(
        fmt::format("omniglot: warp shear {}, scale {}; scale is above 0", source.warp.shear, source.warp.scale));
  std::deque<FileTree> trees;
  std::vector<Character> characters;
  for (const char* set : {"background", "evaluation"})
    list_characters(trees.emplace_back(open_set(source.root, std::string("images_") + set)), set, characters);
  std::vector<OmniglotCharacter> names;
  for (const Character& character : characters) names.push_back(character.name);
  check_characters(source.root, names);

  ImageTable table;
  table.where = fmt::format("{} ({})", source.root, name_of(subset));
  table.shape = image(side, side, 1);
  table.rotations = source.rotations && subset == Subset::train;
  std::vector<ImageFile> files;
  if (source.split == OmniglotSplit::random && subset != Subset::test)
    table.more = subset == Subset::train ? fmt::format("raise data.train_classes ({})", source.train_classes)
                                         : fmt::format("raise data.validation_classes ({})", source.validation_classes);
  for (const std::uint32_t index : characters_of(source, subset, characters.size())) {
    const Character& character = characters[index];
    add_class(table, files, character.name.alphabet + "/" + character.name.character, character.files);
  }
  decode_images(table, files, [&](const PngImage& png, const std::string& where, std::span<std::uint8_t> bytes) {
    convert(png, where, source.warp, bytes);
  });
  return table;
}

}  // namespace cumeta
