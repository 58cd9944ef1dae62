// SPDX-License-Identifier: Apache-2.0
// Every tolerance of the tests that is not rounding in double: the table by (pass, arithmetic), and what is judged by
// something else than a pass.
#pragma once
#include <variant>

#include "cumeta/model.h"
#include "kernels/tools/tolerances.h"

namespace cumeta::testing {

using judging::Arithmetic;
using judging::arithmetic;
using judging::name;
using judging::Pass;
using judging::tolerance;

/// The scale of a row of numbers that are all smaller than this: what is left of a sum that cancels is judged by what
/// was added.
constexpr double kSmallestScale = 1e-3;

/// Central differences of the double reference: step, and the error it may leave.
constexpr double kDifferenceStep = 1e-5;
constexpr double kDifferenceTolerance = 1e-7;
/// Identities between sums of the double reference, over the sums' magnitudes.
constexpr double kIdentityTolerance = 1e-11;

/// A meta-gradient, the adapted parameters or the losses as a whole, |difference| over |expected| in the 2-norm.
constexpr double meta_gradient_tolerance(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::float64 ? 1e-9 : 1e-4;
}
/// Nearer to the double reference than this no meta-gradient comes with products in TF32.
constexpr double kNearestTf32 = 1e-5;

/// What decides how far TF32 turns a meta-gradient: activations that change sides, and a pool's winners above all.
enum class ModelKind { features, images, pooled_images };
inline ModelKind kind_of(const Model& model) {
  ModelKind kind = ModelKind::features;
  for (const Layer& layer : model.layers) {
    if (std::holds_alternative<MaxPool2d>(layer)) return ModelKind::pooled_images;
    if (std::holds_alternative<Conv2d>(layer)) kind = ModelKind::images;
  }
  return kind;
}
/// Of a meta-gradient with products in TF32: 1 - cosine of the angle to the expected one, and how far the ratio of the
/// lengths is from 1.
struct DirectionTolerance {
  double turned, longer;
};
constexpr DirectionTolerance direction_tolerance(ModelKind kind) {
  constexpr DirectionTolerance rows[] = {{1e-5, 5e-3}, {0.01, 0.02}, {0.3, 0.25}};
  return rows[static_cast<int>(kind)];
}

/// A whole inner loop as one program against the recursion in double: its results over the largest of their row, its
/// losses over themselves, but at least kSmallestProgramLoss, and the adapted parameters as they are.
constexpr double kProgramTolerance = 2e-5;
constexpr double kSmallestProgramLoss = 1e-2;
constexpr double kProgramParameterTolerance = 1e-5;

/// The loss of one meta-update on two float devices.
constexpr double kUpdateTolerance = 1e-5;
/// Logs and parameters of a short training run on two float devices, over their magnitudes.
constexpr double kTrainingTolerance = 1e-3;

/// Functions of the GPU's instruction set on numbers of about 1, and each multiply-add of a contraction of such.
constexpr double kInstructionTolerance = 2e-6;
constexpr double kMultiplyAddTolerance = 4e-6;
/// A block's sum of 256 such numbers against their sum one by one, in float both.
constexpr double kBlockSumTolerance = 1e-4;

}  // namespace cumeta::testing
