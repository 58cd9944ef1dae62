// SPDX-License-Identifier: Apache-2.0
// Inner rates at the door: who may be given which, what a checkpoint keeps of them, and which checkpoints go on where.
#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/learner_on.h"
#include "tests/support/pictures.h"
#include "tests/support/says.h"
#include "tests/support/tasks.h"

namespace cumeta::testing {
namespace {

/// Three numbers in, two classes; the last layer is not adapted.
Model half_adapted_model() {
  return {features(3), {Linear{.outputs = 4}, Tanh{}, Linear{.outputs = 2, .adapted = false}}, SoftmaxCrossEntropy{}};
}

TEST_P(LearnerOn, RatesOutsideTheAdaptedSetAreRefused) {
  const Model model = half_adapted_model();  // 16 adapted parameters, then 10
  Learner learner(model, Maml{.steps = 2, .rate = 0.1}, on());
  std::vector<double> rates(26, 0.1);
  EXPECT_SAYS(learner.set_rates(rates), "rate 16 is 0.1");
  EXPECT_SAYS(learner.set_rates(rates), "layers.2.weight");
  std::fill(rates.begin() + 16, rates.end(), 0.0);
  learner.set_rates(rates);
  const MetaGradient g = learner.meta_gradient(random_tasks(model, 2, 3, 3, 1).batch());
  const std::vector<double> theta = learner.parameters();
  for (std::size_t task = 0; task < 2; ++task)
    for (std::size_t i = 0; i < 26; ++i) EXPECT_EQ(g.adapted[task * 26 + i] == theta[i], i >= 16) << "parameter " << i;
  // A head of ANIL has a body that does not move either, in any step.
  Learner anil(tanh_model(), Anil{.steps = 1, .rate = 0.1}, on());
  std::vector<double> all(static_cast<std::size_t>(parameter_count(tanh_model())), 0.0);
  all[27] = -0.5;
  EXPECT_SAYS(anil.set_rates(all), "rate 27 is -0.5");
}

TEST_P(LearnerOn, RatesThatShareOneMustBeEqual) {
  const Model model = tanh_model();  // arrays of 21, 7, 35, 5, 15, 3 parameters
  const auto P = static_cast<std::size_t>(parameter_count(model));
  Learner learner(model, Maml{.steps = 2, .rate_per_layer = true, .rate_per_step = true, .rate_learned = true}, on());
  std::vector<double> rates = learner.rates();
  rates[P + 22] = 0.25;
  EXPECT_SAYS(learner.set_rates(rates), "rate 108 is 0.25");
  for (std::size_t i = 21; i < 28; ++i) rates[P + i] = 0.25;
  learner.set_rates(rates);
  EXPECT_TRUE(near("rates", rates, learner.rates(), 1, 1e-7));
  // Nothing is shared where every parameter has its own, nor where the rates are fixed.
  Learner own(model, MetaSgd{}, on()), fixed(model, Maml{}, on());
  std::vector<double> each(P);
  for (std::size_t i = 0; i < P; ++i) each[i] = 0.01 * static_cast<double>(i);
  own.set_rates(each), fixed.set_rates(each);
}

TEST_P(LearnerOn, CheckpointsKnowStepsAndAdaptedSet) {
  const test::Folder folder;
  const Model model = tanh_model();
  Learner one(model, Maml{.steps = 1, .rate = 0.1}, on()), five(model, Maml{.steps = 5, .rate = 0.1}, on());
  one.save(folder.path("one"));
  EXPECT_SAYS(five.load(folder.path("one")), "steps is 1, this learner's is 5");
  five.load_trained(folder.path("one"));  // to adapt by more steps than were trained is anybody's right
  Learner last(model, Anil{.steps = 1}, on()), middle(model, Anil{.steps = 1, .first_adapted_layer = 2}, on());
  last.save(folder.path("last"));
  EXPECT_SAYS(middle.load(folder.path("last")), "adapted_set is layers.4.weight layers.4.bias, this learner's is");
}

TEST_P(LearnerOn, RowsOfFixedRatesAreCounted) {
  const test::Folder folder;
  const Model model = tanh_model();
  const auto P = static_cast<std::size_t>(parameter_count(model));
  Learner three(model, Maml{.steps = 3, .rate = 0.1, .rate_per_step = true}, on()),
      one(model, Maml{.steps = 3, .rate = 0.1}, on());
  std::vector<double> rates(3 * P, 0.2);
  std::fill(rates.begin() + static_cast<std::ptrdiff_t>(P), rates.end(), 0.4);
  three.set_rates(rates);
  three.save(folder.path("three"));
  EXPECT_SAYS(one.load(folder.path("three")), "3 rows of rates, this learner has 1");
  EXPECT_SAYS(one.load_trained(folder.path("three")), "3 rows of rates, this learner has 1");
  EXPECT_SAYS(one.load_parameters(folder.path("three")), "3 rows of rates, this learner has 1");
  EXPECT_TRUE(one.rates().empty());
  one.set_rates(std::vector<double>(P, 0.3));
  one.save(folder.path("one"));
  EXPECT_SAYS(three.load(folder.path("one")), "1 row of rates, this learner has 3");
}

TEST_P(LearnerOn, ParametersAndRatesOfAFileStartANewRun) {
  const test::Folder folder;
  const Model model = conv_model(Statistics::running);
  const Tasks tasks = random_tasks(model, 3, 4, 4, 1);
  Learner source(model, Maml{.steps = 2, .rate = 0.1}, on());
  source.set_rates(std::vector<double>(static_cast<std::size_t>(parameter_count(model)), 0.05));
  source.meta_update(tasks.batch());
  source.save(folder.path("source"));
  Learner used(model, Maml{.steps = 2, .rate = 0.1}, on()), fresh(model, Maml{.steps = 2, .rate = 0.1}, on());
  for (int i = 0; i < 3; ++i) used.meta_update(tasks.batch());
  for (Learner* learner : {&used, &fresh}) {
    learner->load_parameters(folder.path("source"));
    EXPECT_EQ(learner->updates(), 0);
    EXPECT_EQ(learner->rates(), source.rates());
    EXPECT_EQ(learner->parameters(), source.parameters());
  }
  const Update first = used.meta_update(tasks.batch());
  EXPECT_EQ(first.update, 1);
  EXPECT_EQ(first.loss, fresh.meta_update(tasks.batch()).loss);
  EXPECT_EQ(used.parameters(), fresh.parameters());  // no moment of the old run is left
  EXPECT_EQ(used.evaluate(tasks.batch(), 2, Statistics::running).loss,
            fresh.evaluate(tasks.batch(), 2, Statistics::running).loss);
}

TEST_P(LearnerOn, TheCarriedSecondMomentStartsANewRunAtZero) {
  const test::Folder folder;
  const Model model = tanh_model();
  const Reptile reptile{.steps = 2, .rate = 0.01, .inner = Reptile::Inner::adam};
  const Tasks tasks = random_tasks(model, 3, 4, 4, 1);
  Learner used(model, reptile, on(Sgd{.rate = 0.5})), fresh(model, reptile, on(Sgd{.rate = 0.5}));
  fresh.save(folder.path("start"));
  for (int i = 0; i < 3; ++i) used.meta_update(tasks.batch());
  used.load_parameters(folder.path("start"));
  used.meta_update(tasks.batch()), fresh.meta_update(tasks.batch());
  EXPECT_EQ(used.parameters(), fresh.parameters());
}

CUMETA_LEARNER_ON_EVERY_DEVICE;

}  // namespace
}  // namespace cumeta::testing
