// SPDX-License-Identifier: Apache-2.0
// Meta-gradients, adapted parameters and losses against another framework's, in double: the reference within 1e-9, a
// fast device within 1e-4 of the meta-gradient's norm.
#include "tests/support/golden.h"

#include <gtest/gtest.h>

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

INSTANTIATE_TEST_SUITE_P(Golden, GoldenFile, ::testing::ValuesIn(golden_names()), [](const auto& parameter) {
  std::string name = parameter.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

}  // namespace
}  // namespace cumeta::testing
