// SPDX-License-Identifier: Apache-2.0
// Initial values as a learner hands them out: bound, mean, deviation and shape of every initializer's draws, on fans of
// linear and convolution that differ.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "cumeta/learner.h"

namespace cumeta::testing {
namespace {

using Kind = Initializer::Kind;
constexpr double none = 1e30;

/// What a distribution promises. Within one deviation lie 68.3 % of a normal's values and 57.7 % of a uniform one's.
struct Promise {
  Kind kind;
  double bound, deviation, within;
};

/// 28 x 28 x 6 through a 3 x 3 convolution to 40 channels (fans 54 and 360), pooled, to 90 outputs (fans 40 and 90); a
/// second linear layer has the shape of no other.
Model model_with(const Initializer& initializer) {
  return {image(28, 28, 6),
          {Conv2d{.filters = 40, .kernel = 3, .padding = 1, .initializer = initializer}, BatchNorm{}, Relu{},
           GlobalAveragePool{}, Linear{.outputs = 90, .initializer = initializer}, Relu{},
           Linear{.outputs = 90, .initializer = initializer}},
          SoftmaxCrossEntropy{}};
}

struct Values {
  std::vector<double> flat;
  Model model;
  std::span<const double> of(const std::string& name) const {
    for (const Parameter& p : parameters(model))
      if (p.name == name)
        return std::span(flat).subspan(static_cast<std::size_t>(p.offset), static_cast<std::size_t>(p.size));
    ADD_FAILURE() << "there is no parameter " << name;
    return {};
  }
};
Values values_of(const Initializer& initializer, std::uint64_t seed, Device device = Device::reference) {
  const Model model = model_with(initializer);
  return {Learner(model, Maml{}, {.device = device, .seed = seed}).parameters(), model};
}

void expect_drawn(std::span<const double> values, const Promise& promise) {
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0, within = 0, largest = 0;
  for (const double v : values) {
    sum += v, largest = std::max(largest, std::abs(v));
    if (std::abs(v) <= promise.deviation) ++within;
  }
  for (const double v : values) squares += (v - sum / n) * (v - sum / n);
  // Four standard errors; of the deviation no more than a normal's, which has the longest tails here.
  EXPECT_NEAR(sum / n, 0, 4 * promise.deviation / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n), promise.deviation, 4 * promise.deviation / std::sqrt(2 * n));
  EXPECT_NEAR(within / n, promise.within, 4 * std::sqrt(promise.within * (1 - promise.within) / n));
  EXPECT_LE(largest, promise.bound * (1 + 1e-6));  // parameters are float32
  EXPECT_GE(largest, promise.bound < none ? 0.98 * promise.bound : 2.5 * promise.deviation);
}

TEST(InitialValues, LieAsTheirInitializerPromises) {
  constexpr double normal = 0.6827, uniform = 0.5774;
  // A normal cut at two deviations has 0.8796 of its deviation, and 0.6505 of its values within that.
  constexpr double cut = 0.87963, cut_within = 0.6505;
  struct Weight {
    const char* name;
    double fan_in, fan_out;
  };
  const Weight weights[] = {
      {"layers.0.weight", 9 * 6, 9 * 40}, {"layers.4.weight", 40, 90}, {"layers.6.weight", 90, 90}};
  for (const double scale : {1.0, 0.3})
    for (const Weight& w : weights) {
      const double limit = scale * std::sqrt(6 / (w.fan_in + w.fan_out));
      const Promise promises[] = {{Kind::glorot_uniform, limit, limit / std::sqrt(3), uniform},
                                  {Kind::he_normal, none, scale * std::sqrt(2 / w.fan_in), normal},
                                  {Kind::normal, none, scale, normal},
                                  {Kind::truncated_normal, 2 * scale, cut * scale, cut_within}};
      for (const Promise& promise : promises) {
        SCOPED_TRACE(std::string(w.name) + ", kind " + std::to_string(static_cast<int>(promise.kind)) + ", scale " +
                     std::to_string(scale));
        expect_drawn(values_of({promise.kind, scale}, 11).of(w.name), promise);
      }
    }
}

TEST(InitialValues, AreGlorotUniformUnlessSaid) {
  Model model = model_with({});
  model.layers[4] = Linear{.outputs = 90};
  const Values values{Learner(model, Maml{}, {.device = Device::reference, .seed = 5}).parameters(), model};
  const double limit = std::sqrt(6.0 / 130);
  expect_drawn(values.of("layers.4.weight"), {Kind::glorot_uniform, limit, limit / std::sqrt(3), 0.5774});
}

TEST(InitialValues, OfBiasesAndShiftsAreZeroAndOfScalesOne) {
  const auto all_are = [](std::span<const double> values, double value) {
    return !values.empty() && std::all_of(values.begin(), values.end(), [&](double v) { return v == value; });
  };
  for (const Kind kind : {Kind::glorot_uniform, Kind::he_normal, Kind::normal, Kind::truncated_normal, Kind::zeros}) {
    SCOPED_TRACE(static_cast<int>(kind));
    const Values values = values_of({kind, 2.0}, 3);
    for (const char* name : {"layers.0.bias", "layers.1.bias", "layers.4.bias", "layers.6.bias"})
      EXPECT_TRUE(all_are(values.of(name), 0)) << name;
    EXPECT_TRUE(all_are(values.of("layers.1.weight"), 1));
    for (const char* name : {"layers.0.weight", "layers.4.weight", "layers.6.weight"})
      EXPECT_EQ(all_are(values.of(name), 0), kind == Kind::zeros) << name;
  }
}

TEST(InitialValues, DependOnTheSeedOnly) {
  for (const Kind kind : {Kind::glorot_uniform, Kind::he_normal, Kind::normal, Kind::truncated_normal}) {
    SCOPED_TRACE(static_cast<int>(kind));
    const Values one = values_of({kind, 1.0}, 1), other = values_of({kind, 1.0}, 2);
    EXPECT_EQ(one.flat, values_of({kind, 1.0}, 1).flat);
    EXPECT_EQ(one.flat, values_of({kind, 1.0}, 1, Device::cpu).flat);
    for (const char* name : {"layers.0.weight", "layers.4.weight", "layers.6.weight"}) {
      const auto a = one.of(name), b = other.of(name);
      std::size_t equal = 0;
      for (std::size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i] ? 1U : 0U;
      EXPECT_LT(equal, a.size() / 100) << name;
    }
  }
}

TEST(InitialValues, OfTwoLayersOfOneShapeAreDrawnApart) {
  const Linear layer{.outputs = 30, .initializer = {Kind::normal, 1.0}};
  const Model model{features(30), {layer, Relu{}, layer}, SoftmaxCrossEntropy{}};
  const Values values{Learner(model, Maml{}, {.device = Device::reference, .seed = 1}).parameters(), model};
  const auto a = values.of("layers.0.weight"), b = values.of("layers.2.weight");
  ASSERT_EQ(a.size(), b.size());
  double product = 0;
  for (std::size_t i = 0; i < a.size(); ++i) product += a[i] * b[i];
  EXPECT_NEAR(product / static_cast<double>(a.size()), 0, 4 / std::sqrt(static_cast<double>(a.size())));
}

}  // namespace
}  // namespace cumeta::testing
