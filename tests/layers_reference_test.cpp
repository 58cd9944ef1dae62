// SPDX-License-Identifier: Apache-2.0
// The reference column against mathematics: central differences, <u, J v> = <J' u, v>, u' H v = v' H u, and its own
// laws: guard bands, outputs overwritten, a task alone = the task in a batch.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/all_layers.h"
#include "tests/support/compare.h"
#include "tests/support/layer_passes.h"

namespace cumeta::testing {
namespace {

HostArrays run(const LayerCase& c, Pass pass, const HostArrays& from) {
  std::string why;
  return run_pass(TestDevice::reference, *open(TestDevice::reference, why), c, pass, from);
}

/// One test per kind of layer; it loops over the kind's cases.
class ReferenceLayer : public ::testing::TestWithParam<std::string> {
 protected:
  template <class Check>
  void for_each_case(Check&& check) {
    for (const LayerCase& c : of_kind(layer_cases(), GetParam())) {
      SCOPED_TRACE("CUMETA_CASE=" + c.name);
      check(c);
    }
  }
};

/// to + step direction, where a missing direction is zero.
std::vector<double> moved(const std::vector<double>& to, const std::vector<double>& direction, double step) {
  std::vector<double> out = to;
  for (std::size_t i = 0; i < direction.size(); ++i) out[i] += step * direction[i];
  return out;
}
std::vector<double> difference(const std::vector<double>& above, const std::vector<double>& below, double step) {
  std::vector<double> out(above.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = (above[i] - below[i]) / (2 * step);
  return out;
}

/// The case with all arrays wanted and all directions there; a shared w becomes a w per task, as its direction is.
LayerCase with_everything(LayerCase c) {
  c.shared_w = c.no_Rw = c.no_Rx = c.no_dx = c.no_dw = false;
  return c;
}

TEST_P(ReferenceLayer, TangentsAreCentralDifferences) {
  for_each_case([](const LayerCase& c) {
    if (c.fill == Fill::integers) return;  // ties and zeros are kinks: a difference crosses them
    if (c.shared_w) return;                // a shared w cannot move by a direction per task
    // Differences cross the kinks of its ReLU; it is held to its layers instead (conv_block_reference_test).
    if (std::holds_alternative<ConvBlock>(c.stage)) return;
    const Expected e = run_reference(c, 11, false);
    const double step = kDifferenceStep;

    // The functions w, x -> y and w, x, dy -> dx, dw at both ends of the step.
    HostArrays at[2];
    for (const int end : {0, 1}) {
      const double sign = end ? -step : step;
      HostArrays in = e.inputs;
      in[kW] = moved(in[kW], in[kRw], sign);
      in[kX] = moved(in[kX], in[kRx], sign);
      in[kDy] = moved(in[kDy], in[kRdy], sign);
      const HostArrays values = run(c, Pass::forward, in);
      in[kY] = values[kY];
      if (!values[kR].empty()) in[kR] = values[kR];
      at[end] = run(c, Pass::backward, in);
      at[end][kY] = values[kY];
    }
    for (const auto& [value, tangent] : {std::pair{kY, kRy}, {kDx, kRdx}, {kDw, kRdw}}) {
      if (e.expected[tangent].empty()) continue;
      EXPECT_TRUE(near(kRoleNames[tangent], difference(at[0][value], at[1][value], step), e.expected[tangent],
                       static_cast<std::size_t>(c.tasks), kDifferenceTolerance, 1e-3));
    }
  });
}

TEST_P(ReferenceLayer, TheBackwardPassIsTheAdjointOfTheTangent) {
  for_each_case([](const LayerCase& asked) {
    const LayerCase c = with_everything(asked);
    const Expected e = run_reference(c, 12, false);
    const double forwards = dot(e.inputs[kDy], e.expected[kRy]);
    const double backwards = dot(e.expected[kDx], e.inputs[kRx]) + dot(e.expected[kDw], e.inputs[kRw]);
    const double scale = std::sqrt(dot(e.inputs[kDy], e.inputs[kDy]) * dot(e.expected[kRy], e.expected[kRy]));
    EXPECT_NEAR(forwards, backwards, kIdentityTolerance * (scale + 1e-3));
  });
}

TEST_P(ReferenceLayer, TheHessianIsSymmetric) {
  for_each_case([](const LayerCase& asked) {
    const LayerCase c = with_everything(asked);
    // The Hessian of <dy, y(w, x)> with dy held: Rdy = 0. u and v are two directions.
    const auto product = [&](const HostArrays& base, const HostArrays& direction) {
      HostArrays in = base;
      in[kRw] = direction[kRw], in[kRx] = direction[kRx];
      in[kRdy].assign(in[kDy].size(), 0.0);
      const HostArrays forward = run(c, Pass::tangent_forward, in);
      in[kRy] = forward[kRy], in[kRr] = forward[kRr];
      return run(c, Pass::tangent_backward, in);
    };
    const Expected e = run_reference(c, 13, false);
    const HostArrays u = draw_inputs(c, 14), v = draw_inputs(c, 15);
    const HostArrays Hu = product(e.inputs, u), Hv = product(e.inputs, v);
    const double uHv = dot(u[kRx], Hv[kRdx]) + dot(u[kRw], Hv[kRdw]);
    const double vHu = dot(v[kRx], Hu[kRdx]) + dot(v[kRw], Hu[kRdw]);
    const double scale =
        std::sqrt((dot(u[kRx], u[kRx]) + dot(u[kRw], u[kRw])) * (dot(Hv[kRdx], Hv[kRdx]) + dot(Hv[kRdw], Hv[kRdw])));
    EXPECT_NEAR(uHv, vHu, kIdentityTolerance * (scale + 1e-3));
  });
}

TEST_P(ReferenceLayer, ATaskAloneIsTheTaskInABatch) {
  for_each_case([](const LayerCase& c) {
    const Expected e = run_reference(c, 16, false);
    LayerCase single = c;
    single.tasks = 1;
    for (const int task : {0, c.tasks - 1})
      for (const Pass pass : kLayerPasses) {
        const HostArrays alone = run(single, pass, one_task(c, e.inputs, task));
        const HostArrays batch = one_task(c, e.expected, task);
        for (const Role role : outputs_of(single, pass))
          EXPECT_TRUE(same_bits(kRoleNames[role], batch[role], alone[role]));
      }
  });
}

TEST_P(ReferenceLayer, AnEmptyDirectionIsZeroAndAnUnwantedGradientChangesNothing) {
  for_each_case([](const LayerCase& c) {
    if (!c.no_Rw && !c.no_Rx && !c.no_dx && !c.no_dw) return;  // everything is there
    const Expected e = run_reference(c, 17, false);
    LayerCase all = c;
    all.no_Rw = all.no_Rx = all.no_dx = all.no_dw = false;
    HostArrays in = e.inputs;
    for (const Role role : {kRw, kRx, kDx})
      if (in[role].empty()) in[role].assign(static_cast<std::size_t>(c.tasks * role_size(c, role)), 0.0);
    for (const Pass pass : kLayerPasses) {
      const HostArrays out = run(all, pass, in);
      for (const Role role : outputs_of(c, pass)) EXPECT_TRUE(same_bits(kRoleNames[role], e.expected[role], out[role]));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(, ReferenceLayer, ::testing::ValuesIn(layer_kinds()),
                         [](const auto& instance) { return instance.param; });

// What the differences cannot see: the record, which the contract keeps in a form of its own.
TEST(ReferenceRecord, BatchNormKeepsTheMeansOfTheTangentAndOfItsProductWithTheNormalisedValue) {
  for (const LayerCase& c : layer_cases()) {
    if (!std::holds_alternative<BatchNorm>(c.stage)) continue;
    SCOPED_TRACE(c.name);
    const Expected e = run_reference(c, 18, false);
    const Geometry& g = c.geometry;
    const int channels = g.input.channels, pixels = g.input.height * g.input.width,
              counted = g.statistics_rows * pixels;
    std::vector<double> expected;
    for (int task = 0; task < c.tasks; ++task) {
      std::vector<double> m1(static_cast<std::size_t>(channels)), m2(static_cast<std::size_t>(channels));
      for (int p = 0; p < counted && !c.no_Rx; ++p)
        for (int k = 0; k < channels; ++k) {
          const std::size_t at = static_cast<std::size_t>((task * g.examples * pixels + p) * channels + k);
          const std::size_t r = static_cast<std::size_t>(task * 2 * channels + k),
                            channel = static_cast<std::size_t>(k);
          const double xh = (e.inputs[kX][at] - e.inputs[kR][r]) * e.inputs[kR][r + static_cast<std::size_t>(channels)];
          m1[channel] += e.inputs[kRx][at] / counted;
          m2[channel] += xh * e.inputs[kRx][at] / counted;
        }
      expected.insert(expected.end(), m1.begin(), m1.end());
      expected.insert(expected.end(), m2.begin(), m2.end());
    }
    EXPECT_TRUE(near("Rr", expected, e.expected[kRr], static_cast<std::size_t>(c.tasks), 1e-12, 1e-3));
  }
}

TEST(ReferenceRecord, MaxPoolTakesTheFirstOfEqualMaxima) {
  const LayerCase c{
      .name = "ties", .stage = MaxPool2d{.kernel = 2, .stride = 1}, .geometry = {image(2, 3, 1), 1, 0}, .tasks = 1};
  HostArrays in;
  in[kX] = {1, 5, 5, 1, 5, 0};  // rows 1 5 5 / 1 5 0: windows {1 5 1 5} and {5 5 5 0}
  std::string why;
  const HostArrays out = run_pass(TestDevice::reference, *open(TestDevice::reference, why), c, Pass::forward, in);
  EXPECT_EQ(out[kY], (std::vector<double>{5, 5}));
  EXPECT_EQ(out[kR], (std::vector<double>{1, 0}));
}

// By hand: two examples of two numbers, so that no convention of memory or sign can hide behind an identity.
TEST(ReferenceValues, LinearByHand) {
  const LayerCase c{.name = "linear", .stage = Linear{.outputs = 3}, .geometry = {features(2), 2, 0}, .tasks = 1};
  HostArrays in;
  in[kW] = {1, 2, 3, 4, 5, 6, /* b */ 10, 20, 30};  // W[input][output]
  in[kX] = {1, 1, 2, -1};
  std::string why;
  Backend& backend = *open(TestDevice::reference, why);
  in[kY] = run_pass(TestDevice::reference, backend, c, Pass::forward, in)[kY];
  EXPECT_EQ(in[kY], (std::vector<double>{15, 27, 39, 8, 19, 30}));
  in[kDy] = {1, 0, -1, 2, 1, 0};
  const HostArrays out = run_pass(TestDevice::reference, backend, c, Pass::backward, in);
  EXPECT_EQ(out[kDx], (std::vector<double>{-2, -2, 4, 13}));
  EXPECT_EQ(out[kDw], (std::vector<double>{5, 2, -1, -1, -1, -1, 3, 1, -1}));
}

TEST(ReferenceValues, ConvolutionByHand) {
  // A kernel that picks the pixel above (tap row 0, column 1) of channel 1 into filter 0, and twice the centre of
  // channel 0 into filter 1.
  const LayerCase c{.name = "convolution",
                    .stage = Conv2d{.filters = 2, .kernel = 3, .stride = 1, .padding = 1},
                    .geometry = {image(2, 2, 2), 1, 0},
                    .tasks = 1};
  HostArrays in;
  in[kW].assign(3 * 3 * 2 * 2 + 2, 0.0);
  in[kW][(1 * 2 + 1) * 2 + 0] = 1;
  in[kW][(4 * 2 + 0) * 2 + 1] = 2;
  in[kW][36] = 0.5;
  in[kX] = {1, 10, 2, 20, 3, 30, 4, 40};
  std::string why;
  const HostArrays out = run_pass(TestDevice::reference, *open(TestDevice::reference, why), c, Pass::forward, in);
  EXPECT_EQ(out[kY], (std::vector<double>{0.5, 2, 0.5, 4, 10.5, 6, 20.5, 8}));
}

}  // namespace
}  // namespace cumeta::testing
