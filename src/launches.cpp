// SPDX-License-Identifier: Apache-2.0
#include "src/launches.h"

#include "kernels/all_layers.h"
#include "kernels/tools/vendor_passes.h"

namespace cumeta {

namespace {

class CountingLayer final : public LayerPasses {
 public:
  CountingLayer(int& count, const Stage& stage, const Geometry& geometry, Array scratch)
      : count_(count), stage_(stage), geometry_(geometry), scratch_(scratch) {}
  void forward(const Values& v) const override { add({Pass::forward, v, {}, {}, {}, scratch_}); }
  void backward(const Values& v, const Gradients& d) const override { add({Pass::backward, v, d, {}, {}, scratch_}); }
  void tangent_forward(const Values& v, const Values& R) const override {
    add({Pass::tangent_forward, v, {}, R, {}, scratch_});
  }
  void tangent_backward(const Values& v, const Gradients& d, const Values& R, const Gradients& Rd) const override {
    add({Pass::tangent_backward, v, d, R, Rd, scratch_});
  }

 private:
  void add(const PassCall& call) const {
    count_ += std::visit([&](const auto& s) { return cuda_launches(s, geometry_, call); }, stage_);
  }
  int& count_;
  Stage stage_;
  Geometry geometry_;
  Array scratch_;
};

/// The vendor rows' steps, each one kernel node.
class CountingSteps {
 public:
  explicit CountingSteps(int& count) : count_(&count) {}
  void fill_rows(const Array&, const Array&, int, int, int) const { ++*count_; }
  void column_sums(const Array&, const Array&, int, int, int) const { ++*count_; }
  void transpose(const Transposition&, int) const { ++*count_; }
  void multiply(const VendorGemm&) const { ++*count_; }
  void convolution_forward(const VendorConvolution&, const float*, const float*, float, float*) const { ++*count_; }
  void convolution_backward_data(const VendorConvolution&, const float*, const float*, float, float*) const {
    ++*count_;
  }
  void convolution_backward_filter(const VendorConvolution&, const float*, const float*, float, float*) const {
    ++*count_;
  }

 private:
  int* count_;
};

class CountingLoss final : public LossPasses {
 public:
  explicit CountingLoss(int& count) : count_(count) {}
  void forward_backward(Array, Array, Array, Array, Array) const override { ++count_; }
  void tangent_backward(Array, Array, Array, Array) const override { ++count_; }

 private:
  int& count_;
};

class CountingLane final : public Lane {
 public:
  explicit CountingLane(int& count) : count_(count) {}
  std::unique_ptr<LayerPasses> bind(const Stage& stage, const Geometry& geometry, Array scratch) override {
    if (const auto* v = std::get_if<Vendor<Linear>>(&stage))
      return std::make_unique<VendorLinearPasses<CountingSteps>>(CountingSteps(count_), v->layer, geometry);
    if (const auto* v = std::get_if<Vendor<Conv2d>>(&stage))
      return std::make_unique<VendorConv2dPasses<CountingSteps>>(CountingSteps(count_), v->layer, geometry, scratch);
    return std::make_unique<CountingLayer>(count_, stage, geometry, scratch);
  }
  std::unique_ptr<LossPasses> bind(const Loss&, const LossGeometry&) override {
    return std::make_unique<CountingLoss>(count_);
  }
  void upload(Array, Array) override {}
  void fill(Array, double) override { ++count_; }
  void copy(Array, Array) override { ++count_; }
  void add(Array, double, Array) override { ++count_; }
  void subtract(Array, Array, Array) override { ++count_; }
  void multiply(Array, Array, Array) override { ++count_; }
  void add_product(Array, double, Array, Array) override { ++count_; }
  void descend(Array, Array, Array, Array) override { ++count_; }
  void descend_adam(Array, Array, Array, Array, Array, double, double, Array, int) override { ++count_; }
  void record_to_statistics(Array, Array, double) override { ++count_; }
  void statistics_to_record(Array, Array, double) override { ++count_; }

 private:
  int& count_;
};

class CountingBackend final : public Backend {
 public:
  explicit CountingBackend(int lanes) : lanes_(lanes), lane_(count_) {}
  std::string name() const override { return "counting"; }
  Number number() const override { return Number::float32; }
  std::shared_ptr<std::byte> allocate(std::size_t) override {
    // Never read or written: arrays only need an address that is not null.
    alignas(Arena::alignment) static std::byte nowhere[1];
    return {nowhere, [](std::byte*) {}};
  }
  int lanes() const override { return lanes_; }
  Lane& lane(int) override { return lane_; }
  void for_each_chunk(int chunks, int lanes, const std::function<void(int, int)>& work) override {
    for (int i = 0; i < chunks; ++i) work(i, i % lanes);
  }
  void outer_step(const OuterStep& step) override { count_ += cuda_outer_step_launches(step); }
  bool program_draws(const MlpProgram& program) const override { return program_draws_sinusoids(program); }
  void run_program(Lane&, const MlpProgram&, const MlpArrays&, int, Array) override { ++count_; }
  void upload(std::span<const float>, Array) override {}
  void upload(std::span<const double>, Array) override {}
  void download(Array, std::span<double>) override {}
  std::unique_ptr<Recording> record(std::function<void()>) override { return nullptr; }
  void count_one() { ++count_; }
  int count() const { return count_; }

 private:
  int lanes_;
  int count_ = 0;
  CountingLane lane_;
};

}  // namespace

int count_launches(const Problem& p, const Cut& cut, const Optimizer& optimizer) {
  CountingBackend backend(cut.lanes);
  Arena dry(Number::float32);
  const State state = take_state(dry, p, optimizer);
  Execution execution(backend, p, cut, state);
  OuterStep step;
  step.layout = p.row(), step.rule = OuterStep::Rule::adam;
  // One kernel draws the episodes of a chunk, unless the program does.
  execution.run({.fill = [&](int, int, Lane&) { backend.count_one(); }, .open_episodes = true}, &step);
  return backend.count();
}

}  // namespace cumeta
