// SPDX-License-Identifier: Apache-2.0
// Whole meta-gradients: against central differences in double, the identities between algorithms, the closed forms.
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

TEST(Identity, AnilFromTheFirstLayerIsMaml) {
  const Tasks tasks = random_tasks(tanh_model(), 3, 4, 5, 7);
  const auto maml = reference_gradient(tanh_model(), Maml{.steps = 3, .rate = 0.3}, tasks);
  const auto anil = reference_gradient(tanh_model(), Anil{.steps = 3, .rate = 0.3, .first_adapted_layer = 0}, tasks);
  EXPECT_TRUE(same_bits("gradient", maml.gradient, anil.gradient));
}
TEST(Identity, AnilIsMamlWithFrozenLayers) {
  // The body's shortcut against the general path: the second keeps a first layer adapted at rate zero.
  Model m = tanh_model();
  const Tasks tasks = random_tasks(m, 3, 4, 5, 8);
  const auto anil = reference_gradient(m, Anil{.steps = 3, .rate = 0.3, .first_adapted_layer = 2}, tasks);
  Learner general(m, MetaSgd{.steps = 3, .rate = 0.3}, {.device = Device::reference});
  std::vector<double> rates = general.rates();
  for (const Parameter& p : parameters(m))
    if (p.layer < 2) std::fill_n(rates.begin() + p.offset, p.size, 0.0);
  general.set_rates(rates);
  EXPECT_TRUE(near("gradient", general.meta_gradient(tasks.batch()).gradient, anil.gradient, 1, kIdentityTolerance));
}
TEST(Identity, MetaSgdWithEqualRatesIsMaml) {
  const Tasks tasks = random_tasks(tanh_model(), 3, 4, 5, 9);
  const auto maml = reference_gradient(tanh_model(), Maml{.steps = 2, .rate = 0.3}, tasks);
  const auto sgd = reference_gradient(tanh_model(), MetaSgd{.steps = 2, .rate = 0.3}, tasks);
  EXPECT_TRUE(same_bits("gradient", maml.gradient, sgd.gradient));
}
TEST(Identity, OrdersAgreeAtRateZeroAndNowhereElse) {
  const Tasks tasks = random_tasks(tanh_model(), 3, 4, 5, 10);
  auto at = [&](double rate, Order order) {
    return reference_gradient(tanh_model(), Maml{.steps = 2, .rate = rate, .order = order}, tasks).gradient;
  };
  EXPECT_TRUE(near("rate 0", at(0, Order::first), at(0, Order::second), 1, kIdentityTolerance));
  EXPECT_FALSE(near("rate .3", at(0.3, Order::first), at(0.3, Order::second), 1, 1e-3));
}
TEST(Identity, ReptileIsWhatTheWeightsMoved) {
  const Tasks tasks = random_tasks(tanh_model(), 2, 4, 5, 11);
  const auto g = reference_gradient(tanh_model(), Reptile{.steps = 4, .rate = 0.1}, tasks);
  const auto theta = start(tanh_model());
  for (std::size_t i = 0; i < theta.size(); ++i)
    EXPECT_NEAR(g.gradient[i], theta[i] - (g.adapted[i] + g.adapted[theta.size() + i]) / 2, kIdentityTolerance);
}

/// MATH: a linear model with a squared error; half the rates, doubled gradients.
struct ClosedForm {
  std::vector<float> support, query;
  float query_target;
  double rate;
  int steps;
  std::vector<double> maml, fomaml;
};
TEST(ClosedForms, EveryDevice) {
  const Model m{features(3), {Linear{.outputs = 1, .bias = false}}, MeanSquaredError{}};
  const std::vector<ClosedForm> forms = {
      {{1, 2, 3}, {4, 5, 6}, 0, 0.25, 1, {7560, 17010, 26460}, {-2520, -3150, -3780}},
      {{4, 5, 6}, {1, 2, 3}, 0, 0.25, 1, {103950, 128700, 153450}, {-1650, -3300, -4950}},
      {{1, 2, 3}, {4, 5, 6}, -115499.5F, 0.5, 3, {-5020, -10043, -15066}, {4, 5, 6}}};
  for (Device device : {Device::reference, Device::cpu})
    for (const ClosedForm& f : forms)
      for (Order order : {Order::second, Order::first}) {
        Learner learner(m, Maml{.steps = f.steps, .rate = f.rate, .order = order}, {.device = device});
        learner.set_parameters(std::vector<double>{2, 3, 5});
        const std::vector<float> zero{0}, target{f.query_target};
        const auto g = learner.meta_gradient({1, {1, f.support, zero}, {1, f.query, target}});
        EXPECT_EQ(g.gradient, order == Order::second ? f.maml : f.fomaml) << learner.device_name();
        EXPECT_EQ(g.order, order);
      }
}
TEST(ClosedForms, MetaSgdRatesAndReptile) {
  const Model m{features(3), {Linear{.outputs = 1, .bias = false}}, MeanSquaredError{}};
  const std::vector<float> s{1, 2, 3}, q{4, 5, 6}, zero{0};
  for (Device device : {Device::reference, Device::cpu}) {
    Learner sgd(m, MetaSgd{.steps = 1, .rate = 0.25}, {.device = device});
    sgd.set_parameters(std::vector<double>{2, 3, 5});
    EXPECT_EQ(sgd.meta_gradient({1, {1, s, zero}, {1, q, zero}}).rate_gradient,
              (std::vector<double>{115920, 289800, 521640}));
    Learner reptile(m, Reptile{.steps = 1, .rate = 0.25}, {.device = device});
    reptile.set_parameters(std::vector<double>{2, 3, 5});
    EXPECT_EQ(reptile.meta_gradient({1, {1, s, zero}, {1, q, zero}}).gradient, (std::vector<double>{11.5, 23, 34.5}));
  }
}

}  // namespace
}  // namespace cumeta::testing
