// SPDX-License-Identifier: Apache-2.0
// The one list of cases, layer x geometry and loss x geometry: what correctness, gradients, devices and benches run
// over.
#pragma once
#include <iosfwd>
#include <string>
#include <vector>

#include "kernels/layer.h"
#include "kernels/stage.h"

namespace cumeta::testing {

/// What is drawn for the arrays of a case: numbers that stay clear of zero, so that no finite difference crosses a
/// kink, or small integers, on which contractions are exact in every number type and max-pool has ties.
enum class Fill {
  random,
  integers,
  /// x is 0.1 from 3, far from zero for its deviation and of few values, as pixels are: a long sum's roundings all go
  /// one way.
  far
};

struct LayerCase {
  std::string name;
  Stage stage;
  Geometry geometry;
  int tasks = 3;
  bool shared_w = false;  ///< all tasks at one w (stride 0), as in the first inner step
  bool no_Rw = false;     ///< the direction is zero in this layer
  bool no_Rx = false;     ///< the first layer
  bool no_dx = false;     ///< nobody below wants a gradient
  bool no_dw = false;     ///< nothing to adapt
  Fill fill = Fill::random;
};

struct LossCase {
  std::string name;
  Loss loss;
  LossGeometry geometry;
  int tasks = 3;
  bool no_hits = false, no_dx = false;
  double spread = 2.0;      ///< x is drawn from [-spread, spread]
  double confidence = 0.0;  ///< of classes: what the label's score is above the largest other's, if that is not 0
};

/// The small and odd sizes, and those of the published models.
std::vector<LayerCase> layer_cases();
/// Sizes that a device meets another path by, too large to be run over and over.
std::vector<LayerCase> large_cases();
/// Linear and convolution by the vendor's libraries: the same sizes and roles.
std::vector<LayerCase> vendor_cases();
/// Linear and convolution, own and the vendor's, on small integers.
std::vector<LayerCase> exact_cases();
std::vector<LossCase> loss_cases();

/// The kinds that the list has cases of, and the cases of one: a test takes a kind and loops. CUMETA_CASE=text keeps
/// only the cases whose name contains it; a failure names its case.
std::vector<std::string> layer_kinds();
template <class Case>
std::vector<Case> of_kind(const std::vector<Case>& cases, const std::string& kind);

std::ostream& operator<<(std::ostream& out, const LayerCase& c);
std::ostream& operator<<(std::ostream& out, const LossCase& c);

/// Multiply-adds of one forward pass over all tasks, 0 where there is no contraction.
std::int64_t multiply_adds(const LayerCase& c);

}  // namespace cumeta::testing
