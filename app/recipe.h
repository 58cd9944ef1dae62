// SPDX-License-Identifier: Apache-2.0
// A recipe's table turned into the library's values: every key read, checked and named here.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/recipe_file.h"
#include "app/section.h"
#include "cumeta/algorithms.h"
#include "cumeta/data.h"
#include "cumeta/learner.h"
#include "cumeta/model.h"
#include "cumeta/plan.h"

namespace cumeta::app {

struct RunSettings {
  std::int64_t updates = 1000;
  int tasks = 25;  ///< of a meta-batch
  std::int64_t report_every = 100;
  std::int64_t checkpoint_every = 1000;
  std::int64_t validate_every = 1000;  ///< 0: never
  int validate_tasks = 200;
};

/// How evaluate differs from training; what is absent is as in training.
struct EvaluateSettings {
  int steps = -1;  ///< -1: as trained
  int tasks = 1000;
  std::uint64_t seed = 1;
  std::optional<int> shots, query, batch;
};

struct Recipe {
  RecipeTable source_table;
  RunSettings run;
  EvaluateSettings evaluate;
  Options options;
  Algorithm algorithm;
  std::optional<Source> source;  ///< absent: no [data] table
  Model model;

  /// The source; throws when the recipe has none, or one without its folder.
  const Source& data() const;
  /// Sizes of a meta-update without opening any file but a task file.
  TaskSizes sizes() const;
  bool classification() const { return std::holds_alternative<SoftmaxCrossEntropy>(model.loss); }
  bool has_batch_norm() const;
};

/// Throws InvalidArgument with one line for any key or value that cannot be used.
Recipe parse_recipe(const RecipeTable& table);

/// Every key that some recipe may have, with its section: "optimizer.momentum".
std::vector<std::string> recipe_keys();

Algorithm parse_algorithm(Section section);
std::optional<Source> parse_source(Section section);
/// `source` gives the input and the outputs where the table leaves them out; may be null.
Model parse_model(Section section, const Source* source);

/// The source and algorithm that evaluation uses: shots, query and inner batch of [evaluate] put in.
Source evaluation_source(const Recipe& recipe);
Algorithm evaluation_algorithm(const Recipe& recipe);

}  // namespace cumeta::app
