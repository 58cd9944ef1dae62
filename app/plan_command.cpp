// SPDX-License-Identifier: Apache-2.0
// cumeta plan: bytes, FLOPs, chunks and launches of a recipe's meta-update, for this machine or one that is not here.
#include <fmt/format.h>

#include <memory>

#include "app/command.h"
#include "cumeta/error.h"
#include "cumeta/plan.h"

namespace cumeta::app {
namespace {

struct PlanArguments {
  std::string recipe, machine;
  RecipeOptions options;
  bool json = false;
};

/// Never another GPU's numbers for the one that is not here.
Machine gpu_here(int ordinal) {
  try {
    return cuda_machine(ordinal);
  } catch (const DeviceUnavailable& error) {
    throw DeviceUnavailable(
        fmt::format("{}; to plan for a GPU that is not here, name it: --machine h100", error.what()));
  }
}

PlanOptions plan_options(const Recipe& recipe, const std::string& machine) {
  PlanOptions options;
  options.device = recipe.options.device, options.precision = recipe.options.precision;
  if (options.device == Device::cuda)
    options.machine = machine.empty() ? gpu_here(recipe.options.ordinal) : cuda_machine(machine);
  else if (machine.empty())
    options.machine = cpu_machine(recipe.options.threads);
  else
    throw UsageError(fmt::format("--machine {}: names a GPU; add --device cuda", machine));
  options.memory_limit = recipe.options.memory_limit;
  options.chunk = recipe.options.chunk;
  options.activations = recipe.options.activations;
  options.optimizer = recipe.options.optimizer;
  options.implementation = recipe.options.implementation;
  return options;
}

/// Images that train would keep on a GPU, or why they are not counted.
struct ResidentImages {
  std::int64_t bytes = 0;
  std::string not_counted;
};
ResidentImages resident_images(const Recipe& recipe) {
  if (recipe.options.device != Device::cuda || !recipe.source) return {};
  const std::string* root = std::visit(
      [](const auto& source) -> const std::string* {
        if constexpr (requires { source.root; })
          return &source.root;
        else
          return nullptr;
      },
      *recipe.source);
  if (root == nullptr) return {};
  if (root->empty()) return {0, "data.root is not set; name the folder with --data FOLDER"};
  try {
    return {Episodes(recipe.data(), Subset::train, recipe.options.seed).images().bytes(), {}};
  } catch (const FileError& error) { return {0, error.what()}; }
}

nlohmann::json as_json(const Plan& plan, const Recipe& recipe, const TaskSizes& sizes, const PlanOptions& options,
                       const ResidentImages& images) {
  nlohmann::json arrays = nlohmann::json::array();
  for (const PlannedArray& array : plan.arrays) arrays.push_back({{"name", array.name}, {"bytes", array.bytes}});
  const bool counted = images.not_counted.empty();
  return {{"device", to_string(plan.device)},
          {"implementation", to_string(plan.implementation)},
          {"measured", plan.measured},
          {"layers", json_of(plan.layers)},
          {"precision", to_string(plan.precision, plan.device)},
          {"machine", options.machine.name},
          {"algorithm", name_of(recipe.algorithm)},
          {"order", to_string(plan.order)},
          {"steps", steps_of(recipe.algorithm)},
          {"adapted", adapted_json(plan.adapted_set, recipe.model)},
          {"tasks", sizes.tasks},
          {"support", sizes.support},
          {"query", sizes.query},
          {"parameters", parameter_count(recipe.model)},
          {"bytes", plan.bytes},
          {"resident_bytes", counted ? nlohmann::json(plan.resident_bytes) : nlohmann::json()},
          {"resident_not_counted", counted ? nlohmann::json() : nlohmann::json(images.not_counted)},
          {"flops", plan.flops},
          {"first_order_flops", plan.first_order_flops},
          {"launches", plan.launches},
          {"lanes", plan.lanes},
          {"chunk", plan.chunk},
          {"chunks", plan.chunks},
          {"idle_cores", plan.idle_cores},
          {"recompute", plan.recompute},
          {"arrays", arrays}};
}

void run(const PlanArguments& arguments) {
  RecipeTable table = arguments.recipe.empty() ? default_recipe() : read_recipe(arguments.recipe);
  apply(table, arguments.options);
  const Recipe recipe = parse_recipe(table);
  PlanOptions options = plan_options(recipe, arguments.machine);
  const TaskSizes sizes = recipe.sizes();
  const ResidentImages images = resident_images(recipe);
  options.resident_bytes = images.bytes;
  const Plan made = plan(recipe.model, recipe.algorithm, sizes, options);
  if (arguments.json)
    print_json(as_json(made, recipe, sizes, options, images));
  else
    fmt::print(
        "{}, {} task{} of {} + {}, {} parameters, on {} ({})\n{}{}\n",
        method_text(name_of(recipe.algorithm), made.order, steps_of(recipe.algorithm), made.adapted_set, recipe.model),
        sizes.tasks, sizes.tasks == 1 ? "" : "s", sizes.support, sizes.query, parameter_count(recipe.model),
        options.machine.name, to_string(made.device), made.text(),
        images.not_counted.empty() ? "" : fmt::format("resident     images are not counted: {}\n", images.not_counted));
}

}  // namespace

void add_plan(CLI::App& program) {
  CLI::App* command = program.add_subcommand("plan", "Bytes, FLOPs, chunks and launches before anything runs");
  command->footer(
      "With --device cuda and no --machine it plans for the GPU that is here (device.ordinal), and for what is free on "
      "it.\n"
      "Images that train would keep on the GPU are read and counted beside the arena where --data names them.\n"
      "Example:\n  cumeta plan recipes/omniglot_5w1s_maml.toml --device cuda --machine h100 --json");
  auto arguments = std::make_shared<PlanArguments>();
  command->add_option("recipe", arguments->recipe, "Recipe; without one the built-in sinusoid_maml");
  command
      ->add_option("--machine", arguments->machine,
                   "A GPU by name: h100, h200, a100, l4, rtx3090, rtx4090, t4; default the one here")
      ->type_name("NAME");
  add_recipe_options(*command, arguments->options);
  add_json_option(*command, arguments->json);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace cumeta::app
