// SPDX-License-Identifier: Apache-2.0
// What the outer step keeps on a CUDA device between its blocks, as a plan counts it.
#pragma once
#include <cstdint>

namespace cumeta {

constexpr int kMostOuterBlocks = 1024;
/// Bytes: the decision of a step, and two sums of squares per block.
constexpr std::int64_t kOuterStepWorkspace = 32 + 16 * kMostOuterBlocks;

}  // namespace cumeta
