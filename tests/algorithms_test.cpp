// SPDX-License-Identifier: Apache-2.0
// Whole meta-gradients of the reference against central differences in double, the inner loop included.
#include <gtest/gtest.h>

#include <cmath>

#include "cumeta/error.h"
#include "cumeta/learner.h"
#include "tests/support/compare.h"
#include "tests/support/tasks.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {
namespace {

MetaGradient reference_gradient(const Model& model, const Algorithm& algorithm, const Tasks& tasks,
                                const std::vector<double>& at = {}, const std::vector<double>& rates = {}) {
  Learner learner(model, algorithm, {.device = Device::reference});
  if (!at.empty()) learner.set_parameters(at);
  if (!rates.empty()) learner.set_rates(rates);
  return learner.meta_gradient(tasks.batch());
}
std::vector<double> start(const Model& model) {
  return Learner(model, Maml{}, {.device = Device::reference}).parameters();
}
double mean(const std::vector<double>& v) {
  double sum = 0;
  for (double x : v) sum += x;
  return sum / static_cast<double>(v.size());
}

/// d(mean query loss)/d theta by central differences, the whole inner loop included.
void expect_differences(const Model& model, const Algorithm& algorithm, const Tasks& tasks) {
  std::vector<double> at = start(model);
  for (double& v : at) v *= 1.3;
  const MetaGradient g = reference_gradient(model, algorithm, tasks, at);
  std::vector<double> differences(at.size());
  const double step = kDifferenceStep;
  for (std::size_t i = 0; i < at.size(); ++i) {
    std::vector<double> up = at, down = at;
    up[i] += step, down[i] -= step;
    differences[i] = (mean(reference_gradient(model, algorithm, tasks, up).query_loss) -
                      mean(reference_gradient(model, algorithm, tasks, down).query_loss)) /
                     (2 * step);
  }
  EXPECT_TRUE(near(name_of(algorithm), differences, g.gradient, 1, kDifferenceTolerance));
}

TEST(Differences, MamlOfSeveralSteps) {
  for (int steps : {0, 1, 3})
    expect_differences(tanh_model(), Maml{.steps = steps, .rate = 0.3}, random_tasks(tanh_model(), 2, 4, 5, 1));
}
TEST(Differences, Regression) {
  Model m = tanh_model();
  m.loss = MeanSquaredError{};
  expect_differences(m, Maml{.steps = 2, .rate = 0.2}, random_tasks(m, 2, 4, 5, 2));
}
TEST(Differences, SummedSupportLoss) {
  Model m = tanh_model();
  m.loss = SoftmaxCrossEntropy{Reduction::sum_over_ways};
  expect_differences(m, Maml{.steps = 2, .rate = 0.05}, random_tasks(m, 2, 4, 5, 2));
  m.loss = SoftmaxCrossEntropy{Reduction::sum};
  expect_differences(m, Maml{.steps = 2, .rate = 0.05}, random_tasks(m, 2, 4, 5, 2));
}
TEST(Differences, Anil) {
  expect_differences(tanh_model(), Anil{.steps = 3, .rate = 0.4}, random_tasks(tanh_model(), 2, 4, 5, 3));
}
TEST(Differences, FrozenLayerInTheMiddle) {
  Model m = tanh_model();
  std::get<Linear>(m.layers[2]).adapted = false;
  expect_differences(m, Maml{.steps = 3, .rate = 0.3}, random_tasks(m, 2, 4, 5, 4));
}
TEST(Differences, BatchNormOfEveryStatistics) {
  for (Statistics s : {Statistics::batch, Statistics::support}) {
    Model m{image(5, 5, 2), {}, SoftmaxCrossEntropy{}};
    m.layers = {Conv2d{.filters = 3, .kernel = 3, .padding = 1},
                BatchNorm{.statistics = s},
                Tanh{},
                Conv2d{.filters = 2, .kernel = 3, .stride = 2},
                BatchNorm{.statistics = s},
                Tanh{},
                Flatten{},
                Linear{.outputs = 3}};
    const Tasks tasks = random_tasks(m, 2, 4, 3, 5);
    expect_differences(m, Maml{.steps = 2, .rate = 0.3}, tasks);
    expect_differences(m, Anil{.steps = 2, .rate = 0.3, .first_adapted_layer = 3}, tasks);
    // The head begins with a batch norm, which alone reads its own dx in the tangent pass.
    expect_differences(m, Anil{.steps = 2, .rate = 0.3, .first_adapted_layer = 4}, tasks);
  }
}
TEST(Differences, LearnedRates) {
  const Model m = tanh_model();
  const Tasks tasks = random_tasks(m, 2, 4, 5, 6);
  for (const Algorithm& a : {Algorithm{MetaSgd{.steps = 3, .rate = 0.3}},
                             Algorithm{Maml{.steps = 3, .rate = 0.3, .rate_per_step = true, .rate_learned = true}}}) {
    Learner learner(m, a, {.device = Device::reference});
    const std::vector<double> rates = learner.rates();
    const MetaGradient g = learner.meta_gradient(tasks.batch());
    ASSERT_EQ(g.rate_gradient.size(), rates.size());
    const bool one_rate = std::holds_alternative<Maml>(a);
    const std::size_t P = learner.parameters().size();
    const double step = kDifferenceStep;
    auto loss_at = [&](auto change) {
      std::vector<double> moved = rates;
      change(moved);
      learner.set_rates(moved);
      return mean(learner.meta_gradient(tasks.batch()).query_loss);
    };
    for (std::size_t i = 0; i < rates.size(); i += one_rate ? P : 5) {
      // A rate that parameters share moves them all.
      auto by = [&](double d) {
        return [=](std::vector<double>& r) {
          for (std::size_t j = i; j < (one_rate ? i + P : i + 1); ++j) r[j] += d;
        };
      };
      EXPECT_NEAR((loss_at(by(step)) - loss_at(by(-step))) / (2 * step), g.rate_gradient[i], kDifferenceTolerance);
    }
  }
}

}  // namespace
}  // namespace cumeta::testing
