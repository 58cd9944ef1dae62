// SPDX-License-Identifier: Apache-2.0
// Runs a loss's two passes on a backend, from host numbers to host numbers, between guard bands.
#pragma once
#include <vector>

#include "tests/support/cases.h"
#include "tests/support/devices.h"

namespace cumeta::testing {

/// x, t, Rx in; loss, hits, dx, Rdx out. One task's rows after another's.
struct LossArrays {
  std::vector<double> x, t, Rx, loss, hits, dx, Rdx;
};

/// x, t, Rx of the case; every number is a float. Some rows have ties for the largest output.
LossArrays draw_loss_inputs(const LossCase& c, unsigned seed);
/// Both passes. Adds failures when a guard band or an input was written or an output left unwritten.
LossArrays run_loss(Backend& backend, const LossCase& c, const LossArrays& from);
LossArrays one_task(const LossCase& c, const LossArrays& all, int task);

}  // namespace cumeta::testing
