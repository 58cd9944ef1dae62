// SPDX-License-Identifier: Apache-2.0
// The same bits whatever the threads, the chunks and what becomes of the tapes: meta-gradients and trained parameters.
#include <gtest/gtest.h>

#include "cumeta/learner.h"
#include "tests/support/compare.h"
#include "tests/support/tasks.h"

namespace cumeta::testing {
namespace {

struct Way {
  int threads = 1, chunk = 0;
  Activations activations = Activations::store;
};
const std::vector<Way> ways = {{1, 0, Activations::store},     {2, 0, Activations::store},
                               {7, 0, Activations::recompute}, {2, 2, Activations::store},
                               {7, 3, Activations::store},     {1, 25, Activations::recompute},
                               {2, 1, Activations::recompute}};

struct Result {
  std::vector<double> gradient, parameters;
};
Result run(const Model& model, const Algorithm& algorithm, const Tasks& tasks, const Way& way) {
  Learner learner(
      model, algorithm,
      {.device = Device::cpu, .seed = 3, .threads = way.threads, .chunk = way.chunk, .activations = way.activations});
  Result result;
  result.gradient = learner.meta_gradient(tasks.batch()).gradient;
  for (int i = 0; i < 2; ++i) learner.meta_update(tasks.batch());
  result.parameters = learner.parameters();
  return result;
}

TEST(Bits, AreTheSameForThreadsChunksAndTapes) {
  const Model model = conv_model();
  for (const Algorithm& algorithm : {Algorithm{Maml{.steps = 3, .rate = 0.2}}, Algorithm{Anil{.steps = 3, .rate = 0.2}},
                                     Algorithm{Reptile{.steps = 3, .rate = 0.1}}})
    for (int tasks : {1, 5, 25}) {
      const Tasks batch = random_tasks(model, tasks, 6, 6, 12);
      const Result first = run(model, algorithm, batch, ways[0]);
      for (const Way& way : ways) {
        const std::string what = name_of(algorithm) + ", tasks " + std::to_string(tasks) + ", threads " +
                                 std::to_string(way.threads) + ", chunk " + std::to_string(way.chunk);
        const Result result = run(model, algorithm, batch, way);
        EXPECT_TRUE(same_bits(what + ", gradient", first.gradient, result.gradient));
        EXPECT_TRUE(same_bits(what + ", parameters", first.parameters, result.parameters));
      }
    }
}

TEST(Bits, OfThePublishedNetwork) {
  Model model{image(28, 28, 1), {}, SoftmaxCrossEntropy{}};
  for (int i = 0; i < 4; ++i) {
    model.layers.push_back(Conv2d{.filters = 64, .kernel = 3, .stride = 2, .padding = 1});
    model.layers.push_back(BatchNorm{});
    model.layers.push_back(Relu{});
  }
  model.layers.push_back(GlobalAveragePool{});
  model.layers.push_back(Linear{.outputs = 5});
  for (int tasks : {1, 5, 25}) {
    const Tasks batch = random_tasks(model, tasks, 5, 5, 15);
    const Maml maml{.steps = 2, .rate = 0.4};
    const Result first = run(model, maml, batch, ways[0]);
    for (const Way& way : {ways[2], ways[3], ways[6]}) {
      const Result result = run(model, maml, batch, way);
      EXPECT_TRUE(same_bits("gradient", first.gradient, result.gradient));
      EXPECT_TRUE(same_bits("parameters", first.parameters, result.parameters));
    }
  }
}

TEST(Bits, OfATaskAloneAreThoseInABatch) {
  const Model model = conv_model();
  const Tasks batch = random_tasks(model, 5, 6, 6, 13);
  Learner learner(model, Maml{.steps = 2, .rate = 0.2}, {.device = Device::cpu, .threads = 2});
  const std::vector<double> all = learner.meta_gradient(batch.batch()).gradient_per_task;
  const std::size_t P = learner.parameters().size();
  for (int task = 0; task < 5; ++task) {
    const Tasks alone = batch.part(task, 1);
    const auto at = all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(task) * P);
    EXPECT_TRUE(same_bits("task", {at, at + static_cast<std::ptrdiff_t>(P)},
                          learner.meta_gradient(alone.batch()).gradient_per_task));
  }
}

TEST(Bits, ArenaIsThePlansFigure) {
  const Model model = conv_model();
  const Tasks batch = random_tasks(model, 5, 6, 6, 14);
  for (const Way& way : ways) {
    Learner learner(
        model, Maml{.steps = 3, .rate = 0.2},
        {.device = Device::cpu, .threads = way.threads, .chunk = way.chunk, .activations = way.activations});
    EXPECT_EQ(learner.plan_for({5, 6, 6}).bytes, learner.meta_update(batch.batch()).bytes);
  }
}

}  // namespace
}  // namespace cumeta::testing
