// SPDX-License-Identifier: Apache-2.0
// The end of a meta-update: the reference against numbers by hand, and every device against it within the table.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <random>

#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/guarded_array.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {
namespace {

/// Outer steps from host numbers; what they leave behind.
struct Scenario {
  const char* name;
  OuterStep step{};  // everything but the arrays
  int tasks = 4;
  int updates = 3;
  double rate = 0.1;
  bool first = false, second = false;  // moments are kept
};
struct State {
  std::vector<double> mean, meta, first, second, running, inner_second, reports, halted, applied;
};

std::vector<double> draw(std::int64_t count, unsigned seed, double low, double high) {
  std::mt19937 engine(seed);
  std::vector<double> out;
  for (std::int64_t i = 0; i < count; ++i)
    out.push_back(static_cast<float>(low + (high - low) * ((engine() >> 8) * 0x1p-24)));
  return out;
}

/// Changes the rows [task][layout.size()] of an update before it runs.
using Spoil = std::function<void(int update, std::vector<double>& rows)>;

State run(Backend& backend, const Scenario& s, const Spoil& spoil = {}) {
  OuterStep step = s.step;
  const RowLayout& l = step.layout;
  const ReportLayout report{l.steps};
  GuardedArray rows(backend, s.tasks, l.size()), mean(backend, 1, l.size()), meta(backend, 1, l.gradient),
      first(backend, 1, l.gradient), second(backend, 1, l.gradient), running(backend, 1, std::max(1, l.statistics)),
      inner(backend, 1, std::max(1, l.second)), control(backend, 1, kControlSize, Number::float64),
      halted(backend, 1, 1, Number::float64), applied(backend, 1, kAppliedSize, Number::float64),
      reports(backend, s.updates, report.size(), Number::float64);
  std::unique_ptr<Recording> recorded;
  meta.fill_rows(draw(l.gradient, 41, -1, 1));
  first.fill_rows(std::vector<double>(static_cast<std::size_t>(l.gradient), 0.0));
  second.fill_rows(std::vector<double>(static_cast<std::size_t>(l.gradient), 0.0));
  running.fill_rows(draw(std::max(1, l.statistics), 42, 0, 1));
  inner.fill_rows(draw(std::max(1, l.second), 43, 0, 1));
  halted.fill_rows({0});
  applied.fill_rows({0, 0});

  step.rows = rows.array(), step.mean = mean.array();
  step.control = control.array(), step.reports = reports.array(), step.halted = halted.array();
  step.applied = applied.array();
  if (step.rule != OuterStep::Rule::none) step.meta = meta.array();
  if (s.first) step.first = first.array();
  if (s.second) step.second = second.array();
  if (l.statistics) step.running = running.array();
  if (l.second) step.inner_second = inner.array();
  for (int update = 0; update < s.updates; ++update) {
    std::vector<double> numbers = draw(s.tasks * l.size(), 44 + static_cast<unsigned>(update), -1, 1);
    if (spoil) spoil(update, numbers);
    rows.fill_rows(numbers);
    std::vector<double> c(kControlSize, 0.0);
    c[kControlRate] = s.rate / (1 + update);
    c[kControlReportSlot] = update;
    control.fill_rows(c);
    if (!recorded) recorded = backend.record([&] { backend.outer_step(step); });
    recorded->run();
    rows.rows("rows");  // guard bands
  }
  EXPECT_LE(recorded->kernel_nodes(), 2);
  return {mean.rows("mean"),       meta.rows("meta"),     first.rows("first"),
          second.rows("second"),   running.rows("run"),   inner.rows("inner_second"),
          reports.rows("reports"), halted.rows("halted"), applied.rows("applied")};
}

Backend& reference() {
  std::string why;
  return *open(TestDevice::reference, why);
}

OuterStep step_of(OuterStep::Rule rule, RowLayout layout) {
  OuterStep step;
  step.rule = rule;
  step.layout = layout;
  return step;
}

std::vector<Scenario> scenarios() {
  using Rule = OuterStep::Rule;
  const RowLayout small{.gradient = 13, .statistics = 0, .second = 0, .steps = 2};
  const RowLayout full{.gradient = 600, .statistics = 10, .second = 300, .steps = 5};
  std::vector<Scenario> all;
  all.push_back({"none", step_of(Rule::none, small)});
  all.push_back({"no_inner_steps", step_of(Rule::sgd, {.gradient = 1, .steps = 0}), 1});
  for (const int tasks : {1, 2, 3, 5, 7, 8, 11, 14, 15, 16, 25, 32, 70})
    all.push_back({"sgd", step_of(Rule::sgd, small), tasks});
  all.push_back({"momentum", step_of(Rule::sgd, full), 6, 4, 0.2, true});
  all.back().step.momentum = 0.9;
  all.push_back({"adam", step_of(Rule::adam, full), 25, 5, 1e-3, true, true});
  all.push_back({"adam_of_several_rounds",
                 step_of(Rule::adam, {.gradient = 2500, .statistics = 7, .second = 300, .steps = 3}), 9, 3, 1e-3, true,
                 true});
  all.push_back({"adam_large", step_of(Rule::adam, {.gradient = 120001, .steps = 1}), 3, 2, 1e-3, true, true});
  all.push_back({"clip_value", step_of(Rule::sgd, small)});
  all.back().step.clip_value = 0.15;
  all.push_back({"clip_norm", step_of(Rule::sgd, small)});
  all.back().step.clip_norm = 0.5;
  all.push_back({"clip_norm_not_reached", step_of(Rule::sgd, small)});
  all.back().step.clip_norm = 1e4;
  all.push_back({"clip_both", step_of(Rule::adam, full), 3, 3, 1e-2, true, true});
  all.back().step.clip_value = 0.3, all.back().step.clip_norm = 2.0;
  all.push_back({"tied", step_of(Rule::adam, full), 5, 3, 1e-2, true, true});
  all.back().step.tied = {{100, 300}, {300, 301}, {400, 600}}, all.back().step.clip_norm = 1.0;
  all.push_back({"everything", step_of(Rule::adam, {.gradient = 300, .statistics = 6, .second = 40, .steps = 3}), 6, 2,
                 1e-2, true, true});
  all.back().step.tied = {{100, 200}, {250, 300}};
  all.back().step.clip_value = 0.2, all.back().step.clip_norm = 1.5;
  all.push_back({"tied_at_the_end_of_a_long_row", step_of(Rule::adam, {.gradient = 20000, .statistics = 4, .steps = 2}),
                 3, 2, 1e-2, true, true});
  all.back().step.tied = {{19000, 19001}, {19500, 20000}}, all.back().step.clip_norm = 0.7;
  return all;
}

class OuterStepDevices : public ::testing::TestWithParam<TestDevice> {};
INSTANTIATE_TEST_SUITE_P(, OuterStepDevices, ::testing::ValuesIn(judged_devices()),
                         [](const auto& instance) { return name(instance.param); });

void compare(const State& expected, const State& out, int updates, double most) {
  EXPECT_TRUE(near("mean", expected.mean, out.mean, 1, most));
  EXPECT_TRUE(near("meta", expected.meta, out.meta, 1, most));
  EXPECT_TRUE(near("first", expected.first, out.first, 1, most, 1e-3));
  EXPECT_TRUE(near("second", expected.second, out.second, 1, most, 1e-3));
  EXPECT_TRUE(near("running", expected.running, out.running, 1, most));
  EXPECT_TRUE(near("inner_second", expected.inner_second, out.inner_second, 1, most));
  EXPECT_TRUE(near("reports", expected.reports, out.reports, static_cast<std::size_t>(updates), most));
  EXPECT_TRUE(near("halted", expected.halted, out.halted, 1, 0));
  EXPECT_EQ(expected.applied, out.applied);
}

TEST_P(OuterStepDevices, EveryScenarioIsNearTheReferenceAndRepeatsItsBits) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  for (const Scenario& s : scenarios()) {
    SCOPED_TRACE(std::string(s.name) + " of " + std::to_string(s.tasks) + " tasks");
    const State out = run(backend, s), again = run(backend, s);
    compare(run(reference(), s), out, s.updates, tolerance(Pass::outer_step, backend.number()));
    EXPECT_TRUE(same_bits("meta twice", out.meta, again.meta));
    EXPECT_TRUE(same_bits("reports twice", out.reports, again.reports));
  }
}

TEST_P(OuterStepDevices, NonFiniteNumbersStopOrAreSkippedAsInTheReference) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const RowLayout l{.gradient = 300, .statistics = 4, .second = 7, .steps = 3};
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const bool halt : {true, false})
    // Statistics that are no numbers stop nobody.
    for (const int at : {0, 299, l.statistics_at(), l.support_loss_at(), l.support_loss_at() + 2, l.query_loss_at()})
      for (const double bad : {nan, infinity, -infinity}) {
        SCOPED_TRACE("column " + std::to_string(at) + (halt ? ", halt" : ", skip"));
        Scenario s{"bad", step_of(OuterStep::Rule::adam, l), 5, 4, 1e-2, true, true};
        s.step.halt_on_nonfinite = halt;
        const Spoil spoil = [&](int update, std::vector<double>& rows) {
          if (update != 1) return;
          rows[static_cast<std::size_t>(2 * l.size() + at)] = bad;
          if (at != l.statistics_at())
            rows[static_cast<std::size_t>(4 * l.size())] = bad;  // a later task's gradient too
        };
        compare(run(reference(), s, spoil), run(backend, s, spoil), s.updates,
                tolerance(Pass::outer_step, backend.number()));
      }
}

TEST_P(OuterStepDevices, FiniteRowsWhoseSumOverflowsStop) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  const RowLayout l{.gradient = 3, .steps = 1};
  for (Backend* device : {&backend, &reference()})
    for (const int column : {0, 1, l.support_loss_at(), l.query_loss_at()}) {
      SCOPED_TRACE(device->name() + ", column " + std::to_string(column));
      const double huge = device->number() == Number::float32 ? 3e38 : 1.5e308;
      Scenario s{"overflow", step_of(OuterStep::Rule::sgd, l), 2, 1, 1.0};
      s.step.halt_on_nonfinite = true;
      if (column == 1) s.step.tied = {{1, 3}};
      const State out = run(*device, s, [&](int, std::vector<double>& rows) {
        rows = {1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0};
        for (const int row : {0, l.size()})
          for (int i = column; i < (column == 1 ? 3 : column + 1); ++i) rows[static_cast<std::size_t>(row + i)] = huge;
      });
      const ReportLayout report{1};
      EXPECT_EQ(out.reports[static_cast<std::size_t>(report.bad_task_at())], 0);
      EXPECT_EQ(out.reports[static_cast<std::size_t>(report.bad_step_at())], 2);
      EXPECT_TRUE(near("meta", draw(3, 41, -1, 1), out.meta, 1, 1e-7));
      // A task that is bad by itself is named before the sum.
      const State named = run(*device, s, [&](int, std::vector<double>& rows) {
        rows = {huge, 1, 1, 0, 0, 0, huge, 1, 1, 0, std::numeric_limits<double>::quiet_NaN(), 0};
      });
      EXPECT_EQ(named.reports[static_cast<std::size_t>(report.bad_task_at())], 1);
      EXPECT_EQ(named.reports[static_cast<std::size_t>(report.bad_step_at())], 1);
    }
}

// The reference by hand.
TEST(OuterStepReference, MeanMomentumStatisticsAndReport) {
  Scenario s{"by hand", step_of(OuterStep::Rule::sgd, {.gradient = 2, .statistics = 1, .second = 1, .steps = 1}),
             3,         2,
             0.5,       true};
  s.step.momentum = 0.5;
  s.step.running_momentum = 0.25;
  const Spoil set = [](int, std::vector<double>& rows) {
    rows = {1, -3, 8, 2, 10, 100, 4,  // gradient, gradient, statistics, second, support loss, query loss, hits
            2, -3, 8, 4, 20, 200, 5,  //
            3, -3, 8, 6, 30, 300, 0};
  };
  const State out = run(reference(), s, set);
  EXPECT_EQ(out.mean, (std::vector<double>{2, -3, 8, 4, 20, 200, 3}));
  const std::vector<double> meta = draw(2, 41, -1, 1), running = draw(1, 42, 0, 1);
  // m = 2, then 0.5 2 + 2 = 3; rates 0.5 and 0.25.
  EXPECT_EQ(out.first, (std::vector<double>{3, -4.5}));
  EXPECT_DOUBLE_EQ(out.meta[0], meta[0] - 0.5 * 2 - 0.25 * 3);
  EXPECT_DOUBLE_EQ(out.meta[1], meta[1] + 0.5 * 3 + 0.25 * 4.5);
  const double once = running[0] + 0.25 * (8 - running[0]);
  EXPECT_DOUBLE_EQ(out.running[0], once + 0.25 * (8 - once));
  EXPECT_EQ(out.inner_second, (std::vector<double>{4}));
  const double length = std::sqrt(13.0);
  EXPECT_EQ(out.reports, (std::vector<double>{20, 200, 3, length, -1, -1, 0, 20, 200, 3, length, -1, -1, 0}));
}

TEST(OuterStepReference, AdamsFirstStepIsTheRateAlongTheSign) {
  Scenario s{"adam", step_of(OuterStep::Rule::adam, {.gradient = 3, .steps = 0}), 1, 1, 0.01, true, true};
  s.step.eps = 0;
  const State out = run(reference(), s, [](int, std::vector<double>& rows) { rows = {5, -1e-3, 2, 0, 0}; });
  const std::vector<double> meta = draw(3, 41, -1, 1);
  EXPECT_TRUE(near("meta", {meta[0] - 0.01, meta[1] + 0.01, meta[2] - 0.01}, out.meta, 1, 1e-15));
}

TEST(OuterStepReference, AdamsCorrectionsCountWhatWasApplied) {
  for (const double n : {1.0, 2.0, 3.0, 7.0, 64.0, 1000.0, 60001.0})
    EXPECT_NEAR(adam_correction(0.999, n), 1 - std::pow(0.999, n), 1e-13) << n;
  // The second of three updates is skipped: the third is Adam's second step.
  Scenario s{"adam", step_of(OuterStep::Rule::adam, {.gradient = 1, .second = 1, .steps = 4}), 1, 3, 1, true, true};
  s.step.halt_on_nonfinite = false;
  const State out = run(reference(), s, [](int update, std::vector<double>& rows) {
    rows = {update == 1 ? std::numeric_limits<double>::quiet_NaN() : 2.0, 3, 0, 0, 0, 0, 0, 0};
  });
  EXPECT_EQ(out.applied, (std::vector<double>{2, 8}));
  // Equal gradients: every step of Adam is its rate, here 1 and 1/3, whatever beta.
  EXPECT_NEAR(out.meta[0], draw(1, 41, -1, 1)[0] - 1 - 1.0 / 3, 1e-7);
}

TEST(OuterStepReference, ClippingTiesAndTheNorm) {
  Scenario s{"clip", step_of(OuterStep::Rule::sgd, {.gradient = 4, .steps = 0}), 1, 1, 1.0};
  s.step.tied = {{1, 4}};
  s.step.clip_value = 4;
  s.step.clip_norm = 1;
  const State out = run(reference(), s, [](int, std::vector<double>& rows) { rows = {3, 10, -20, 30, 0, 0}; });
  EXPECT_EQ(out.mean, (std::vector<double>{3, 20, 20, 20, 0, 0}));
  EXPECT_DOUBLE_EQ(out.reports[2], std::sqrt(9.0 + 400.0));  // the group counts once
  // Clamped to (3, 4), whose norm is 5, then scaled to (0.6, 0.8).
  const std::vector<double> meta = draw(4, 41, -1, 1);
  EXPECT_TRUE(near("meta", {meta[0] - 0.6, meta[1] - 0.8, meta[2] - 0.8, meta[3] - 0.8}, out.meta, 1, 1e-15));
}

TEST(OuterStepReference, HaltingIsStickyAndSkippingIsNot) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const RowLayout l{.gradient = 2, .steps = 1};
  for (const bool halt : {true, false}) {
    Scenario s{"halt", step_of(OuterStep::Rule::sgd, l), 2, 3, 1.0};
    s.step.halt_on_nonfinite = halt;
    const State out = run(reference(), s, [&](int update, std::vector<double>& rows) {
      rows = {1, 1, 0, 0, 0, 1, 1, 0, 0, 0};
      if (update == 1) rows[8] = nan;  // task 1, query loss: step K = 1
    });
    const std::vector<double> meta = draw(2, 41, -1, 1);
    const double moved = halt ? 1.0 : 1.0 + 1.0 / 3;  // the first update alone, or the first and the third
    EXPECT_DOUBLE_EQ(out.meta[0], meta[0] - moved);
    EXPECT_EQ(out.halted[0], halt ? 1 : 0);
    EXPECT_EQ(out.applied, (std::vector<double>{halt ? 1.0 : 2.0, 0}));
    const auto at = [&](int update, int column) {
      return out.reports[static_cast<std::size_t>(update * ReportLayout{1}.size() + column)];
    };
    const ReportLayout report{1};
    EXPECT_EQ(at(0, report.bad_task_at()), -1);
    EXPECT_EQ(at(1, report.bad_task_at()), 1);
    EXPECT_EQ(at(1, report.bad_step_at()), 1);
    EXPECT_EQ(at(2, report.bad_task_at()), -1);
    EXPECT_EQ(at(2, report.halted_at()), halt ? 1 : 0);
  }
}

TEST(OuterStepReference, TheSumOverTasksIsABalancedTree) {
  // In double, 1 + 2^-53 rounds down to 1: only the tree's pairs let the small ones add up first.
  Scenario s{"tree", step_of(OuterStep::Rule::none, {.gradient = 1, .steps = 0}), 5, 1};
  const double small = 0x1p-53;
  const State out = run(reference(), s, [&](int, std::vector<double>& rows) {
    rows = {1, 0, 0, 0, 0, 0, small, 0, 0, small, 0, 0, small, 0, 0};
  });
  EXPECT_EQ(out.mean[0], ((1 + 0) + (small + small) + small) / 5);
  EXPECT_NE(out.mean[0], ((((1 + 0) + small) + small) + small) / 5);
}

}  // namespace
}  // namespace cumeta::testing
