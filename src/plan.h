// SPDX-License-Identifier: Apache-2.0
// Choosing how a problem is cut, and describing it: pure functions of their arguments.
#pragma once
#include "cumeta/optimizer.h"
#include "cumeta/plan.h"
#include "src/execution.h"

namespace cumeta {

/// Throws InvalidArgument for a limit or a chunk below zero, or a chunk above what CUDA holds.
void check_cut_options(Device device, std::int64_t memory_limit, int chunk);
/// Throws OutOfMemory where the images leave a limit (0: none) no room for the learner's own state.
void check_images_fit(std::int64_t images, std::int64_t state_bytes, std::int64_t limit);
/// Throws OutOfMemory when nothing fits the limit.
Cut choose_cut(const Problem& problem, const PlanOptions& options);
Plan describe(const Problem& problem, const Cut& cut, const PlanOptions& options);

}  // namespace cumeta
