// SPDX-License-Identifier: Apache-2.0
// The door on every device: what a learner does over several updates is what the double reference does, and what it
// refuses it refuses with both numbers.
#include "cumeta/learner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cumeta/error.h"
#include "tests/support/compare.h"
#include "tests/support/learner_on.h"
#include "tests/support/pictures.h"
#include "tests/support/says.h"
#include "tests/support/tasks.h"
#include "tests/support/test_tolerances.h"

namespace cumeta::testing {
namespace {

struct History {
  std::vector<double> losses, norms, rates, parameters;
};
History history(const Model& model, const Algorithm& algorithm, Options options, int updates) {
  Learner learner(model, algorithm, options);
  History h;
  for (int i = 0; i < updates; ++i) {
    const Tasks tasks = random_tasks(model, 3, 6, 6, 50 + static_cast<std::uint64_t>(i));
    const Update u = learner.meta_update(tasks.batch());
    h.losses.push_back(u.loss), h.norms.push_back(u.gradient_norm), h.rates.push_back(u.rate);
  }
  h.parameters = learner.parameters();
  for (const double rate : learner.rates()) h.parameters.push_back(rate);
  return h;
}

TEST_P(LearnerOn, SeveralUpdatesFollowTheReference) {
  const Model smooth = tanh_model();
  const Model running = conv_model(Statistics::running);
  const struct {
    const char* name;
    Model model;
    Algorithm algorithm;
    Options options;
  } cases[] = {
      {"lslr", smooth,
       Maml{.steps = 3, .rate = 0.2, .rate_per_layer = true, .rate_per_step = true, .rate_learned = true}, on()},
      {"meta_sgd", smooth, MetaSgd{.steps = 2, .rate = 0.2}, on()},
      {"joint", smooth, Maml{.steps = 0}, on()},
      {"anil", smooth, Anil{.steps = 2, .rate = 0.2}, on()},
      {"reptile_adam", smooth, Reptile{.steps = 4, .rate = 0.01, .inner = Reptile::Inner::adam, .batch = 3},
       on(Sgd{.rate = 0.5})},
      {"momentum", smooth, Maml{.steps = 1, .rate = 0.2}, on(Sgd{.rate = 0.1, .momentum = 0.9})},
      {"running", running, Maml{.steps = 1, .rate = 0.1}, on(Sgd{.rate = 1e-3})},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    Options reference = c.options;
    reference.device = Device::reference;
    const History expected = history(c.model, c.algorithm, reference, 4),
                  got = history(c.model, c.algorithm, c.options, 4);
    EXPECT_TRUE(near("losses", expected.losses, got.losses, 1, meta_gradient_tolerance(Arithmetic::float32)));
    EXPECT_TRUE(near("norms", expected.norms, got.norms, 1, meta_gradient_tolerance(Arithmetic::float32)));
    EXPECT_TRUE(near("parameters", expected.parameters, got.parameters, 1, kTrainingTolerance));
  }
}

TEST_P(LearnerOn, SchedulesAndClipping) {
  const Model model = tanh_model();
  Options options = on(Sgd{.rate = 0.8});
  options.schedule = {.kind = Schedule::Kind::linear, .final_rate = 0.4, .updates = 4};
  const History linear = history(model, Maml{}, options, 6);
  EXPECT_TRUE(near("linear", {0.8, 0.7, 0.6, 0.5, 0.4, 0.4}, linear.rates, 1, 1e-12));
  options.schedule.kind = Schedule::Kind::cosine;
  const History cosine = history(model, Maml{}, options, 6);
  const double quarter = 0.2 * std::sqrt(0.5);
  EXPECT_TRUE(near("cosine", {0.8, 0.6 + quarter, 0.6, 0.6 - quarter, 0.4, 0.4}, cosine.rates, 1, 1e-12));

  // Clipped by norm, one step of SGD at rate 1 moves the parameters by exactly that norm.
  options = on(Sgd{.rate = 1});
  options.clip.norm = 1e-3;
  const std::vector<double> before = Learner(model, Maml{}, options).parameters();
  const std::vector<double> after = history(model, Maml{}, options, 1).parameters;
  double square = 0;
  for (std::size_t i = 0; i < before.size(); ++i) square += (after[i] - before[i]) * (after[i] - before[i]);
  EXPECT_NEAR(std::sqrt(square), 1e-3, 2e-6);
  options.clip = {.value = 1e-4};
  const std::vector<double> clamped = history(model, Maml{}, options, 1).parameters;
  double largest = 0;
  for (std::size_t i = 0; i < before.size(); ++i) largest = std::max(largest, std::abs(clamped[i] - before[i]));
  EXPECT_NEAR(largest, 1e-4, 1e-6);
}

TEST_P(LearnerOn, EvaluationIsAdaptationAndPrediction) {
  const Model model = conv_model();
  Learner learner(model, Maml{.steps = 2, .rate = 0.1}, on());
  const Tasks tasks = random_tasks(model, 3, 6, 40, 5);
  for (const Statistics statistics : {Statistics::support, Statistics::batch}) {
    const Evaluation e = learner.evaluate(tasks.batch(), 2, statistics);
    for (int task = 0; task < 3; ++task) {
      const Tasks one = tasks.part(task, 1);
      AdaptedTask adapted = learner.adapt({one.support, one.support_x, one.support_y});
      const std::vector<float> scores = adapted.predict(one.query_x, statistics);
      int right = 0;
      for (int i = 0; i < one.query; ++i) {
        const auto row = scores.begin() + 3 * i;
        right += std::max_element(row, row + 3) - row ==
                 static_cast<std::ptrdiff_t>(one.query_y[static_cast<std::size_t>(i)]);
      }
      EXPECT_DOUBLE_EQ(e.accuracy[static_cast<std::size_t>(task * 3 + 2)], right / 40.0)
          << static_cast<int>(statistics);
    }
  }
  // Inductive predictions do not know of one another: 40 at once are 40 alone.
  const Tasks one = tasks.part(0, 1);
  AdaptedTask adapted = learner.adapt({one.support, one.support_x, one.support_y});
  const std::vector<float> together = adapted.predict(one.query_x);
  const auto pixels = static_cast<std::size_t>(model.input.size());
  for (const std::size_t i : {0U, 31U, 32U, 39U}) {
    const std::vector<float> alone = adapted.predict(std::span(one.query_x).subspan(i * pixels, pixels));
    EXPECT_EQ(alone, std::vector<float>(together.begin() + static_cast<std::ptrdiff_t>(3 * i),
                                        together.begin() + static_cast<std::ptrdiff_t>(3 * i + 3)));
  }
  EXPECT_TRUE(std::isnan(learner.adapt({one.support, one.support_x, one.support_y}, 0).support_loss()));
  EXPECT_TRUE(std::isfinite(adapted.support_loss()));
}

TEST_P(LearnerOn, PredictionsWithoutBatchNorm) {
  const Model model = tanh_model();
  Learner learner(model, Maml{.steps = 1, .rate = 0.3}, on());
  const Tasks tasks = random_tasks(model, 1, 5, 70, 6);
  AdaptedTask adapted = learner.adapt({tasks.support, tasks.support_x, tasks.support_y});
  EXPECT_EQ(adapted.predict(tasks.query_x), adapted.predict(tasks.query_x, Statistics::batch));
}

TEST_P(LearnerOn, ReportsMayUseTheLearner) {
  const Model model{features(1), {Linear{.outputs = 8}, Tanh{}, Linear{.outputs = 1}}, MeanSquaredError{}};
  const Episodes episodes(Sinusoid{.shots = 4, .query = 4}, Subset::train, 2);
  const auto run = [&](bool busy) {
    Learner learner(model, Maml{.steps = 2, .rate = 0.01}, on());
    int reports = 0;
    learner.train(
        episodes, 3, 8,
        [&](const Update&) {
          ++reports;
          for (int steps = 0; busy && steps < 6; ++steps)  // more shapes than are kept
            learner.evaluate(random_tasks(model, 2, 4, 4, 9).batch(), steps, Statistics::batch);
          if (busy) {
            EXPECT_THROW(learner.train(episodes, 3, 1, [](const Update&) { return true; }), InvalidArgument);
          }
          return true;
        },
        2);
    EXPECT_EQ(reports, 4);
    return learner.parameters();
  };
  EXPECT_EQ(run(true), run(false));
}

TEST_P(LearnerOn, TrainingInPiecesIsTrainingInOne) {
  const Model model{features(1), {Linear{.outputs = 8}, Tanh{}, Linear{.outputs = 1}}, MeanSquaredError{}};
  const Episodes first(Sinusoid{.shots = 4, .query = 4}, Subset::train, 2);
  Episodes moved(Sinusoid{.shots = 4, .query = 4}, Subset::train, 2);
  const Episodes other(Sinusoid{.amplitude = {5, 6}, .shots = 4, .query = 4}, Subset::train, 2);
  const auto quiet = [](const Update&) { return true; };
  Learner whole(model, Maml{.steps = 1, .rate = 0.01}, on()), pieces(model, Maml{.steps = 1, .rate = 0.01}, on());
  whole.train(first, 3, 5, quiet), whole.train(other, 3, 2, quiet), whole.train(first, 3, 3, quiet);
  pieces.train(moved, 3, 2, quiet);
  const Episodes here = std::move(moved);
  pieces.train(here, 3, 3, quiet), pieces.train(other, 3, 1, quiet), pieces.train(other, 3, 1, quiet);
  pieces.train(here, 3, 3, quiet);
  EXPECT_EQ(whole.parameters(), pieces.parameters());
}

TEST_P(LearnerOn, NonFiniteStopsOrIsSkipped) {
  const Model model{features(1), {Linear{.outputs = 8}, Relu{}, Linear{.outputs = 1}}, MeanSquaredError{}};
  const Episodes episodes(Sinusoid{.shots = 4, .query = 4}, Subset::train, 2);
  Options options = on();
  Learner stops(model, Maml{.steps = 3, .rate = 1e30}, options);
  const std::vector<double> before = stops.parameters();
  EXPECT_SAYS(stops.train(episodes, 3, 5, [](const Update&) { return true; }), "update 1");
  EXPECT_EQ(stops.updates(), 0);
  EXPECT_EQ(stops.parameters(), before);
  options.on_nonfinite = OnNonFinite::skip;
  Learner skips(model, Maml{.steps = 3, .rate = 1e30}, options);
  Update last;
  skips.train(
      episodes, 3, 5,
      [&](const Update& u) {
        last = u;
        return true;
      },
      5);
  EXPECT_EQ(last.skipped, 5);
  EXPECT_EQ(skips.updates(), 5);
  EXPECT_EQ(skips.parameters(), before);
}

TEST_P(LearnerOn, TrainedParametersStartTheOptimizerAfresh) {
  const test::Folder folder;
  const Model model = tanh_model();
  const Maml maml{.steps = 1, .rate = 0.2};
  const Tasks tasks = random_tasks(model, 3, 4, 4, 1);
  Learner source(model, maml, on());
  for (int i = 0; i < 5; ++i) source.meta_update(tasks.batch());
  source.save_trained(folder.path("t.safetensors"), "recipe");
  Learner used(model, maml, on()), fresh(model, maml, on());
  used.meta_update(tasks.batch());
  used.load_trained(folder.path("t.safetensors"));
  EXPECT_EQ(used.updates(), 5);
  fresh.set_parameters(source.parameters());
  used.meta_update(tasks.batch()), fresh.meta_update(tasks.batch());
  EXPECT_EQ(used.parameters(), fresh.parameters());
  EXPECT_SAYS(used.load(folder.path("t.safetensors")), "without the optimizer's moments");
  // And a whole checkpoint of it goes on where it was.
  used.save(folder.path("w.safetensors"));
  Learner resumed(model, maml, on());
  resumed.load(folder.path("w.safetensors"));
  used.meta_update(tasks.batch()), resumed.meta_update(tasks.batch());
  EXPECT_EQ(used.parameters(), resumed.parameters());
}

TEST_P(LearnerOn, CheckpointsKnowTheirRates) {
  const test::Folder folder;
  const Model model = tanh_model();
  Learner learned(model, Maml{.steps = 2, .rate = 0.1, .rate_per_step = true, .rate_learned = true}, on());
  learned.save(folder.path("learned"));
  Learner fixed(model, Maml{.steps = 2, .rate = 0.1}, on());
  EXPECT_SAYS(fixed.load(folder.path("learned")), "rates is learned, 2 rows");
  Learner one_row(model, Maml{.steps = 2, .rate = 0.1, .rate_learned = true}, on());
  EXPECT_SAYS(one_row.load(folder.path("learned")), "learned, 1 row");

  // Rates of the caller, one for each parameter, are kept.
  std::vector<double> rates(static_cast<std::size_t>(parameter_count(model)));
  for (std::size_t i = 0; i < rates.size(); ++i) rates[i] = 0.01 * static_cast<double>(i % 7);
  fixed.set_rates(rates);
  fixed.save(folder.path("given"));
  Learner other(model, Maml{.steps = 2, .rate = 0.1}, on());
  other.load(folder.path("given"));
  EXPECT_TRUE(near("rates", rates, other.rates(), 1, 1e-7));
  rates[3] = std::numeric_limits<double>::infinity();
  EXPECT_SAYS(fixed.set_rates(rates), "rate 3");
  Learner momentum(model, Maml{.steps = 2, .rate = 0.1}, on(Sgd{.momentum = 0.9}));
  momentum.save(folder.path("momentum"));
  Learner plain(model, Maml{.steps = 2, .rate = 0.1}, on(Sgd{}));
  EXPECT_SAYS(plain.load(folder.path("momentum")), "sgd with momentum");
}

TEST_P(LearnerOn, GivenRatesPerLayerAndStep) {
  const Model model = tanh_model();  // three layers, each with weight and bias
  const Tasks tasks = random_tasks(model, 2, 4, 4, 3);
  Maml maml{.steps = 2, .rate_per_layer = true, .rate_per_step = true};
  for (int i = 0; i < 12; ++i) maml.rates.push_back(0.05 * (i + 1));
  Learner given(model, maml, on()), set(model, Maml{.steps = 2, .rate_per_step = true}, on());
  std::vector<double> flat;
  for (int step = 0; step < 2; ++step) {
    int array = 0;
    for (const Parameter& p : parameters(model))
      flat.insert(flat.end(), static_cast<std::size_t>(p.size), 0.05 * (step * 6 + ++array));
  }
  set.set_rates(flat);
  EXPECT_EQ(given.meta_gradient(tasks.batch()).gradient, set.meta_gradient(tasks.batch()).gradient);
  maml.rates.pop_back();
  EXPECT_SAYS(Learner(model, maml, on()), "11 numbers, 12 are needed: 2 steps (rate_per_step true) times 6 arrays");
  // The same as initial values of learned ones.
  maml.rates.push_back(0.05 * 12), maml.rate_learned = true;
  EXPECT_EQ(Learner(model, maml, on()).meta_gradient(tasks.batch()).gradient,
            set.meta_gradient(tasks.batch()).gradient);
}

TEST_P(LearnerOn, ResultsNameOrderStepsAndAdaptedSet) {
  const Model model = tanh_model();
  const Tasks tasks = random_tasks(model, 2, 4, 4, 3);
  Learner learner(model, Anil{.steps = 3, .rate = 0.1}, on());
  const std::vector<std::string> head = {"layers.4.weight", "layers.4.bias"};
  const Update u = learner.meta_update(tasks.batch());
  EXPECT_EQ(u.steps, 3);
  EXPECT_EQ(std::vector<std::string>(u.adapted_set.begin(), u.adapted_set.end()), head);
  const MetaGradient g = learner.meta_gradient(tasks.batch());
  EXPECT_EQ(g.steps, 3);
  EXPECT_EQ(g.adapted_set, head);
  EXPECT_EQ(learner.evaluate(tasks.batch(), 1, Statistics::batch).adapted_set, head);
  const Tasks one = tasks.part(0, 1);
  const AdaptedTask adapted = learner.adapt({one.support, one.support_x, one.support_y});
  EXPECT_EQ(adapted.order(), Order::second);
  EXPECT_EQ(adapted.steps(), 3);
  EXPECT_EQ(adapted.adapted_set(), head);
}

TEST_P(LearnerOn, TheMemoryLimitIsTheLearners) {
  const Model model = conv_model();
  const Tasks tasks = random_tasks(model, 6, 4, 4, 1);
  Options options = on();
  const Update u = Learner(model, Maml{.steps = 2}, options).meta_update(tasks.batch());
  options.memory_limit = u.bytes + 4096;
  Learner tight(model, Maml{.steps = 2}, options);
  // Each of these alone fits; together they do not, and what waits makes room.
  for (int round = 0; round < 2; ++round) {
    EXPECT_LE(tight.meta_update(tasks.batch()).bytes, options.memory_limit);
    tight.evaluate(tasks.batch(), 2, Statistics::support);
    tight.meta_gradient(tasks.part(0, 3).batch());
  }
}

CUMETA_LEARNER_ON_EVERY_DEVICE;

TEST(LearnerDoor, RefusesWhatDoesNotFitWithBothNumbers) {
  const Options options{.device = Device::cpu};
  const auto make = [&](std::vector<Layer> layers, Shape input = features(4)) {
    layers.emplace_back(Linear{.outputs = 2});
    return Learner(Model{input, std::move(layers), SoftmaxCrossEntropy{}}, Maml{}, options);
  };
  EXPECT_SAYS(make({Linear{.outputs = 65536}, Linear{.outputs = 65536}}), "1000000000");
  EXPECT_SAYS(make({Conv2d{.filters = 2000000000, .kernel = 3}, GlobalAveragePool{}}, image(8, 8, 3)), "1000000000");
  EXPECT_SAYS(make({Flatten{}}, image(50000, 50000, 3)), "50000x50000x3");
  EXPECT_SAYS(make({BatchNorm{.statistics = Statistics::running, .momentum = 0.1},
                    BatchNorm{.statistics = Statistics::running, .momentum = 0.2}}),
              "momentum 0.1 and 0.2");
  const Model model = tanh_model();
  EXPECT_SAYS(Learner(model, Reptile{.batch = -1}, options), "batch");
  EXPECT_SAYS(Learner(model, Reptile{.beta2 = 1}, options), "beta2");
  EXPECT_SAYS(Learner(model, Reptile{.eps = 0}, options), "eps");
  Options bad = options;
  bad.schedule = {.kind = Schedule::Kind::linear, .final_rate = std::nan(""), .updates = 5};
  EXPECT_SAYS(Learner(model, Maml{}, bad), "final_rate");
  Learner reptile(model, Reptile{.steps = 2, .batch = 4}, options);
  EXPECT_SAYS(reptile.evaluate(random_tasks(model, 1, 6, 2, 1).batch(), 2, Statistics::batch), "batch is 4");
}

TEST(LearnerPlan, CountsTheOptimizerToTheByte) {
  const Model model = tanh_model();
  const Tasks tasks = random_tasks(model, 3, 4, 4, 1);
  for (const Optimizer& optimizer : {Optimizer{Adam{}}, Optimizer{Sgd{}}, Optimizer{Sgd{.momentum = 0.5}}}) {
    Learner learner(model, Maml{}, {.device = Device::cpu, .optimizer = optimizer, .threads = 2});
    PlanOptions options{.machine = cpu_machine(2), .optimizer = optimizer};
    EXPECT_EQ(plan(model, Maml{}, {3, 4, 4}, options).bytes, learner.meta_update(tasks.batch()).bytes);
  }
}

TEST(LearnerPlan, RefillsTapesRatherThanLoseMostWorkers) {
  const Model model = conv_model();
  const Maml maml{.steps = 8};
  PlanOptions options{.machine = cpu_machine(1)};
  options.machine.cores = 8;
  const Plan free = plan(model, maml, {16, 10, 10}, options);
  EXPECT_EQ(free.lanes, 8);
  EXPECT_FALSE(free.recompute);
  options.memory_limit = free.bytes / 2;
  const Plan tight = plan(model, maml, {16, 10, 10}, options);
  EXPECT_TRUE(tight.recompute);
  EXPECT_GT(tight.lanes, 4);
}

TEST(LearnerPlan, ARefilledTapeCostsNoGradientOfTheWeights) {
  // 20 tasks on 5 workers take 4 rounds, on 4 workers 5. Refilling 7 of 8 tapes is c1 + 2c an example, 19 % more work
  // here: cheaper than the fifth round. With the weights' gradients it would be 30 %, and dearer.
  PlanOptions options{.machine = cpu_machine(1)};
  options.machine.cores = 5;
  options.memory_limit = plan(conv_model(), Maml{.steps = 8}, {20, 10, 10}, options).bytes - 1;
  const Plan tight = plan(conv_model(), Maml{.steps = 8}, {20, 10, 10}, options);
  EXPECT_TRUE(tight.recompute);
  EXPECT_EQ(tight.lanes, 5);
}

TEST(LearnerFiles, AnotherModelIsRefused) {
  const test::Folder folder;
  const auto learner = [](std::vector<Layer> layers) {
    layers.emplace_back(Linear{.outputs = 1});
    return Learner(Model{features(1), std::move(layers), MeanSquaredError{}}, Maml{}, {.device = Device::cpu});
  };
  learner({Linear{.outputs = 1}, Relu{}, Linear{.outputs = 1}, Relu{}}).save(folder.path("m"));
  EXPECT_SAYS(learner({Linear{.outputs = 1}, Relu{}}).load(folder.path("m")), "model is");
  EXPECT_SAYS(learner({Linear{.outputs = 1}, Tanh{}, Linear{.outputs = 1}, Tanh{}}).load_trained(folder.path("m")),
              "model is");
}

TEST(LearnerFiles, BatchNormBehindFlattenLiesAsInPyTorch) {
  const Model model{image(2, 3, 4), {Flatten{}, BatchNorm{}, Linear{.outputs = 2}}, SoftmaxCrossEntropy{}};
  std::vector<double> flat(static_cast<std::size_t>(parameter_count(model)));
  for (std::size_t i = 0; i < flat.size(); ++i) flat[i] = static_cast<double>(i);
  const std::vector<NamedArray> arrays = to_pytorch(model, flat);
  ASSERT_EQ(arrays[0].name, "layers.1.weight");
  for (int c = 0; c < 4; ++c)
    for (int pixel = 0; pixel < 6; ++pixel)
      EXPECT_EQ(arrays[0].values[static_cast<std::size_t>(c * 6 + pixel)], pixel * 4 + c);
  EXPECT_EQ(from_pytorch(model, arrays), flat);
}

}  // namespace
}  // namespace cumeta::testing
