// SPDX-License-Identifier: Apache-2.0
// Meta-gradients, adapted parameters and losses against another framework's, in double: the reference within 1e-9, a
// fast device within 1e-4 of the meta-gradient's norm.
#include "tests/support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cumeta/learner.h"
#include "tests/support/devices.h"

namespace cumeta::testing {
namespace {

double relative_error(const std::vector<double>& expected, const std::vector<double>& actual) {
  EXPECT_EQ(expected.size(), actual.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size() && i < actual.size(); ++i) {
    difference += (expected[i] - actual[i]) * (expected[i] - actual[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

void hold_against(const Golden& g, Device device, double tolerance,
                  Implementation implementation = Implementation::own) {
  Learner learner(g.model, g.algorithm, {.device = device, .implementation = implementation});
  learner.set_parameters(g.flat("", 1));
  const bool learned = std::holds_alternative<MetaSgd>(g.algorithm);
  if (learned) learner.set_rates(g.flat("rates.", 1));
  const auto sx = g.inputs("support_x"), qx = g.inputs("query_x");
  const auto sy = g.targets("support_y"), qy = g.targets("query_y");
  const MetaGradient got = learner.meta_gradient({g.tasks, {g.support, sx, sy}, {g.query, qx, qy}});
  EXPECT_EQ(got.order, order_of(g.algorithm));
  auto check = [&](const char* what, const std::vector<double>& expected, const std::vector<double>& actual) {
    const double error = relative_error(expected, actual);
    std::printf("%-28s %-10s %-24s %.2e\n", g.name.c_str(), to_string(device).c_str(), what, error);
    EXPECT_LE(error, tolerance) << g.name << " " << what << " on " << learner.device_name();
  };
  check("meta_gradient", g.flat("meta_gradient.", 1), got.gradient);
  check("meta_gradient_per_task", g.flat("meta_gradient_per_task.", g.tasks), got.gradient_per_task);
  check("adapted", g.flat("adapted.", g.tasks), got.adapted);
  check("support_loss", g.numbers("support_loss"), got.support_loss);
  check("query_loss", g.numbers("query_loss"), got.query_loss);
  if (learned) check("rates_gradient", g.flat("rates_gradient.", 1), got.rate_gradient);
}

double rounded_to_tf32(double value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return std::ldexp(std::round(mantissa * 2048), exponent - 11);
}

/// `round`: from parameters that are rounded to TF32.
MetaGradient meta_gradient(const Golden& g, const Options& options, bool round) {
  Learner learner(g.model, g.algorithm, options);
  std::vector<double> parameters = g.flat("", 1);
  if (round) std::transform(parameters.begin(), parameters.end(), parameters.begin(), rounded_to_tf32);
  learner.set_parameters(parameters);
  if (std::holds_alternative<MetaSgd>(g.algorithm)) learner.set_rates(g.flat("rates.", 1));
  const auto sx = g.inputs("support_x"), qx = g.inputs("query_x");
  const auto sy = g.targets("support_y"), qy = g.targets("query_y");
  return learner.meta_gradient({g.tasks, {g.support, sx, sy}, {g.query, qx, qy}});
}

/// 1 - cosine of the angle, and the ratio of the lengths.
struct Direction {
  double turned, ratio;
};
Direction direction(const std::vector<double>& expected, const std::vector<double>& actual) {
  double product = 0, norm = 0, expected_norm = 0;
  for (std::size_t i = 0; i < expected.size() && i < actual.size(); ++i)
    product += expected[i] * actual[i], norm += actual[i] * actual[i], expected_norm += expected[i] * expected[i];
  return {1 - product / std::sqrt(norm * expected_norm), std::sqrt(norm / expected_norm)};
}

/// TF32 is judged by where the meta-gradient points and how long it is. Where activations change sides, it jumps: how
/// far a rounding of the parameters alone turns it in float64 stands beside it in the table.
void hold_direction(const Golden& g) {
  const bool pooled = g.name.find("pool") != std::string::npos, images = g.name.rfind("conv", 0) == 0;
  const double most_turned = pooled ? 0.3 : images ? 0.01 : 1e-5, most_longer = pooled ? 0.25 : images ? 0.02 : 5e-3;
  const MetaGradient got = meta_gradient(g, {.device = Device::cuda, .precision = Precision::tf32}, false);
  const MetaGradient rounded = meta_gradient(g, {.device = Device::reference}, true);
  EXPECT_EQ(got.precision, Precision::tf32);
  EXPECT_EQ(got.order, order_of(g.algorithm));
  auto check = [&](const char* what, const std::vector<double>& expected, const std::vector<double>& actual,
                   const std::vector<double>& from_rounded) {
    ASSERT_EQ(expected.size(), actual.size());
    const Direction tf32 = direction(expected, actual), other = direction(expected, from_rounded);
    std::printf("| %s | %s | %.1e | %.4f | %.1e | %.1e | %.4f |\n", g.name.c_str(), what, tf32.turned, tf32.ratio,
                relative_error(expected, actual), other.turned, other.ratio);
    EXPECT_LE(tf32.turned, most_turned) << g.name << " " << what;
    EXPECT_NEAR(tf32.ratio, 1, most_longer) << g.name << " " << what;
    // Nearer than TF32 can be: then nothing was computed in it.
    EXPECT_GT(relative_error(expected, actual), 1e-5) << g.name << " " << what;
  };
  check("meta-gradient", g.flat("meta_gradient.", 1), got.gradient, rounded.gradient);
  if (std::holds_alternative<MetaSgd>(g.algorithm))
    check("of the rates", g.flat("rates_gradient.", 1), got.rate_gradient, rounded.rate_gradient);
}

class GoldenFile : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenFile, Reference) { hold_against(load_golden(GetParam()), Device::reference, 1e-9); }
TEST_P(GoldenFile, Cpu) { hold_against(load_golden(GetParam()), Device::cpu, 1e-4); }
TEST_P(GoldenFile, Cuda) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  (void)backend;
  hold_against(load_golden(GetParam()), Device::cuda, 1e-4);
}

TEST_P(GoldenFile, CudaVendor) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda_vendor);
  (void)backend;
  hold_against(load_golden(GetParam()), Device::cuda, 1e-4, Implementation::vendor);
}
TEST_P(GoldenFile, CudaTf32) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda_tf32);
  (void)backend;
  hold_direction(load_golden(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenFile, ::testing::ValuesIn(golden_names()), [](const auto& parameter) {
  std::string name = parameter.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

}  // namespace
}  // namespace cumeta::testing
