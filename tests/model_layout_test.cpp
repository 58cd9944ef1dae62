// SPDX-License-Identifier: Apache-2.0
// Which layers a device runs as one stage: fused and unfused models share their parameters, and no stage crosses the
// boundary of the adapted set.
#include "src/model_layout.h"

#include <gtest/gtest.h>

#include "cumeta/error.h"
#include "src/problem.h"

namespace cumeta {
namespace {

constexpr int kPoolLayer = 3;

/// A convolution block, global average pool and a linear layer; `flattened`: with a Flatten in between.
Model pooled_model(bool flattened = false, bool body_adapts = true) {
  Model model{.input = image(6, 6, 2),
              .layers = {Conv2d{.filters = 4, .kernel = 3, .stride = 1, .padding = 1, .adapted = body_adapts},
                         BatchNorm{.adapted = body_adapts}, Relu{}, GlobalAveragePool{}},
              .loss = SoftmaxCrossEntropy{}};
  if (flattened) model.layers.push_back(Flatten{});
  model.layers.push_back(Linear{.outputs = 5});
  return model;
}
Problem problem_of(const Model& model, const Algorithm& algorithm) {
  return make_problem(model, algorithm, {2, 5, 5}, Device::cuda, Goal::update, Statistics::batch);
}

TEST(ModelLayout, GlobalAveragePoolAndLinearAreOneStageOfCudaOnly) {
  for (const bool flattened : {false, true}) {
    const Model model = pooled_model(flattened);
    const ModelLayout plain = lay_out(model, Device::cpu, 0), fused = lay_out(model, Device::cuda, 0);
    ASSERT_EQ(plain.stages.size(), 5u);
    ASSERT_EQ(fused.stages.size(), 2u);
    const PlacedStage &linear = plain.stages.back(), &pooled = fused.stages.back();
    EXPECT_TRUE(std::holds_alternative<ConvBlock>(fused.stages.front().stage));
    ASSERT_TRUE(std::holds_alternative<PooledLinear>(pooled.stage));
    EXPECT_EQ(std::get<PooledLinear>(pooled.stage).linear.outputs, 5);
    EXPECT_EQ(pooled.offset, linear.offset);
    EXPECT_EQ(pooled.size, linear.size);
    EXPECT_EQ(pooled.input.size(), 6 * 6 * 4);
    EXPECT_EQ(pooled.first_layer, kPoolLayer);
    EXPECT_EQ(pooled.last_layer, static_cast<int>(model.layers.size()) - 1);
    EXPECT_EQ(fused.parameters, plain.parameters);
    EXPECT_EQ(fused.outputs, plain.outputs);
  }
}

TEST(ModelLayout, OnlyWhatKnowsTf32RunsInIt) {
  const Place tf32(Device::cuda, Precision::tf32);
  const auto problem = [&](const Model& model, const Place& place) {
    return make_problem(model, Maml{.steps = 1}, {2, 5, 5}, place, Goal::update, Statistics::batch);
  };
  const Model model = pooled_model(false);
  const Problem images = problem(model, tf32);
  EXPECT_TRUE(std::holds_alternative<ConvBlock>(images.layout.stages.front().stage));
  EXPECT_TRUE(std::holds_alternative<Linear>(images.layout.stages.back().stage));
  const Model small{
      .input = features(1), .layers = {Linear{.outputs = 8}, Relu{}, Linear{.outputs = 1}}, .loss = MeanSquaredError{}};
  EXPECT_TRUE(problem(small, Device::cuda).program.has_value());
  EXPECT_FALSE(problem(small, tf32).program.has_value());
  for (const Device device : {Device::cpu, Device::reference})
    EXPECT_THROW(problem(small, {device, Precision::tf32}), InvalidArgument);
}

TEST(ModelLayout, NoStageCrossesTheBoundaryOfTheAdaptedSet) {
  for (const bool flattened : {false, true}) {
    const int linear_layer = flattened ? kPoolLayer + 2 : kPoolLayer + 1;
    for (const int boundary : {kPoolLayer + 1, linear_layer})
      EXPECT_EQ(lay_out(pooled_model(flattened), Device::cuda, boundary).stages.size(), 3u) << boundary;
    EXPECT_EQ(lay_out(pooled_model(flattened), Device::cuda, kPoolLayer).stages.size(), 2u);
    // The body ends where the first adapted parameter begins, whoever says which that is.
    for (const Problem& p : {problem_of(pooled_model(flattened), Anil{.steps = 1}),
                             problem_of(pooled_model(flattened), Anil{.steps = 1, .first_adapted_layer = kPoolLayer}),
                             problem_of(pooled_model(flattened, false), Maml{.steps = 1})}) {
      ASSERT_EQ(p.layout.stages.size(), 3u);
      EXPECT_EQ(p.head_stage, 2);
      EXPECT_TRUE(std::holds_alternative<GlobalAveragePool>(p.layout.stages[1].stage));
      EXPECT_TRUE(std::holds_alternative<Linear>(p.layout.stages[2].stage));
    }
    EXPECT_EQ(problem_of(pooled_model(flattened), Maml{.steps = 1}).layout.stages.size(), 2u);
  }
}

TEST(ModelLayout, ABlockIsSplitWhereItsNormIsTheFirstToAdapt) {
  Model model = pooled_model();
  std::get<Conv2d>(model.layers[0]).adapted = false;
  const Problem p = problem_of(model, Maml{.steps = 1});
  EXPECT_TRUE(std::holds_alternative<Conv2d>(p.layout.stages[0].stage));
  EXPECT_EQ(p.head_stage, 1);
}

}  // namespace
}  // namespace cumeta
