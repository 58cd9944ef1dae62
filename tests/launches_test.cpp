// SPDX-License-Identifier: Apache-2.0
// Kernel nodes of a second-order meta-iteration: what the plan counts is what the emulator runs and what any device
// records, and within the bars.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "cumeta/learner.h"
#include "src/arena.h"
#include "src/data/tables_of.h"
#include "src/plan.h"
#include "tests/support/devices.h"
#include "tests/support/pictures.h"

namespace cumeta::testing {
namespace {

using Count = unsigned long long (*)();

/// Kernels run so far, where the plugin is the emulator's.
Count emulated_launches() {
  const char* path = std::getenv("CUMETA_CUDA_PLUGIN");
  void* plugin = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : nullptr;
  return plugin ? reinterpret_cast<Count>(dlsym(plugin, "cumeta_emulator_kernel_launches")) : nullptr;
}

/// Kernel nodes of an update whose episodes the device draws, recorded on `backend`.
int recorded_nodes(Backend& backend, const Model& model, const Algorithm& algorithm, const Episodes& episodes,
                   int tasks, Activations activations, Implementation implementation) {
  const Problem problem = make_problem(model, algorithm, {tasks, episodes.support(), episodes.query()}, Device::cuda,
                                       Goal::update, Statistics::batch, -1, for_all_layers(model, implementation));
  const Optimizer optimizer = Adam{};
  PlanOptions planned{.device = Device::cuda, .machine = cuda_machine("h100")};
  planned.optimizer = optimizer, planned.activations = activations;
  const Cut cut = choose_cut(problem, planned);
  Arena dry(backend.number());
  take_state(dry, problem, optimizer);
  const auto block = backend.allocate(static_cast<std::size_t>(dry.bytes()));
  Arena arena(backend.number(), block.get());
  const State state = take_state(arena, problem, optimizer);
  Execution execution(backend, problem, cut, state);
  const Memory& memory = execution.memory();
  OuterStep step;
  step.layout = problem.row(), step.rows = memory.rows, step.mean = memory.mean;
  for (int k = 0; k < problem.rate_rows; ++k)
    for (const TiedGroup& group : problem.tied) {
      const int at = problem.layout.parameters * (1 + k);
      step.tied.push_back({at + group.begin, at + group.end});
    }
  step.rule = OuterStep::Rule::adam;
  step.meta = state.meta, step.first = state.first, step.second = state.second;
  step.control = state.control, step.reports = state.reports, step.halted = state.halted;
  backend.open_episodes(*tables_of(episodes));
  const auto draw = [&](int first, int count, Lane& lane) {
    backend.draw_episodes(lane, memory.x.rows(first, count), memory.t.rows(first, count), first, state.control);
  };
  return backend.record([&] { execution.run({.fill = draw, .open_episodes = true}, &step); })->kernel_nodes();
}

/// Launches of an update, as the plan has them for `machine`, as they are recorded and as they come.
void expect_launches(const Model& model, const Algorithm& algorithm, const Episodes& episodes, int tasks, int most,
                     Implementation implementation = Implementation::own,
                     Activations activations = Activations::automatic) {
  CUMETA_OPEN_OR_SKIP(backend, calls_vendor(implementation) ? TestDevice::cuda_vendor : TestDevice::cuda);
  const TaskSizes sizes{tasks, episodes.support(), episodes.query()};
  if (!calls_vendor(implementation)) {
    PlanOptions there{.device = Device::cuda, .machine = cuda_machine("h100")};
    there.activations = activations, there.implementation = implementation;
    EXPECT_EQ(recorded_nodes(backend, model, algorithm, episodes, tasks, activations, implementation),
              plan(model, algorithm, sizes, there).launches);
  }
  const Count count = emulated_launches();
  if (!count) return;  // a GPU only records: how many kernels a vendor's call is, it alone knows
  Learner learner(model, algorithm,
                  {.device = Device::cuda, .activations = activations, .implementation = implementation});
  const auto run = [&](int updates) {
    const unsigned long long before = count();
    learner.train(
        episodes, tasks, updates, [](const Update&) { return true; }, 1000);
    return static_cast<int>(count() - before);
  };
  const int one = run(1);
  const int three = run(3);
  EXPECT_EQ((three - one) % 2, 0);
  const int each = (three - one) / 2;
  EXPECT_EQ(each, learner.plan_for(sizes).launches);
  PlanOptions there{.device = Device::cuda, .machine = cuda_machine("h100")};
  there.activations = activations, there.implementation = implementation;
  EXPECT_EQ(each, plan(model, algorithm, sizes, there).launches);
  EXPECT_LE(each, most);
}

TEST(Launches, SinusoidIsTwo_cuda) {
  const Model model{
      .input = features(1), .layers = {Linear{40}, Relu{}, Linear{40}, Relu{}, Linear{1}}, .loss = MeanSquaredError{}};
  const Episodes episodes(Sinusoid{.shots = 10, .query = 10});
  expect_launches(model, Maml{.steps = 1, .rate = 0.01}, episodes, 4, 2);
  expect_launches(model, Maml{.steps = 3, .rate = 0.01}, episodes, 4, 2);
  expect_launches(model, fomaml(2, 0.01), episodes, 4, 2);
  expect_launches(model, MetaSgd{.steps = 2, .rate = 0.01}, episodes, 4, 2);
}

Model strided_conv4(int filters, int ways) {
  Model model{.input = image(28, 28, 1), .layers = {}, .loss = SoftmaxCrossEntropy{}};
  for (int i = 0; i < 4; ++i) {
    model.layers.push_back(Conv2d{.filters = filters, .kernel = 3, .stride = 2, .padding = 1});
    model.layers.push_back(BatchNorm{});
    model.layers.push_back(Relu{});
  }
  model.layers.push_back(GlobalAveragePool{});
  model.layers.push_back(Linear{ways});
  return model;
}

/// What a meta-iteration of Omniglot may cost at one step, second order.
constexpr int kOmniglotNodes = 40;

TEST(Launches, ConvolutionOneStep_cuda) {
  const test::Folder folder;
  test::write_small_omniglot(folder, 4);
  const Episodes episodes(Omniglot{.root = folder.path(), .ways = 3, .shots = 1, .query = 1});
  expect_launches(strided_conv4(8, 3), Maml{.steps = 1, .rate = 0.4}, episodes, 2, kOmniglotNodes);
  // A tape that is filled again asks for no gradient of the parameters.
  expect_launches(strided_conv4(8, 3), Maml{.steps = 2, .rate = 0.4}, episodes, 2, 1000, Implementation::own,
                  Activations::recompute);
}

/// Whether dx and dw go in one launch depends on channels and filters, on the kernel's size, and on where the weights
/// lie in the parameters.
TEST(Launches, ConvolutionsThatDoNotMoveByFours_cuda) {
  const test::Folder folder;
  test::write_small_omniglot(folder, 4);
  const Episodes episodes(Omniglot{.root = folder.path(), .ways = 3, .shots = 1, .query = 1});
  const auto expect = [&](const std::vector<int>& filters, int kernel, bool norm, bool pool) {
    SCOPED_TRACE(::testing::PrintToString(filters) + " filters, kernel " + std::to_string(kernel) +
                 (norm ? ", norm" : "") + (pool ? ", pool" : ""));
    Model model{.input = image(28, 28, 1), .layers = {MaxPool2d{7, 7}}, .loss = SoftmaxCrossEntropy{}};
    for (const int count : filters) {
      model.layers.push_back(Conv2d{.filters = count, .kernel = kernel, .padding = kernel / 2});
      if (norm) model.layers.push_back(BatchNorm{});
      model.layers.push_back(Relu{});
      if (norm && pool) model.layers.push_back(MaxPool2d{});
    }
    model.layers.push_back(GlobalAveragePool{});
    model.layers.push_back(Linear{3});
    expect_launches(model, Maml{.steps = 1, .rate = 0.1}, episodes, 1, 1000);
  };
  for (const bool norm : {false, true}) {
    expect({5, 4, 4}, 3, norm, false);  // the third weight lies at 234, no multiple of four
    if (norm) expect({8, 6}, 3, true, true);
    expect({4, 4}, 15, norm, false);  // more taps to a side than a word has bits for
  }
}

/// Calls of cuBLAS and cuDNN count as one each, as the emulator's models of them do.
TEST(Launches, VendorIsCountedToo_cuda) {
  const test::Folder folder;
  test::write_small_omniglot(folder, 4);
  const Episodes episodes(Omniglot{.root = folder.path(), .ways = 3, .shots = 1, .query = 1});
  for (const Algorithm& algorithm :
       {Algorithm{Maml{.steps = 2, .rate = 0.4}}, Algorithm{fomaml(1, 0.4)}, Algorithm{Anil{.steps = 1, .rate = 0.4}}})
    expect_launches(strided_conv4(4, 3), algorithm, episodes, 2, 1000, Implementation::vendor);
  const Model mlp{.input = features(1), .layers = {Linear{8}, Relu{}, Linear{1}}, .loss = MeanSquaredError{}};
  expect_launches(mlp, Maml{.steps = 1, .rate = 0.01}, Episodes(Sinusoid{.shots = 5, .query = 5}), 3, 1000,
                  Implementation::vendor);
}
TEST(Launches, UnfusedIsCountedToo_cuda) {
  const test::Folder folder;
  test::write_small_omniglot(folder, 4);
  const Episodes episodes(Omniglot{.root = folder.path(), .ways = 3, .shots = 1, .query = 1});
  for (const Algorithm& algorithm :
       {Algorithm{Maml{.steps = 2, .rate = 0.4}}, Algorithm{fomaml(1, 0.4)}, Algorithm{Anil{.steps = 1, .rate = 0.4}}})
    expect_launches(strided_conv4(4, 3), algorithm, episodes, 2, 1000, Implementation::unfused);
}

/// The published sizes, 64 filters and 5 + 5 examples; nodes do not depend on the tasks, so one is enough.
TEST(Launches, OmniglotOneStep_cuda) {
  const test::Folder folder;
  test::write_small_omniglot(folder, 6);
  const Episodes episodes(Omniglot{.root = folder.path(), .ways = 5, .shots = 1, .query = 1});
  const Model model = strided_conv4(64, 5);
  const Maml algorithm{.steps = 1, .rate = 0.4};
  expect_launches(model, algorithm, episodes, 1, kOmniglotNodes);
  const auto nodes = [&](int tasks) {
    return plan(model, algorithm, {tasks, 5, 5}, {.device = Device::cuda, .machine = cuda_machine("h100")}).launches;
  };
  EXPECT_EQ(nodes(1), nodes(32));
  EXPECT_LE(nodes(32), kOmniglotNodes);
}

}  // namespace
}  // namespace cumeta::testing
