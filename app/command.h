// SPDX-License-Identifier: Apache-2.0
// What the commands of the program share: how they are added, the options of a recipe, how results are printed.
#pragma once
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "app/recipe.h"

namespace cumeta::app {

void add_train(CLI::App& program);
void add_evaluate(CLI::App& program);
void add_adapt(CLI::App& program);
void add_plan(CLI::App& program);
void add_bench(CLI::App& program);
void add_sample(CLI::App& program);
void add_meta_gradient(CLI::App& program);
void add_selftest(CLI::App& program);
void add_info(CLI::App& program);

/// What was asked for cannot be done the way it was asked: exit status 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// The command ran and its answer is no, and it has said so: exit status 1 without another line.
struct Failed {};

/// The options that change a recipe: --set, --device, --data.
struct RecipeOptions {
  std::vector<std::string> set;
  std::string device, data;
};
/// `data`: the command opens the recipe's data.
void add_recipe_options(CLI::App& command, RecipeOptions& options, bool data = true);
/// Refuses keys that --set named and that only a training reads: they would change nothing.
void refuse_training_keys(const RecipeTable& recipe);
/// --set, --device and --data applied to the table.
void apply(RecipeTable& table, const RecipeOptions& options);

/// The word of --subset.
Subset subset_from(const std::string& name);

/// --json.
void add_json_option(CLI::App& command, bool& json);
/// "all", or the names.
nlohmann::json adapted_json(std::span<const std::string> names, const Model& model);
/// The same in one word or many.
std::string adapted_text(std::span<const std::string> names, const Model& model);
/// "maml, second order, 5 steps, adapts all": how a result came about, as every result says it.
std::string method_text(const std::string& algorithm, Order order, int steps, std::span<const std::string> adapted,
                        const Model& model);
void print_json(const nlohmann::json& value);

/// Which layers run by whom.
nlohmann::json json_of(const std::vector<PlannedLayers>& layers);

/// "1.50 MiB", "12 B".
std::string bytes_text(std::int64_t bytes);
/// "01:02:03".
std::string time_text(double seconds);

}  // namespace cumeta::app
