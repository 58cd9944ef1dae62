// SPDX-License-Identifier: Apache-2.0
// Random numbers: known answers of Philox4x32-10, the layout of the counter, and the exact maps to floats and choices.
#include "kernels/tools/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace cumeta {
namespace {

// Published known answers of Random123 (philox4x32, 10 rounds): counter, key, result.
TEST(Philox, KnownAnswers) {
  const philox4x32_ctr_t zeros = philox4x32_R(10, {{0, 0, 0, 0}}, {{0, 0}});
  EXPECT_EQ(zeros.v[0], 0x6627e8d5U);
  EXPECT_EQ(zeros.v[1], 0xe169c58dU);
  EXPECT_EQ(zeros.v[2], 0xbc57ac4cU);
  EXPECT_EQ(zeros.v[3], 0x9b00dbd8U);
  const philox4x32_ctr_t pi =
      philox4x32_R(10, {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {{0xa4093822, 0x299f31d0}});
  EXPECT_EQ(pi.v[0], 0xd16cfe09U);
  EXPECT_EQ(pi.v[1], 0x94fdccebU);
  EXPECT_EQ(pi.v[2], 0x5001e420U);
  EXPECT_EQ(pi.v[3], 0x24126ea1U);
}

TEST(Philox, CounterIsAsDocumented) {
  const std::uint64_t seed = 0x0123456789abcdefU, iteration = 0x00c0ffee12345678U;
  const philox4x32_ctr_t block =
      philox4x32_R(10, {{5, 77, 0x12345678U, 0x00c0ffeeU | 2U << 24}}, {{0x89abcdefU, 0x01234567U}});
  Draws draws(seed, Purpose::test, iteration, 77);
  for (std::uint32_t word = 0; word < 4; ++word) EXPECT_EQ(draws.bits(20 + word), block.v[word]);
  EXPECT_EQ(Draws(0, Purpose::train, 0, 0).bits(0), 0x6627e8d5U);
}

TEST(Philox, AnyOrderGivesTheSameDraws) {
  Draws forward(7, Purpose::train, 3, 1), backward(7, Purpose::train, 3, 1);
  std::vector<std::uint32_t> bits;
  for (std::uint32_t i = 0; i < 50; ++i) bits.push_back(forward.bits(i));
  for (std::uint32_t i = 50; i-- > 0;) EXPECT_EQ(backward.bits(i), bits[i]);
  EXPECT_EQ(std::set<std::uint32_t>(bits.begin(), bits.end()).size(), 50U);
}

TEST(Philox, EveryPartOfTheNameMatters) {
  std::set<std::uint32_t> first;
  first.insert(Draws(1, Purpose::train, 0, 0).bits(0));
  first.insert(Draws(1ULL << 32, Purpose::train, 0, 0).bits(0));
  first.insert(Draws(1, Purpose::validation, 0, 0).bits(0));
  first.insert(Draws(1, Purpose::train, 1, 0).bits(0));
  first.insert(Draws(1, Purpose::train, 1ULL << 32, 0).bits(0));
  first.insert(Draws(1, Purpose::train, 0, 1).bits(0));
  EXPECT_EQ(first.size(), 6U);
}

TEST(Philox, ChoiceIsTheHighHalfOfTheProduct) {
  Draws draws(11, Purpose::train, 0, 0);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::uint32_t remaining = i + 1;
    EXPECT_EQ(draws.choose(i, remaining), static_cast<std::uint32_t>(std::uint64_t{draws.bits(i)} * remaining >> 32));
    EXPECT_LT(draws.choose(i, remaining), remaining);
  }
}

TEST(Philox, UniformIsExactAndBelowOne) {
  Draws draws(12, Purpose::train, 0, 0);
  double sum = 0;
  for (std::uint32_t i = 0; i < 20000; ++i) {
    const float u = draws.uniform(i);
    EXPECT_EQ(static_cast<double>(u) * 16777216.0, draws.bits(i) >> 8);
    EXPECT_EQ(draws.uniform(i, -5.0F, 5.0F), static_cast<float>(static_cast<double>(u) * 10.0 - 5.0));
    sum += u;
  }
  EXPECT_NEAR(sum / 20000, 0.5, 4 * std::sqrt(1.0 / 12 / 20000));
}

TEST(Philox, NormalHasItsMoments) {
  Draws draws(13, Purpose::initial_values, 0, 0);
  const int count = 20000;
  double first = 0, second = 0, fourth = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const double z = draws.normal(i);
    first += z / count;
    second += z * z / count;
    fourth += z * z * z * z / count;
  }
  EXPECT_NEAR(first, 0, 4 / std::sqrt(count));
  EXPECT_NEAR(second, 1, 4 * std::sqrt(2.0 / count));
  EXPECT_NEAR(fourth, 3, 4 * std::sqrt(96.0 / count));
}

}  // namespace
}  // namespace cumeta
