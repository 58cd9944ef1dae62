// SPDX-License-Identifier: Apache-2.0
// Where a recipe's table comes from: a TOML file, a JSON file, a text in a checkpoint; and --set on top of it.
#pragma once
#include <toml++/toml.h>

#include <string>
#include <vector>

namespace cumeta::app {

struct RecipeTable {
  std::string file;  ///< for messages
  toml::table table;
  std::vector<std::string> set_keys;  ///< the keys that --set named
};

/// The sinusoid MAML recipe that is built in: the first run needs no file.
RecipeTable default_recipe();
/// A path, or the bare name of a recipe that comes with the program ("sinusoid_maml"). Files that end in .json hold the
/// same tables; the flat form {"input", "layers", "loss", "algorithm", ...} of docs and golden files is read too.
RecipeTable read_recipe(const std::string& path_or_name);
RecipeTable recipe_from_text(const std::string& text, const std::string& file);
/// "key=value", the value as TOML (a bare word is a string).
void set_key(RecipeTable& recipe, const std::string& assignment);
void set_value(RecipeTable& recipe, const std::string& key, const std::string& word);
/// The table as TOML, keys sorted: equal settings give equal text.
std::string recipe_text(const toml::table& table);
/// The part of a recipe that decides the numbers: without threads, memory, plan, device and paths.
std::string portable_recipe_text(const toml::table& table);

std::string read_text_file(const std::string& path);

}  // namespace cumeta::app
