// SPDX-License-Identifier: Apache-2.0
// cumeta evaluate: accuracy (or loss) on unseen tasks after 0..N inner steps: mean, 95 % interval, median, diverged
// tasks; for models with batch norm transductive and inductive side by side.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <sstream>

#include "app/command.h"
#include "app/measure.h"
#include "app/run_folder.h"
#include "app/statistics.h"
#include "cumeta/error.h"

namespace cumeta::app {
namespace {

struct EvaluateArguments {
  std::string run, checkpoint, per_task, subset = "test";
  std::vector<std::string> warp;
  int tasks = 0, steps = -1;
  RecipeOptions options;
  bool json = false;
};

/// A task diverged when a loss is not finite, or adaptation made the loss more than ten times what it was.
bool diverged(const Evaluation& evaluation, std::size_t task) {
  const auto width = static_cast<std::size_t>(evaluation.steps + 1);
  const double* loss = evaluation.loss.data() + task * width;
  for (std::size_t step = 0; step < width; ++step)
    if (!std::isfinite(loss[step])) return true;
  return loss[width - 1] > 10 * loss[0];
}

struct Measured {
  Evaluation evaluation;
  bool accuracy = false;
  const std::vector<double>& values() const { return accuracy ? evaluation.accuracy : evaluation.loss; }
  MeanInterval at(int step) const { return mean_interval(column(evaluation, values(), step)); }
};

nlohmann::json by_step(const Measured& measured) {
  nlohmann::json list = nlohmann::json::array();
  for (int step = 0; step <= measured.evaluation.steps; ++step) {
    const MeanInterval figures = measured.at(step);
    list.push_back({{"step", step}, {"mean", figures.mean}, {"ci95", figures.ci95}});
  }
  return list;
}

void apply_warp(RecipeTable& table, const std::vector<std::string>& warps) {
  for (const std::string& warp : warps) {
    const std::string name = warp.substr(0, warp.find('='));
    if (warp.find('=') == std::string::npos || (name != "shear" && name != "scale"))
      throw UsageError(fmt::format("--warp {}: is neither shear=NUMBER nor scale=NUMBER", warp));
    set_key(table, "data.warp." + warp);
  }
}

/// A regression has no accuracy: its column stays empty.
void write_per_task(const std::string& path, const std::vector<std::pair<std::string, Measured>>& all) {
  std::string text = "task,statistics,step,loss,accuracy\n";
  for (const auto& [name, measured] : all) {
    const Evaluation& e = measured.evaluation;
    const auto width = static_cast<std::size_t>(e.steps + 1);
    for (std::size_t i = 0; i < e.loss.size(); ++i)
      text += fmt::format("{},{},{},{},{}\n", i / width, name, i % width, number_text(e.loss[i]),
                          measured.accuracy ? number_text(e.accuracy[i]) : "");
  }
  write_text_file(path, text);
}

void print_table(const std::vector<std::pair<std::string, Measured>>& all, const std::string& metric) {
  fmt::print("{:<6}", "step");
  for (const auto& [name, measured] : all) fmt::print("{:>28}", metric + " (" + name + ")");
  fmt::print("\n");
  for (int step = 0; step <= all.front().second.evaluation.steps; ++step) {
    fmt::print("{:<6}", step);
    for (const auto& [name, measured] : all) {
      const MeanInterval figures = measured.at(step);
      fmt::print("{:>28}", fmt::format("{:.4f} +- {:.4f}", figures.mean, figures.ci95));
    }
    fmt::print("\n");
  }
}

/// What the tasks were drawn from, the caller's settings included.
nlohmann::json data_json(const Recipe& recipe) {
  const toml::table* data = recipe.source_table.table["data"].as_table();
  if (data == nullptr) return nullptr;
  std::ostringstream text;
  text << toml::json_formatter(*data);
  return nlohmann::json::parse(text.str());
}

void run(const EvaluateArguments& arguments) {
  TrainedRun trained = open_run(arguments.run, arguments.checkpoint);
  apply(trained.recipe, arguments.options);
  refuse_training_keys(trained.recipe);
  const toml::node* kind = trained.recipe.table.at_path("data.kind").node();
  if (!arguments.warp.empty() && kind && kind->value_or(std::string()) != "omniglot")
    throw UsageError(fmt::format("--warp {}: the run's data are {}; only omniglot's characters can be warped",
                                 arguments.warp.front(), kind->value_or(std::string("of another kind"))));
  apply_warp(trained.recipe, arguments.warp);
  const Recipe recipe = parse_recipe(trained.recipe);
  const Algorithm algorithm = evaluation_algorithm(recipe);
  const int steps = arguments.steps >= 0         ? arguments.steps
                    : recipe.evaluate.steps >= 0 ? recipe.evaluate.steps
                                                 : steps_of(algorithm);
  const Episodes episodes(evaluation_source(recipe), subset_from(arguments.subset), recipe.evaluate.seed);
  const int tasks = tasks_there(episodes, arguments.tasks > 0 ? arguments.tasks : recipe.evaluate.tasks);
  if (tasks < arguments.tasks)
    throw InvalidArgument(
        fmt::format("--tasks {}: the file holds {}; ask for no more than that", arguments.tasks, tasks));
  if (episodes.query() == 0)
    throw InvalidArgument("evaluate: the tasks have no query examples to judge by; --set evaluate.query=1");
  Learner learner(recipe.model, algorithm, recipe.options);
  learner.load_trained(trained.checkpoint);

  // The model's own statistics come first: by_step, median and diverged are theirs.
  const Statistics own = statistics_of(recipe.model);
  std::vector<std::pair<std::string, Statistics>> wanted;
  if (own == Statistics::running) wanted.emplace_back("running", Statistics::running);
  if (own == Statistics::support) wanted.emplace_back("support", Statistics::support);
  wanted.emplace_back("batch", Statistics::batch);
  if (own != Statistics::support && recipe.has_batch_norm()) wanted.emplace_back("support", Statistics::support);
  std::vector<std::pair<std::string, Measured>> all;
  for (const auto& [name, statistics] : wanted)
    all.emplace_back(name, Measured{measure(learner, episodes, tasks, steps, statistics), recipe.classification()});

  const Measured& first = all.front().second;
  int lost = 0;
  for (int task = 0; task < tasks; ++task) lost += diverged(first.evaluation, static_cast<std::size_t>(task)) ? 1 : 0;
  const double middle = median(column(first.evaluation, first.values(), steps));
  const std::string metric = recipe.classification() ? "accuracy" : "loss";
  if (!arguments.per_task.empty()) write_per_task(arguments.per_task, all);
  if (!arguments.json) {
    fmt::print(
        "{}: {}, {} {} tasks of {} + {}, on {}\n", trained.checkpoint,
        method_text(name_of(algorithm), first.evaluation.order, steps, first.evaluation.adapted_set, recipe.model),
        tasks, arguments.subset, episodes.support(), episodes.query(), learner.device_name());
    print_table(all, metric);
    fmt::print("+-: 95 % interval. Median {} after step {}: {:.4f}; {} of {} tasks diverged\n", metric, steps, middle,
               lost, tasks);
    if (recipe.has_batch_norm())
      fmt::print(
          "batch: batch norm sees the query examples (transductive); support: only the support set's statistics\n");
    return;
  }
  nlohmann::json statistics = nlohmann::json::object();
  for (const auto& [name, measured] : all) statistics[name] = by_step(measured);
  // Without batch norm there is nothing to take statistics of: both columns are one.
  if (!statistics.contains("support")) statistics["support"] = statistics["batch"];
  print_json({{"metric", metric},
              {"tasks", tasks},
              {"order", to_string(first.evaluation.order)},
              {"precision", to_string(first.evaluation.precision, learner.options().device)},
              {"algorithm", name_of(algorithm)},
              {"adapted", adapted_json(first.evaluation.adapted_set, recipe.model)},
              {"subset", arguments.subset},
              {"data", data_json(recipe)},
              {"checkpoint", trained.checkpoint},
              {"updates", learner.updates()},
              {"support", episodes.support()},
              {"query", episodes.query()},
              {"steps", steps},
              {"by_step", by_step(first)},
              {"median", middle},
              {"diverged", lost},
              {"device", learner.device_name()},
              {"statistics", statistics}});
}

}  // namespace

void add_evaluate(CLI::App& program) {
  CLI::App* command = program.add_subcommand("evaluate", "Mean and 95 % interval on unseen tasks after 0..N steps");
  command->footer(
      "Keys of [evaluate] and [data] may be changed with --set: other shots, other ranges.\n"
      "Example:\n  cumeta evaluate runs/sinusoid --steps 10 --set data.shots=5 --set data.amplitude=[5,10] --json");
  auto arguments = std::make_shared<EvaluateArguments>();
  command->add_option("run", arguments->run, "Folder of a run, or a checkpoint")->required();
  command->add_option("--tasks", arguments->tasks, "How many; default evaluate.tasks or 1000")
      ->check(CLI::Range(1, 1 << 24));
  command->add_option("--steps", arguments->steps, "Inner steps; default evaluate.steps, or as trained")
      ->check(CLI::Range(0, 10000));
  command->add_option("--per-task", arguments->per_task, "Loss and accuracy of every task as CSV")->type_name("FILE");
  command->add_option("--warp", arguments->warp, "Omniglot: shear=NUMBER or scale=NUMBER; repeatable")
      ->allow_extra_args(false)
      ->type_name("NAME=NUMBER");
  command->add_option("--checkpoint", arguments->checkpoint, "best (default), last or a file")->type_name("WHICH");
  command->add_option("--subset", arguments->subset, "train, validation or test")->capture_default_str();
  add_recipe_options(*command, arguments->options);
  add_json_option(*command, arguments->json);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace cumeta::app
