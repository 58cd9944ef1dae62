// SPDX-License-Identifier: Apache-2.0
// Folders of class folders of PNGs: subsets, sizes, colours, and every defect by name.
#include <gtest/gtest.h>

#include <set>

#include "cumeta/error.h"
#include "src/data/image_folder.h"
#include "tests/support/pictures.h"
#include "tests/support/says.h"

namespace cumeta {
namespace {

std::string flat(int height, int width, int red, int green, int blue) {
  return test::png(height, width, 8, test::Colour::rgb, [=](int, int, int c) {
    return c == 0 ? red : c == 1 ? green : blue;
  });
}

std::string refusal(const ImageFolder& source, Subset subset = Subset::train) {
  try {
    const Episodes opened(source, subset);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
}
#define EXPECT_REFUSED(source, part) EXPECT_NE(refusal(source).find(part), std::string::npos) << refusal(source)

TEST(ImageFolderTable, ResizesAnyImageAndConvertsColours) {
  const test::Folder folder;
  folder.put("cats/a.png", flat(10, 20, 10, 20, 30));
  folder.put("cats/b.PNG", test::png(3, 3, 1, test::Colour::grey, [](int, int x, int) { return x == 0; }));
  folder.put("dogs/small/c.png", test::png(4, 4, 16, test::Colour::grey, [](int, int, int) { return 32896; }));
  folder.put("dogs/readme.txt", "not an image");
  const ImageTable table =
      open_image_folder({.root = folder.path(), .height = 2, .width = 3, .channels = 3}, Subset::train);
  EXPECT_EQ(table.class_names, (std::vector<std::string>{"cats", "dogs/small"}));
  EXPECT_EQ(table.class_begin, (std::vector<std::uint32_t>{0, 2, 3}));
  EXPECT_EQ(table.shape, image(2, 3, 3));
  for (std::size_t p = 0; p < 6; ++p) {
    for (std::size_t c = 0; c < 3; ++c) {
      EXPECT_EQ(table.pixels[p * 3 + c], 10 * (c + 1));
      EXPECT_EQ(table.pixels[18 + p * 3 + c], p % 3 == 0 ? 255 : 0);
      EXPECT_EQ(table.pixels[36 + p * 3 + c], 128);
    }
  }
  const ImageTable grey =
      open_image_folder({.root = folder.path(), .height = 1, .width = 1, .channels = 1}, Subset::train);
  EXPECT_EQ(grey.pixels, (std::vector<std::uint8_t>{18, 85, 128}));
}

TEST(ImageFolderTable, SubsetsAreFoldersOrASeededSplit) {
  const test::Folder folders, split;
  folders.put("train/a/1.png", flat(1, 1, 1, 1, 1));
  folders.put("train/b/1.png", flat(1, 1, 1, 1, 1));
  folders.put("val/c/1.png", flat(1, 1, 1, 1, 1));
  const ImageFolder source{.root = folders.path(), .height = 1, .width = 1};
  EXPECT_EQ(open_image_folder(source, Subset::train).class_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(open_image_folder(source, Subset::validation).class_names, (std::vector<std::string>{"c"}));
  EXPECT_THROW(open_image_folder(source, Subset::test), FileError);

  for (int c = 0; c < 10; ++c) split.put(std::to_string(c) + "/1.png", flat(1, 1, c, c, c));
  ImageFolder random{
      .root = split.path(), .height = 1, .width = 1, .split_seed = 4, .validation_classes = 2, .test_classes = 3};
  std::set<std::string> all;
  for (const auto& [subset, count] :
       {std::pair(Subset::train, 5), std::pair(Subset::validation, 2), std::pair(Subset::test, 3)}) {
    const ImageTable table = open_image_folder(random, subset);
    EXPECT_EQ(table.folders(), count);
    all.insert(table.class_names.begin(), table.class_names.end());
    for (std::size_t c = 0; c < table.class_names.size(); ++c)
      EXPECT_EQ(table.pixels[table.class_begin[c] * 3], std::stoi(table.class_names[c]));
  }
  EXPECT_EQ(all.size(), 10U);
  random.test_classes = 8;
  EXPECT_THROW(open_image_folder(random, Subset::train), InvalidArgument);
}

TEST(ImageFolderTable, EveryDefectIsNamed) {
  const test::Folder folder;
  ImageFolder source{
      .root = folder.path("absent"), .height = 2, .width = 2, .channels = 1, .ways = 2, .shots = 1, .query = 1};
  EXPECT_REFUSED(source, "is not a folder");
  source.root = folder.path();
  EXPECT_REFUSED(source, "no class folder with PNGs");
  const std::string good = flat(4, 4, 1, 2, 3);
  for (const char* name : {"a/1.png", "a/2.png", "b/1.png"}) folder.put(name, good);
  EXPECT_REFUSED(source, "class b has 1 images, too few for 1 shots and 1 query");
  folder.put("b/2.png", good);
  EXPECT_EQ(refusal(source), "");
  source.ways = 3;
  EXPECT_REFUSED(source, "2 classes are too few for 3 ways");
  source.ways = 2;
  folder.put("b/2.png", "GIF89a");
  EXPECT_REFUSED(source, "b/2.png: is not a PNG");
  folder.put("b/2.png", good.substr(0, good.size() - 20));
  EXPECT_REFUSED(source, "damaged PNG");
  folder.put("b/2.png", "");
  EXPECT_REFUSED(source, "is not a PNG");
  folder.put("b/2.png", good);
  folder.put("b/3.jpg", "x");
  EXPECT_REFUSED(source, "b/3.jpg: is not a PNG");
  std::filesystem::remove(folder.path("b/3.jpg"));
  folder.put("stray.png", good);
  EXPECT_REFUSED(source, "no class folder");
  std::filesystem::remove(folder.path("stray.png"));
  std::filesystem::create_directory_symlink(folder.path(), folder.path("b/loop"));
  EXPECT_REFUSED(source, "nested deeper");
  std::filesystem::remove(folder.path("b/loop"));
  for (ImageFolder bad :
       {ImageFolder{.height = 0}, ImageFolder{.width = 100000}, ImageFolder{.channels = 2}, ImageFolder{.shots = 0}}) {
    bad.root = folder.path();
    EXPECT_THROW(Episodes{Source(bad)}, InvalidArgument);
  }
}

/// Data that are there and whole, but too few for what was asked, are the caller's mistake.
TEST(ImageFolderTable, TooFewClassesNameTheKeysThatGiveMore) {
  const test::Folder folder;
  for (const char* name : {"a", "b", "c"})
    for (const char* picture : {"/1.png", "/2.png"}) folder.put(std::string(name) + picture, flat(2, 2, 1, 2, 3));
  ImageFolder source{.root = folder.path(), .height = 2, .width = 2, .ways = 2, .shots = 1, .query = 1};
  EXPECT_SAYS(Episodes(source, Subset::validation), "data.validation_classes (0)");
  EXPECT_SAYS(Episodes(source, Subset::validation), "run.validate_every=0");
  EXPECT_SAYS(Episodes(source, Subset::test), "data.test_classes (0)");
  source.validation_classes = 2;
  EXPECT_SAYS(Episodes(source, Subset::train), "lower data.validation_classes (2)");
  EXPECT_THROW(Episodes(source, Subset::train), InvalidArgument);
  source.validation_classes = 0, source.query = 2;
  EXPECT_THROW(Episodes(source, Subset::train), InvalidArgument);
  source.root = folder.path() + "/" + std::string(400, 'x');  // longer than a name may be
  EXPECT_THROW(Episodes(source, Subset::train), FileError);
}

TEST(ImageFolderTable, AFolderTrainIsASubsetOrAClass) {
  const test::Folder subsets, classes;
  for (const char* name : {"train/a/1.png", "train/b/1.png", "test/c/1.png"}) subsets.put(name, flat(1, 1, 1, 1, 1));
  ImageFolder source{.root = subsets.path(), .height = 1, .width = 1, .ways = 1, .shots = 1, .query = 0};
  EXPECT_EQ(Episodes(source, Subset::train).classes(), 2);
  EXPECT_SAYS(Episodes(source, Subset::validation), "none for validation");
  for (int* number : {&source.validation_classes, &source.test_classes}) {
    *number = 1;
    EXPECT_SAYS(Episodes(source, Subset::train), "has a folder train");
    EXPECT_THROW(Episodes(source, Subset::train), InvalidArgument);
    *number = 0;
  }
  source.split_seed = 7;
  EXPECT_SAYS(Episodes(source, Subset::train), "split_seed 7");
  for (const char* name : {"train/1.png", "plane/1.png"}) classes.put(name, flat(1, 1, 1, 1, 1));
  source.root = classes.path();
  const Episodes episodes(source, Subset::train);
  const std::span<const std::string> names = episodes.images().class_names;
  EXPECT_EQ(std::vector<std::string>(names.begin(), names.end()), (std::vector<std::string>{"plane", "train"}));
}

}  // namespace
}  // namespace cumeta
