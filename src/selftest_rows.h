// SPDX-License-Identifier: Apache-2.0
// The two halves of the selftest.
#pragma once
#include <vector>

#include "cumeta/selftest.h"
#include "kernels/backend.h"

namespace cumeta {

/// Closed forms of every algorithm, through Learner.
void test_closed_forms(const struct Options& options, std::vector<SelftestRow>& rows);
/// Every layer and loss on random sizes, each pass against the reference's.
void test_layers(Backend& device, std::uint64_t seed, std::vector<SelftestRow>& rows);

}  // namespace cumeta
