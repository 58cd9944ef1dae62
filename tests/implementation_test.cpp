// SPDX-License-Identifier: Apache-2.0
// plan.implementation: who runs which layer is said, held against own kernels, planned to the byte, and kept.
#include <gtest/gtest.h>

#include <cmath>

#include "cumeta/error.h"
#include "cumeta/learner.h"
#include "src/safetensors.h"
#include "tests/support/devices.h"
#include "tests/support/pictures.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {
namespace {

/// Two blocks, a pool and a head on small images.
const Model small_convolutions{
    .input = image(8, 8, 2),
    .layers = {Conv2d{.filters = 4, .kernel = 3, .stride = 2, .padding = 1}, BatchNorm{}, Relu{},
               Conv2d{.filters = 4, .kernel = 3, .padding = 1}, BatchNorm{}, Relu{}, GlobalAveragePool{}, Linear{3}},
    .loss = SoftmaxCrossEntropy{}};
const Model small_mlp{.input = features(1), .layers = {Linear{8}, Relu{}, Linear{1}}, .loss = MeanSquaredError{}};

/// Two tasks of 3 + 3 pictures.
struct Tasks {
  std::vector<float> x, y;
  Tasks() : x(2 * 3 * 128), y{0, 1, 2, 0, 1, 2} {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i * i)));
  }
  TaskBatch batch() const { return {2, {3, x, y}, {3, x, y}}; }
};

template <class Exception, class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const Exception& error) { return error.what(); }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(Implementation, OtherDevicesHaveOnlyTheirOwn) {
  for (const Device device : {Device::cpu, Device::reference})
    for (const Implementation implementation :
         {Implementation::unfused, Implementation::vendor, Implementation::fastest}) {
      const std::string of_learner = message_of<InvalidArgument>(
          [&] { Learner(small_mlp, Maml{}, {.device = device, .implementation = implementation}); });
      const std::string of_plan = message_of<InvalidArgument>(
          [&] { plan(small_mlp, Maml{}, {}, {.device = device, .implementation = implementation}); });
      for (const std::string& text : {of_learner, of_plan}) {
        EXPECT_NE(text.find("plan.implementation is " + to_string(implementation)), std::string::npos) << text;
        EXPECT_NE(text.find(to_string(device)), std::string::npos) << text;
      }
    }
}

Plan planned(const Model& model, Implementation implementation) {
  return plan(model, Maml{}, {2, 3, 3},
              {.device = Device::cuda, .machine = cuda_machine("h100"), .implementation = implementation});
}

TEST(Implementation, ThePlanSaysWhoRunsWhat) {
  const auto by = [](const Plan& p) {
    std::vector<std::string> all;
    for (const PlannedLayers& run : p.layers) all.push_back(run.kind + ": " + run.by);
    return all;
  };
  using Lines = std::vector<std::string>;
  EXPECT_EQ(by(planned(small_convolutions, Implementation::own)),
            (Lines{"conv2d+batch_norm+relu: own", "conv2d+batch_norm+relu: own", "global_average_pool+linear: own"}));
  const Plan vendor = planned(small_convolutions, Implementation::vendor);
  EXPECT_EQ(by(vendor), (Lines{"conv2d: vendor (cuDNN)", "batch_norm: own", "relu: own", "conv2d: vendor (cuDNN)",
                               "batch_norm: own", "relu: own", "global_average_pool: own", "linear: vendor (cuBLAS)"}));
  EXPECT_NE(vendor.text().find("vendor (cuDNN)"), std::string::npos) << vendor.text();
  EXPECT_EQ(by(planned(small_convolutions, Implementation::unfused)),
            (Lines{"conv2d: own", "batch_norm: own", "relu: own", "conv2d: own", "batch_norm: own", "relu: own",
                   "global_average_pool: own", "linear: own"}));
  EXPECT_EQ(by(planned(small_mlp, Implementation::unfused)), (Lines{"linear: own", "relu: own", "linear: own"}));
  EXPECT_EQ(by(planned(small_mlp, Implementation::own)),
            (Lines{"linear: own (small-model program)", "relu: own (small-model program)",
                   "linear: own (small-model program)"}));
  EXPECT_EQ(by(planned(small_mlp, Implementation::vendor)),
            (Lines{"linear: vendor (cuBLAS)", "relu: own", "linear: vendor (cuBLAS)"}));
  const Plan fastest = planned(small_convolutions, Implementation::fastest);
  EXPECT_FALSE(fastest.measured);
  EXPECT_NE(fastest.text().find("not measured here"), std::string::npos) << fastest.text();
}

void expect_what_own_computes(Implementation other) {
  const Tasks tasks;
  for (const Algorithm& algorithm : {Algorithm{Maml{.steps = 2, .rate = 0.1}}, Algorithm{Anil{.steps = 2, .rate = 0.1}},
                                     Algorithm{MetaSgd{.steps = 1, .rate = 0.1}}}) {
    Learner own(small_convolutions, algorithm, {.device = Device::cuda});
    Learner them(small_convolutions, algorithm, {.device = Device::cuda, .implementation = other});
    const MetaGradient a = own.meta_gradient(tasks.batch()), b = them.meta_gradient(tasks.batch()),
                       again = them.meta_gradient(tasks.batch());
    EXPECT_EQ(b.gradient, again.gradient) << "two runs differ";
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < a.gradient.size(); ++i)
      difference += std::pow(a.gradient[i] - b.gradient[i], 2), size += std::pow(a.gradient[i], 2);
    EXPECT_LT(std::sqrt(difference / size), meta_gradient_tolerance(Arithmetic::float32))
        << name_of(algorithm) << " " << to_string(other);
    const Update update = them.meta_update(tasks.batch());
    EXPECT_EQ(update.implementation, other);
    EXPECT_EQ(update.bytes, them.plan_for({2, 3, 3}).bytes);
    EXPECT_EQ(own.meta_update(tasks.batch()).bytes, own.plan_for({2, 3, 3}).bytes);
  }
}

TEST(Implementation, UnfusedComputesWhatOwnDoes_cuda) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  (void)backend;
  expect_what_own_computes(Implementation::unfused);
}
TEST(Implementation, VendorComputesWhatOwnDoes_cuda) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda_vendor);
  (void)backend;
  expect_what_own_computes(Implementation::vendor);
}

std::vector<std::string> runners(const Learner& learner) {
  std::vector<std::string> all;
  for (const PlannedLayers& run : learner.plan_for({2, 3, 3}).layers) all.push_back(run.by);
  return all;
}

TEST(Implementation, FastestIsMeasuredOnceAndKept_cuda) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda_vendor);
  (void)backend;
  const Options options{.device = Device::cuda, .implementation = Implementation::fastest};
  const Maml algorithm{.steps = 1, .rate = 0.1};
  const test::Folder folder;
  const Tasks tasks;
  Learner first(small_convolutions, algorithm, options);
  const Update update = first.meta_update(tasks.batch());
  EXPECT_EQ(update.bytes, first.plan_for({2, 3, 3}).bytes);
  EXPECT_TRUE(first.plan_for({2, 3, 3}).measured);
  first.save(folder.path("a"));
  safetensors::File file = safetensors::read(folder.path("a"));
  EXPECT_EQ(file.metadata["implementation"], "fastest");
  // Another machine's measurement, whatever this one's was: going on takes it.
  for (const char* chosen : {"vendor own own own own own own own", "own own own vendor own own own vendor",
                             "own own own unfused own own own unfused"}) {
    file.metadata["implementation_layers"] = chosen;
    safetensors::write(folder.path("b"), file);
    Learner next(small_convolutions, algorithm, options);
    next.load(folder.path("b"));
    using Runners = std::vector<std::string>;
    const std::string text = chosen;
    EXPECT_EQ(runners(next), text.front() == 'v' ? (Runners{"vendor (cuDNN)", "own", "own", "own", "own"})
                             : text.back() == 'r'
                                 ? (Runners{"own", "vendor (cuDNN)", "own", "own", "own", "vendor (cuBLAS)"})
                                 : (Runners{"own", "own", "own", "own", "own", "own"}));
    EXPECT_TRUE(std::isfinite(next.meta_update(tasks.batch()).loss));
    next.save(folder.path("c"));
    EXPECT_EQ(safetensors::read(folder.path("c")).metadata["implementation_layers"], chosen);
  }
  for (const char* damaged : {"vendor", "own vendor own own own own own own", "own own own own own own own fast",
                              "own unfused own own own own own own"}) {
    file.metadata["implementation_layers"] = damaged;
    safetensors::write(folder.path("b"), file);
    Learner next(small_convolutions, algorithm, options);
    const std::string text = message_of<FileError>([&] { next.load(folder.path("b")); });
    EXPECT_NE(text.find(damaged), std::string::npos) << text;
  }
}

TEST(Implementation, ASmallModelStaysOneKernelWhenFastest_cuda) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda_vendor);
  (void)backend;
  Learner learner(small_mlp, Maml{}, {.device = Device::cuda, .implementation = Implementation::fastest});
  EXPECT_EQ(learner.plan_for({2, 3, 3}).layers.front().by, "own (small-model program)");
}

}  // namespace
}  // namespace cumeta::testing
