// SPDX-License-Identifier: Apache-2.0
// The reference column's losses against mathematics: dx is the difference of factor x loss, Rdx that of dx; ignored
// rows, hits and reductions by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/all_layers.h"
#include "tests/support/compare.h"
#include "tests/support/loss_passes.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {
namespace {

LossArrays run(const LossCase& c, const LossArrays& from) {
  std::string why;
  return run_loss(*open(TestDevice::reference, why), c, from);
}

TEST(ReferenceLoss, GradientAndTangentAreCentralDifferences) {
  for (const LossCase& c : loss_cases()) {
    SCOPED_TRACE("CUMETA_CASE=" + c.name);
    LossCase all = c;
    all.no_hits = all.no_dx = false;
    const LossArrays in = draw_loss_inputs(all, 31);
    const LossArrays out = run(all, in);
    const double step = kDifferenceStep;
    LossArrays above = in, below = in;
    for (std::size_t i = 0; i < in.x.size(); ++i) {
      above.x[i] += step * in.Rx[i];
      below.x[i] -= step * in.Rx[i];
    }
    above = run(all, above), below = run(all, below);
    const std::size_t size = in.x.size() / static_cast<std::size_t>(c.tasks);
    for (std::size_t task = 0; task < static_cast<std::size_t>(c.tasks); ++task) {
      double along = 0;
      for (std::size_t i = task * size; i < (task + 1) * size; ++i) along += out.dx[i] * in.Rx[i];
      const double difference = all.geometry.factor * (above.loss[task] - below.loss[task]) / (2 * step);
      EXPECT_NEAR(along, difference, kDifferenceTolerance * (1 + std::abs(along)));
    }
    std::vector<double> expected(out.Rdx.size());
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = (above.dx[i] - below.dx[i]) / (2 * step);
    EXPECT_TRUE(near("Rdx", expected, out.Rdx, static_cast<std::size_t>(c.tasks), kDifferenceTolerance, 1e-2));
    // Rows that do not count are zeros to the bit.
    for (std::size_t task = 0; task < static_cast<std::size_t>(c.tasks); ++task)
      for (int i = 0; i < c.geometry.first_row * c.geometry.outputs; ++i) {
        EXPECT_EQ(out.dx[task * size + static_cast<std::size_t>(i)], 0.0);
        EXPECT_EQ(out.Rdx[task * size + static_cast<std::size_t>(i)], 0.0);
      }
  }
}

TEST(ReferenceLoss, CrossEntropyByHand) {
  // p = 1/4 and 3/4; labels 0 and 0, so -log p = log 4 and log (4/3); a tie is a hit of the first index only.
  LossCase c{.name = "by hand", .loss = SoftmaxCrossEntropy{}, .geometry = {2, 3, 1, 1.0}, .tasks = 1};
  LossArrays in;
  in.x = {9, -9, /* counts from here */ 0, std::log(3.0), 100, 100};
  in.t = {0, 0, 1};
  in.Rx = {1, 1, 1, 0, 0, 1};
  LossArrays out = run(c, in);
  EXPECT_NEAR(out.loss[0], (std::log(4.0) + std::log(2.0)) / 2, 1e-15);
  EXPECT_EQ(out.hits[0], 0);
  EXPECT_TRUE(near("dx", {0, 0, -0.375, 0.375, 0.25, -0.25}, out.dx, 1, 1e-15));
  // p (Rx - <p, Rx>) / n: 1/4 (1 - 1/4) / 2
  EXPECT_TRUE(near("Rdx", {0, 0, 0.09375, -0.09375, -0.125, 0.125}, out.Rdx, 1, 1e-15));
  c.geometry.factor = 4;
  EXPECT_TRUE(near("dx by factor", {0, 0, -1.5, 1.5, 1, -1}, run(c, in).dx, 1, 1e-15));
  EXPECT_EQ(run(c, in).loss[0], out.loss[0]);
  in.t = {0, 1, 0};
  EXPECT_EQ(run(c, in).hits[0], 2);
}

TEST(ReferenceLoss, SquaredErrorByHand) {
  const LossCase c{.name = "by hand", .loss = MeanSquaredError{}, .geometry = {2, 2, 0, 1.0}, .tasks = 1};
  LossArrays in;
  in.x = {1, 2, 3, 4};
  in.t = {0, 2, 5, 1};
  in.Rx = {1, 2, 0, -1};
  const LossArrays out = run(c, in);
  EXPECT_EQ(out.loss[0], 3.5);
  EXPECT_EQ(out.hits[0], 0);
  EXPECT_EQ(out.dx, (std::vector<double>{0.5, 0, -1, 1.5}));
  EXPECT_EQ(out.Rdx, (std::vector<double>{0.5, 1, 0, -0.5}));
}

TEST(ReferenceLoss, FactorsOfTheReductions) {
  EXPECT_EQ(reduction_factor(SoftmaxCrossEntropy{Reduction::mean}, 5, 10), 1);
  EXPECT_EQ(reduction_factor(SoftmaxCrossEntropy{Reduction::sum}, 5, 10), 10);
  EXPECT_EQ(reduction_factor(SoftmaxCrossEntropy{Reduction::sum_over_ways}, 5, 10), 5);
  EXPECT_EQ(reduction_factor(MeanSquaredError{Reduction::sum}, 3, 10), 30);
}

}  // namespace
}  // namespace cumeta::testing
