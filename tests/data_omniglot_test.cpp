// SPDX-License-Identifier: Apache-2.0
// Omniglot: a small one written here, damaged in every way, and the real one.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "cumeta/error.h"
#include "src/data/class_split.h"
#include "src/data/omniglot.h"
#include "tests/support/omniglot_path.h"
#include "tests/support/pictures.h"

namespace cumeta {
namespace {

Omniglot small(const test::Folder& folder) { return {.root = folder.path(), .ways = 2, .shots = 1, .query = 2}; }

std::string refusal(const Omniglot& source, Subset subset = Subset::train) {
  try {
    const Episodes opened(source, subset);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
}
#define EXPECT_REFUSED(source, subset, part) \
  EXPECT_NE(refusal(source, subset).find(part), std::string::npos) << refusal(source, subset)

TEST(SmallOmniglot, ClassesImagesAndPixels) {
  const test::Folder folder;
  write_small_omniglot(folder, 3);
  const ImageTable train = open_omniglot(small(folder), Subset::train);
  EXPECT_EQ(train.class_names,
            (std::vector<std::string>{"Alpha/character01", "Beta/character01", "Alpha/character02"}));
  EXPECT_EQ(train.class_begin, (std::vector<std::uint32_t>{0, 3, 6, 9}));
  EXPECT_TRUE(train.rotations);
  EXPECT_EQ(train.classes(), 12);
  EXPECT_FALSE(open_omniglot(small(folder), Subset::test).rotations);
  EXPECT_EQ(open_omniglot(small(folder), Subset::validation).classes(), 1);

  // A square of 10 pixels at column i, in boxes of 3.75: rows 0, 1 are whole, row 2 holds 2.5 of 3.75.
  for (int i = 0; i < 3; ++i)
    for (int y = 0; y < 28; ++y)
      for (int x = 0; x < 28; ++x) {
        const auto covered = [](double box, double begin, double end) {
          return std::max(0.0, std::min(end, (box + 1) * 3.75) - std::max(begin, box * 3.75)) / 3.75;
        };
        const double ink = covered(y, 0, 10) * covered(x, i, i + 10);
        EXPECT_EQ(train.pixels[static_cast<std::size_t>(i * 784 + y * 28 + x)], std::floor(255 * ink + 0.5))
            << i << " " << y << " " << x;
      }
}

TEST(SmallOmniglot, FolderAndZipAreEqual) {
  const test::Folder zipped, unpacked;
  write_small_omniglot(zipped, 3);
  for (const char* set : {"background", "evaluation"})
    for (const auto& [name, bytes] : test::small_omniglot_set(set, 3))
      if (!name.ends_with('/')) unpacked.put(name, bytes);
  unpacked.put("images_background/Alpha/.DS_Store", "x");
  unpacked.put("omniglot28_split_vinyals.tsv", test::file_bytes(zipped.path("omniglot28_split_vinyals.tsv")));
  for (const Subset subset : {Subset::train, Subset::validation, Subset::test}) {
    const ImageTable a = open_omniglot(small(zipped), subset), b = open_omniglot(small(unpacked), subset);
    EXPECT_EQ(a.pixels, b.pixels);
    EXPECT_EQ(a.class_begin, b.class_begin);
    EXPECT_EQ(a.class_names, b.class_names);
  }
}

TEST(SmallOmniglot, RandomSplitIsDisjointCompleteAndSeeded) {
  const test::Folder folder;
  write_small_omniglot(folder, 3);
  Omniglot source = small(folder);
  source.split = OmniglotSplit::random;
  source.train_classes = 4;
  source.validation_classes = 1;
  EXPECT_EQ(open_omniglot(source, Subset::train).folders(), 3);
  EXPECT_EQ(open_omniglot(source, Subset::validation).folders(), 1);
  EXPECT_EQ(open_omniglot(source, Subset::test).folders(), 2);
  source.train_classes = 7;
  EXPECT_THROW(open_omniglot(source, Subset::train), InvalidArgument);
  source.train_classes = source.validation_classes = 2;
  EXPECT_THROW(open_omniglot(source, Subset::train), InvalidArgument);

  std::multiset<std::uint32_t> all;
  for (const Subset subset : {Subset::train, Subset::validation, Subset::test}) {
    const auto part = random_split(1623, 1100, 100, 5, subset);
    EXPECT_TRUE(std::is_sorted(part.begin(), part.end()));
    EXPECT_EQ(part, random_split(1623, 1100, 100, 5, subset));
    EXPECT_NE(part, random_split(1623, 1100, 100, 6, subset));
    all.insert(part.begin(), part.end());
  }
  EXPECT_EQ(all.size(), 1623U);
  EXPECT_EQ(std::set<std::uint32_t>(all.begin(), all.end()).size(), 1623U);
}

TEST(SmallOmniglot, WarpScalesAndShearsAboutTheCentre) {
  const test::Folder folder;
  write_small_omniglot(folder, 1);
  Omniglot source = small(folder);
  const auto pixels = [&](double shear, double scale) {
    source.warp = {shear, scale};
    return open_omniglot(source, Subset::test).pixels;
  };
  const auto plain = pixels(0, 1);
  EXPECT_EQ(pixels(1e-15, 1), plain) << "the warp's path rounds as the plain one does";
  // Shear 1 moves row y by y - 13.5 pixels to the right: half a pixel either way in the middle rows.
  const auto sheared = pixels(1, 1), shrunk = pixels(0, 0.5);
  for (std::size_t x = 1; x < 27; ++x) {
    EXPECT_NEAR(sheared[13 * 28 + x], (plain[13 * 28 + x] + plain[13 * 28 + x + 1]) / 2.0, 1);
    EXPECT_NEAR(sheared[14 * 28 + x], (plain[14 * 28 + x] + plain[14 * 28 + x - 1]) / 2.0, 1);
  }
  for (std::size_t i = 0; i < 28; ++i) EXPECT_EQ(shrunk[i], 0) << "outside there is no ink";
  source.warp = {0, 0};
  EXPECT_THROW(open_omniglot(source, Subset::test), InvalidArgument);
}

TEST(SmallOmniglot, EveryDefectIsNamed) {
  const test::Folder folder;
  EXPECT_REFUSED(small(folder), Subset::train, "neither images_background.zip nor a folder");
  write_small_omniglot(folder, 3);
  EXPECT_EQ(refusal(small(folder)), "");
  Omniglot source = small(folder);
  source.query = 3;
  EXPECT_REFUSED(source, Subset::train, "has 3 images, too few for 1 shots and 3 query");
  source = small(folder);
  EXPECT_REFUSED(source, Subset::validation, "1 classes are too few for 2 ways");
  source.ways = 0;
  EXPECT_THROW(Episodes{Source(source)}, InvalidArgument);
  source.ways = 2000;
  EXPECT_THROW(Episodes{Source(source)}, InvalidArgument);

  const std::string zip = "images_background.zip", whole = test::file_bytes(folder.path(zip));
  folder.put(zip, whole.substr(0, whole.size() - 30));
  EXPECT_REFUSED(small(folder), Subset::train, "cannot be read as a zip");
  folder.put(zip, "");
  EXPECT_REFUSED(small(folder), Subset::train, zip);

  auto files = test::small_omniglot_set("background", 3);
  const std::string first = "images_background/Alpha/character01/0000_01.png";
  const auto with_first = [&](const std::string& bytes) {
    auto changed = files;
    changed[first] = bytes;
    test::write_zip(folder.path(zip), changed);
  };
  const auto black = [](int, int, int) { return 0; };
  with_first(test::png(105, 105, 8, test::Colour::grey, black));
  EXPECT_REFUSED(small(folder), Subset::train, "105 x 105 pixels of 8 bits");
  with_first(test::png(105, 104, 1, test::Colour::grey, black));
  EXPECT_REFUSED(small(folder), Subset::train, "105 x 104 pixels");
  with_first(test::png(105, 105, 1, test::Colour::palette, black));
  EXPECT_REFUSED(small(folder), Subset::train, "with colour");
  with_first("no PNG");
  EXPECT_REFUSED(small(folder), Subset::train, first + ": is not a PNG");
  with_first(files[first].substr(0, 60));
  EXPECT_REFUSED(small(folder), Subset::train, "damaged PNG");
  files["images_background/readme.txt"] = "hello";
  test::write_zip(folder.path(zip), files);
  EXPECT_REFUSED(small(folder), Subset::train, "<alphabet>/<character>");
  folder.put(zip, whole);

  const std::string classes = "omniglot28_classes.tsv", split = "omniglot28_split_vinyals.tsv";
  const std::string right = test::file_bytes(folder.path(classes)), right_split = test::file_bytes(folder.path(split));
  std::string wrong = right;
  wrong.replace(wrong.find("Beta"), 4, "Gamm");
  folder.put(classes, wrong);
  EXPECT_REFUSED(small(folder), Subset::train, "Gamm");
  folder.put(classes, right);
  for (const char* bad :
       {"", "index\tsplit\n0\ttrain\n", "index\tsplit\n0\ttrain\n1\tval\n2\ttrain\n3\ttest\n4\ttrain\n4\ttest\n",
        "index\tsplit\n0\ttrain\n1\tval\n2\ttrain\n3\ttest\n4\ttrain\n6\ttest\n",
        "index\tsplit\n0\ttrain\n1\tval\n2\ttrain\n3\ttest\n4\ttrain\n5\tdev\n",
        "index\tsplit\n0\ttrain\n1\tval\n2\ttrain\n3\ttest\n4\ttrain\n5\n"}) {
    folder.put(split, bad);
    EXPECT_REFUSED(small(folder), Subset::train, split);
  }
  std::filesystem::remove(folder.path(split));
  EXPECT_REFUSED(small(folder), Subset::train, split);
}

TEST(SmallOmniglot, NoTruncatedOrFlippedZipIsTakenForTheRightOne) {
  const test::Folder folder;
  write_small_omniglot(folder, 3);
  const std::string zip = "images_evaluation.zip", whole = test::file_bytes(folder.path(zip));
  const auto right = open_omniglot(small(folder), Subset::test).pixels;
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    folder.put(zip, whole.substr(0, size));
    EXPECT_NE(refusal(small(folder), Subset::test), "") << size;
  }
  for (std::size_t byte = 0; byte < whole.size(); byte += 3) {
    std::string flipped = whole;
    flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << byte % 8));
    folder.put(zip, flipped);
    try {
      EXPECT_EQ(open_omniglot(small(folder), Subset::test).pixels, right) << byte;
    } catch (const FileError&) {}
  }
}

TEST(RealOmniglot, HasItsClassesImagesAndSplits) {
  CUMETA_NEEDS_OMNIGLOT(root);
  std::size_t images = 0;
  int folders = 0;
  const int expected[] = {1028, 172, 423};
  for (const Subset subset : {Subset::train, Subset::validation, Subset::test}) {
    const ImageTable table = open_omniglot({.root = root}, subset);
    EXPECT_EQ(table.folders(), expected[static_cast<int>(subset)]);
    EXPECT_EQ(table.classes(), table.folders() * (subset == Subset::train ? 4 : 1));
    folders += table.folders();
    images += table.pixels.size() / 784;
    for (std::size_t c = 0; c < table.class_names.size(); ++c)
      EXPECT_EQ(table.class_begin[c + 1] - table.class_begin[c], 20U);
    double ink = 0;
    for (const std::uint8_t byte : table.pixels) ink += byte;
    ink /= 255.0 * static_cast<double>(table.pixels.size());
    EXPECT_GT(ink, 0.05);  // strokes, not paper
    EXPECT_LT(ink, 0.15);
  }
  EXPECT_EQ(folders, 1623);
  EXPECT_EQ(images, 32460U);
}

}  // namespace
}  // namespace cumeta
