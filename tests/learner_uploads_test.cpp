// SPDX-License-Identifier: Apache-2.0
// Tasks that come from the host: each chunk's are uploaded where it runs, while the host may draw the next ones.
#include <gtest/gtest.h>

#include "cumeta/learner.h"
#include "src/safetensors.h"
#include "tests/support/learner_on.h"
#include "tests/support/pictures.h"
#include "tests/support/tasks.h"

namespace cumeta::testing {
namespace {

constexpr int kTasks = 5, kSupport = 3, kQuery = 4;

/// Random tasks in a file for training.
Episodes in_a_file(const test::Folder& folder, const Model& model) {
  const Tasks all = random_tasks(model, 40, kSupport, kQuery, 9);
  const auto rows = [&](const std::vector<float>& x, int examples) {
    const Shape in = model.input;
    std::vector<std::int64_t> shape{all.tasks, examples, in.channels};
    if (in.height > 1) shape.insert(shape.end(), {in.height, in.width});
    return safetensors::tensor(std::span<const float>(x), std::move(shape));
  };
  const auto targets = [&](const std::vector<float>& y, int examples) {
    if (std::holds_alternative<MeanSquaredError>(model.loss))
      return safetensors::tensor(std::span<const float>(y), {all.tasks, examples, output_count(model)});
    const std::vector<std::int64_t> labels(y.begin(), y.end());
    return safetensors::tensor(std::span<const std::int64_t>(labels), {all.tasks, examples});
  };
  safetensors::File file;
  file.tensors["support_x"] = rows(all.support_x, kSupport), file.tensors["query_x"] = rows(all.query_x, kQuery);
  file.tensors["support_y"] = targets(all.support_y, kSupport), file.tensors["query_y"] = targets(all.query_y, kQuery);
  safetensors::write(folder.path("tasks.safetensors"), file);
  return Episodes(TaskFile{.path = folder.path("tasks.safetensors")}, Subset::train, 4);
}

/// What training draws in an iteration, in the hands of a caller.
Tasks drawn(const Episodes& episodes, const Model& model, std::uint64_t iteration) {
  const auto in = static_cast<std::size_t>(model.input.size()), out = static_cast<std::size_t>(episodes.targets());
  std::vector<float> x(kTasks * (kSupport + kQuery) * in), t(kTasks * (kSupport + kQuery) * out);
  episodes.draw(iteration, 0, kTasks, x, t);
  Tasks tasks{kTasks, kSupport, kQuery, {}, {}, {}, {}};
  const auto split = [](const std::vector<float>& from, std::size_t width, std::vector<float>& support,
                        std::vector<float>& query) {
    for (auto at = from.begin(); at != from.end();) {
      const auto middle = at + static_cast<std::ptrdiff_t>(kSupport * width),
                 end = middle + static_cast<std::ptrdiff_t>(kQuery * width);
      support.insert(support.end(), at, middle), query.insert(query.end(), middle, end);
      at = end;
    }
  };
  split(x, in, tasks.support_x, tasks.query_x), split(t, out, tasks.support_y, tasks.query_y);
  return tasks;
}

// Five updates without a report between them: the device is still behind when the host draws the next tasks.
TEST_P(LearnerOn, TrainsOnTasksOfAFileAsOnTheCallers) {
  for (const Model& model : {conv_model(), sinusoid_model()})
    for (const int chunk : {0, 2}) {
      const test::Folder folder;
      const Episodes episodes = in_a_file(folder, model);
      Options options = on(Sgd{.rate = 0.05});
      options.chunk = chunk, options.threads = 2;
      const Maml maml{.steps = 2, .rate = 0.1};
      Learner trained(model, maml, options), led(model, maml, options);
      trained.train(episodes, kTasks, 5, go_on, 5);
      for (std::uint64_t update = 0; update < 5; ++update) led.meta_update(drawn(episodes, model, update).batch());
      EXPECT_EQ(trained.parameters(), led.parameters()) << "chunks of " << chunk;
      trained.train(episodes, kTasks, 2, go_on);
      EXPECT_NE(trained.parameters(), led.parameters());
    }
}

// A program that could draw the open episodes itself is handed the caller's tasks all the same.
TEST_P(LearnerOn, TheCallersTasksAreNotThoseOfTheTraining) {
  const Model model = sinusoid_model();
  const Tasks tasks = random_tasks(model, 3, 4, 4, 1);
  const Maml maml{.steps = 1, .rate = 0.1};
  Learner trained(model, maml, on()), fresh(model, maml, on());
  trained.train(Episodes(Sinusoid{.shots = 4, .query = 4}, Subset::train, 2), 3, 1, go_on);
  trained.set_parameters(fresh.parameters());
  EXPECT_EQ(trained.meta_gradient(tasks.batch()).gradient, fresh.meta_gradient(tasks.batch()).gradient);
}

CUMETA_LEARNER_ON_EVERY_DEVICE;

}  // namespace
}  // namespace cumeta::testing
