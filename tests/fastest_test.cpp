// SPDX-License-Identifier: Apache-2.0
// implementation = fastest measures what training runs: of ANIL's body the query set's gradient, of its head the
// support set's gradient and Hessian product; and takes the fastest way. On a device that only writes down what it is
// asked for, and takes the time that a test says.
#include "src/fastest.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <set>
#include <utility>

namespace cumeta {
namespace {

/// Of layers by the numbers of an input row: the rows they ran on, and whether a Hessian product ran.
struct Asked {
  std::map<int, std::set<int>> rows;
  std::set<int> hessian;
};

class Notes final : public LayerPasses {
 public:
  Notes(Asked& asked, const Geometry& geometry) : asked_(asked), geometry_(geometry) {}
  void forward(const Values&) const override {}
  void backward(const Values&, const Gradients&) const override {
    asked_.rows[geometry_.input.size()].insert(geometry_.examples);
  }
  void tangent_forward(const Values&, const Values&) const override {}
  void tangent_backward(const Values&, const Gradients&, const Values&, const Gradients&) const override {
    asked_.hessian.insert(geometry_.input.size());
  }

 private:
  Asked& asked_;
  Geometry geometry_;
};

class NotingLane final : public Lane {
 public:
  std::unique_ptr<LayerPasses> bind(const Stage& stage, const Geometry& geometry, Array) override {
    if (std::holds_alternative<ConvBlock>(stage) || std::holds_alternative<PooledLinear>(stage))
      bound = Implementation::own;
    if (std::holds_alternative<Vendor<Conv2d>>(stage) || std::holds_alternative<Vendor<Linear>>(stage))
      bound = Implementation::vendor;
    return std::make_unique<Notes>(asked, geometry);
  }
  std::unique_ptr<LossPasses> bind(const Loss&, const LossGeometry&) override { return nullptr; }
  void upload(Array, Array) override {}
  void fill(Array, double) override {}
  void copy(Array, Array) override {}
  void add(Array, double, Array) override {}
  void subtract(Array, Array, Array) override {}
  void multiply(Array, Array, Array) override {}
  void add_product(Array, double, Array, Array) override {}
  void descend(Array, Array, Array, Array) override {}
  void descend_adam(Array, Array, Array, Array, Array, double, double, Array, int) override {}
  void record_to_statistics(Array, Array, double) override {}
  void statistics_to_record(Array, Array, double) override {}

  Asked asked;
  /// Whose stages were bound since this was unfused.
  Implementation bound = Implementation::unfused;
};

class KeptCalls final : public Recording {
 public:
  KeptCalls(std::function<void()> calls, Implementation whose_stages) : whose(whose_stages), calls_(std::move(calls)) {}
  void run() override { calls_(); }
  const Implementation whose;

 private:
  std::function<void()> calls_;
};

class NotingBackend final : public Backend {
 public:
  std::string name() const override { return "noting"; }
  Number number() const override { return Number::float32; }
  std::shared_ptr<std::byte> allocate(std::size_t bytes) override {
    return {static_cast<std::byte*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256)),
            [](std::byte* p) { std::free(p); }};
  }
  int lanes() const override { return 1; }
  Lane& lane(int) override { return noting; }
  void for_each_chunk(int, int, const std::function<void(int, int)>&) override {}
  void outer_step(const OuterStep&) override {}
  void upload(std::span<const float>, Array) override {}
  void upload(std::span<const double>, Array) override {}
  void download(Array, std::span<double>) override {}
  std::unique_ptr<Recording> record(std::function<void()> calls) override {
    return std::make_unique<KeptCalls>(std::move(calls), std::exchange(noting.bound, Implementation::unfused));
  }
  double timed_run(Recording& recording) override {
    recording.run();
    return milliseconds[static_cast<KeptCalls&>(recording).whose];
  }
  std::map<Implementation, double> milliseconds;

  NotingLane noting;
};

constexpr int support = 3, query = 11;

Asked asked_by(const Algorithm& algorithm) {
  const Model model{
      .input = features(2), .layers = {Linear{5}, Relu{}, Linear{6}, Relu{}, Linear{7}}, .loss = MeanSquaredError{}};
  const auto problem = [&](Implementation implementation) {
    return make_problem(model, algorithm, {4, support, query}, Device::cuda, Goal::update, Statistics::batch, -1,
                        for_all_layers(model, implementation));
  };
  NotingBackend backend;
  const LayerImplementations chosen = measure_fastest(
      backend, problem(Implementation::own), {problem(Implementation::unfused), problem(Implementation::vendor)}, 4);
  EXPECT_EQ(chosen.size(), model.layers.size());
  return backend.noting.asked;
}

TEST(Fastest, AnilsBodyIsMeasuredAsItRuns) {
  const Asked asked = asked_by(Anil{.steps = 2, .first_adapted_layer = 2});
  EXPECT_EQ(asked.rows, (std::map<int, std::set<int>>{{2, {query}}, {5, {support}}, {6, {support}}}));
  EXPECT_EQ(asked.hessian, (std::set<int>{5, 6}));
}

TEST(Fastest, EveryLayerOfMamlIsTheHead) {
  const Asked exact = asked_by(Maml{.steps = 2}), first = asked_by(fomaml(2, 0.1));
  const std::map<int, std::set<int>> all{{2, {support}}, {5, {support}}, {6, {support}}};
  EXPECT_EQ(exact.rows, all);
  EXPECT_EQ(first.rows, all);
  EXPECT_EQ(exact.hessian, (std::set<int>{2, 5, 6}));
  EXPECT_TRUE(first.hessian.empty());
}

/// What is chosen for each layer of conv + batch norm + ReLU, pool + linear where the ways take these times.
std::string chosen_where(double own, double unfused, double vendor) {
  const Model model{
      .input = image(4, 4, 1),
      .layers = {Conv2d{.filters = 4, .kernel = 3, .padding = 1}, BatchNorm{}, Relu{}, GlobalAveragePool{}, Linear{3}},
      .loss = SoftmaxCrossEntropy{}};
  const auto problem = [&](Implementation implementation) {
    return make_problem(model, Maml{}, {2, 3, 3}, Device::cuda, Goal::update, Statistics::batch, -1,
                        for_all_layers(model, implementation));
  };
  NotingBackend backend;
  backend.milliseconds = {
      {Implementation::own, own}, {Implementation::unfused, unfused}, {Implementation::vendor, vendor}};
  return text_of(measure_fastest(backend, problem(Implementation::own),
                                 {problem(Implementation::unfused), problem(Implementation::vendor)}, 2));
}

TEST(Fastest, TheWayThatTakesLeastIsChosen) {
  EXPECT_EQ(chosen_where(1, 2, 3), "own own own own own");
  EXPECT_EQ(chosen_where(2, 1, 3), "unfused own own own unfused");
  EXPECT_EQ(chosen_where(3, 2, 1), "vendor own own own vendor");
  EXPECT_EQ(chosen_where(1, 1, 1), "own own own own own");
}

}  // namespace
}  // namespace cumeta
