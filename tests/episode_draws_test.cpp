// SPDX-License-Identifier: Apache-2.0
// The formula of an episode: partial Fisher-Yates against the textbook array, its fairness, rows and turns.
#include "kernels/tools/episode_draws.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>
#include <vector>

namespace cumeta {
namespace {

TEST(FisherYates, EqualsTheShuffledArray) {
  for (std::uint32_t count = 1; count < 40; ++count) {
    Draws draws(count, Purpose::train, 5, 2);
    std::vector<std::uint32_t> array(count), position(count);
    std::iota(array.begin(), array.end(), 0U);
    for (std::uint32_t step = 0; step < count; ++step) {
      std::swap(array[step], array[step + draws.choose(9 + step, count - step)]);
      position[step] = fisher_yates_position(draws, 9, step, count);
      EXPECT_EQ(fisher_yates_choice(position.data(), step), array[step]);
      EXPECT_EQ(fisher_yates_choice(draws, 9, step, count), array[step]);
    }
    EXPECT_EQ(std::set<std::uint32_t>(array.begin(), array.end()).size(), count);
  }
}

TEST(FisherYates, EveryPairIsEquallyLikely) {
  std::vector<int> seen(25, 0);
  const int rounds = 20000;
  for (int round = 0; round < rounds; ++round) {
    Draws draws(1, Purpose::train, static_cast<std::uint64_t>(round), 0);
    const std::uint32_t first = fisher_yates_choice(draws, 0, 0, 5), second = fisher_yates_choice(draws, 0, 1, 5);
    ++seen[first * 5 + second];
  }
  double chi_square = 0;
  for (std::uint32_t first = 0; first < 5; ++first)
    for (std::uint32_t second = 0; second < 5; ++second) {
      const int times = seen[first * 5 + second];
      if (first == second) {
        EXPECT_EQ(times, 0);
        continue;
      }
      chi_square += std::pow(times - rounds / 20.0, 2) / (rounds / 20.0);
    }
  EXPECT_LT(chi_square, 43.8);  // 19 degrees of freedom, one in a thousand
}

TEST(EpisodeRows, LabelAndExampleAreTheInverseOfRow) {
  for (const EpisodeRows rows :
       {EpisodeRows{5, 1, 1}, EpisodeRows{3, 4, 2}, EpisodeRows{2, 3, 0}, EpisodeRows{1, 1, 7}}) {
    std::set<std::uint32_t> all;
    for (int label = 0; label < rows.ways; ++label)
      for (int example = 0; example < rows.shots + rows.query; ++example) {
        const auto row = static_cast<int>(rows.row(label, example));
        EXPECT_EQ(rows.label(row), label);
        EXPECT_EQ(rows.example(row), example);
        EXPECT_EQ(row < rows.ways * rows.shots, example < rows.shots);
        all.insert(static_cast<std::uint32_t>(row));
      }
    EXPECT_EQ(static_cast<int>(all.size()), rows.rows());
    EXPECT_EQ(static_cast<int>(*all.rbegin()), rows.rows() - 1);
  }
}

TEST(EpisodeRows, NoDrawIsUsedTwice) {
  const EpisodeRows rows{4, 2, 3};
  std::set<std::uint32_t> draws;
  for (std::uint32_t label = 0; label < 4; ++label) draws.insert(label);
  for (int label = 0; label < 4; ++label)
    for (std::uint32_t e = 0; e < 5; ++e) draws.insert(rows.image_draw(label) + e);
  EXPECT_EQ(draws.size(), 24U);
  EXPECT_EQ(*draws.rbegin(), 23U);
}

TEST(QuarterTurns, TurnCounterClockwise) {
  // 0 1 2      2 5 8
  // 3 4 5  ->  1 4 7
  // 6 7 8      0 3 6
  const int once[9] = {2, 5, 8, 1, 4, 7, 0, 3, 6};
  for (int y = 0; y < 3; ++y)
    for (int x = 0; x < 3; ++x) {
      EXPECT_EQ(turned_pixel(0, 3, y, x), y * 3 + x);
      EXPECT_EQ(turned_pixel(1, 3, y, x), once[y * 3 + x]);
      EXPECT_EQ(turned_pixel(2, 3, y, x), once[once[y * 3 + x]]);
      EXPECT_EQ(turned_pixel(3, 3, y, x), once[once[once[y * 3 + x]]]);
    }
}

TEST(PixelValue, RunsFromZeroToOne) {
  EXPECT_EQ(pixel_value(0), 0.0F);
  EXPECT_EQ(pixel_value(255), 1.0F);
  EXPECT_EQ(pixel_value(51), 51 * (1.0F / 255.0F));
}

}  // namespace
}  // namespace cumeta
