// SPDX-License-Identifier: Apache-2.0
// Machines as a plan sees them: memory that is really there, and no plan for a machine of another kind.
#include <gtest/gtest.h>

#include "cumeta/learner.h"
#include "cumeta/plan.h"
#include "src/cuda_plugin.h"
#include "src/host_memory.h"
#include "tests/support/devices.h"
#include "tests/support/pictures.h"
#include "tests/support/says.h"
#include "tests/support/tasks.h"

namespace cumeta {
namespace {

TEST(HostMemory, IsTheLeastLimitOfTheGroupsAbove) {
  const test::Folder groups;
  const auto limit = [&](const std::string& membership) { return group_memory_limit(groups.path(), membership); };
  EXPECT_EQ(limit("0::/a/b\n"), 0);
  groups.put("a/memory.max", "max\n");
  EXPECT_EQ(limit("0::/a/b\n"), 0);
  groups.put("a/b/memory.max", "3000\n");
  EXPECT_EQ(limit("0::/a/b\n"), 3000);
  groups.put("a/memory.max", "2000\n");
  EXPECT_EQ(limit("1:cpu:/a\n0::/a/b\n"), 2000);
  EXPECT_EQ(limit("0::/elsewhere\n"), 0);
  // A container sees its own group at the mount.
  groups.put("memory.max", "1000\n");
  EXPECT_EQ(limit("0::/\n"), 1000);
  EXPECT_EQ(limit("0::/not/here\n"), 1000);
  EXPECT_EQ(limit("0::/a/b\n"), 1000);
  groups.put("memory.max", "damaged\n");
  EXPECT_EQ(limit("0::/\n"), 0);
  EXPECT_EQ(limit(""), 0);
  EXPECT_EQ(limit("no colons\n:\n::\n0::relative\n"), 0);
}

TEST(HostMemory, OfTheFirstVersionToo) {
  const test::Folder groups;
  groups.put("memory/memory.limit_in_bytes", "9223372036854771712\n");
  groups.put("memory/job/memory.limit_in_bytes", "500\n");
  EXPECT_EQ(group_memory_limit(groups.path(), "5:cpu,memory:/job\n0::/\n"), 500);
  EXPECT_EQ(group_memory_limit(groups.path(), "5:cpu:/job\n"), 0);
}

TEST(Machines, MemoryIsWhatAProgramGets) {
  EXPECT_EQ(cpu_machine().memory, host_memory());
  // Never the number on the box: a driver and a context have their part of it.
  for (const auto& [name, gibibytes] :
       {std::pair("h100", 80), std::pair("h200", 141), std::pair("a100", 80), std::pair("l4", 24),
        std::pair("rtx3090", 24), std::pair("rtx4090", 24), std::pair("t4", 16)}) {
    const double share = static_cast<double>(cuda_machine(name).memory) / (1073741824.0 * gibibytes);
    EXPECT_LT(share, 0.99) << name;
    EXPECT_GT(share, 0.85) << name;
  }
}

const Model model{.input = features(1), .layers = {Linear{8}, Relu{}, Linear{1}}, .loss = MeanSquaredError{}};

TEST(Machines, APlanIsForAMachineOfItsDevice) {
  EXPECT_SAYS(plan(model, Maml{}, {}, {.device = Device::cuda}), "cuda_machine(\"h100\")");
  EXPECT_SAYS(plan(model, Maml{}, {}, {.device = Device::cuda, .machine = {.name = "mine", .compute_capability = 90}}),
              "\"mine\" has compute capability 9.0 and 0 bytes of shared memory");
  EXPECT_SAYS(plan(model, Maml{}, {}, {.device = Device::cpu, .machine = cuda_machine("t4")}), "\"t4\" is a GPU");
  EXPECT_EQ(plan(model, Maml{}, {}, {.device = Device::cuda, .machine = cuda_machine("t4")}).launches, 2);
}

TEST(Machines, TheGpuHereHasWhatIsFree_cuda) {
  using testing::TestDevice;
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  const Machine before = cuda_machine(0);
  EXPECT_GT(before.compute_capability, 0);
  EXPECT_GT(before.shared_memory, 0);
  constexpr std::size_t taken = std::size_t{64} << 20;
  {
    const auto block = backend.allocate(taken);
    EXPECT_LE(cuda_machine(0).memory, before.memory - static_cast<std::int64_t>(taken));
  }
  EXPECT_THROW(cuda_machine(900), DeviceUnavailable);
  EXPECT_THROW(cuda_machine(-1), DeviceUnavailable);
}

/// Planned = allocated, as the device counts it. A GPU's driver hands out memory by megabytes; the emulator to 256
/// bytes.
TEST(Machines, PlannedBytesAreWhatTheDeviceGives_cuda) {
  using testing::TestDevice;
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  (void)backend;
  if (!cuda_status().emulated) GTEST_SKIP() << "only the emulator counts bytes";
  for (const Model& network : {model, testing::conv_model(), testing::conv_model(Statistics::running)})
    for (const Activations activations : {Activations::store, Activations::recompute}) {
      const auto tasks = testing::random_tasks(network, 5, 4, 3, 1);
      const std::int64_t free = cuda_machine(0).memory;
      Learner learner(network, Maml{.steps = 2}, {.device = Device::cuda, .chunk = 2, .activations = activations});
      const std::int64_t planned = learner.plan_for({5, 4, 3}).bytes;
      EXPECT_EQ(learner.meta_update(tasks.batch()).bytes, planned);
      const std::int64_t taken = free - cuda_machine(0).memory;
      EXPECT_GE(taken, planned);
      EXPECT_LT(taken, planned + 3 * 256);  // the state, the update's arrays and the outer step's, each rounded up
    }
}

/// Images that train keeps on the device are in the plan: planned = allocated, and the plan refuses what train refuses.
TEST(Machines, PlannedBytesAndImagesAreWhatTrainingTakes_cuda) {
  using testing::TestDevice;
  CUMETA_OPEN_OR_SKIP(backend, TestDevice::cuda);
  (void)backend;
  if (!cuda_status().emulated) GTEST_SKIP() << "only the emulator counts bytes";
  const test::Folder folder;
  for (int c = 0; c < 3; ++c)
    for (int i = 0; i < 50; ++i)
      folder.put(
          std::to_string(c) + "/" + std::to_string(i) + ".png",
          test::png(28, 28, 8, test::Colour::grey, [=](int y, int x, int) { return (60 * c + i + y * x) % 256; }));
  const Episodes episodes(
      ImageFolder{.root = folder.path(), .height = 28, .width = 28, .channels = 1, .ways = 2, .query = 1},
      Subset::train, 1);
  const std::int64_t images = episodes.images().bytes();
  EXPECT_EQ(images, 3 * 50 * 28 * 28 + 4 * 4);
  const Model network{image(28, 28, 1), {Flatten{}, Linear{.outputs = 2}}, SoftmaxCrossEntropy{}};
  const Maml maml{.steps = 2};
  const auto planned = [&](std::int64_t limit) {
    return plan(network, maml, {5, 2, 2},
                {.device = Device::cuda,
                 .machine = cuda_machine(0),
                 .memory_limit = limit,
                 .resident_bytes = images,
                 .chunk = 2});
  };
  const auto train = [&](std::int64_t limit) {
    Learner learner(network, maml, {.device = Device::cuda, .memory_limit = limit, .chunk = 2});
    learner.train(episodes, 5, 1, {});
    EXPECT_EQ(learner.plan_for({5, 2, 2}).resident_bytes, images);
    return cuda_machine(0).memory;
  };
  const std::int64_t free = cuda_machine(0).memory, bytes = planned(0).bytes + images;
  EXPECT_EQ(planned(0).resident_bytes, images);
  const std::int64_t taken = free - train(0);
  EXPECT_GE(taken, bytes);
  EXPECT_LT(taken, bytes + 5 * 256);  // as above, and the two arrays of the images
  EXPECT_EQ(planned(bytes).bytes + images, bytes);
  train(bytes);
  for (const std::int64_t limit : {bytes - 1, images}) {
    const std::string said = testing::message_of([&] { planned(limit); });
    EXPECT_EQ(testing::message_of([&] { train(limit); }), said);
    EXPECT_NE(said.find("the limit is " + std::to_string(limit)), std::string::npos) << said;
  }
}

}  // namespace
}  // namespace cumeta
