// SPDX-License-Identifier: Apache-2.0
// cumeta meta-gradient: tasks (and parameters) in; meta-gradient, adapted parameters and losses out, under the names
// that another framework can be held against.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "app/command.h"
#include "app/host_tasks.h"
#include "cumeta/error.h"
#include "cumeta/tensor_file.h"

namespace cumeta::app {
namespace {

struct MetaGradientArguments {
  std::string recipe, input, output;
  RecipeOptions options;
  bool json = false;
};

bool holds_any(const TensorFile& file, const std::string& prefix) {
  const auto found = file.tensors.lower_bound(prefix);
  return found != file.tensors.end() && found->first.rfind(prefix, 0) == 0;
}

/// The learned rates' rows in a file: 1 without a leading axis, or one per step.
int rate_rows(const std::vector<double>& rates, const Model& model) {
  return static_cast<int>(rates.size() / static_cast<std::size_t>(std::max(parameter_count(model), 1)));
}

TensorFile outcome(const Learner& learner, const MetaGradient& result) {
  const Model& model = learner.model();
  const auto type = FileTensor::Type::float64;
  TensorFile file;
  put_parameters(file, model, "", learner.parameters());
  put_parameters(file, model, "meta_gradient.", result.gradient);
  put_parameters(file, model, "meta_gradient_per_task.", result.gradient_per_task, result.tasks);
  put_parameters(file, model, "adapted.", result.adapted, result.tasks);
  const std::int64_t tasks = result.tasks;
  const std::int64_t steps = static_cast<std::int64_t>(result.support_loss.size()) / std::max<std::int64_t>(tasks, 1);
  if (steps > 0) file.tensors["support_loss"] = {type, {tasks, steps}, result.support_loss};
  if (!result.query_loss.empty()) file.tensors["query_loss"] = {type, {tasks}, result.query_loss};
  if (!result.accuracy.empty() && std::holds_alternative<SoftmaxCrossEntropy>(model.loss))
    file.tensors["accuracy"] = {type, {tasks}, result.accuracy};
  if (const std::vector<double> rates = learner.rates(); !rates.empty()) {
    const int rows = rate_rows(rates, model);
    put_parameters(file, model, "rates.", rates, rows == 1 ? 0 : rows);
  }
  if (!result.rate_gradient.empty()) {
    const int rows = rate_rows(result.rate_gradient, model);
    put_parameters(file, model, "rates_gradient.", result.rate_gradient, rows == 1 ? 0 : rows);
  }
  file.metadata["order"] = to_string(result.order);
  file.metadata["steps"] = std::to_string(result.steps);
  file.metadata["adapted_set"] = fmt::format("{}", fmt::join(result.adapted_set, " "));
  file.metadata["precision"] = to_string(result.precision, learner.options().device);
  file.metadata["algorithm"] = name_of(learner.algorithm());
  file.metadata["device"] = learner.device_name();
  return file;
}

void run(const MetaGradientArguments& arguments) {
  RecipeTable table = arguments.recipe.empty() ? default_recipe() : read_recipe(arguments.recipe);
  apply(table, arguments.options);
  const Recipe recipe = parse_recipe(table);
  const Episodes episodes(TaskFile{.test_path = arguments.input}, Subset::test);  // in their order
  if (!(episodes.input() == recipe.model.input))
    throw FileError(fmt::format("{}: examples of {} x {} x {} (C, H, W), but the model takes {} x {} x {}",
                                arguments.input, episodes.input().channels, episodes.input().height,
                                episodes.input().width, recipe.model.input.channels, recipe.model.input.height,
                                recipe.model.input.width));
  Learner learner(recipe.model, recipe.algorithm, recipe.options);
  const TensorFile input = read_tensors(arguments.input);
  if (holds_any(input, "layers.")) learner.set_parameters(get_parameters(input, recipe.model, "", arguments.input));
  if (holds_any(input, "rates.")) {
    const std::vector<double> rates = learner.rates();
    const auto* maml = std::get_if<Maml>(&recipe.algorithm);
    const int rows = !rates.empty()                               ? rate_rows(rates, recipe.model)
                     : maml && maml->rate_per_step && maml->steps ? maml->steps
                                                                  : 1;
    learner.set_rates(get_parameters(input, recipe.model, "rates.", arguments.input, rows == 1 ? 0 : rows));
  }
  const HostTasks tasks = draw_tasks(episodes, 0, 0, static_cast<int>(episodes.tasks()));
  const MetaGradient result = learner.meta_gradient(tasks.batch());
  double loss = 0, squares = 0;
  for (const double value : result.query_loss) loss += value / result.tasks;
  for (const double value : result.gradient) squares += value * value;
  if (!std::isfinite(loss) || !std::isfinite(squares))
    throw NonFinite(fmt::format("{}: the meta-gradient is not finite (query loss {}); lower algorithm.rate ({} steps)",
                                arguments.input, loss, steps_of(recipe.algorithm)));
  write_tensors(arguments.output, outcome(learner, result));
  if (arguments.json)
    print_json({{"output", arguments.output},
                {"algorithm", name_of(recipe.algorithm)},
                {"order", to_string(result.order)},
                {"steps", steps_of(recipe.algorithm)},
                {"adapted", adapted_json(result.adapted_set, recipe.model)},
                {"tasks", result.tasks},
                {"parameters", result.gradient.size()},
                {"loss", loss},
                {"gradient_norm", std::sqrt(squares)},
                {"device", learner.device_name()},
                {"precision", to_string(result.precision, recipe.options.device)}});
  else
    fmt::print("{}: {}, {} tasks, query loss {:.6g}, meta-gradient norm {:.6g}, on {}\n", arguments.output,
               method_text(name_of(recipe.algorithm), result.order, result.steps, result.adapted_set, recipe.model),
               result.tasks, loss, std::sqrt(squares), learner.device_name());
}

}  // namespace

void add_meta_gradient(CLI::App& program) {
  CLI::App* command = program.add_subcommand("meta-gradient", "Tasks in, meta-gradient and adapted parameters out");
  command->footer(
      "The input holds support_x, support_y, query_x, query_y, and may hold parameters (layers.0.weight, ...; else "
      "the\n"
      "initial ones) and learned rates (rates.layers.0.weight, ...). The output holds meta_gradient.*,\n"
      "meta_gradient_per_task.*, adapted.*, support_loss, query_loss, and rates_gradient.* where rates are learned.\n"
      "Example:\n  cumeta meta-gradient recipe.toml --input tasks.safetensors --output gradient.safetensors");
  auto arguments = std::make_shared<MetaGradientArguments>();
  command->add_option("recipe", arguments->recipe, "Recipe (TOML or JSON); without one the built-in sinusoid_maml");
  command->add_option("--input", arguments->input, "Tasks and parameters (safetensors)")->required()->type_name("FILE");
  command->add_option("--output", arguments->output, "Where the result goes (safetensors)")
      ->required()
      ->type_name("FILE");
  add_recipe_options(*command, arguments->options, false);
  add_json_option(*command, arguments->json);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace cumeta::app
