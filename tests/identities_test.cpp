// SPDX-License-Identifier: Apache-2.0
// What ties the algorithms together, on every device: ANIL from layer 0 = MAML, Meta-SGD with equal rates = MAML, rate
// 0: MAML = FOMAML, Reptile = what the weights moved; and the closed forms of linear models, exact in integers.
#include <gtest/gtest.h>

#include <algorithm>

#include "cumeta/learner.h"
#include "tests/support/compare.h"
#include "tests/support/learner_on.h"
#include "tests/support/tasks.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {
namespace {

class Identities : public LearnerOn {
 protected:
  MetaGradient gradient(const Model& model, const Algorithm& algorithm, const Tasks& tasks) const {
    return Learner(model, algorithm, on()).meta_gradient(tasks.batch());
  }
  /// Two ways to one sum: apart by rounding.
  ::testing::AssertionResult equal(const std::vector<double>& expected, const std::vector<double>& actual) const {
    const bool in_double = GetParam() == TestDevice::reference;
    return near("gradient", expected, actual, 1,
                in_double ? kIdentityTolerance : meta_gradient_tolerance(arithmetic_of(GetParam())));
  }
};

TEST_P(Identities, AnilFromTheFirstLayerIsMaml) {
  for (const Model& model : {tanh_model(), conv_model()}) {
    const Tasks tasks = random_tasks(model, 3, 4, 5, 7);
    const auto maml = gradient(model, Maml{.steps = 3, .rate = 0.3}, tasks);
    const auto anil = gradient(model, Anil{.steps = 3, .rate = 0.3, .first_adapted_layer = 0}, tasks);
    EXPECT_TRUE(same_bits("gradient", maml.gradient, anil.gradient));
  }
}

TEST_P(Identities, AnilIsMamlWithAFrozenBody) {
  // The body's shortcut against the general path: the second keeps a first layer adapted at rate zero.
  const Model m = tanh_model();
  const Tasks tasks = random_tasks(m, 3, 4, 5, 8);
  const auto anil = gradient(m, Anil{.steps = 3, .rate = 0.3, .first_adapted_layer = 2}, tasks);
  Learner general(m, MetaSgd{.steps = 3, .rate = 0.3}, on());
  std::vector<double> rates = general.rates();
  for (const Parameter& p : parameters(m))
    if (p.layer < 2) std::fill_n(rates.begin() + p.offset, p.size, 0.0);
  general.set_rates(rates);
  EXPECT_TRUE(equal(general.meta_gradient(tasks.batch()).gradient, anil.gradient));
}

TEST_P(Identities, MetaSgdWithEqualRatesIsMaml) {
  for (const Model& model : {tanh_model(), conv_model()}) {
    const Tasks tasks = random_tasks(model, 3, 4, 5, 9);
    const auto maml = gradient(model, Maml{.steps = 2, .rate = 0.3}, tasks);
    const auto sgd = gradient(model, MetaSgd{.steps = 2, .rate = 0.3}, tasks);
    EXPECT_TRUE(equal(maml.gradient, sgd.gradient));
  }
}

TEST_P(Identities, OrdersAgreeAtRateZeroAndNowhereElse) {
  for (const Model& model : {tanh_model(), conv_model()}) {
    const Tasks tasks = random_tasks(model, 3, 4, 5, 10);
    const auto at = [&](double rate, Order order) {
      return gradient(model, Maml{.steps = 2, .rate = rate, .order = order}, tasks).gradient;
    };
    EXPECT_TRUE(equal(at(0, Order::first), at(0, Order::second)));
    EXPECT_FALSE(near("rate .3", at(0.3, Order::first), at(0.3, Order::second), 1, 1e-3));
  }
}

TEST_P(Identities, ReptileIsWhatTheWeightsMoved) {
  const Model m = tanh_model();
  const Tasks tasks = random_tasks(m, 2, 4, 5, 11);
  Learner learner(m, Reptile{.steps = 4, .rate = 0.1}, on());
  const auto theta = learner.parameters();
  const auto g = learner.meta_gradient(tasks.batch());
  std::vector<double> moved(theta.size());
  for (std::size_t i = 0; i < theta.size(); ++i) moved[i] = theta[i] - (g.adapted[i] + g.adapted[theta.size() + i]) / 2;
  EXPECT_TRUE(equal(moved, g.gradient));
}

/// A linear model with a squared error; half the rates, doubled gradients.
struct ClosedForm {
  std::vector<float> support, query;
  float query_target;
  double rate;
  int steps;
  std::vector<double> maml, fomaml;
};
const Model kLinear{features(3), {Linear{.outputs = 1, .bias = false}}, MeanSquaredError{}};
const std::vector<double> kWeights{2, 3, 5};

TEST_P(Identities, ClosedFormsOfBothOrders) {
  const std::vector<ClosedForm> forms = {
      {{1, 2, 3}, {4, 5, 6}, 0, 0.25, 1, {7560, 17010, 26460}, {-2520, -3150, -3780}},
      {{4, 5, 6}, {1, 2, 3}, 0, 0.25, 1, {103950, 128700, 153450}, {-1650, -3300, -4950}},
      {{1, 2, 3}, {4, 5, 6}, -115499.5F, 0.5, 3, {-5020, -10043, -15066}, {4, 5, 6}}};
  for (const ClosedForm& f : forms)
    for (const Order order : {Order::second, Order::first}) {
      Learner learner(kLinear, Maml{.steps = f.steps, .rate = f.rate, .order = order}, on());
      learner.set_parameters(kWeights);
      const std::vector<float> zero{0}, target{f.query_target};
      const auto g = learner.meta_gradient({1, {1, f.support, zero}, {1, f.query, target}});
      EXPECT_EQ(g.gradient, order == Order::second ? f.maml : f.fomaml);
      EXPECT_EQ(g.order, order);
    }
}

TEST_P(Identities, ClosedFormsOfMetaSgdAndReptile) {
  const std::vector<float> s{1, 2, 3}, q{4, 5, 6}, zero{0};
  Learner sgd(kLinear, MetaSgd{.steps = 1, .rate = 0.25}, on());
  sgd.set_parameters(kWeights);
  EXPECT_EQ(sgd.meta_gradient({1, {1, s, zero}, {1, q, zero}}).rate_gradient,
            (std::vector<double>{115920, 289800, 521640}));
  Learner reptile(kLinear, Reptile{.steps = 1, .rate = 0.25}, on());
  reptile.set_parameters(kWeights);
  EXPECT_EQ(reptile.meta_gradient({1, {1, s, zero}, {1, q, zero}}).gradient, (std::vector<double>{11.5, 23, 34.5}));
}

INSTANTIATE_TEST_SUITE_P(Devices, Identities,
                         ::testing::Values(TestDevice::reference, TestDevice::cpu, TestDevice::cuda),
                         [](const auto& device) { return name(device.param); });

}  // namespace
}  // namespace cumeta::testing
