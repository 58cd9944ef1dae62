// SPDX-License-Identifier: Apache-2.0
#include "app/command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "cumeta/device.h"
#include "cumeta/error.h"

namespace cumeta::app {

void add_recipe_options(CLI::App& command, RecipeOptions& options, bool data) {
  command.add_option("--set", options.set, "Change a key of the recipe: key=value, the value as TOML; repeatable")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  command.add_option("--device", options.device, "cpu, cuda or reference (device.kind)")->type_name("DEVICE");
  if (!data) return;
  command.add_option("--data", options.data, "Where the data lies (data.root, or data.path: the tasks to learn from)")
      ->type_name("PATH");
}

void refuse_training_keys(const RecipeTable& recipe) {
  static const std::set<std::string> of_a_run = {"run.updates", "run.report_every", "run.checkpoint_every",
                                                 "run.validate_every", "run.validate_tasks"};
  for (const std::string& key : recipe.set_keys) {
    if (key == "run.seed")
      throw InvalidArgument("--set run.seed: the network is trained already; evaluate.seed draws the tasks");
    if (of_a_run.count(key) != 0 || key.rfind("optimizer.", 0) == 0)
      throw InvalidArgument("--set " + key + ": the network is trained already, so it changes nothing; leave it out");
  }
}

void apply(RecipeTable& table, const RecipeOptions& options) {
  for (const std::string& assignment : options.set) set_key(table, assignment);
  if (!options.device.empty()) set_value(table, "device.kind", to_string(device_from(options.device)));
  if (options.data.empty()) return;
  const toml::table* data = table.table.get("data") == nullptr ? nullptr : table.table.get("data")->as_table();
  const std::string kind = data == nullptr ? "" : (*data)["kind"].value_or(std::string());
  if (kind == "sinusoid")
    throw UsageError("--data " + options.data + ": the sinusoid family needs no data; leave it out");
  std::error_code failure;
  const bool there = std::filesystem::exists(options.data, failure);
  if (failure) throw UsageError(fmt::format("--data {}: cannot be read: {}", options.data, failure.message()));
  if (!there) throw UsageError("--data " + options.data + ": there is no such file or folder");
  const std::filesystem::path whole = std::filesystem::absolute(options.data, failure);
  if (failure)
    throw UsageError(fmt::format("--data {}: cannot be found from here: {}", options.data, failure.message()));
  set_value(table, kind == "tasks" ? "data.path" : "data.root", whole.lexically_normal().string());
}

void add_json_option(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "One JSON object on stdout instead of text");
}

Subset subset_from(const std::string& name) {
  if (name == "train") return Subset::train;
  if (name == "validation") return Subset::validation;
  if (name == "test") return Subset::test;
  throw UsageError(fmt::format("--subset {}: is not one of train, validation, test", name));
}

nlohmann::json adapted_json(std::span<const std::string> names, const Model& model) {
  if (names.size() == parameters(model).size()) return "all";
  return std::vector<std::string>(names.begin(), names.end());
}

std::string adapted_text(std::span<const std::string> names, const Model& model) {
  return names.size() == parameters(model).size() ? "all" : fmt::format("{}", fmt::join(names, " "));
}

std::string method_text(const std::string& algorithm, Order order, int steps, std::span<const std::string> adapted,
                        const Model& model) {
  return fmt::format("{}, {} order, {} step{}, adapts {}", algorithm, to_string(order), steps, steps == 1 ? "" : "s",
                     adapted.empty() ? "nothing" : adapted_text(adapted, model));
}

void print_json(const nlohmann::json& value) {
  // A path need not be UTF-8; JSON must be.
  fmt::print("{}\n", value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  if (std::fflush(stdout) != 0)
    throw FileError(fmt::format("standard output cannot be written: {}", std::strerror(errno)));
}

nlohmann::json json_of(const std::vector<PlannedLayers>& layers) {
  nlohmann::json list = nlohmann::json::array();
  for (const PlannedLayers& run : layers)
    list.push_back({{"first", run.first}, {"last", run.last}, {"kind", run.kind}, {"by", run.by}});
  return list;
}

std::string bytes_text(std::int64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double amount = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (amount >= 1024 && unit + 1 < std::size(units)) amount /= 1024, ++unit;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", amount, units[unit]);
}

std::string time_text(double seconds) {
  const auto whole = std::llround(seconds);
  return fmt::format("{:02}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace cumeta::app
