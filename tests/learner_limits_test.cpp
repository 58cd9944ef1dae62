// SPDX-License-Identifier: Apache-2.0
// The door's limits: memory that no prediction passes, data that only fit by size, counts beyond an int, mini-batches.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cumeta/error.h"
#include "src/problem.h"
#include "tests/support/compare.h"
#include "tests/support/learner_on.h"
#include "tests/support/pictures.h"
#include "tests/support/says.h"
#include "tests/support/tasks.h"

namespace cumeta::testing {
namespace {

TEST_P(LearnerOn, PredictionsKeepTheMemoryLimit) {
  const Tasks tasks = random_tasks(conv_model(), 1, 5, 2000, 6);
  const Examples support{tasks.support, tasks.support_x, tasks.support_y};
  Options options = on();
  std::int64_t small = 0;
  {
    AdaptedTask adapted = Learner(conv_model(), Maml{.steps = 1}, options).adapt(support);
    adapted.predict(tasks.query_x);
    small = adapted.bytes();
  }
  options.memory_limit = small + 400'000;  // beside the learner's state
  Learner learner(conv_model(), Maml{.steps = 1}, options);
  AdaptedTask adapted = learner.adapt(support);
  EXPECT_THROW(adapted.predict(tasks.query_x, Statistics::batch), OutOfMemory);
  EXPECT_SAYS(adapted.predict(tasks.query_x, Statistics::batch), "2000 rows");
  EXPECT_SAYS(adapted.predict(tasks.query_x, Statistics::batch), std::to_string(options.memory_limit));
  EXPECT_EQ(adapted.predict(tasks.query_x).size(), 6000U);  // its rows go in pieces
  EXPECT_LE(adapted.bytes(), options.memory_limit);

  // Without batch norm no row knows of another: they go in pieces whatever the statistics.
  const Model plain = tanh_model();
  const Tasks many = random_tasks(plain, 1, 5, 5000, 6);
  AdaptedTask free = Learner(plain, Maml{.steps = 1}, on()).adapt({many.support, many.support_x, many.support_y});
  const std::int64_t before = free.bytes();
  EXPECT_EQ(free.predict(many.query_x, Statistics::batch), free.predict(many.query_x));
  EXPECT_LT(free.bytes() - before, 100'000);
}

TEST(LearnerLimits, MoreRowsThanAnIntCountsAreRefused) {
  const Model model{features(1), {BatchNorm{}, Linear{.outputs = 2}}, SoftmaxCrossEntropy{}};
  const std::vector<float> x = {0.5F, -0.5F}, y = {0, 1};
  AdaptedTask adapted = Learner(model, Maml{}, {.device = Device::cpu}).adapt({2, x, y});
  // 2^32 rows, none of which is read: the int of old was 0.
  const std::span<const float> beyond(x.data(), std::size_t{1} << 32);
  EXPECT_SAYS(adapted.predict(beyond, Statistics::batch), "4294967296");
}

TEST(LearnerLimits, ALayerOfMoreNumbersThanAnIntCountsIsRefused) {
  // 3 x 3 x 8 numbers a row after the first layer, 12 x 12 in front of it: 144 of them.
  const auto planned = [](int rows) {
    return plan(conv_model(), Maml{}, {1, rows, rows}, {.device = Device::cpu, .memory_limit = std::int64_t{1} << 50});
  };
  EXPECT_SAYS(planned(2'000'000), "2000000 + 2000000 examples of up to 288 numbers in one layer are too many");
  EXPECT_NO_THROW(planned(1'000'000));
}

TEST(LearnerLimits, RowsOfALateStepAreCountedBeyondAnInt) {
  const auto first_row = [](int support, int batch, int k) {
    return make_problem(tanh_model(), Reptile{.steps = 100'000, .batch = batch}, {1, support, 1}, Device::cpu,
                        Goal::evaluation, Statistics::batch)
        .first_row_of(k);
  };
  EXPECT_EQ(first_row(300'000, 0, 7'159), 0);  // the product is 2 147 700 000, the largest int 2 147 483 647
  EXPECT_EQ(first_row(300'000, 30'000, 99'999), 270'000);
  EXPECT_EQ(first_row(6, 2, 4), 2);
}

TEST_P(LearnerOn, MiniBatchesDivideEverySupportSet) {
  const Model model = tanh_model();
  Learner learner(model, Reptile{.steps = 2, .rate = 0.1, .batch = 2}, on());
  const Tasks three = random_tasks(model, 1, 3, 2, 1), four = random_tasks(model, 1, 4, 2, 1);
  EXPECT_SAYS(learner.adapt({3, three.support_x, three.support_y}), "batch is 2; it must divide the 3 support");
  EXPECT_SAYS(learner.evaluate(three.batch(), 2, Statistics::batch), "batch is 2; it must divide the 3 support");
  EXPECT_SAYS(learner.meta_update(three.batch()), "batch is 2; it must divide the 3 support");
  EXPECT_EQ(learner.adapt({4, four.support_x, four.support_y}).steps(), 2);
}

TEST_P(LearnerOn, DataOfAnotherShapeAreRefused) {
  const test::Folder folder;
  for (const char* file : {"a/0.png", "a/1.png", "b/0.png", "b/1.png"})
    folder.put(file, test::png(16, 4, 8, test::Colour::grey, [](int y, int x, int) { return 9 * y + x; }));
  const Episodes episodes(
      ImageFolder{.root = folder.path(), .height = 16, .width = 4, .channels = 1, .ways = 2, .shots = 1, .query = 1});
  const auto learner = [&](Shape input) {
    return Learner(Model{input, {Flatten{}, Linear{.outputs = 2}}, SoftmaxCrossEntropy{}}, Maml{}, on());
  };
  EXPECT_SAYS(learner(image(4, 16, 1)).train(episodes, 2, 1, go_on), "16x4x1, the model's input is 4x16x1");
  EXPECT_SAYS(learner(image(4, 4, 4)).train(episodes, 2, 1, go_on), "16x4x1, the model's input is 4x4x4");
  learner(image(16, 4, 1)).train(episodes, 2, 1, go_on);
  learner(features(64)).train(episodes, 2, 1, go_on);
}

TEST_P(LearnerOn, ParametersAreFiniteNumbersOfTheDevice) {
  Learner learner(tanh_model(), Maml{}, on());
  std::vector<double> values = learner.parameters();
  for (const double wrong : {std::nan(""), -std::numeric_limits<double>::infinity()}) {
    values[1] = wrong;
    EXPECT_THROW(learner.set_parameters(values), InvalidArgument) << wrong;
    EXPECT_SAYS(learner.set_parameters(values), "parameter 1 is");
  }
  values[1] = 1e300;
  if (learner.options().device == Device::reference)
    EXPECT_NO_THROW(learner.set_parameters(values));
  else
    EXPECT_SAYS(learner.set_parameters(values), "no finite number of float32");
}

TEST_P(LearnerOn, TheAdaptedSetIsOfTheStepsTaken) {
  Learner learner(tanh_model(), Maml{.steps = 0}, on());
  const Tasks tasks = random_tasks(tanh_model(), 2, 4, 4, 6);
  EXPECT_TRUE(learner.adapted_set().empty());
  EXPECT_EQ(learner.evaluate(tasks.batch(), 2, Statistics::batch).adapted_set.size(), parameters(tanh_model()).size());
  EXPECT_TRUE(learner.evaluate(tasks.batch(), 0, Statistics::batch).adapted_set.empty());
  const Tasks one = random_tasks(tanh_model(), 1, 4, 4, 6);
  EXPECT_FALSE(learner.adapt({one.support, one.support_x, one.support_y}, 1).adapted_set().empty());
}

TEST(LearnerLimits, OptionsBelowZeroAreRefusedAtOnce) {
  const Model model = tanh_model();
  EXPECT_SAYS(Learner(model, Maml{}, {.memory_limit = -5}), "memory_limit is -5");
  EXPECT_SAYS(Learner(model, Maml{}, {.chunk = -3}), "chunk is -3");
  EXPECT_SAYS(plan(model, Maml{}, {2, 2, 2}, {.memory_limit = -5}), "memory_limit is -5");
  EXPECT_SAYS(plan(model, Maml{}, {2, 2, 2}, {.chunk = -3}), "chunk is -3");
}

TEST(LearnerLimits, ANumberOfAGpuIsRefusedOnOtherDevices) {
  for (const Device device : {Device::cpu, Device::reference})
    EXPECT_SAYS(Learner(tanh_model(), Maml{}, {.device = device, .ordinal = 7}),
                "device.ordinal is 7, device.kind is " + to_string(device) + "; only CUDA devices have numbers");
}

CUMETA_LEARNER_ON_EVERY_DEVICE;

}  // namespace
}  // namespace cumeta::testing
