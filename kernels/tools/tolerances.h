// SPDX-License-Identifier: Apache-2.0
// How far a device may be from the reference: one table by (pass, number type). An error is |actual - expected| over
// the largest |expected| of the task's row.
#pragma once
#include "kernels/array.h"

namespace cumeta::judging {

enum class Pass { forward, backward, tangent_forward, tangent_backward, loss, loss_tangent, algebra, outer_step };

constexpr double tolerance(Pass pass, Number number) {
  const bool f32 = number == Number::float32;
  switch (pass) {
    case Pass::forward:
      return f32 ? 3e-6 : 1e-13;
    case Pass::backward:
      return f32 ? 4e-6 : 1e-12;
    case Pass::tangent_forward:
      return f32 ? 5e-6 : 1e-12;
    case Pass::tangent_backward:
      return f32 ? 6e-6 : 1e-11;
    case Pass::loss:
      return f32 ? 1e-6 : 1e-13;
    case Pass::loss_tangent:
      return f32 ? 1e-6 : 1e-13;
    case Pass::algebra:
      return f32 ? 2e-6 : 1e-14;
    case Pass::outer_step:
      return f32 ? 4e-6 : 1e-13;
  }
  return 0;
}

constexpr const char* name(Pass pass) {
  constexpr const char* names[] = {"forward", "backward",     "tangent_forward", "tangent_backward",
                                   "loss",    "loss_tangent", "algebra",         "outer_step"};
  return names[static_cast<int>(pass)];
}

}  // namespace cumeta::judging
