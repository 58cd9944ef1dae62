// SPDX-License-Identifier: Apache-2.0
// Reads recipes; whatever is wrong with a file becomes one line with its line number.
#include "app/recipe_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "app/nearest.h"
#include "cumeta/error.h"
#include "default_recipe.h"

namespace cumeta::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

toml::table parse_toml(const std::string& text, const std::string& file) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    throw InvalidArgument(
        fmt::format("{}: line {}: {}", file, error.source().begin.line, one_line(std::string(error.description()))));
  }
}

/// More than any recipe needs, less than any stack holds.
constexpr int deepest = 32;

toml::array array_from(const json& value, const std::string& file, int depth);
toml::table table_from(const json& value, const std::string& file, int depth);

/// Hands the TOML value of a JSON value to `take`.
template <class Take>
void convert(const json& value, const std::string& file, int depth, Take take) {
  if (depth > deepest) throw InvalidArgument(fmt::format("{}: is nested more than {} deep", file, deepest));
  if (value.is_object())
    take(table_from(value, file, depth + 1));
  else if (value.is_array())
    take(array_from(value, file, depth + 1));
  else if (value.is_string())
    take(value.get<std::string>());
  else if (value.is_boolean())
    take(value.get<bool>());
  else if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
    throw InvalidArgument(fmt::format("{}: {} is beyond the largest whole number, {}", file, value.get<std::uint64_t>(),
                                      std::numeric_limits<std::int64_t>::max()));
  else if (value.is_number_integer())
    take(value.get<std::int64_t>());
  else if (value.is_number())
    take(value.get<double>());
  else
    throw InvalidArgument(fmt::format("{}: null is no value of a recipe; leave the key out", file));
}
toml::array array_from(const json& value, const std::string& file, int depth) {
  toml::array array;
  for (const json& element : value) convert(element, file, depth, [&](auto v) { array.push_back(std::move(v)); });
  return array;
}
toml::table table_from(const json& value, const std::string& file, int depth) {
  toml::table table;
  for (const auto& [key, element] : value.items())
    convert(element, file, depth, [&, name = key](auto v) { table.insert_or_assign(name, std::move(v)); });
  return table;
}

/// {"input", "layers", "loss", "reduction", "algorithm", "tasks", ...} -> the tables of a recipe.
json from_flat(const json& flat) {
  json recipe = {{"model", json::object()}, {"algorithm", flat.value("algorithm", json::object())}};
  for (const char* key : {"input", "layers", "loss", "reduction"})
    if (flat.contains(key)) recipe["model"][key] = flat[key];
  json& algorithm = recipe["algorithm"];
  if (algorithm.is_object() && algorithm.contains("adapted_from_layer")) {
    algorithm["first_adapted_layer"] = algorithm["adapted_from_layer"];
    algorithm.erase("adapted_from_layer");
  }
  if (flat.contains("tasks")) recipe["run"] = {{"tasks", flat["tasks"]}};
  for (const auto& [key, value] : flat.items())
    if (!recipe["model"].contains(key) && key != "algorithm" && key != "tasks" && key != "support" && key != "query")
      recipe[key] = value;  // found and named as unknown where all keys are
  return recipe;
}

toml::table parse_json(const std::string& text, const std::string& file) {
  json value;
  try {
    // Stopped while it is read: copying a deep value would need a stack as deep.
    value = json::parse(text, [&](int depth, json::parse_event_t, json&) {
      if (depth > deepest) throw InvalidArgument(fmt::format("{}: is nested more than {} deep", file, deepest));
      return true;
    });
  } catch (const json::exception& error) { throw InvalidArgument(fmt::format("{}: {}", file, one_line(error.what()))); }
  if (!value.is_object()) throw InvalidArgument(fmt::format("{}: is not a JSON object", file));
  return table_from(value.contains("layers") ? from_flat(value) : value, file, 0);
}

/// Recipes of this directory, by their bare names.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none))
    if (entry.path().extension() == ".toml") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<fs::path> recipe_folders() {
  std::error_code none;
  const fs::path program = fs::read_symlink("/proc/self/exe", none);
  return {"recipes", program.parent_path().parent_path() / "share/cumeta/recipes"};
}

/// The file that a path or a bare name means. Throws with the nearest there is.
fs::path locate(const std::string& path_or_name) {
  std::error_code none;
  const fs::path path = path_or_name;
  if (fs::is_regular_file(path, none)) return path;
  if (fs::is_directory(path, none))
    throw FileError(fmt::format("{}: is a folder, not a recipe; name a .toml file", path_or_name));
  std::vector<std::string> known;
  if (path.has_parent_path()) {
    for (const std::string& name : names_in(path.parent_path()))
      known.push_back((path.parent_path() / (name + ".toml")).string());
  } else {
    for (const fs::path& folder : recipe_folders()) {
      const fs::path found = folder / (path.stem().string() + ".toml");
      if (fs::is_regular_file(found, none)) return found;
      for (const std::string& name : names_in(folder)) known.push_back(name);
    }
  }
  const std::string hint = nearest(path_or_name, known);
  throw FileError(fmt::format("{}: no such recipe; {}", path_or_name,
                              hint.empty() ? "name a .toml file" : "did you mean " + hint + "?"));
}

}  // namespace

std::string read_text_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  if (in) text << in.rdbuf();
  if (!in) throw FileError(fmt::format("{}: cannot be read", path));
  return text.str();
}

RecipeTable default_recipe() { return recipe_from_text(default_recipe_text, "the built-in recipe sinusoid_maml"); }

RecipeTable read_recipe(const std::string& path_or_name) {
  if (path_or_name == "sinusoid_maml" && !fs::exists("recipes/sinusoid_maml.toml")) return default_recipe();
  const std::string path = locate(path_or_name).string();
  const std::string text = read_text_file(path);
  if (fs::path(path).extension() == ".json") return {path, parse_json(text, path), {}};
  return recipe_from_text(text, path);
}

RecipeTable recipe_from_text(const std::string& text, const std::string& file) {
  return {file, parse_toml(text, file), {}};
}

void set_key(RecipeTable& recipe, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    throw InvalidArgument(fmt::format("--set {}: is not key=value, as in --set algorithm.steps=5", assignment));
  const std::string key = assignment.substr(0, equals), value = assignment.substr(equals + 1);
  toml::table parsed;
  try {
    parsed = toml::parse("value = " + value);
  } catch (const toml::parse_error&) {
    // A bare word stands for a string, so that a shell needs no second pair of quotes.
    const bool plain = !value.empty() && value.find_first_of("\"'[]{}=#\n,") == std::string::npos;
    if (!plain) throw InvalidArgument(fmt::format("--set {}: {} is not a TOML value", key, value));
    parsed.insert_or_assign("value", value);
  }
  if (parsed.size() != 1) throw InvalidArgument(fmt::format("--set {}: {} is more than one value", key, value));

  toml::table* table = &recipe.table;
  std::istringstream parts(key);
  std::vector<std::string> path;
  for (std::string part; std::getline(parts, part, '.');) path.push_back(part);
  for (std::size_t i = 0; i + 1 < path.size(); ++i) {
    if (table->get(path[i]) == nullptr) table->insert_or_assign(path[i], toml::table{});
    table = table->get(path[i])->as_table();
    if (table == nullptr) throw InvalidArgument(fmt::format("--set {}: {} is a value, not a table", key, path[i]));
  }
  parsed.get("value")->visit([&](auto& node) { table->insert_or_assign(path.back(), std::move(node)); });
  recipe.set_keys.push_back(key);
}

void set_value(RecipeTable& recipe, const std::string& key, const std::string& word) {
  const std::size_t dot = key.find('.');
  const std::string section = key.substr(0, dot);
  if (recipe.table.get(section) == nullptr) recipe.table.insert_or_assign(section, toml::table{});
  toml::table* table = recipe.table.get(section)->as_table();
  if (table == nullptr) throw InvalidArgument(fmt::format("{}: {} is not a table", recipe.file, section));
  table->insert_or_assign(key.substr(dot + 1), word);
}

namespace {

std::string value_text(const toml::node& node) {
  // The shortest text that reads back as the same number; toml++ writes 0.4 as 0.40000000000000002.
  if (const auto* number = node.as_floating_point(); number && std::isfinite(number->get())) {
    const std::string text = fmt::format("{}", number->get());
    return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
  }
  std::string text;
  if (const auto* array = node.as_array()) {
    for (const toml::node& item : *array) text += (text.empty() ? "" : ", ") + value_text(item);
    return "[" + text + "]";
  }
  if (const auto* table = node.as_table()) {
    for (const auto& [key, item] : *table)
      text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", key.str(), value_text(item));
    return "{ " + text + " }";
  }
  std::ostringstream out;
  node.visit([&](const auto& value) { out << value; });
  return out.str();
}

}  // namespace

std::string recipe_text(const toml::table& table) {
  std::string top, sections;
  for (const auto& [name, node] : table) {
    const auto* section = node.as_table();
    if (!section) {
      top += fmt::format("{} = {}\n", name.str(), value_text(node));
      continue;
    }
    sections += fmt::format("{}[{}]\n", sections.empty() ? "" : "\n", name.str());
    for (const auto& [key, item] : *section) sections += fmt::format("{} = {}\n", key.str(), value_text(item));
  }
  return top + sections;
}

std::string portable_recipe_text(const toml::table& table) {
  toml::table copy = table;
  copy.erase("plan");
  copy.erase("device");
  const auto erase = [&](const char* section, std::initializer_list<const char*> keys) {
    if (copy.get(section) == nullptr) return;
    toml::table* part = copy.get(section)->as_table();
    for (const char* key : keys) part->erase(key);
  };
  erase("run", {"threads", "pin", "memory_limit"});
  erase("data", {"root", "path", "validation_path", "test_path"});
  return recipe_text(copy);
}

}  // namespace cumeta::app
