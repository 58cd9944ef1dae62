// SPDX-License-Identifier: Apache-2.0
// Running statistics of batch norm in files: PyTorch's names, shapes and order, and never a variance below zero.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "cumeta/error.h"
#include "src/safetensors.h"
#include "tests/support/compare.h"
#include "tests/support/learner_on.h"
#include "tests/support/pictures.h"
#include "tests/support/says.h"

namespace cumeta::testing {
namespace {

using RunningStatistics = LearnerOn;

const Shape kImage = image(2, 3, 2);
/// A norm of whole channels, and behind a Flatten one of every pixel, which gets what the first leaves.
Model two_norms(double momentum) {
  return {.input = kImage,
          .layers = {BatchNorm{.statistics = Statistics::running, .momentum = momentum}, Flatten{},
                     BatchNorm{.statistics = Statistics::running, .momentum = momentum}, Linear{.outputs = 2}},
          .loss = SoftmaxCrossEntropy{}};
}

/// Four examples a set. Number (y, x, c) of every one is this, times -1 in every other example for the last channel.
double number_at(int y, int x, int c) { return 1 + 100 * c + 10 * y + x; }
struct OneTask {
  std::vector<float> x, y;
  OneTask() {
    for (int example = 0; example < 4; ++example) {
      for (int row = 0; row < kImage.height; ++row)
        for (int column = 0; column < kImage.width; ++column)
          for (int c = 0; c < kImage.channels; ++c)
            x.push_back(static_cast<float>(number_at(row, column, c) * (c == 1 && example % 2 ? -1 : 1)));
      y.push_back(static_cast<float>(example / 2));
    }
  }
  TaskBatch batch() const { return {1, {4, x, y}, {4, x, y}}; }
};

safetensors::File saved(Learner& learner, const test::Folder& folder) {
  learner.save(folder.path("checkpoint"));
  return safetensors::read(folder.path("checkpoint"));
}

TEST_P(RunningStatistics, AreNamedAndOrderedAsPyTorchHasThem) {
  const test::Folder folder;
  const OneTask task;
  Learner learner(two_norms(1.0), Maml{.steps = 1, .rate = 0}, on());
  learner.meta_update(task.batch());
  const safetensors::File file = saved(learner, folder);
  const auto numbers = [&](const char* name, std::int64_t size) {
    const safetensors::Tensor& t = file.at(name, "checkpoint");
    EXPECT_EQ(t.shape, std::vector<std::int64_t>{size}) << name;
    return safetensors::doubles(t);
  };
  // Channels: the mean of 1..13 by tens, and nothing but zero where examples cancel.
  double mean = 0, square = 0, of_second = 0;
  for (int y = 0; y < kImage.height; ++y)
    for (int x = 0; x < kImage.width; ++x)
      mean += number_at(y, x, 0) / 6, square += number_at(y, x, 0) * number_at(y, x, 0) / 6,
          of_second += number_at(y, x, 1) * number_at(y, x, 1) / 6;
  EXPECT_TRUE(near("mean", {mean, 0}, numbers("layers.0.running_mean", 2), 1, 1e-5));
  EXPECT_TRUE(near("variance", {square - mean * mean, of_second}, numbers("layers.0.running_var", 2), 1, 1e-4));
  // Pixels, channels first: of the first channel each its own number, normalised, in every example; no variance there.
  std::vector<double> pixels, variances;
  for (int c = 0; c < 2; ++c)
    for (int y = 0; y < kImage.height; ++y)
      for (int x = 0; x < kImage.width; ++x) {
        pixels.push_back(c == 0 ? (number_at(y, x, 0) - mean) / std::sqrt(square - mean * mean) : 0);
        variances.push_back(c == 0 ? 0 : number_at(y, x, 1) * number_at(y, x, 1) / of_second);
      }
  EXPECT_TRUE(near("means of pixels", pixels, numbers("layers.2.running_mean", 12), 1, 1e-4));
  EXPECT_TRUE(near("variances of pixels", variances, numbers("layers.2.running_var", 12), 1, 1e-4));
  EXPECT_FALSE(file.tensors.contains("running_statistics"));
}

TEST_P(RunningStatistics, OfConstantNumbersAreSavedAndLoaded) {
  const test::Folder folder;
  const OneTask task;
  for (const double momentum : {1.0, 0.5}) {
    Learner learner(two_norms(momentum), Maml{.steps = 1, .rate = 0.01}, on());
    for (int update = 0; update < 60; ++update) learner.meta_update(task.batch());
    const safetensors::File file = saved(learner, folder);
    for (const double variance : safetensors::doubles(file.at("layers.2.running_var", "checkpoint")))
      EXPECT_GE(variance, 0);
    Learner resumed(two_norms(momentum), Maml{.steps = 1, .rate = 0.01}, on());
    resumed.load(folder.path("checkpoint"));
    EXPECT_EQ(resumed.evaluate(task.batch(), 1, Statistics::running).loss,
              learner.evaluate(task.batch(), 1, Statistics::running).loss);
    Learner started(two_norms(momentum), Maml{.steps = 1, .rate = 0.01}, on());
    started.load_parameters(folder.path("checkpoint"));
    EXPECT_EQ(started.evaluate(task.batch(), 1, Statistics::running).loss,
              learner.evaluate(task.batch(), 1, Statistics::running).loss);
  }
}

TEST_P(RunningStatistics, ThatCannotBeAreRefused) {
  const test::Folder folder;
  Learner learner(two_norms(0.1), Maml{.steps = 1}, on());
  const safetensors::File good = saved(learner, folder);
  const auto refusal = [&](const std::function<void(safetensors::File&)>& damage, const std::string& words) {
    safetensors::File bad = good;
    damage(bad);
    safetensors::write(folder.path("bad"), bad);
    EXPECT_SAYS(learner.load(folder.path("bad")), words);
    EXPECT_SAYS(learner.load_parameters(folder.path("bad")), words);
  };
  const auto put = [](safetensors::File& file, const char* name, const std::vector<double>& values) {
    file.tensors[name] =
        safetensors::tensor(std::span<const double>(values), {static_cast<std::int64_t>(values.size())});
  };
  refusal([&](auto& f) { put(f, "layers.0.running_var", {1, -1e-9}); }, "layers.0.running_var holds -1e-09");
  refusal([&](auto& f) { put(f, "layers.0.running_mean", {1, NAN}); }, "layers.0.running_mean holds nan");
  refusal([&](auto& f) { put(f, "layers.0.running_mean", {1, 2, 3}); }, "layers.0.running_mean has the shape [3]");
  refusal([&](auto& f) { f.tensors.erase("layers.2.running_var"); }, "layers.2.running_var");
}

INSTANTIATE_TEST_SUITE_P(Devices, RunningStatistics,
                         ::testing::Values(TestDevice::reference, TestDevice::cpu, TestDevice::cuda),
                         [](const auto& device) { return name(device.param); });

}  // namespace
}  // namespace cumeta::testing
