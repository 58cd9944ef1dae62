// SPDX-License-Identifier: Apache-2.0
// Every layer and loss x pass x device against the double reference, by the one list of cases: within the tolerance
// table, exact on small integers, the same bits twice, a task alone = the task in a batch.
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <tuple>

#include "kernels/all_layers.h"
#include "tests/support/compare.h"
#include "tests/support/guarded_array.h"
#include "tests/support/layer_passes.h"
#include "tests/support/loss_passes.h"

namespace cumeta::testing {
namespace {

using Kind = std::tuple<TestDevice, std::string>;
std::string kind_name(const ::testing::TestParamInfo<Kind>& instance) {
  return name(std::get<0>(instance.param)) + "_" + std::get<1>(instance.param);
}

/// TF32 may take another of two almost equal numbers for a window's maximum; the maximum itself is in y.
std::vector<double> without_winners(const LayerCase& c, const std::vector<double>& records) {
  const auto* block = std::get_if<ConvBlock>(&c.stage);
  if (!block || !block->pooled || records.empty()) return records;
  const Shape z = output(block->convolution, c.geometry.input);
  const auto keep = static_cast<std::ptrdiff_t>(c.geometry.examples) * z.size() + 2 * z.channels;
  const auto size = static_cast<std::ptrdiff_t>(records.size()) / c.tasks;
  std::vector<double> kept;
  for (std::ptrdiff_t at = 0; at < static_cast<std::ptrdiff_t>(records.size()); at += size)
    kept.insert(kept.end(), records.begin() + at, records.begin() + at + keep);
  return kept;
}

/// One test per device and kind of layer; it loops over the kind's cases.
class Layers : public ::testing::TestWithParam<Kind> {
 protected:
  TestDevice device() const { return std::get<0>(GetParam()); }
  std::vector<LayerCase> cases() const { return device() == TestDevice::cuda_vendor ? vendor_cases() : layer_cases(); }
  template <class Case, class Check>
  void for_each_case(const std::vector<Case>& cases, Check&& check) {
    const std::vector<Case> chosen = of_kind(cases, std::get<1>(GetParam()));
    if (chosen.empty() && std::getenv("CUMETA_CASE"))
      GTEST_SKIP() << "no case of " << std::get<1>(GetParam()) << " has CUMETA_CASE in its name";
    ASSERT_FALSE(chosen.empty()) << "tests/support/cases.cpp has no case of " << std::get<1>(GetParam());
    for (const Case& c : chosen) {
      SCOPED_TRACE("CUMETA_CASE=" + c.name);
      check(c);
    }
  }
};

TEST_P(Layers, EveryPassIsNearTheReference) {
  CUMETA_OPEN_OR_SKIP(backend, device());
  for_each_case(cases(), [&](const LayerCase& c) {
    const Expected e = run_reference(c, 21, true);
    for (const Rows rows : {Rows::anywhere, Rows::aligned}) {
      const RowsLie here(rows);
      for (const Pass pass : kLayerPasses) {
        const HostArrays out = run_pass(device(), backend, c, pass, e.inputs);
        for (const Role role : outputs_of(c, pass)) {
          const bool winners = role == kR && device() == TestDevice::cuda_tf32;
          const auto& expected = winners ? without_winners(c, e.expected[role]) : e.expected[role];
          const auto& actual = winners ? without_winners(c, out[role]) : out[role];
          EXPECT_TRUE(near(std::string(name(pass)) + " " + kRoleNames[role], expected, actual,
                           static_cast<std::size_t>(c.tasks), tolerance(pass, arithmetic_of(device())), kSmallestScale))
              << (rows == Rows::aligned ? "rows are aligned" : "rows begin anywhere");
        }
      }
    }
  });
}

TEST_P(Layers, TwiceIsTheSameBitsAndSoIsATaskAlone) {
  CUMETA_OPEN_OR_SKIP(backend, device());
  const RowsLie here(Rows::aligned);
  for_each_case(cases(), [&](const LayerCase& c) {
    const Expected e = run_reference(c, 22, true);
    LayerCase single = c;
    single.tasks = 1;
    const int task = c.tasks - 1;
    for (const Pass pass : kLayerPasses) {
      const HostArrays first = run_pass(device(), backend, c, pass, e.inputs);
      const HostArrays again = run_pass(device(), backend, c, pass, e.inputs);
      const HostArrays alone = run_pass(device(), backend, single, pass, one_task(c, e.inputs, task));
      const HostArrays batch = one_task(c, first, task);
      for (const Role role : outputs_of(c, pass)) {
        EXPECT_TRUE(same_bits(std::string(name(pass)) + " twice " + kRoleNames[role], first[role], again[role]));
        // The libraries may choose another kernel for another number of tasks; what surrounds them may not.
        if (device() != TestDevice::cuda_vendor || backend.name() == "cuda (emulated)") {
          EXPECT_TRUE(same_bits(std::string(name(pass)) + " alone " + kRoleNames[role], batch[role], alone[role]));
        }
      }
      // A tape is filled again without the parameters' gradient.
      if (pass != Pass::backward || !wanted(c, kDx) || !wanted(c, kDw)) continue;
      LayerCase without = c;
      without.no_dw = true;
      EXPECT_TRUE(same_bits("dx without dw", first[kDx], run_pass(device(), backend, without, pass, e.inputs)[kDx]));
    }
  });
}

/// A kind of stage or loss without a case would be tested nowhere.
template <class Variant, class Case>
void expect_every_kind(const std::vector<Case>& cases, Variant Case::*kind) {
  std::vector<bool> there(std::variant_size_v<Variant>);
  for (const Case& c : cases) there[(c.*kind).index()] = true;
  for (std::size_t i = 0; i < there.size(); ++i) EXPECT_TRUE(there[i]) << "no case of kind " << i;
}
TEST(Cases, AreThereForEveryKind) {
  std::vector<LayerCase> all = layer_cases();
  for (const LayerCase& c : vendor_cases()) all.push_back(c);
  expect_every_kind(all, &LayerCase::stage);
  expect_every_kind(loss_cases(), &LossCase::loss);
  for (const LayerCase& c : layer_cases())
    EXPECT_EQ(of_kind(std::vector{c}, c.name.substr(0, c.name.find('_'))).size(), 1u);
}

/// Once, and on the emulator no more than it does in a second or two.
class LargeLayers : public ::testing::TestWithParam<std::tuple<TestDevice, LayerCase>> {};
TEST_P(LargeLayers, AreNearTheReferenceToo) {
  const auto& [device, c] = GetParam();
  CUMETA_OPEN_OR_SKIP(backend, device);
  if (backend.name() == "cuda (emulated)" && multiply_adds(c) > 100'000) GTEST_SKIP() << "too large for the emulator";
  const RowsLie here(Rows::anywhere);
  const Expected e = run_reference(c, 21, true);
  for (const Pass pass : kLayerPasses) {
    const HostArrays out = run_pass(device, backend, c, pass, e.inputs);
    for (const Role role : outputs_of(c, pass))
      EXPECT_TRUE(near(std::string(name(pass)) + " " + kRoleNames[role], e.expected[role], out[role],
                       static_cast<std::size_t>(c.tasks), tolerance(pass, arithmetic_of(device)), kSmallestScale));
  }
}
INSTANTIATE_TEST_SUITE_P(, LargeLayers,
                         ::testing::Combine(::testing::ValuesIn(judged_devices()), ::testing::ValuesIn(large_cases())),
                         [](const auto& instance) {
                           return name(std::get<0>(instance.param)) + "_" + std::get<1>(instance.param).name;
                         });

const auto vendor_kinds =
    ::testing::Combine(::testing::Values(TestDevice::cuda_vendor),
                       ::testing::Values(std::string("VendorLinear"), std::string("VendorConv2d")));
INSTANTIATE_TEST_SUITE_P(Vendor, Layers, vendor_kinds, kind_name);
INSTANTIATE_TEST_SUITE_P(, Layers,
                         ::testing::Combine(::testing::ValuesIn(judged_devices()), ::testing::ValuesIn(layer_kinds())),
                         kind_name);

const std::vector<std::string> kTf32Kinds = {"Linear", "Conv2d", "ConvBlock"};
INSTANTIATE_TEST_SUITE_P(Tf32, Layers,
                         ::testing::Combine(::testing::Values(TestDevice::cuda_tf32), ::testing::ValuesIn(kTf32Kinds)),
                         kind_name);

/// Contractions of small integers have no rounding: every device must give the very numbers.
class ExactLayers : public Layers {};
TEST_P(ExactLayers, SmallIntegersAreEqual) {
  CUMETA_OPEN_OR_SKIP(backend, device());
  const RowsLie here(Rows::aligned);
  for_each_case(exact_cases(), [&](const LayerCase& c) {
    const Expected e = run_reference(c, 23, true);
    for (const Pass pass : kLayerPasses) {
      const HostArrays out = run_pass(device(), backend, c, pass, e.inputs);
      for (const Role role : outputs_of(c, pass))
        EXPECT_TRUE(near(std::string(name(pass)) + " " + kRoleNames[role], e.expected[role], out[role],
                         static_cast<std::size_t>(c.tasks), 0.0));
    }
  });
}
INSTANTIATE_TEST_SUITE_P(Vendor, ExactLayers, vendor_kinds, kind_name);
INSTANTIATE_TEST_SUITE_P(, ExactLayers,
                         ::testing::Combine(::testing::ValuesIn(judged_devices()),
                                            ::testing::Values(std::string("Linear"), std::string("Conv2d"))),
                         kind_name);
INSTANTIATE_TEST_SUITE_P(Tf32, ExactLayers,
                         ::testing::Combine(::testing::Values(TestDevice::cuda_tf32),
                                            ::testing::Values(std::string("Linear"), std::string("Conv2d"))),
                         kind_name);

class Losses : public Layers {};
TEST_P(Losses, BothPassesAreNearTheReferenceAndRepeatTheirBits) {
  CUMETA_OPEN_OR_SKIP(backend, device());
  for_each_case(loss_cases(), [&](const LossCase& c) {
    std::string why;
    const LossArrays in = draw_loss_inputs(c, 24);
    const LossArrays expected = run_loss(*open(TestDevice::reference, why), c, in);
    const LossArrays out = run_loss(backend, c, in), again = run_loss(backend, c, in);
    const auto rows = static_cast<std::size_t>(c.tasks);
    const double value = tolerance(Pass::loss, backend.number()),
                 tangent = tolerance(Pass::loss_tangent, backend.number());
    EXPECT_TRUE(near("loss", expected.loss, out.loss, rows, value, kSmallestScale));
    EXPECT_TRUE(near("hits", expected.hits, out.hits, rows, 0.0));
    EXPECT_TRUE(near("dx", expected.dx, out.dx, rows, value, kSmallestScale));
    EXPECT_TRUE(near("Rdx", expected.Rdx, out.Rdx, rows, tangent, kSmallestScale));
    LossCase single = c;
    single.tasks = 1;
    const LossArrays alone = run_loss(backend, single, one_task(c, in, c.tasks - 1)),
                     batch = one_task(c, out, c.tasks - 1);
    for (const auto& [what, member] : {std::pair{"loss", &LossArrays::loss},
                                       {"hits", &LossArrays::hits},
                                       {"dx", &LossArrays::dx},
                                       {"Rdx", &LossArrays::Rdx}}) {
      EXPECT_TRUE(same_bits(std::string(what) + " twice", out.*member, again.*member));
      EXPECT_TRUE(same_bits(std::string(what) + " alone", batch.*member, alone.*member));
    }
  });
}
/// Hits are those of the reference, which says how scores are ranked that are no numbers: the first score stays the
/// largest where no other one is larger, and a score that is no number hits nothing.
class HitsOfLosses : public ::testing::TestWithParam<TestDevice> {};
TEST_P(HitsOfLosses, ScoresThatAreNoNumbers) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> scores{nan, nan, nan, nan, 1, 0, 1, nan, 0, 0, nan, 1, nan, 0, 1};
  const std::vector<double> labels{0, 1, 0, 2, 0}, expected{0, 0, 1, 1, 0};
  const auto hits_on = [&](Backend& on) {
    GuardedArray x(on, 5, 3), t(on, 5, 1), loss(on, 5, 1), hits(on, 5, 1);
    x.fill_rows(scores), t.fill_rows(labels);
    on.lane(0)
        .bind(SoftmaxCrossEntropy{}, {.outputs = 3, .examples = 1})
        ->forward_backward(x.array(), t.array(), loss.array(), hits.array(), {});
    return hits.rows("hits");
  };
  std::string why;
  EXPECT_EQ(hits_on(*open(TestDevice::reference, why)), expected);
  EXPECT_EQ(hits_on(backend), expected);
}
INSTANTIATE_TEST_SUITE_P(, HitsOfLosses, ::testing::ValuesIn(judged_devices()),
                         [](const auto& instance) { return name(instance.param); });

INSTANTIATE_TEST_SUITE_P(, Losses,
                         ::testing::Combine(::testing::ValuesIn(judged_devices()),
                                            ::testing::Values(std::string("SoftmaxCrossEntropy"),
                                                              std::string("MeanSquaredError"))),
                         kind_name);

}  // namespace
}  // namespace cumeta::testing
