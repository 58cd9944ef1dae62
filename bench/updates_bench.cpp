// SPDX-License-Identifier: Apache-2.0
// Whole meta-updates: model x algorithm x inner steps x tasks x device: time, GFLOP/s, the fraction of the FMA peak
// measured in the same run, planned bytes, and by the cost law the FLOPs over first order's.
// Time is what a caller of meta_update waits: its tasks go to the device and the result comes back. Updates on tasks
// that the device draws, many in a row, are `cumeta bench`; single passes by events with a cold cache, passes_bench.
//   build/release/bin/updates_bench --benchmark_filter='omniglot/(maml|fomaml)/steps:[15]/tasks:32/cpu'
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <memory>
#include <vector>

#include "cumeta/error.h"
#include "cumeta/learner.h"
#include "kernels/tools/fma_peak_cpu.h"
#include "tests/support/tasks.h"

namespace cumeta::testing {
namespace {

double peak() {
  static const double measured = fma_peak_gflops(cpu_machine(0).cores, 0.3);
  return measured;
}

struct Workload {
  const char* name;
  Model model;
  int support, query;
  double rate;
};

std::vector<Workload> workloads() {
  const Model sinusoid{features(1), {Linear{40}, Relu{}, Linear{40}, Relu{}, Linear{1}}, MeanSquaredError{}};
  Model omniglot{image(28, 28, 1), {}, SoftmaxCrossEntropy{}};
  for (int i = 0; i < 4; ++i) {
    omniglot.layers.push_back(Conv2d{.filters = 64, .kernel = 3, .stride = 2, .padding = 1});
    omniglot.layers.push_back(BatchNorm{});
    omniglot.layers.push_back(Relu{});
  }
  omniglot.layers.push_back(GlobalAveragePool{});
  omniglot.layers.push_back(Linear{5});
  return {{"sinusoid", sinusoid, 10, 10, 0.001}, {"omniglot", omniglot, 5, 5, 0.05}};
}

struct Method {
  const char* name;
  Algorithm algorithm;
};

std::vector<Method> methods(int steps, double rate) {
  return {{"maml", Maml{.steps = steps, .rate = rate}},
          {"fomaml", fomaml(steps, rate)},
          {"anil", Anil{.steps = steps, .rate = rate}},
          {"meta_sgd", MetaSgd{.steps = steps, .rate = rate}},
          {"reptile", Reptile{.steps = steps, .rate = rate}}};
}

void run(benchmark::State& state, const Workload& load, const Algorithm& algorithm, int tasks, Device device) {
  try {
    // A meta-rate of 0: every update sees the same numbers.
    Learner learner(load.model, algorithm, {.device = device, .optimizer = Sgd{.rate = 0}, .seed = 1, .pin = true});
    const Tasks drawn = random_tasks(load.model, tasks, load.support, load.query, 1);
    const TaskBatch batch = drawn.batch();
    const Plan plan = learner.plan_for({tasks, load.support, load.query});
    learner.meta_update(batch);
    for (auto _ : state) learner.meta_update(batch);
    using benchmark::Counter;
    state.counters["GFLOP/s"] = Counter(plan.flops * 1e-9, Counter::kIsIterationInvariantRate);
    if (device == Device::cpu)
      state.counters["of_peak"] = Counter(plan.flops * 1e-9 / peak(), Counter::kIsIterationInvariantRate);
    state.counters["planned_bytes"] = static_cast<double>(plan.bytes);
    state.counters["law_over_first_order"] = plan.flops / plan.first_order_flops;
    state.SetLabel(learner.device_name());
  } catch (const Error& error) { state.SkipWithError(error.what()); }
}

/// The CPU, and CUDA where it is available.
std::vector<Device> present() {
  std::vector<Device> devices{Device::cpu};
  for (const DeviceStatus& status : device_status())
    if (status.device == Device::cuda && status.available) devices.push_back(Device::cuda);
  return devices;
}

void add_benches() {
  const std::vector<Device> devices = present();
  for (const Workload& load : workloads())
    for (const int steps : {1, 2, 5, 10, 16})
      for (const Method& method : methods(steps, load.rate))
        for (const int tasks : {1, 4, 16, 32, 128})
          for (const Device device : devices)
            benchmark::RegisterBenchmark(
                fmt::format("{}/{}/steps:{}/tasks:{}/{}", load.name, method.name, steps, tasks, to_string(device))
                    .c_str(),
                [=](benchmark::State& state) { run(state, load, method.algorithm, tasks, device); })
                ->UseRealTime();
}

}  // namespace
}  // namespace cumeta::testing

int main(int argc, char** argv) {
  cumeta::testing::add_benches();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("fma_peak_gflops", fmt::format("{:.1f}", cumeta::testing::peak()));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
