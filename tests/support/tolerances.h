// SPDX-License-Identifier: Apache-2.0
// The tests' tolerances: the table by (pass, arithmetic), and those of central differences and identities.
#pragma once
#include "kernels/tools/tolerances.h"

namespace cumeta::testing {

using judging::Arithmetic;
using judging::arithmetic;
using judging::name;
using judging::Pass;
using judging::tolerance;

/// Central differences of the double reference: step, and the error it may leave.
constexpr double kDifferenceStep = 1e-5;
constexpr double kDifferenceTolerance = 1e-7;
/// Identities between sums of the double reference, over the sums' magnitudes.
constexpr double kIdentityTolerance = 1e-11;

/// Logs and parameters of a short training run on two float devices, over their magnitudes.
constexpr double kTrainingTolerance = 1e-3;

}  // namespace cumeta::testing
