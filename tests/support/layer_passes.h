// SPDX-License-Identifier: Apache-2.0
// Runs one pass of a case on a backend, from host numbers to host numbers, between guard bands.
#pragma once
#include <array>
#include <vector>

#include "tests/support/cases.h"
#include "tests/support/devices.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {

/// Every array of the contract.
enum Role : int { kW, kX, kY, kR, kDy, kDx, kDw, kRw, kRx, kRy, kRr, kRdy, kRdx, kRdw, kRoles };
constexpr const char* kRoleNames[] = {"w",  "x",  "y",  "r",  "dy",  "dx",  "dw",
                                      "Rw", "Rx", "Ry", "Rr", "Rdy", "Rdx", "Rdw"};

/// Per role the rows one after another; an empty one is not there.
using HostArrays = std::array<std::vector<double>, kRoles>;

/// Numbers per task of a role in this case, 0 where it has none.
std::int64_t role_size(const LayerCase& c, Role role);
/// Rows in memory: one for a shared w.
int role_rows(const LayerCase& c, Role role);
bool wanted(const LayerCase& c, Role role);
std::vector<Role> outputs_of(const LayerCase& c, Pass pass);

/// The case's inputs w x dy Rw Rx Rdy (and r, where it is given): every number is a float.
HostArrays draw_inputs(const LayerCase& c, unsigned seed);
/// Each number rounded to float, so that all devices read the same.
std::vector<double> as_float(std::vector<double> numbers);

/// Runs one pass: reads its inputs from `from`, returns its outputs. Adds failures when a guard band or an input was
/// written or an output left unwritten.
HostArrays run_pass(TestDevice device, Backend& backend, const LayerCase& c, Pass pass, const HostArrays& from);

/// All four passes on the reference, each from the ones before; with `round` every result is rounded to float before
/// the next pass reads it (`inputs`), while `expected` keeps it whole.
struct Expected {
  HostArrays inputs, expected;
};
Expected run_reference(const LayerCase& c, unsigned seed, bool round);

constexpr Pass kLayerPasses[] = {Pass::forward, Pass::backward, Pass::tangent_forward, Pass::tangent_backward};

/// Task `task` of a case's arrays as a case of one task.
HostArrays one_task(const LayerCase& c, const HostArrays& all, int task);

}  // namespace cumeta::testing
