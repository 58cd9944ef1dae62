// SPDX-License-Identifier: Apache-2.0
// Episodes: every source through the door; the same task alone, in a batch, and by the device's formula.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numbers>
#include <numeric>
#include <set>

#include "cumeta/data.h"
#include "cumeta/error.h"
#include "src/data/tables_of.h"
#include "tests/support/omniglot_path.h"
#include "tests/support/pictures.h"

namespace cumeta {
namespace {

struct Batch {
  std::vector<float> x, t;
  friend bool operator==(const Batch&, const Batch&) = default;
};

Batch draw(const Episodes& episodes, std::uint64_t iteration, int first, int tasks) {
  const auto rows = static_cast<std::size_t>(tasks * (episodes.support() + episodes.query()));
  Batch batch{std::vector<float>(rows * static_cast<std::size_t>(episodes.input().size())),
              std::vector<float>(rows * static_cast<std::size_t>(episodes.targets()))};
  episodes.draw(iteration, first, tasks, batch.x, batch.t);
  return batch;
}

void expect_task_alone_equals_batch(const Episodes& episodes) {
  const Batch batch = draw(episodes, 17, 0, 6);
  const std::size_t x = batch.x.size() / 6, t = batch.t.size() / 6;
  for (int task = 0; task < 6; ++task) {
    const Batch alone = draw(episodes, 17, task, 1);
    const auto place = static_cast<std::size_t>(task);
    EXPECT_TRUE(std::equal(alone.x.begin(), alone.x.end(), batch.x.begin() + static_cast<std::ptrdiff_t>(place * x)));
    EXPECT_TRUE(std::equal(alone.t.begin(), alone.t.end(), batch.t.begin() + static_cast<std::ptrdiff_t>(place * t)));
  }
  EXPECT_EQ(draw(episodes, 17, 0, 6), batch);
  EXPECT_NE(draw(episodes, 18, 0, 6).x, batch.x);
}

TEST(SinusoidEpisodes, AreTheFamily) {
  const Sinusoid family{.shots = 5, .query = 7};
  const Episodes episodes(family, Subset::train, 3);
  EXPECT_EQ(episodes.support(), 5);
  EXPECT_EQ(episodes.query(), 7);
  EXPECT_EQ(episodes.input(), features(1));
  EXPECT_EQ(episodes.targets(), 1);
  EXPECT_EQ(episodes.ways(), 0);
  EXPECT_EQ(episodes.tasks(), 0U);
  expect_task_alone_equals_batch(episodes);

  const int tasks = 4000;
  const Batch batch = draw(episodes, 1, 0, tasks);
  double amplitude_mean = 0, phase_mean = 0, x_mean = 0;
  for (int task = 0; task < tasks; ++task) {
    Draws draws(3, Purpose::train, 1, static_cast<std::uint32_t>(task));
    const double a = draws.uniform(0, 0.1F, 5.0F), phase = draws.uniform(1, 0.0F, std::numbers::pi_v<float>);
    amplitude_mean += a / tasks;
    phase_mean += phase / tasks;
    for (int row = 0; row < 12; ++row) {
      const auto place = static_cast<std::size_t>(task * 12 + row);
      const float x = batch.x[place];
      EXPECT_TRUE(x >= -5 && x <= 5);
      x_mean += x / (12.0 * tasks);
      EXPECT_NEAR(batch.t[place], a * std::sin(x - phase), 5e-6);
    }
  }
  EXPECT_NEAR(amplitude_mean, 2.55, 4 * 4.9 / std::sqrt(12.0 * tasks));
  EXPECT_NEAR(phase_mean, std::numbers::pi / 2, 4 * std::numbers::pi / std::sqrt(12.0 * tasks));
  EXPECT_NEAR(x_mean, 0, 4 * 10 / std::sqrt(12.0 * 12 * tasks));
}

TEST(SinusoidEpisodes, SubsetsSeedsAndRangesMatter) {
  const Batch train = draw(Episodes(Sinusoid{}, Subset::train, 3), 0, 0, 2);
  EXPECT_NE(draw(Episodes(Sinusoid{}, Subset::validation, 3), 0, 0, 2), train);
  EXPECT_NE(draw(Episodes(Sinusoid{}, Subset::test, 3), 0, 0, 2), train);
  EXPECT_NE(draw(Episodes(Sinusoid{}, Subset::train, 4), 0, 0, 2), train);
  const Batch fixed = draw(Episodes(Sinusoid{.amplitude = {2, 2}, .phase = {1, 1}, .input = {3, 3}}), 0, 0, 1);
  EXPECT_EQ(fixed.x, std::vector<float>(20, 3.0F));
  EXPECT_EQ(fixed.t, std::vector<float>(20, static_cast<float>(2 * std::sin(2.0))));
  for (const Sinusoid& bad :
       {Sinusoid{.amplitude = {5, 1}}, Sinusoid{.phase = {0, INFINITY}}, Sinusoid{.input = {NAN, 1}},
        Sinusoid{.shots = 0}, Sinusoid{.query = -1}, Sinusoid{.shots = 1000, .query = 25}})
    EXPECT_THROW(Episodes{Source(bad)}, InvalidArgument);
}

TEST(Episodes, RoomMustFitTheTasks) {
  const Episodes episodes{Source(Sinusoid{})};
  std::vector<float> x(40), t(39);
  EXPECT_THROW(episodes.draw(0, 0, 2, x, t), InvalidArgument);
  t.resize(40);
  EXPECT_NO_THROW(episodes.draw(0, 0, 2, x, t));
  EXPECT_THROW(episodes.draw(0, 0, 3, x, t), InvalidArgument);
  EXPECT_THROW(episodes.draw(0, -1, 2, x, t), InvalidArgument);
}

/// Ten classes of twelve one-pixel images; image i of class c has the byte 20 c + i.
ImageFolder numbered(const test::Folder& folder) {
  for (int c = 0; c < 10; ++c)
    for (int i = 0; i < 12; ++i)
      folder.put("class" + std::to_string(c) + "/" + static_cast<char>('a' + i) + ".png",
                 test::png(1, 1, 8, test::Colour::grey, [=](int, int, int) { return 20 * c + i; }));
  return {.root = folder.path(), .height = 1, .width = 1, .channels = 1, .ways = 4, .shots = 2, .query = 3};
}

TEST(ImageEpisodes, RowsAreSupportThenQueryLabelByLabelWithoutRepetition) {
  const test::Folder folder;
  const Episodes episodes(numbered(folder), Subset::train, 9);
  EXPECT_EQ(episodes.support(), 8);
  EXPECT_EQ(episodes.query(), 12);
  EXPECT_EQ(episodes.ways(), 4);
  EXPECT_EQ(episodes.classes(), 10);
  expect_task_alone_equals_batch(episodes);
  std::map<int, int> classes_seen, images_seen;
  const int tasks = 2000;
  const Batch batch = draw(episodes, 0, 0, tasks);
  for (int task = 0; task < tasks; ++task) {
    std::map<int, std::set<int>> images;  // label -> bytes
    std::map<int, std::set<int>> classes;
    for (int row = 0; row < 20; ++row) {
      const auto place = static_cast<std::size_t>(task * 20 + row);
      const int label = row < 8 ? row / 2 : (row - 8) / 3;
      EXPECT_EQ(batch.t[place], static_cast<float>(label));
      const int byte = static_cast<int>(std::lround(batch.x[place] * 255));
      images[label].insert(byte);
      classes[label].insert(byte / 20);
      ++images_seen[byte % 20];
    }
    std::set<int> distinct;
    for (int label = 0; label < 4; ++label) {
      EXPECT_EQ(images[label].size(), 5U) << "an image is there twice";
      EXPECT_EQ(classes[label].size(), 1U);
      distinct.insert(*classes[label].begin());
      ++classes_seen[*classes[label].begin()];
    }
    EXPECT_EQ(distinct.size(), 4U) << "a class is there twice";
  }
  for (int c = 0; c < 10; ++c) EXPECT_NEAR(classes_seen[c], tasks * 4 / 10.0, 5 * std::sqrt(tasks * 0.4 * 0.6));
  for (int i = 0; i < 12; ++i) EXPECT_NEAR(images_seen[i], tasks * 20 / 12.0, 5 * std::sqrt(tasks * 20 / 12.0));
}

TEST(ImageEpisodes, ShuffledSupportHoldsTheSameImagesInARandomOrder) {
  const test::Folder folder;
  ImageFolder source = numbered(folder);
  const Episodes in_order(source, Subset::train, 9);
  source.shuffle = true;
  const Episodes shuffled(source, Subset::train, 9);
  expect_task_alone_equals_batch(shuffled);
  const int tasks = 500;
  const Batch a = draw(in_order, 3, 0, tasks), b = draw(shuffled, 3, 0, tasks);
  std::map<int, int> label_of_first_row;
  for (int task = 0; task < tasks; ++task) {
    std::multiset<std::pair<float, float>> before, after;
    for (int row = 0; row < 20; ++row) {
      const auto place = static_cast<std::size_t>(task * 20 + row);
      if (row < 8) {
        before.insert({a.x[place], a.t[place]}), after.insert({b.x[place], b.t[place]});
      } else {
        EXPECT_EQ(a.x[place], b.x[place]);
        EXPECT_EQ(a.t[place], b.t[place]);
      }
    }
    EXPECT_EQ(before, after);
    ++label_of_first_row[static_cast<int>(b.t[static_cast<std::size_t>(task * 20)])];
  }
  for (int label = 0; label < 4; ++label) EXPECT_NEAR(label_of_first_row[label], tasks / 4.0, 60);
}

/// The device's way: every row by itself, from the tables only.
Batch draw_by_rows(const Episodes& episodes, std::uint64_t iteration, int tasks) {
  const EpisodeTables tables = *tables_of(episodes);
  Batch batch;
  for (int task = 0; task < tasks; ++task) {
    const auto draws_of = [&] {
      return Draws(tables.seed, tables.purpose, iteration, static_cast<std::uint32_t>(task));
    };
    if (const auto* sinusoid = std::get_if<SinusoidEpisodes>(&tables.kind)) {
      for (int row = 0; row < sinusoid->rows; ++row) {
        Draws draws = draws_of();
        const float x = sinusoid_input(draws, sinusoid->ranges, row);
        batch.x.push_back(x);
        batch.t.push_back(
            sinusoid_target(sinusoid_amplitude(draws, sinusoid->ranges), sinusoid_phase(draws, sinusoid->ranges), x));
      }
      continue;
    }
    const auto& images = std::get<ImageEpisodes>(tables.kind);
    for (int row = 0; row < images.rows.rows(); ++row) {
      Draws draws = draws_of();
      const RowChoice choice =
          choose_row(draws, images.rows, images.class_begin.data(), images.folders(), images.rotations, row);
      batch.t.push_back(static_cast<float>(choice.label));
      const std::uint8_t* bytes =
          images.pixels.data() + std::size_t{choice.image} * static_cast<std::size_t>(images.shape.size());
      for (int y = 0; y < images.shape.height; ++y)
        for (int x = 0; x < images.shape.width; ++x)
          for (int c = 0; c < images.shape.channels; ++c)
            batch.x.push_back(pixel_value(
                bytes[turned_pixel(choice.quarter_turns, images.shape.height, y, x) * images.shape.channels + c]));
    }
  }
  return batch;
}

TEST(Episodes, TheDevicesFormulaGivesTheSameBits) {
  const test::Folder folder, omniglot;
  write_small_omniglot(omniglot, 4);
  const Source sources[] = {Sinusoid{}, numbered(folder),
                            Omniglot{.root = omniglot.path(), .ways = 7, .shots = 2, .query = 2}};
  for (const Source& source : sources) {
    const Episodes episodes(source, Subset::train, 77);
    for (const std::uint64_t iteration : {std::uint64_t{0}, std::uint64_t{123456789012}})
      EXPECT_EQ(draw_by_rows(episodes, iteration, 5), draw(episodes, iteration, 0, 5));
  }
}

TEST(RealOmniglot, DrawsTasksOfInkAndEveryRotation) {
  CUMETA_NEEDS_OMNIGLOT(root);
  const Episodes episodes(Omniglot{.root = root, .ways = 20, .shots = 1, .query = 1}, Subset::train, 1);
  EXPECT_EQ(episodes.classes(), 4112);
  EXPECT_EQ(episodes.input(), image(28, 28, 1));
  expect_task_alone_equals_batch(episodes);
  EXPECT_EQ(draw_by_rows(episodes, 5, 2), draw(episodes, 5, 0, 2));
}

}  // namespace
}  // namespace cumeta
