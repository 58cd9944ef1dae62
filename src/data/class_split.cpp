// SPDX-License-Identifier: Apache-2.0
// Seeded split of classes into train, validation and test.
#include "src/data/class_split.h"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "kernels/tools/episode_draws.h"

namespace cumeta {

std::vector<std::uint32_t> random_split(std::uint32_t classes, std::uint32_t train, std::uint32_t validation,
                                        std::uint64_t seed, Subset subset) {
  assert(train <= classes && validation <= classes - train);
  std::vector<std::uint32_t> order(classes);
  std::iota(order.begin(), order.end(), 0U);
  Draws draws(seed, Purpose::class_split, 0, 0);
  for (std::uint32_t i = 0; i < classes; ++i) std::swap(order[i], order[fisher_yates_position(draws, 0, i, classes)]);
  const std::uint32_t first = subset == Subset::train ? 0 : subset == Subset::validation ? train : train + validation;
  const std::uint32_t last = subset == Subset::train        ? train
                             : subset == Subset::validation ? train + validation
                                                            : classes;
  std::vector<std::uint32_t> chosen(order.begin() + first, order.begin() + last);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace cumeta
