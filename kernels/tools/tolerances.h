// SPDX-License-Identifier: Apache-2.0
// How far a device may be from the reference: one table by (pass, arithmetic). An error is |actual - expected| over
// the largest |expected| of the task's row.
#pragma once
#include "kernels/array.h"

namespace cumeta::judging {

enum class Pass { forward, backward, tangent_forward, tangent_backward, loss, loss_tangent, algebra, outer_step };

/// The table's columns: a number type, or float32 with TF32 products in linear and convolution.
enum class Arithmetic { float64, float32, tf32 };
constexpr Arithmetic arithmetic(Number number) {
  return number == Number::float32 ? Arithmetic::float32 : Arithmetic::float64;
}

constexpr double tolerance(Pass pass, Arithmetic arithmetic) {
  struct Row {
    double float64, float32, tf32;
  };
  constexpr Row rows[] = {
      {1e-13, 3e-6, 2e-3},  // forward
      {1e-12, 4e-6, 2e-3},  // backward
      {1e-12, 5e-6, 2e-3},  // tangent_forward
      {1e-11, 6e-6, 3e-3},  // tangent_backward
      {1e-13, 1e-6, 1e-6},  // loss
      {1e-13, 1e-6, 1e-6},  // loss_tangent
      {1e-14, 2e-6, 2e-6},  // algebra
      {1e-13, 4e-6, 4e-6},  // outer_step
  };
  const Row& row = rows[static_cast<int>(pass)];
  return arithmetic == Arithmetic::tf32 ? row.tf32 : arithmetic == Arithmetic::float32 ? row.float32 : row.float64;
}
constexpr double tolerance(Pass pass, Number number) { return tolerance(pass, arithmetic(number)); }

constexpr const char* name(Pass pass) {
  constexpr const char* names[] = {"forward", "backward",     "tangent_forward", "tangent_backward",
                                   "loss",    "loss_tangent", "algebra",         "outer_step"};
  return names[static_cast<int>(pass)];
}

}  // namespace cumeta::judging
