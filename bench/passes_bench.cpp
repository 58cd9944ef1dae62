// SPDX-License-Identifier: Apache-2.0
// Every layer x pass x device, and every loss: time, GFLOP/s, on the CPU the fraction of one core's FMA peak in the
// same run. FLOPs count padding taps, as the literature does, so a convolution that skips them may pass 1. On CUDA a
// recording of many copies is timed by events: each works on arrays of its own, so that what it reads is not in L2.
// A case on CUDA makes them once and replays them a fixed number of times: by its rule of a least time, counted for one
// copy, the library would make them anew for each guess and replay all for hundreds of times as long.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <memory>
#include <vector>

#include "kernels/all_layers.h"
#include "kernels/tools/fma_peak_cpu.h"
#include "tests/support/cases.h"
#include "tests/support/devices.h"
#include "tests/support/guarded_array.h"
#include "tests/support/layer_passes.h"

namespace cumeta::testing {
namespace {

double peak() {
  static const double measured = fma_peak_gflops(1, 0.3);
  return measured;
}

/// Contractions that a pass makes, each of the forward pass's multiply-adds.
int contractions(const LayerCase& c, Pass pass) {
  const int dx = wanted(c, kRdx), dw = wanted(c, kRdw), Rx = wanted(c, kRx), Rw = wanted(c, kRw);
  switch (pass) {
    case Pass::forward:
      return 1;
    case Pass::backward:
      return wanted(c, kDx) + dw;
    case Pass::tangent_forward:
      return Rx + Rw;
    default:
      return dx * (1 + Rw) + dw * (1 + Rx);
  }
}

/// A layer or a loss bound to arrays of its own.
struct Copy {
  std::vector<GuardedArray> memory;
  std::unique_ptr<LayerPasses> layer;
  std::unique_ptr<LossPasses> loss;
  Values v, R;
  Gradients d, Rd;
  Array hits, loss_value;

  Array take(Backend& backend, int rows, std::int64_t size, bool labels = false) {
    std::vector<double> values(static_cast<std::size_t>(rows * size));
    for (std::size_t k = 0; k < values.size(); ++k)
      values[k] = labels ? 0 : 0.01 * static_cast<double>(k * 7 % 101) - 0.5;
    memory.emplace_back(backend, rows, size).fill_rows(values);
    return memory.back().array();
  }
  void run(Pass pass) const {
    switch (pass) {
      case Pass::forward:
        return layer->forward(v);
      case Pass::backward:
        return layer->backward(v, d);
      case Pass::tangent_forward:
        return layer->tangent_forward(v, R);
      case Pass::tangent_backward:
        return layer->tangent_backward(v, d, R, Rd);
      case Pass::loss:
        return loss->forward_backward(v.x, v.w, loss_value, hits, d.x);
      default:
        return loss->tangent_backward(v.x, v.w, R.x, Rd.x);
    }
  }
};

Copy copy_of(Backend& backend, const LayerCase& c, TestDevice device) {
  Copy copy;
  std::array<Array, kRoles> a{};
  for (int i = 0; i < kRoles; ++i) {
    const auto role = static_cast<Role>(i);
    if (!wanted(c, role)) continue;
    const Array rows = copy.take(backend, role_rows(c, role), role_size(c, role));
    a[static_cast<std::size_t>(i)] = role_rows(c, role) == 1 && c.tasks > 1 ? rows.shared(c.tasks) : rows;
  }
  const std::int64_t scratch = scratch_numbers(c.stage, c.geometry, device);
  copy.layer = backend.lane(0).bind(c.stage, c.geometry, scratch > 0 ? copy.take(backend, c.tasks, scratch) : Array{});
  copy.v = {a[kW], a[kX], a[kY], a[kR]}, copy.R = {a[kRw], a[kRx], a[kRy], a[kRr]};
  copy.d = {a[kDy], a[kDx], a[kDw]}, copy.Rd = {a[kRdy], a[kRdx], a[kRdw]};
  copy.run(Pass::forward);  // a record that the other passes can read
  return copy;
}

Copy copy_of(Backend& backend, const LossCase& c, TestDevice /*device*/) {
  Copy copy;
  const LossGeometry& g = c.geometry;
  const std::int64_t size = std::int64_t{g.examples} * g.outputs;
  const bool labels = std::holds_alternative<SoftmaxCrossEntropy>(c.loss);
  copy.memory.reserve(7);
  copy.v.x = copy.take(backend, c.tasks, size), copy.R.x = copy.take(backend, c.tasks, size);
  copy.v.w = copy.take(backend, c.tasks, labels ? g.examples : size, labels);
  copy.loss_value = copy.take(backend, c.tasks, 1), copy.hits = copy.take(backend, c.tasks, 1);
  copy.d.x = copy.take(backend, c.tasks, size), copy.Rd.x = copy.take(backend, c.tasks, size);
  copy.loss = backend.lane(0).bind(c.loss, g);
  return copy;
}

template <class Case>
void run(benchmark::State& state, const Case& c, Pass pass, TestDevice device, double flops) {
  std::string why;
  Backend* backend = open(device, why);
  if (!backend) {
    state.SkipWithError(why.c_str());
    return;
  }
  if (device == TestDevice::cuda) {
    constexpr std::size_t beyond_l2 = std::size_t{256} << 20;
    const std::size_t most_copies = backend->name() == "cuda (emulated)" ? 1 : 256;  // the emulator has no L2
    std::vector<Copy> copies;
    for (std::size_t bytes = 0; bytes < beyond_l2 && copies.size() < most_copies;) {
      copies.push_back(copy_of(*backend, c, device));
      for (const GuardedArray& array : copies.back().memory)
        bytes += 4 * static_cast<std::size_t>(array.array().tasks * array.array().size);
    }
    const auto recording = backend->record([&] {
      for (const Copy& copy : copies) copy.run(pass);
    });
    backend->timed_run(*recording);
    for (auto _ : state)
      state.SetIterationTime(backend->timed_run(*recording) * 1e-3 / static_cast<double>(copies.size()));
  } else {
    const Copy copy = copy_of(*backend, c, device);
    for (auto _ : state) {
      const auto begin = std::chrono::steady_clock::now();
      copy.run(pass);
      benchmark::ClobberMemory();
      state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
  }
  if (flops > 0) {
    using benchmark::Counter;
    state.counters["GFLOP/s"] = Counter(flops * 1e-9, Counter::kIsIterationInvariantRate);
    if (device == TestDevice::cpu)
      state.counters["of_peak"] = Counter(flops * 1e-9 / peak(), Counter::kIsIterationInvariantRate);
  }
}

/// The layers of the published models at their own sizes: on the CPU, where a core takes one task after the other, of
/// one task; on CUDA of the paper's meta-batch.
std::vector<LayerCase> published(TestDevice device) {
  std::vector<LayerCase> cases;
  const auto add = [&](const std::string& name, Stage stage, Shape in, int examples) {
    const bool first = in.channels == 1 || in.channels == 3;
    const int batch = name.starts_with("mini_imagenet") ? 4 : 32;
    const int tasks = device == TestDevice::cuda ? batch : 1;
    cases.push_back({.name = fmt::format("{}_e{}_t{}", name, examples, tasks),
                     .stage = std::move(stage),
                     .geometry = {in, examples, examples},
                     .tasks = tasks,
                     .no_Rx = first,
                     .no_dx = first});
  };
  const Conv2d strided{.filters = 64, .kernel = 3, .stride = 2, .padding = 1};
  const Conv2d plain{.filters = 32, .kernel = 3, .stride = 1, .padding = 1};
  for (const int examples : {5, 75}) {
    add("omniglot_conv1", strided, image(28, 28, 1), examples);
    add("omniglot_conv2", strided, image(14, 14, 64), examples);
    add("omniglot_conv3", strided, image(7, 7, 64), examples);
    add("omniglot_conv4", strided, image(4, 4, 64), examples);
    add("omniglot_norm1", BatchNorm{}, image(14, 14, 64), examples);
    add("omniglot_relu1", Relu{}, image(14, 14, 64), examples);
    add("omniglot_block1", ConvBlock{strided, BatchNorm{}, false, {}}, image(28, 28, 1), examples);
    add("omniglot_block2", ConvBlock{strided, BatchNorm{}, false, {}}, image(14, 14, 64), examples);
    add("omniglot_block3", ConvBlock{strided, BatchNorm{}, false, {}}, image(7, 7, 64), examples);
    add("omniglot_block4", ConvBlock{strided, BatchNorm{}, false, {}}, image(4, 4, 64), examples);
  }
  add("mini_imagenet_block2", ConvBlock{plain, BatchNorm{}, true, MaxPool2d{}}, image(42, 42, 32), 5);
  add("mini_imagenet_conv1", plain, image(84, 84, 3), 5);
  add("mini_imagenet_conv2", plain, image(42, 42, 32), 5);
  add("mini_imagenet_pool1", MaxPool2d{}, image(84, 84, 32), 5);
  add("sinusoid_linear2", Linear{.outputs = 40}, features(40), 10);
  return cases;
}

/// The CPU, and CUDA where a device opens.
std::vector<TestDevice> present() {
  std::string why;
  std::vector<TestDevice> devices{TestDevice::cpu};
  if (open(TestDevice::cuda, why)) devices.push_back(TestDevice::cuda);
  return devices;
}

template <class Case>
void add(const char* group, const Case& c, Pass pass, TestDevice device, double flops) {
  auto* bench =
      benchmark::RegisterBenchmark(fmt::format("{}/{}/{}/{}", group, c.name, name(pass), name(device)).c_str(),
                                   [=](benchmark::State& state) { run(state, c, pass, device, flops); });
  bench->UseManualTime();
  if (device == TestDevice::cuda) bench->Iterations(20);
}

void add_benches(const char* group, const std::vector<LayerCase>& cases, TestDevice device) {
  for (const LayerCase& c : cases)
    for (const Pass pass : kLayerPasses)
      add(group, c, pass, device, 2.0 * static_cast<double>(multiply_adds(c)) * contractions(c, pass));
}
void add_losses(TestDevice device) {
  for (const LossCase& c : loss_cases())
    if (!c.no_hits && !c.no_dx)
      for (const Pass pass : {Pass::loss, Pass::loss_tangent}) add("losses", c, pass, device, 0);
}

}  // namespace
}  // namespace cumeta::testing

int main(int argc, char** argv) {
  using namespace cumeta::testing;
  for (const TestDevice device : present()) {
    add_benches("published", published(device), device);
    add_benches("cases", layer_cases(), device);
    add_losses(device);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("simd_target", cumeta::simd_target_name());
  benchmark::AddCustomContext("fma_peak_gflops", fmt::format("{:.1f}", peak()));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
