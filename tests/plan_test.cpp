// SPDX-License-Identifier: Apache-2.0
// What a plan refuses before anything is allocated, as a device cannot hold it.
#include <gtest/gtest.h>

#include "cumeta/learner.h"
#include "tests/support/says.h"

namespace cumeta::testing {
namespace {

TEST(Plans, KnowWhatTheOuterStepOnCudaCanHold) {
  Model conv4{image(28, 28, 1), {}, SoftmaxCrossEntropy{}};
  for (int i = 0; i < 4; ++i)
    for (const Layer& layer : {Layer{Conv2d{.filters = 4, .kernel = 3, .stride = 2, .padding = 1}}, Layer{BatchNorm{}}})
      conv4.layers.push_back(layer);
  conv4.layers.emplace_back(GlobalAveragePool{});
  conv4.layers.emplace_back(Linear{.outputs = 5});
  const auto with = [&](int steps, int tasks, Device device) {
    const Maml lslr{.steps = steps, .rate_per_layer = true, .rate_per_step = true, .rate_learned = true};
    const Machine machine = device == Device::cuda ? cuda_machine("h100") : cpu_machine(1);
    return plan(conv4, lslr, {tasks, 1, 1}, {.device = device, .machine = machine});
  };
  EXPECT_SAYS(with(23, 1, Device::cuda), "414");  // 18 arrays
  EXPECT_SAYS(with(23, 1, Device::cuda), "400");
  EXPECT_NO_THROW(with(22, 1, Device::cuda));
  EXPECT_NO_THROW(with(23, 1, Device::cpu));
  EXPECT_SAYS(with(1, 65'536, Device::cuda), "65536");
  EXPECT_SAYS(with(1, 65'536, Device::cuda), "65535");
  EXPECT_NO_THROW(with(1, 65'535, Device::cuda));
  EXPECT_NO_THROW(with(1, 65'536, Device::cpu));
}

}  // namespace
}  // namespace cumeta::testing
