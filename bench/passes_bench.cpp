// SPDX-License-Identifier: Apache-2.0
// Every layer x pass x device, and every loss, one lane: time, GFLOP/s and on the CPU the fraction of the FMA peak of the
// same run. A CUDA pass is a recording of many, each on arrays of its own, so that what it reads is not in L2.
// FLOPs count padding taps, as the literature does, so a convolution that skips them may pass 1.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <array>
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

void run(benchmark::State& state, const LayerCase& c, Pass pass) {
  std::string why;
  Backend* backend = open(TestDevice::cpu, why);
  if (!backend) {
    state.SkipWithError(why.c_str());
    return;
  }
  std::array<GuardedArray, kRoles> memory;
  std::array<Array, kRoles> a{};
  for (int i = 0; i < kRoles; ++i) {
    const auto role = static_cast<Role>(i);
    if (!wanted(c, role)) continue;
    memory[i] = GuardedArray(*backend, role_rows(c, role), role_size(c, role));
    a[i] = role_rows(c, role) == 1 && c.tasks > 1 ? memory[i].shared(c.tasks) : memory[i].array();
    std::vector<double> values(static_cast<std::size_t>(role_rows(c, role) * role_size(c, role)));
    for (std::size_t k = 0; k < values.size(); ++k) values[k] = 0.01 * static_cast<double>(k * 7 % 101) - 0.5;
    memory[i].fill_rows(values);
  }
  const std::int64_t scratch_size = scratch_numbers(c.stage, c.geometry, TestDevice::cpu);
  GuardedArray scratch;
  if (scratch_size > 0) scratch = GuardedArray(*backend, c.tasks, scratch_size);
  const auto passes = backend->lane(0).bind(c.stage, c.geometry, scratch_size > 0 ? scratch.array() : Array{});
  const Values v{a[kW], a[kX], a[kY], a[kR]}, R{a[kRw], a[kRx], a[kRy], a[kRr]};
  const Gradients d{a[kDy], a[kDx], a[kDw]}, Rd{a[kRdy], a[kRdx], a[kRdw]};
  passes->forward(v);  // a record that the other passes can read
  for (auto _ : state) {
    switch (pass) {
      case Pass::forward:
        passes->forward(v);
        break;
      case Pass::backward:
        passes->backward(v, d);
        break;
      case Pass::tangent_forward:
        passes->tangent_forward(v, R);
        break;
      default:
        passes->tangent_backward(v, d, R, Rd);
    }
    benchmark::ClobberMemory();
  }
  const double flops = 2.0 * static_cast<double>(multiply_adds(c)) * contractions(c, pass);
  if (flops > 0) {
    using benchmark::Counter;
    state.counters["GFLOP/s"] = Counter(flops * 1e-9, Counter::kIsIterationInvariantRate);
    state.counters["of_peak"] = Counter(flops * 1e-9 / peak(), Counter::kIsIterationInvariantRate);
  }
}

/// The layers of the published models at their own sizes, one task.
std::vector<LayerCase> published() {
  std::vector<LayerCase> cases;
  const auto add = [&](std::string name, Stage stage, Shape in, int examples) {
    const bool first = in.channels == 1 || in.channels == 3;
    cases.push_back({.name = fmt::format("{}_e{}", name, examples),
                     .stage = std::move(stage),
                     .geometry = {in, examples, examples},
                     .tasks = 1,
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
  }
  add("mini_imagenet_conv1", plain, image(84, 84, 3), 5);
  add("mini_imagenet_conv2", plain, image(42, 42, 32), 5);
  add("mini_imagenet_pool1", MaxPool2d{}, image(84, 84, 32), 5);
  add("sinusoid_linear2", Linear{.outputs = 40}, features(40), 10);
  return cases;
}

void add_benches(const std::vector<LayerCase>& cases, const char* group) {
  for (const LayerCase& c : cases) {
    for (const Pass pass : kLayerPasses) {
      benchmark::RegisterBenchmark(fmt::format("{}/{}/{}", group, c.name, name(pass)).c_str(),
                                   [c, pass](benchmark::State& state) { run(state, c, pass); });
    }
  }
}

}  // namespace
}  // namespace cumeta::testing

int main(int argc, char** argv) {
  using namespace cumeta::testing;
  add_benches(published(), "published");
  add_benches(layer_cases(), "cases");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("simd_target", cumeta::simd_target_name());
  benchmark::AddCustomContext("fma_peak_gflops", fmt::format("{:.1f}", peak()));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
