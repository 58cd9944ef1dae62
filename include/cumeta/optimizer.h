// SPDX-License-Identifier: Apache-2.0
// The outer loop's optimizers, schedules and clipping.
#pragma once
#include <cstdint>
#include <variant>

namespace cumeta {

/// m = momentum m + g;  theta -= rate m
struct Sgd {
  double rate = 0.1;
  double momentum = 0.0;
};
/// Kingma & Ba 2015, bias-corrected, eps outside the root.
struct Adam {
  double rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
};
using Optimizer = std::variant<Adam, Sgd>;

/// How the rate goes from its value r to `final_rate` f over `updates`; afterwards it stays there. At part p in [0, 1]:
/// linear r + (f - r) p, cosine f + (r - f) (1 + cos(pi p)) / 2.
struct Schedule {
  enum class Kind { constant, linear, cosine };
  Kind kind = Kind::constant;
  double final_rate = 0.0;
  std::int64_t updates = 0;
};

/// Applied to the mean meta-gradient: value first, then norm. 0: off.
struct Clip {
  double value = 0.0;
  double norm = 0.0;
};

}  // namespace cumeta
