// SPDX-License-Identifier: Apache-2.0
// The end of a meta-update on every device against the reference: means, ties, clipping, optimizers, halting, reports.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/support/devices.h"
#include "tests/support/tolerances.h"

namespace cumeta::testing {
namespace {

const double kTolerance = tolerance(Pass::outer_step, Number::float32);

struct StepCase {
  std::string name;
  int tasks = 5;
  RowLayout layout;
  OuterStep::Rule rule = OuterStep::Rule::adam;
  double momentum = 0, clip_value = 0, clip_norm = 0;
  std::vector<TiedGroup> tied{};
  bool halt = true;
  int bad_task = -1, bad_column = 0;
};

/// Everything that a step leaves behind.
struct Outcome {
  std::vector<double> mean, meta, first, second, running, inner_second, report, halted;
};

class StepMemory {
 public:
  StepMemory(Backend& backend, const StepCase& c) : backend_(backend), random_(7) {
    step_.layout = c.layout;
    step_.rule = c.rule, step_.momentum = c.momentum;
    step_.clip_value = c.clip_value, step_.clip_norm = c.clip_norm;
    step_.tied = c.tied, step_.halt_on_nonfinite = c.halt;
    const RowLayout& l = c.layout;
    std::vector<double> rows = numbers(c.tasks * l.size(), -1, 1);
    if (c.bad_task >= 0)
      rows[static_cast<std::size_t>(c.bad_task * l.size() + c.bad_column)] = std::numeric_limits<double>::quiet_NaN();
    step_.rows = array(c.tasks, l.size(), rows);
    step_.mean = array(1, l.size(), std::vector<double>(static_cast<std::size_t>(l.size())));
    step_.meta = array(1, l.gradient, numbers(l.gradient, -1, 1));
    step_.first = array(1, l.gradient, numbers(l.gradient, -1, 1));
    step_.second = array(1, l.gradient, numbers(l.gradient, 0.1, 1));
    if (l.statistics) step_.running = array(1, l.statistics, numbers(l.statistics, 0, 1));
    if (l.second) step_.inner_second = array(1, l.second, numbers(l.second, 0, 1));
    std::vector<double> control(kControlSize);
    control[kControlRate] = 0.01, control[kControlCorrection1] = 0.19, control[kControlCorrection2] = 0.002;
    control[kControlReportSlot] = 2;
    step_.control = array(1, kControlSize, control, Number::float64);
    const ReportLayout report{l.steps};
    step_.reports =
        array(3, report.size(), std::vector<double>(static_cast<std::size_t>(3 * report.size()), -7), Number::float64);
    step_.halted = array(1, 1, {0}, Number::float64);
  }
  Outcome run(int times) {
    const auto recording = backend_.record([this] { backend_.outer_step(step_); });
    for (int i = 0; i < times; ++i) recording->run();
    kernel_nodes = recording->kernel_nodes();
    return {read(step_.mean),    read(step_.meta),         read(step_.first),   read(step_.second),
            read(step_.running), read(step_.inner_second), read(step_.reports), read(step_.halted)};
  }
  int kernel_nodes = 0;

 private:
  std::vector<double> numbers(int count, double low, double high) {
    std::uniform_real_distribution<float> draw(static_cast<float>(low), static_cast<float>(high));
    std::vector<double> out(static_cast<std::size_t>(count));
    for (double& number : out) number = draw(random_);
    return out;
  }
  Array array(int tasks, std::int64_t size, const std::vector<double>& values, Number number) {
    memory_.push_back(backend_.allocate(static_cast<std::size_t>(tasks * (size + 1) * bytes_of(number))));
    const Array a{memory_.back().get(), tasks, size, size + 1, number};
    backend_.upload(std::span<const double>(values), a);
    return a;
  }
  Array array(int tasks, std::int64_t size, const std::vector<double>& values) {
    return array(tasks, size, values, backend_.number());
  }
  std::vector<double> read(const Array& a) {
    std::vector<double> out(static_cast<std::size_t>(a.data ? a.tasks * a.size : 0));
    if (a) backend_.download(a, out);
    return out;
  }

  Backend& backend_;
  std::mt19937 random_;
  OuterStep step_;
  std::vector<std::shared_ptr<std::byte>> memory_;
};

void expect_near(const char* what, const std::vector<double>& expected, const std::vector<double>& actual) {
  ASSERT_EQ(expected.size(), actual.size()) << what;
  double scale = 1e-3;
  for (const double number : expected)
    if (std::isfinite(number)) scale = std::max(scale, std::abs(number));
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (std::isfinite(expected[i]))
      ASSERT_NEAR(expected[i], actual[i], kTolerance * scale) << what << " " << i;
    else
      ASSERT_FALSE(std::isfinite(actual[i])) << what << " " << i;
}

std::vector<StepCase> step_cases() {
  const RowLayout small{37, 0, 0, 1}, all{300, 6, 40, 3}, large{20000, 4, 0, 2};
  using Rule = OuterStep::Rule;
  std::vector<StepCase> cases{
      {"adam", 25, small, Rule::adam},
      {"sgd", 4, small, Rule::sgd},
      {"momentum", 7, small, Rule::sgd, 0.9},
      {"none", 3, small, Rule::none},
      {"everything", 6, all, Rule::adam, 0, 0.2, 1.5, {{100, 200}, {250, 300}}},
      {"norm", 6, all, Rule::sgd, 0, 0, 0.5},
      {"loose_norm", 6, all, Rule::sgd, 0, 0, 1e6},
      {"large", 3, large, Rule::adam, 0, 0, 0.7, {{19000, 19001}, {19500, 20000}}},
      {"bad_gradient_halts", 5, all, Rule::adam, 0, 0, 0, {}, true, 3, 123},
      {"bad_gradient_skips", 5, all, Rule::adam, 0, 0, 0, {}, false, 3, 123},
      {"bad_support_loss", 5, all, Rule::adam, 0, 0, 0, {}, true, 4, all.support_loss_at() + 1},
      {"bad_query_loss", 5, large, Rule::adam, 0, 0, 0, {}, true, 0, large.query_loss_at()},
      {"bad_statistics_do_not_matter", 5, all, Rule::adam, 0, 0, 0, {}, true, 1, all.statistics_at()},
  };
  for (const int tasks : {1, 2, 3, 5, 8, 11, 32, 70}) cases.push_back({"tasks_" + std::to_string(tasks), tasks, small});
  return cases;
}

class OuterSteps : public ::testing::TestWithParam<TestDevice> {};

TEST_P(OuterSteps, AreNearTheReference) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  std::string why;
  Backend& reference = *open(TestDevice::reference, why);
  for (const StepCase& c : step_cases()) {
    SCOPED_TRACE(c.name);
    StepMemory on_device(backend, c), on_reference(reference, c);
    const Outcome e = on_reference.run(2), a = on_device.run(2);
    expect_near("mean", e.mean, a.mean);
    expect_near("meta", e.meta, a.meta);
    expect_near("first", e.first, a.first);
    expect_near("second", e.second, a.second);
    expect_near("running", e.running, a.running);
    expect_near("inner second", e.inner_second, a.inner_second);
    expect_near("report", e.report, a.report);
    expect_near("halted", e.halted, a.halted);
    EXPECT_LE(on_device.kernel_nodes, 2);
    StepMemory again(backend, c);
    EXPECT_EQ(again.run(2).meta, a.meta) << "other bits the second time";
  }
}

std::string device_name(const ::testing::TestParamInfo<TestDevice>& info) { return name(info.param); }
INSTANTIATE_TEST_SUITE_P(Devices, OuterSteps, ::testing::ValuesIn(judged_devices()), device_name);

}  // namespace
}  // namespace cumeta::testing
