// SPDX-License-Identifier: Apache-2.0
// Meta-gradients, adapted parameters and losses against another framework's, in double, within the tests' table; and
// that nothing a golden file says is passed over.
#include "tests/support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "cumeta/learner.h"
#include "tests/support/devices.h"
#include "tests/support/tasks.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {
namespace {

/// Over the expected norm, or as it is where nothing but zeros is expected.
double relative_error(const std::vector<double>& expected, const std::vector<double>& actual) {
  EXPECT_EQ(expected.size(), actual.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size() && i < actual.size(); ++i) {
    difference += (expected[i] - actual[i]) * (expected[i] - actual[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(norm > 0 ? difference / norm : difference);
}

double rounded_to_tf32(double value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return std::ldexp(std::round(mantissa * 2048), exponent - 11);
}

/// At the file's parameters, or at those rounded to TF32, and at its rates where it has any.
MetaGradient meta_gradient(const Golden& g, const Options& options, bool round = false) {
  Learner learner(g.model, g.algorithm, options);
  std::vector<double> parameters = g.flat("", 1);
  if (round) std::transform(parameters.begin(), parameters.end(), parameters.begin(), rounded_to_tf32);
  learner.set_parameters(parameters);
  if (g.has("rates.")) learner.set_rates(g.flat("rates.", g.rows_of("rates.")));
  const auto sx = g.inputs("support_x"), qx = g.inputs("query_x");
  const auto sy = g.targets("support_y"), qy = g.targets("query_y");
  const MetaGradient got = learner.meta_gradient({g.tasks, {g.support, sx, sy}, {g.query, qx, qy}});
  EXPECT_EQ(got.order, order_of(g.algorithm));
  EXPECT_EQ(got.rate_gradient.empty(), !g.has("rates_gradient.")) << "learned rates and their gradient go together";
  return got;
}

void hold_against(const Golden& g, Device device, Implementation implementation = Implementation::own) {
  const MetaGradient got = meta_gradient(g, {.device = device, .implementation = implementation});
  const double tolerance =
      meta_gradient_tolerance(device == Device::reference ? Arithmetic::float64 : Arithmetic::float32);
  auto check = [&](const char* what, const std::vector<double>& expected, const std::vector<double>& actual) {
    const double error = relative_error(expected, actual);
    std::printf("%-28s %-10s %-24s %.2e\n", g.name.c_str(), to_string(device).c_str(), what, error);
    EXPECT_LE(error, tolerance) << g.name << " " << what << " on " << to_string(device);
  };
  check("meta_gradient", g.flat("meta_gradient.", 1), got.gradient);
  check("meta_gradient_per_task", g.flat("meta_gradient_per_task.", g.tasks), got.gradient_per_task);
  check("adapted", g.flat("adapted.", g.tasks), got.adapted);
  if (steps_of(g.algorithm) > 0) check("support_loss", g.numbers("support_loss"), got.support_loss);
  check("query_loss", g.numbers("query_loss"), got.query_loss);
  if (!got.rate_gradient.empty())
    check("rates_gradient", g.flat("rates_gradient.", g.rows_of("rates_gradient.")), got.rate_gradient);
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
  const DirectionTolerance most = direction_tolerance(kind_of(g.model));
  const MetaGradient got = meta_gradient(g, {.device = Device::cuda, .precision = Precision::tf32});
  const MetaGradient rounded = meta_gradient(g, {.device = Device::reference}, true);
  EXPECT_EQ(got.precision, Precision::tf32);
  auto check = [&](const char* what, const std::vector<double>& expected, const std::vector<double>& actual,
                   const std::vector<double>& from_rounded) {
    ASSERT_EQ(expected.size(), actual.size());
    const Direction tf32 = direction(expected, actual), other = direction(expected, from_rounded);
    std::printf("| %s | %s | %.1e | %.4f | %.1e | %.1e | %.4f |\n", g.name.c_str(), what, tf32.turned, tf32.ratio,
                relative_error(expected, actual), other.turned, other.ratio);
    EXPECT_LE(tf32.turned, most.turned) << g.name << " " << what;
    EXPECT_NEAR(tf32.ratio, 1, most.longer) << g.name << " " << what;
    EXPECT_GT(relative_error(expected, actual), kNearestTf32) << g.name << " " << what;
  };
  check("meta-gradient", g.flat("meta_gradient.", 1), got.gradient, rounded.gradient);
  if (!got.rate_gradient.empty())
    check("of the rates", g.flat("rates_gradient.", g.rows_of("rates_gradient.")), got.rate_gradient,
          rounded.rate_gradient);
}

class GoldenFile : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenFile, Reference) { hold_against(load_golden(GetParam()), Device::reference); }
TEST_P(GoldenFile, Cpu) { hold_against(load_golden(GetParam()), Device::cpu); }
TEST_P(GoldenFile, Cuda) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  (void)backend;
  hold_against(load_golden(GetParam()), Device::cuda);
}

TEST_P(GoldenFile, CudaUnfused) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  (void)backend;
  hold_against(load_golden(GetParam()), Device::cuda, Implementation::unfused);
}
TEST_P(GoldenFile, CudaVendor) {
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda_vendor);
  (void)backend;
  hold_against(load_golden(GetParam()), Device::cuda, Implementation::vendor);
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

/// A file's text around layers, loss and algorithm.
std::string text_of(const std::string& layers, const std::string& algorithm, const std::string& loss,
                    const std::string& more = "") {
  return R"({"input": [2, 6, 5], "layers": [)" + layers + R"(], "loss": ")" + loss + R"(", "algorithm": {)" +
         algorithm + R"(}, "tasks": 2, "support": 4, "query": 3)" + more + "}";
}
const std::string kHead = R"({"kind": "linear", "outputs": 3, "bias": false, "adapted": false})";
const std::string kMaml = R"("kind": "maml", "steps": 3, "rate": 0.5)";

TEST(GoldenText, EveryFieldOfAModelIsRead) {
  const GoldenProblem g = golden_problem(
      "a", text_of(R"({"kind": "conv2d", "filters": 4, "kernel": 5, "stride": 2, "padding": 1, "bias": false,
                  "adapted": false},
                 {"kind": "batch_norm", "statistics": "support", "eps": 0.25, "scale": false, "shift": false,
                  "momentum": 0.5, "adapted": false},
                 {"kind": "leaky_relu", "slope": 0.125}, {"kind": "relu"}, {"kind": "tanh"},
                 {"kind": "max_pool2d", "kernel": 2, "stride": 1}, {"kind": "max_pool2d", "kernel": 3},
                 {"kind": "global_average_pool"}, {"kind": "flatten"}, )" +
                       kHead,
                   kMaml, "softmax_cross_entropy", R"(, "reduction": "sum_over_ways")"));
  const std::vector<Layer>& layers = g.model.layers;
  ASSERT_EQ(layers.size(), 10u);
  EXPECT_EQ(g.model.input.channels, 2);
  EXPECT_EQ(g.model.input.height, 6);
  EXPECT_EQ(g.model.input.width, 5);
  const auto& conv = std::get<Conv2d>(layers[0]);
  EXPECT_EQ(conv.filters, 4);
  EXPECT_EQ(conv.kernel, 5);
  EXPECT_EQ(conv.stride, 2);
  EXPECT_EQ(conv.padding, 1);
  EXPECT_FALSE(conv.bias || conv.adapted);
  const auto& norm = std::get<BatchNorm>(layers[1]);
  EXPECT_EQ(norm.statistics, Statistics::support);
  EXPECT_EQ(norm.eps, 0.25);
  EXPECT_EQ(norm.momentum, 0.5);
  EXPECT_FALSE(norm.scale || norm.shift || norm.adapted);
  EXPECT_EQ(std::get<LeakyRelu>(layers[2]).slope, 0.125);
  EXPECT_EQ(std::get<MaxPool2d>(layers[5]).stride, 1);
  EXPECT_EQ(std::get<MaxPool2d>(layers[6]).stride, 3);
  const auto& head = std::get<Linear>(layers[9]);
  EXPECT_EQ(head.outputs, 3);
  EXPECT_FALSE(head.bias || head.adapted);
  EXPECT_EQ(std::get<SoftmaxCrossEntropy>(g.model.loss).reduction, Reduction::sum_over_ways);
  EXPECT_EQ(g.tasks, 2);
  EXPECT_EQ(g.support, 4);
  EXPECT_EQ(g.query, 3);
  const GoldenProblem sum = golden_problem("a", text_of(kHead, kMaml, "mean_squared_error", R"(, "reduction": "sum")"));
  EXPECT_EQ(std::get<MeanSquaredError>(sum.model.loss).reduction, Reduction::sum);
}

TEST(GoldenText, EveryFieldOfAnAlgorithmIsRead) {
  const auto algorithm = [](const std::string& text) {
    return golden_problem("a", text_of(kHead, text, "mean_squared_error")).algorithm;
  };
  const auto maml = std::get<Maml>(
      algorithm(kMaml + R"(, "order": "first", "rate_per_layer": true, "rate_per_step": true, "rate_learned": true,
                 "rates": [1, 2, 3])"));
  EXPECT_EQ(maml.steps, 3);
  EXPECT_EQ(maml.rate, 0.5);
  EXPECT_EQ(maml.order, Order::first);
  EXPECT_TRUE(maml.rate_per_layer && maml.rate_per_step && maml.rate_learned);
  EXPECT_EQ(maml.rates, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(std::get<Maml>(algorithm(R"("kind": "fomaml", "steps": 0, "rate": 1)")).order, Order::first);
  for (const char* name : {"adapted_from_layer", "first_adapted_layer"}) {
    const auto anil = std::get<Anil>(
        algorithm(R"("kind": "anil", "order": "first", "steps": 2, "rate": 1, ")" + std::string(name) + R"(": 7)"));
    EXPECT_EQ(anil.first_adapted_layer, 7);
    EXPECT_EQ(anil.order, Order::first);
  }
  EXPECT_EQ(std::get<MetaSgd>(algorithm(R"("kind": "meta_sgd", "order": "first", "steps": 2, "rate": 1)")).order,
            Order::first);
  const auto reptile = std::get<Reptile>(
      algorithm(R"("kind": "reptile", "steps": 6, "rate": 2, "inner": "adam", "inner_state": "fresh", "beta2": 0.5,
                   "eps": 0.25, "batch": 2)"));
  EXPECT_EQ(reptile.steps, 6);
  EXPECT_EQ(reptile.rate, 2);
  EXPECT_EQ(reptile.inner, Reptile::Inner::adam);
  EXPECT_EQ(reptile.inner_state, Reptile::InnerState::fresh);
  EXPECT_EQ(reptile.beta2, 0.5);
  EXPECT_EQ(reptile.eps, 0.25);
  EXPECT_EQ(reptile.batch, 2);
}

TEST(GoldenText, WhatIsNotUnderstoodIsRefused) {
  const std::string mse = "mean_squared_error", reptile = R"("kind": "reptile", "steps": 1, "rate": 1)",
                    anil = R"("kind": "anil", "steps": 1, "rate": 1)";
  for (const auto& [text, words] : {
           std::pair{text_of(kHead, kMaml, "hinge"), "hinge"},
           {text_of(kHead, kMaml, mse, R"(, "reduction": "max")"), "max"},
           {text_of(kHead, kMaml, mse, R"(, "momentum": 1)"), "momentum"},
           {text_of(R"({"kind": "dropout"})", kMaml, mse), "dropout"},
           {text_of(R"({"kind": "relu", "slope": 0.1})", kMaml, mse), "slope"},
           {text_of(R"({"kind": "batch_norm", "statistics": "layer"})", kMaml, mse), "layer"},
           {text_of(R"({"kind": "batch_norm", "affine": false})", kMaml, mse), "affine"},
           {text_of(R"({"kind": "conv2d", "filters": 1, "kernel": [3, 3]})", kMaml, mse), "kernel"},
           {text_of(R"({"kind": "conv2d", "filters": 1, "kernel": 3, "groups": 2})", kMaml, mse), "groups"},
           {text_of(R"({"kind": "linear"})", kMaml, mse), "outputs"},
           {text_of(kHead, R"("kind": "imaml", "steps": 1, "rate": 1)", mse), "imaml"},
           {text_of(kHead, R"("kind": "cavia", "steps": 1, "rate": 1)", mse), "cavia"},
           {text_of(kHead, kMaml + R"(, "damping": 1)", mse), "damping"},
           {text_of(kHead, kMaml + R"(, "order": "third")", mse), "third"},
           {text_of(kHead, kMaml + R"(, "first_adapted_layer": 1)", mse), "first_adapted_layer"},
           {text_of(kHead, R"("kind": "maml", "steps": 1.5, "rate": 1)", mse), "1.5"},
           {text_of(kHead, R"("kind": "fomaml", "steps": 1, "rate": 1, "order": "second")", mse), "fomaml"},
           {text_of(kHead, anil + R"(, "adapted_from_layer": 1, "first_adapted_layer": 1)", mse), "both"},
           {text_of(kHead, reptile + R"(, "inner": "lion")", mse), "lion"},
           {text_of(kHead, reptile + R"(, "rate_learned": true)", mse), "rate_learned"},
       })
    try {
      golden_problem("a", text);
      ADD_FAILURE() << "nothing was thrown about " << words;
    } catch (const std::runtime_error& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
}

/// Whatever a golden file may ask for, on every device against the reference.
class GoldenKinds : public ::testing::TestWithParam<TestDevice> {};

TEST_P(GoldenKinds, AreNearTheReference) {
  CUMETA_OPEN_OR_SKIP(backend, GetParam());
  (void)backend;
  const auto conv = [](const std::string& more) { return R"({"kind": "conv2d", "filters": 4, )" + more + "}, "; };
  const std::string plain = conv(R"("kernel": 3, "padding": 1)"), tanh = R"({"kind": "tanh"}, )",
                    norm = R"({"kind": "batch_norm"}, )", average = R"({"kind": "global_average_pool"}, )",
                    head = R"({"kind": "linear", "outputs": 3})", entropy = "softmax_cross_entropy",
                    mse = "mean_squared_error", maml = R"("kind": "maml", "steps": 2, "rate": 0.2)";
  const std::string smooth = plain + tanh + average + head;
  const std::vector<std::string> texts = {
      text_of(conv(R"("kernel": 3, "stride": 2, "padding": 1, "bias": false)") +
                  R"({"kind": "batch_norm", "statistics": "support"}, {"kind": "leaky_relu", "slope": 0.1},
                     {"kind": "flatten"}, )" +
                  head,
              maml, entropy),
      text_of(
          plain + R"({"kind": "batch_norm", "scale": false}, {"kind": "max_pool2d", "kernel": 2}, )" + average + head,
          R"("kind": "fomaml", "steps": 3, "rate": 0.2)", entropy),
      text_of(conv(R"("kernel": 3, "adapted": false)") + tanh + average + head, maml, entropy),
      text_of(plain + norm + tanh + average + head, R"("kind": "maml", "steps": 2, "rate": 0.05)", entropy,
              R"(, "reduction": "sum")"),
      text_of(smooth, R"("kind": "maml", "steps": 2, "rate": 0.05)", entropy, R"(, "reduction": "sum_over_ways")"),
      text_of(smooth, R"("kind": "maml", "steps": 2, "rate": 0.01)", mse, R"(, "reduction": "sum")"),
      text_of(smooth, maml + R"(, "rate_per_layer": true, "rate_per_step": true,
                                 "rates": [0.1, 0.2, 0.3, 0.05, 0.25, 0.15, 0, 0.1])",
              entropy),
      text_of(smooth, maml + R"(, "rate_per_layer": true, "rate_per_step": true, "rate_learned": true)", entropy),
      text_of(smooth, maml + R"(, "rate_learned": true)", entropy),
      text_of(smooth, R"("kind": "meta_sgd", "steps": 2, "rate": 0.2, "order": "first")", entropy),
      text_of(plain + norm + tanh + plain + norm + tanh + average + head,
              R"("kind": "anil", "steps": 3, "rate": 0.2, "first_adapted_layer": 3)", entropy),
      text_of(smooth, R"("kind": "reptile", "steps": 4, "rate": 0.01, "inner": "adam", "batch": 2)", entropy),
      text_of(smooth, R"("kind": "reptile", "steps": 3, "rate": 0.1)", entropy),
      text_of(smooth, R"("kind": "maml", "steps": 0, "rate": 0.1)", entropy),
      text_of(R"({"kind": "flatten"}, {"kind": "linear", "outputs": 7}, {"kind": "tanh"}, )" + head, maml, mse)};
  for (const std::string& text : texts) {
    SCOPED_TRACE(text);
    const GoldenProblem g = golden_problem("a", text);
    const Tasks tasks = random_tasks(g.model, g.tasks, g.support, g.query, 17);
    const auto on = [&](Device device) {
      return Learner(g.model, g.algorithm, {.device = device}).meta_gradient(tasks.batch());
    };
    const MetaGradient expected = on(Device::reference),
                       got = on(GetParam() == TestDevice::cpu ? Device::cpu : Device::cuda);
    const double most = meta_gradient_tolerance(Arithmetic::float32);
    EXPECT_LE(relative_error(expected.gradient_per_task, got.gradient_per_task), most);
    EXPECT_LE(relative_error(expected.adapted, got.adapted), most);
    EXPECT_LE(relative_error(expected.support_loss, got.support_loss), most);
    EXPECT_LE(relative_error(expected.query_loss, got.query_loss), most);
    EXPECT_LE(relative_error(expected.rate_gradient, got.rate_gradient), most);
  }
}
INSTANTIATE_TEST_SUITE_P(, GoldenKinds, ::testing::ValuesIn(judged_devices()),
                         [](const auto& instance) { return name(instance.param); });

TEST(GoldenText, NothingButZerosIsComparedAsItIs) {
  EXPECT_EQ(relative_error({0, 0}, {0, 0}), 0);
  EXPECT_EQ(relative_error({0, 0}, {3, 4}), 5);
  EXPECT_EQ(relative_error({}, {}), 0);
}

}  // namespace
}  // namespace cumeta::testing
