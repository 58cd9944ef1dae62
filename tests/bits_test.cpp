// SPDX-License-Identifier: Apache-2.0
// The same bits whatever the threads, the chunks, the streams and what becomes of the tapes: meta-gradients and trained
// parameters, on every device.
#include <gtest/gtest.h>

#include "cumeta/learner.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/tasks.h"

namespace cumeta::testing {
namespace {

struct Way {
  int threads = 1, chunk = 0;
  Activations activations = Activations::store;
};

class Bits : public ::testing::TestWithParam<TestDevice> {
 protected:
  bool on_cpu() const { return GetParam() == TestDevice::cpu; }
  /// Threads are the CPU's; with more chunks than one CUDA takes two streams.
  std::vector<Way> ways() const {
    if (!on_cpu())
      return {{0, 0, Activations::store},
              {0, 2, Activations::recompute},
              {0, 1, Activations::store},
              {0, 0, Activations::recompute}};
    return {{1, 0, Activations::store},    {2, 0, Activations::store}, {7, 0, Activations::recompute},
            {2, 2, Activations::store},    {7, 3, Activations::store}, {1, 25, Activations::recompute},
            {2, 1, Activations::recompute}};
  }
  Options options(const Way& way) const {
    return {.device = on_cpu() ? Device::cpu : Device::cuda,
            .seed = 3,
            .threads = way.threads,
            .chunk = way.chunk,
            .activations = way.activations};
  }
  /// A device of the emulator has its own sizes: a second each, not minutes.
  static bool emulated(const Backend& backend) { return backend.name() == "cuda (emulated)"; }

  struct Result {
    std::vector<double> gradient, parameters;
  };
  Result run(const Model& model, const Algorithm& algorithm, const Tasks& tasks, const Way& way) const {
    Learner learner(model, algorithm, options(way));
    Result result;
    result.gradient = learner.meta_gradient(tasks.batch()).gradient;
    for (int i = 0; i < 2; ++i) learner.meta_update(tasks.batch());
    result.parameters = learner.parameters();
    return result;
  }
  void expect_one_result(const Model& model, const Algorithm& algorithm, const Tasks& tasks) const {
    const Result first = run(model, algorithm, tasks, ways()[0]);
    for (const Way& way : ways()) {
      const std::string what = name_of(algorithm) + ", tasks " + std::to_string(tasks.tasks) + ", threads " +
                               std::to_string(way.threads) + ", chunk " + std::to_string(way.chunk) +
                               (way.activations == Activations::store ? ", store" : ", recompute");
      const Result result = run(model, algorithm, tasks, way);
      EXPECT_TRUE(same_bits(what + ", gradient", first.gradient, result.gradient));
      EXPECT_TRUE(same_bits(what + ", parameters", first.parameters, result.parameters));
    }
  }
};

TEST_P(Bits, AreTheSameForThreadsChunksAndTapes) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const bool small = emulated(backend);
  const Model model = conv_model(Statistics::batch, small ? 4 : 8);
  const int steps = small ? 2 : 3;
  for (const Algorithm& algorithm :
       {Algorithm{Maml{.steps = steps, .rate = 0.2}}, Algorithm{Anil{.steps = steps, .rate = 0.2}},
        Algorithm{Reptile{.steps = steps, .rate = 0.1}}})
    for (const int tasks : small ? std::vector{1, 3} : std::vector{1, 5, 25})
      expect_one_result(model, algorithm, random_tasks(model, tasks, 6, 6, 12));
}

/// On CUDA a whole inner loop is one program there.
TEST_P(Bits, OfASmallModel) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const Model model = sinusoid_model();
  for (const Algorithm& algorithm :
       {Algorithm{Maml{.steps = 2, .rate = 0.05}}, Algorithm{MetaSgd{.steps = 2, .rate = 0.05}}})
    for (const int tasks : emulated(backend) ? std::vector{1, 5} : std::vector{1, 5, 25})
      expect_one_result(model, algorithm, random_tasks(model, tasks, 5, 6, 16));
}

TEST_P(Bits, OfThePublishedNetwork) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const bool small = emulated(backend);
  Model model{image(28, 28, 1), {}, SoftmaxCrossEntropy{}};
  for (int i = 0; i < 4; ++i) {
    model.layers.push_back(Conv2d{.filters = small ? 4 : 64, .kernel = 3, .stride = 2, .padding = 1});
    model.layers.push_back(BatchNorm{});
    model.layers.push_back(Relu{});
  }
  model.layers.push_back(GlobalAveragePool{});
  model.layers.push_back(Linear{.outputs = 5});
  const Maml maml{.steps = 2, .rate = 0.4};
  for (const int tasks : small ? std::vector{3} : std::vector{1, 5, 25}) {
    const Tasks batch = random_tasks(model, tasks, 5, 5, 15);
    const Result first = run(model, maml, batch, ways()[0]);
    const std::vector<Way> all = ways();
    for (const Way& way : on_cpu() ? std::vector{all[2], all[3], all[6]} : std::vector{all[1], all[2]}) {
      const Result result = run(model, maml, batch, way);
      EXPECT_TRUE(same_bits("gradient", first.gradient, result.gradient));
      EXPECT_TRUE(same_bits("parameters", first.parameters, result.parameters));
    }
  }
}

TEST_P(Bits, OfATaskAloneAreThoseInABatch) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const Model model = conv_model(Statistics::batch, emulated(backend) ? 4 : 8);
  const Tasks batch = random_tasks(model, 5, 6, 6, 13);
  Learner learner(model, Maml{.steps = 2, .rate = 0.2}, options(ways()[1]));
  const std::vector<double> all = learner.meta_gradient(batch.batch()).gradient_per_task;
  const std::size_t P = learner.parameters().size();
  for (int task = 0; task < 5; ++task) {
    const Tasks alone = batch.part(task, 1);
    const auto at = all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(task) * P);
    EXPECT_TRUE(same_bits("task", {at, at + static_cast<std::ptrdiff_t>(P)},
                          learner.meta_gradient(alone.batch()).gradient_per_task));
  }
}

TEST_P(Bits, ArenaIsThePlansFigure) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const Model model = conv_model(Statistics::batch, emulated(backend) ? 4 : 8);
  const Tasks batch = random_tasks(model, 5, 6, 6, 14);
  for (const Way& way : ways()) {
    Learner learner(model, Maml{.steps = 3, .rate = 0.2}, options(way));
    EXPECT_EQ(learner.plan_for({5, 6, 6}).bytes, learner.meta_update(batch.batch()).bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(, Bits, ::testing::ValuesIn(judged_devices()),
                         [](const auto& instance) { return name(instance.param); });

}  // namespace
}  // namespace cumeta::testing
