// SPDX-License-Identifier: Apache-2.0
// The figures of a plan against sums by hand: FLOPs by the cost laws, chunks, lanes and idle cores; and what it refuses
// before anything is allocated, as a device cannot hold it.
//   c1 multiply-adds of the first layer per example, c of the rest; of a task of S + Q examples and K steps
//   gradient 2 c1 + 3 c, Hessian product 2 c1 + 6 c, refilled tape c1 + 2 c;  2 FLOPs each
#include "src/plan.h"

#include <gtest/gtest.h>

#include "cumeta/learner.h"
#include "tests/support/says.h"

namespace cumeta::testing {
namespace {

/// Four blocks of 3 x 3 convolution and batch norm, strided or pooled, and a linear layer.
Model conv4(Shape input, int filters, int stride, bool mean) {
  Model model{input, {}, SoftmaxCrossEntropy{}};
  for (int block = 0; block < 4; ++block) {
    model.layers.emplace_back(Conv2d{.filters = filters, .kernel = 3, .stride = stride, .padding = 1});
    model.layers.emplace_back(BatchNorm{});
    model.layers.emplace_back(Relu{});
    if (stride == 1) model.layers.emplace_back(MaxPool2d{});
  }
  if (mean)
    model.layers.emplace_back(GlobalAveragePool{});
  else
    model.layers.emplace_back(Flatten{});
  model.layers.emplace_back(Linear{.outputs = 5});
  return model;
}
Model omniglot() { return conv4(image(28, 28, 1), 64, 2, true); }

/// Multiply-adds per example: pixels out x taps x channels in x filters. 28 pixels a side become 14, 7, 4, 2.
constexpr double omniglot_first = 14 * 14 * 9 * 1 * 64;
constexpr double omniglot_last = 64 * 5;
constexpr double omniglot_rest = (7 * 7 + 4 * 4 + 2 * 2) * 9 * 64 * 64 + omniglot_last;

Plan plan_on(int cores, const Model& model, const Algorithm& algorithm, const TaskSizes& sizes, std::int64_t limit = 0,
             Activations activations = Activations::store) {
  Machine machine = cpu_machine(cores);
  machine.memory = std::int64_t{1} << 40;
  return plan(model, algorithm, sizes, {.machine = machine, .memory_limit = limit, .activations = activations});
}

TEST(Plans, CountTheFlopsOfMamlByTheCostLaws) {
  struct Case {
    const char* name;
    Model model;
    double c1, c;  // by hand
    TaskSizes sizes;
    int steps;
    double published;  // GFLOP, to its last digit
    double digit;
  };
  const Model sinusoid{features(1),
                       {Linear{.outputs = 40}, Relu{}, Linear{.outputs = 40}, Relu{}, Linear{.outputs = 1}},
                       MeanSquaredError{}};
  const double pixels = 42 * 42 + 21 * 21 + 10 * 10;  // 84 a side pool to 42, 21, 10, 5
  const std::vector<Case> cases = {
      {"sinusoid", sinusoid, 1 * 40, 40 * 40 + 40 * 1, {25, 10, 10}, 1, 0.010, 0.001},
      {"Omniglot 5 + 5", omniglot(), omniglot_first, omniglot_rest, {32, 5, 5}, 1, 9.985, 0.001},
      {"Omniglot 5 + 75", omniglot(), omniglot_first, omniglot_rest, {32, 5, 75}, 5, 75.07, 0.01},
      {"miniImageNet",
       conv4(image(84, 84, 3), 32, 1, false),
       84 * 84 * 9 * 3 * 32,
       pixels * 9 * 32 * 32 + 5 * 5 * 32 * 5,
       {4, 5, 75},
       5,
       88.7,
       0.1}};
  for (const Case& x : cases) {
    SCOPED_TRACE(x.name);
    const double S = x.sizes.support, Q = x.sizes.query, K = x.steps;
    const double first = 2 * x.sizes.tasks * (K * S + Q) * (2 * x.c1 + 3 * x.c);
    const double second = first + 2 * x.sizes.tasks * K * S * (2 * x.c1 + 6 * x.c);
    const Plan exact = plan_on(2, x.model, Maml{.steps = x.steps}, x.sizes);
    EXPECT_EQ(exact.flops, second);
    EXPECT_EQ(exact.first_order_flops, first);
    EXPECT_NEAR(exact.flops * 1e-9, x.published, x.digit / 2);
    const Plan approximate = plan_on(2, x.model, fomaml(x.steps, 0.1), x.sizes);
    EXPECT_EQ(approximate.flops, first);
    EXPECT_EQ(approximate.first_order_flops, first);
    // What every step refills but the last, whose tape is still there.
    const Plan refilled = plan_on(2, x.model, Maml{.steps = x.steps}, x.sizes, 0, Activations::recompute);
    EXPECT_EQ(refilled.flops, second + 2 * x.sizes.tasks * (K - 1) * S * (x.c1 + 2 * x.c));
    EXPECT_EQ(refilled.first_order_flops, first);
    EXPECT_EQ(refilled.recompute, x.steps > 1);
    EXPECT_EQ(plan_on(2, x.model, MetaSgd{.steps = x.steps}, x.sizes).flops, second);
  }
}

TEST(Plans, SecondOrderIsTwiceFirstAndThriceWithManySteps) {
  const auto ratio = [](int steps, int support, int query) {
    const Plan p = plan_on(2, omniglot(), Maml{.steps = steps}, {8, support, query});
    return p.flops / p.first_order_flops;
  };
  EXPECT_NEAR(ratio(1, 5, 5), 2.0, 0.03);  // exactly 2 but for the first layer
  EXPECT_NEAR(ratio(1000, 5, 5), 3.0, 0.06);
  EXPECT_NEAR(ratio(5, 5, 75), (9.0 * 25 + 3 * 75) / (3.0 * 25 + 3 * 75), 0.03);
}

TEST(Plans, CountWhatAnilAndReptileLeaveOut) {
  const double gradient = 2 * omniglot_first + 3 * omniglot_rest;
  // ANIL's body is passed once per example, whatever the number of steps; its head's inputs need gradients too.
  for (const int steps : {1, 5}) {
    SCOPED_TRACE(steps);
    const Plan p = plan_on(2, omniglot(), Anil{.steps = steps}, {32, 5, 5});
    const double first = 2.0 * 32 *
                         (5 * gradient + 5 * (omniglot_first + omniglot_rest - omniglot_last) +  // of support: forward
                          5 * steps * 3 * omniglot_last);
    const double body_back = omniglot_first + 2 * (omniglot_rest - omniglot_last);
    EXPECT_EQ(p.first_order_flops, first);
    EXPECT_EQ(p.flops, first + 2.0 * 32 * 5 * (body_back + steps * 6 * omniglot_last));
    if (steps == 1) { EXPECT_NEAR(p.flops * 1e-9, 5.029, 0.0005); }
  }
  const Plan reptile = plan_on(2, omniglot(), Reptile{.steps = 5}, {32, 10, 0});
  EXPECT_EQ(reptile.flops, 2.0 * 32 * 5 * 10 * gradient);
  EXPECT_EQ(reptile.first_order_flops, reptile.flops);
  EXPECT_EQ(reptile.order, Order::first);
  EXPECT_EQ(plan_on(2, omniglot(), Reptile{.steps = 5, .batch = 2}, {32, 10, 0}).flops, reptile.flops / 5);
  EXPECT_EQ(plan_on(2, omniglot(), Reptile{.steps = 5}, {32, 10, 5}).flops,
            reptile.flops + 2.0 * 32 * 5 * (omniglot_first + omniglot_rest));  // its query set is only measured
}

TEST(Plans, SpreadTasksOverTheCoresThatMemoryAllows) {
  const Maml maml{.steps = 1};
  const auto expect_cut = [](const Plan& p, int lanes, int chunk, int chunks, int idle) {
    EXPECT_EQ(p.lanes, lanes);
    EXPECT_EQ(p.chunk, chunk);
    EXPECT_EQ(p.chunks, chunks);
    EXPECT_EQ(p.idle_cores, idle);
  };
  expect_cut(plan_on(8, omniglot(), maml, {32, 5, 5}), 8, 1, 32, 0);
  expect_cut(plan_on(8, omniglot(), maml, {3, 5, 5}), 3, 1, 3, 5);
  expect_cut(plan_on(8, omniglot(), maml, {13, 5, 5}), 8, 1, 13, 3);
  // A limit of just the bytes that so many lanes take, and of a byte less.
  const std::int64_t five = plan_on(5, omniglot(), maml, {16, 5, 5}).bytes;
  expect_cut(plan_on(8, omniglot(), maml, {16, 5, 5}, five), 5, 1, 16, 7);  // rounds of 5, 5, 5 and 1
  expect_cut(plan_on(8, omniglot(), maml, {15, 5, 5}, five), 5, 1, 15, 3);
  expect_cut(plan_on(8, omniglot(), maml, {16, 5, 5}, five - 1), 4, 1, 16, 4);
  EXPECT_EQ(plan_on(8, omniglot(), maml, {16, 5, 5}, five).bytes, five);
  EXPECT_SAYS(plan_on(8, omniglot(), maml, {16, 5, 5}, plan_on(1, omniglot(), maml, {16, 5, 5}).bytes - 1),
              "raise memory_limit");

  const Machine machine = cpu_machine(8);
  expect_cut(plan(omniglot(), maml, {32, 5, 5}, {.machine = machine, .chunk = 3}), 8, 3, 11, 5);  // 8 and 3 chunks
  expect_cut(plan(omniglot(), maml, {4, 5, 5}, {.machine = machine, .chunk = 9}), 1, 4, 1, 7);
}

TEST(Plans, JudgeTheLimitWithWhatIsResident) {
  const auto planned = [](std::int64_t limit, std::int64_t resident) {
    return plan(omniglot(), Maml{.steps = 1}, {16, 5, 5},
                {.device = Device::cuda,
                 .machine = cuda_machine("h100"),
                 .memory_limit = limit,
                 .resident_bytes = resident,
                 .chunk = 4});
  };
  constexpr std::int64_t images = 1'000'000;
  const Plan alone = planned(0, 0), beside = planned(alone.bytes + images, images);
  EXPECT_EQ(beside.bytes, alone.bytes);  // of the arena
  EXPECT_EQ(beside.resident_bytes, images);
  EXPECT_NE(beside.text().find("resident     1000000 bytes of images"), std::string::npos) << beside.text();
  EXPECT_EQ(alone.text().find("resident"), std::string::npos) << alone.text();
  EXPECT_SAYS(planned(alone.bytes + images - 1, images),
              "needs at least " + std::to_string(alone.bytes) +
                  " bytes beside 1000000 held by resident images or by what runs meanwhile, the limit is " +
                  std::to_string(alone.bytes + images - 1) + "; raise memory_limit");
  EXPECT_SAYS(planned(images, images), "the images of the data need 1000000 bytes beside the learner's ");
  EXPECT_SAYS(planned(0, std::int64_t{1} << 40), "the images of the data need 1099511627776 bytes");
  EXPECT_SAYS(planned(0, -1), "resident_bytes is -1");
  // Chosen chunks leave them their room.
  const auto chunk = [](std::int64_t limit, std::int64_t resident) {
    return plan(omniglot(), Maml{.steps = 1}, {16, 5, 5},
                {.device = Device::cuda,
                 .machine = cuda_machine("h100"),
                 .memory_limit = limit,
                 .resident_bytes = resident})
        .chunk;
  };
  EXPECT_LT(chunk(alone.bytes + images, alone.bytes / 2), chunk(alone.bytes + images, images));
}

TEST(Plans, RefillTapesRatherThanLeaveCoresIdle) {
  const Maml maml{.steps = 5};
  const TaskSizes sizes{16, 5, 5};
  const auto with = [&](int cores, Activations activations) {
    return plan_on(cores, omniglot(), maml, sizes, 0, activations).bytes;
  };
  const std::int64_t room = with(8, Activations::store), less = with(8, Activations::recompute);
  ASSERT_LT(less, room);
  EXPECT_FALSE(plan_on(8, omniglot(), maml, sizes, room, Activations::automatic).recompute);
  const Plan tight = plan_on(8, omniglot(), maml, sizes, room - 1, Activations::automatic);
  EXPECT_TRUE(tight.recompute);  // 2 rounds; stored tapes on 7 lanes would take 3
  EXPECT_EQ(tight.lanes, 8);
  EXPECT_EQ(tight.bytes, less);
}

TEST(Plans, KnowWhatTheOuterStepOnCudaCanHold) {
  const Model model = conv4(image(28, 28, 1), 4, 2, true);
  const auto with = [&](int steps, int tasks, Device device) {
    const Maml lslr{.steps = steps, .rate_per_layer = true, .rate_per_step = true, .rate_learned = true};
    const Machine machine = device == Device::cuda ? cuda_machine("h100") : cpu_machine(1);
    return plan(model, lslr, {tasks, 1, 1}, {.device = device, .machine = machine});
  };
  EXPECT_SAYS(with(23, 1, Device::cuda), "414");  // 18 arrays
  EXPECT_SAYS(with(23, 1, Device::cuda), "400");
  EXPECT_NO_THROW(with(22, 1, Device::cuda));
  EXPECT_NO_THROW(with(23, 1, Device::cpu));
  EXPECT_SAYS(with(1, 65'536, Device::cuda), "65536");
  EXPECT_SAYS(with(1, 65'536, Device::cuda), "65535");
  EXPECT_NO_THROW(with(1, 65'535, Device::cuda));
  EXPECT_NO_THROW(with(1, 65'536, Device::cpu));
}

TEST(Plans, KnowHowManyTasksAChunkOnCudaCanHold) {
  const auto in_chunks = [](int chunk) {
    return plan(conv4(image(28, 28, 1), 4, 2, true), Maml{}, {9, 1, 1},
                {.device = Device::cuda, .machine = cuda_machine("h100"), .chunk = chunk});
  };
  EXPECT_SAYS(in_chunks(65'536), "65536");
  EXPECT_SAYS(in_chunks(65'536), "65535");
  EXPECT_EQ(in_chunks(65'535).chunk, 9);
  const Model model = conv4(image(28, 28, 1), 4, 2, true);
  EXPECT_SAYS(Learner(model, Maml{}, {.device = Device::cuda, .chunk = 65'536}), "65536");
  EXPECT_NO_THROW(Learner(model, Maml{}, {.device = Device::cpu, .chunk = 65'536}));
  // An evaluation may have more tasks than an update.
  PlanOptions options{.device = Device::cuda, .machine = cuda_machine("h100")};
  options.machine.memory = std::int64_t{1} << 50;
  const Problem evaluation = make_problem(model, Maml{}, {65'536, 1, 1}, {Device::cuda, Precision::float32},
                                          Goal::evaluation, Statistics::batch, 1);
  EXPECT_EQ(choose_cut(evaluation, options).chunk, 65'535);
}

}  // namespace
}  // namespace cumeta::testing
