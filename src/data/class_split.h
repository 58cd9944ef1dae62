// SPDX-License-Identifier: Apache-2.0
// Which classes belong to which subset, by chance but always the same for a seed.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "cumeta/data.h"

namespace cumeta {

/// Shuffles 0 ... classes - 1 (Fisher-Yates, purpose class_split) and hands out the first `train`, the next
/// `validation`, and the rest to the test; each in rising order. The counts must not pass `classes`.
std::vector<std::uint32_t> random_split(std::uint32_t classes, std::uint32_t train, std::uint32_t validation,
                                        std::uint64_t seed, Subset subset);

}  // namespace cumeta
