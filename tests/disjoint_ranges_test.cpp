// SPDX-License-Identifier: Apache-2.0
// Ranges that are held never meet, whatever is taken and given back.
#include "kernels/tools/disjoint_ranges.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace cumeta {
namespace {

TEST(DisjointRanges, FillGapsFromTheFront) {
  DisjointRanges ranges(10);
  EXPECT_EQ(ranges.take(3), 0);
  EXPECT_EQ(ranges.take(4), 3);
  EXPECT_EQ(ranges.take(4), -1);
  EXPECT_EQ(ranges.take(3), 7);
  EXPECT_EQ(ranges.take(1), -1);
  ranges.give_back(3);
  EXPECT_EQ(ranges.take(5), -1);
  EXPECT_EQ(ranges.take(2), 3);
  EXPECT_EQ(ranges.take(2), 5);
  EXPECT_EQ(ranges.take(1), -1);
}

TEST(DisjointRanges, NobodyHoldsWhatAnotherHolds) {
  constexpr int size = 200;
  DisjointRanges ranges(size);
  std::vector<int> owner(size, -1);
  std::vector<std::pair<int, int>> held;
  std::mt19937 random(1);
  for (int turn = 0; turn < 2000; ++turn) {
    if (random() % 2 == 0 && !held.empty()) {
      const std::size_t which = random() % held.size();
      const auto [begin, count] = held[which];
      std::fill_n(owner.begin() + begin, count, -1);
      ranges.give_back(begin);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
    } else {
      const int count = 1 + static_cast<int>(random() % 40), begin = ranges.take(count);
      if (begin < 0) continue;
      ASSERT_LE(begin + count, size);
      for (int i = begin; i < begin + count; ++i) {
        ASSERT_EQ(owner[static_cast<std::size_t>(i)], -1) << i;
        owner[static_cast<std::size_t>(i)] = turn;
      }
      held.emplace_back(begin, count);
    }
  }
}

}  // namespace
}  // namespace cumeta
