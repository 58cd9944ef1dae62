// SPDX-License-Identifier: Apache-2.0
// Runs that do not go straight: several data sets in turn, updates that are skipped, numbers that are not finite.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cumeta/error.h"
#include "cumeta/tensor_file.h"
#include "tests/support/compare.h"
#include "tests/support/learner_on.h"
#include "tests/support/pictures.h"
#include "tests/support/says.h"
#include "tests/support/tasks.h"

namespace cumeta::testing {
namespace {

/// Four classes of two 4x4 pictures, darker or brighter.
void write_classes(const test::Folder& folder, int brightness) {
  for (int c = 0; c < 4; ++c)
    for (int i = 0; i < 2; ++i)
      folder.put("class" + std::to_string(c) + "/" + std::to_string(i) + ".png",
                 test::png(4, 4, 8, test::Colour::grey,
                           [=](int y, int x, int) { return (brightness + 40 * c + 9 * i + 13 * y * x) % 256; }));
}
Episodes classes_in(const test::Folder& folder) {
  return Episodes(
      ImageFolder{.root = folder.path(), .height = 4, .width = 4, .channels = 1, .ways = 2, .shots = 1, .query = 1},
      Subset::train, 5);
}

TEST_P(LearnerOn, DataSetsInTurnAreEachSeenAsTheyAre) {
  const Model model{image(4, 4, 1), {Flatten{}, Linear{.outputs = 2}}, SoftmaxCrossEntropy{}};
  const test::Folder dark, bright, files;
  write_classes(dark, 10), write_classes(bright, 90);
  const Episodes a = classes_in(dark), b = classes_in(bright);
  const struct {
    const Episodes& episodes;
    int tasks;
  } turns[] = {{a, 2}, {a, 4}, {b, 2}, {a, 2}, {a, 4}, {b, 2}};
  const Maml maml{.steps = 1, .rate = 0.4};
  Learner one(model, maml, on(Sgd{.rate = 0.5}));
  for (const auto& turn : turns) {
    one.save(files.path("state"));
    Learner fresh(model, maml, on(Sgd{.rate = 0.5}));
    fresh.load(files.path("state"));
    one.train(turn.episodes, turn.tasks, 2, go_on), fresh.train(turn.episodes, turn.tasks, 2, go_on);
    EXPECT_EQ(one.parameters(), fresh.parameters());
  }
}

Model squares() { return {features(1), {Linear{.outputs = 8}, Relu{}, Linear{.outputs = 1}}, MeanSquaredError{}}; }

// Executions lie in one block of memory, and read nothing there that another has left.
TEST_P(LearnerOn, WhatRunsInTurnSharesMemoryAndNoNumbers) {
  const Model model = conv_model(Statistics::running);
  const Tasks small = random_tasks(model, 2, 3, 3, 1), large = random_tasks(model, 5, 3, 9, 2);
  const Tasks one = small.part(0, 1);
  const Maml maml{.steps = 2, .rate = 0.1, .rate_per_layer = true, .rate_learned = true};
  test::Folder files;
  Learner alone(model, maml, on()), busy(model, maml, on());
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    busy.save(files.path("state"));
    Learner fresh(model, maml, on());
    fresh.load(files.path("state"));
    EXPECT_EQ(busy.evaluate(large.batch(), 3, Statistics::running).loss,
              fresh.evaluate(large.batch(), 3, Statistics::running).loss);
    EXPECT_EQ(busy.meta_gradient(small.batch()).gradient, fresh.meta_gradient(small.batch()).gradient);
    EXPECT_EQ(busy.adapt({one.support, one.support_x, one.support_y}).parameters(),
              fresh.adapt({one.support, one.support_x, one.support_y}).parameters());
    EXPECT_EQ(busy.meta_update(small.batch()).loss, alone.meta_update(small.batch()).loss);
    EXPECT_EQ(busy.parameters(), alone.parameters());
    EXPECT_EQ(busy.rates(), alone.rates());
  }
}

TEST_P(LearnerOn, WhatAReportRunsLeavesTheTrainingAlone) {
  const Model model = squares();
  const Episodes episodes(Sinusoid{.shots = 4, .query = 4}, Subset::train, 2);
  const Tasks few = random_tasks(model, 1, 4, 2, 1), many = random_tasks(model, 9, 4, 30, 2);
  const Maml maml{.steps = 2, .rate = 0.01};
  Learner alone(model, maml, on()), busy(model, maml, on());
  alone.train(episodes, 3, 12, go_on, 4);
  busy.train(
      episodes, 3, 12,
      [&](const Update&) {
        busy.evaluate(few.batch(), 2, Statistics::batch);
        busy.evaluate(many.batch(), 1, Statistics::batch);
        busy.meta_gradient(few.batch());
        return true;
      },
      4);
  EXPECT_EQ(busy.parameters(), alone.parameters());
}

/// Tasks without a finite loss, in float32 and in float64.
Tasks without_loss(Tasks tasks) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::fill(tasks.support_y.begin(), tasks.support_y.end(), infinity);
  std::fill(tasks.query_y.begin(), tasks.query_y.end(), infinity);
  return tasks;
}

TEST_P(LearnerOn, SkippedUpdatesAreNoStepsOfAdam) {
  const test::Folder folder;
  const Model model = squares();
  const Tasks good = random_tasks(model, 3, 4, 4, 1), bad = without_loss(good);
  const struct {
    Algorithm algorithm;
    Optimizer optimizer;
  } cases[] = {{Maml{.steps = 1, .rate = 0.01}, Adam{.rate = 1}},
               {Reptile{.steps = 3, .rate = 0.01, .inner = Reptile::Inner::adam}, Sgd{.rate = 0.5}}};
  for (const auto& c : cases) {
    SCOPED_TRACE(name_of(c.algorithm));
    Options options = on(c.optimizer);
    options.on_nonfinite = OnNonFinite::skip;
    Learner clean(model, c.algorithm, options), spoilt(model, c.algorithm, options);
    clean.meta_update(good.batch()), spoilt.meta_update(good.batch());
    for (int i = 0; i < 3; ++i) spoilt.meta_update(bad.batch());
    EXPECT_EQ(spoilt.skipped(), 3);
    spoilt.save(folder.path("state"));
    Learner resumed(model, c.algorithm, options);
    resumed.load(folder.path("state"));
    for (Learner* learner : {&clean, &spoilt, &resumed}) learner->meta_update(good.batch());
    EXPECT_EQ(clean.parameters(), spoilt.parameters());
    EXPECT_EQ(clean.parameters(), resumed.parameters());
  }
}

TEST_P(LearnerOn, CheckpointsFromBeforeStepsWereCountedTakeEveryUpdateForOne) {
  const test::Folder folder;
  const Model model = squares();
  const Tasks tasks = random_tasks(model, 3, 4, 4, 1);
  const Algorithm reptile = Reptile{.steps = 3, .rate = 0.01, .inner = Reptile::Inner::adam};
  for (const Algorithm& algorithm : {Algorithm{Maml{.steps = 1, .rate = 0.01}}, reptile}) {
    SCOPED_TRACE(name_of(algorithm));
    Learner learner(model, algorithm, on()), resumed(model, algorithm, on()), trained(model, algorithm, on());
    for (int i = 0; i < 3; ++i) learner.meta_update(tasks.batch());
    learner.save(folder.path("state"));
    TensorFile file = read_tensors(folder.path("state"));
    EXPECT_EQ(file.metadata["optimizer_steps"], "3");
    file.metadata.erase("optimizer_steps"), file.metadata.erase("inner_steps");
    file.metadata["moments_since"] = "0";
    write_tensors(folder.path("old"), file);
    resumed.load(folder.path("old")), trained.load_trained(folder.path("old"));
    EXPECT_EQ(learner.evaluate(tasks.batch(), 2, Statistics::batch).loss,
              trained.evaluate(tasks.batch(), 2, Statistics::batch).loss);
    learner.meta_update(tasks.batch()), resumed.meta_update(tasks.batch());
    EXPECT_EQ(learner.parameters(), resumed.parameters());
  }
}

TEST_P(LearnerOn, AdamsFirstStepAfterSkippedOnesMovesByTheRate) {
  const Model model = squares();
  const Tasks good = random_tasks(model, 3, 4, 4, 1), bad = without_loss(good);
  Options options = on(Adam{.rate = 1});
  options.on_nonfinite = OnNonFinite::skip;
  Learner learner(model, Maml{.steps = 1, .rate = 0.01}, options);
  for (int i = 0; i < 2; ++i) learner.meta_update(bad.batch());
  const std::vector<double> before = learner.parameters();
  learner.meta_update(good.batch());
  const std::vector<double> after = learner.parameters();
  EXPECT_NEAR(std::abs(after.back() - before.back()), 1, 1e-4);
}

TEST_P(LearnerOn, WhatIsNotFiniteIsSaid) {
  const Model model = squares();
  const Tasks good = random_tasks(model, 3, 4, 4, 1), bad = without_loss(good);
  Tasks mixed = good;
  std::copy(bad.query_y.begin() + 4, bad.query_y.begin() + 8, mixed.query_y.begin() + 4);
  const Maml maml{.steps = 2, .rate = 0.01};
  Learner stops(model, maml, on());
  EXPECT_THROW(stops.meta_gradient(mixed.batch()), NonFinite);
  EXPECT_SAYS(stops.meta_gradient(mixed.batch()), "the query loss of task 1 is not finite");
  EXPECT_SAYS(stops.meta_gradient(bad.batch()), "the support loss before step 0 of task 0 is not finite");
  for (const double g : stops.meta_gradient(good.batch()).gradient) EXPECT_TRUE(std::isfinite(g));
  EXPECT_NO_THROW(stops.meta_update(good.batch()));
  Options options = on();
  options.on_nonfinite = OnNonFinite::skip;
  EXPECT_FALSE(std::isfinite(Learner(model, maml, options).meta_gradient(mixed.batch()).query_loss[1]));

  const Tasks one = bad.part(0, 1), whole = good.part(0, 1);
  EXPECT_THROW(stops.adapt({one.support, one.support_x, one.support_y}), NonFinite);
  EXPECT_NO_THROW(stops.adapt({whole.support, whole.support_x, whole.support_y}));
  // An evaluation is of many tasks: it says which of them diverged.
  const Evaluation e = stops.evaluate(mixed.batch(), 2, Statistics::batch);
  for (std::size_t task = 0; task < 3; ++task) EXPECT_EQ(std::isfinite(e.loss[task * 3 + 2]), task != 1) << task;
}

CUMETA_LEARNER_ON_EVERY_DEVICE;

}  // namespace
}  // namespace cumeta::testing
