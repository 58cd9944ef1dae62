// SPDX-License-Identifier: Apache-2.0
// A golden file: model, algorithm, tasks and another framework's answers.
#pragma once
#include <string>
#include <vector>

#include "cumeta/algorithms.h"
#include "cumeta/model.h"
#include "cumeta/task.h"
#include "src/safetensors.h"

namespace cumeta::testing {

/// What the text of a golden file says.
struct GoldenProblem {
  std::string name;
  Model model;
  Algorithm algorithm;
  int tasks = 0, support = 0, query = 0;
};
/// Its fields are those of recipes. Throws std::runtime_error for a field, kind or word that it does not know, and for
/// one that is missing where there is no default.
GoldenProblem golden_problem(const std::string& name, const std::string& json);

struct Golden : GoldenProblem {
  safetensors::File file;
  std::string path;

  /// x in the library's order: [tasks][examples][height][width][channels].
  std::vector<float> inputs(const std::string& tensor) const;
  std::vector<float> targets(const std::string& tensor) const;
  /// prefix + every parameter name, `rows` (tasks, steps or 1) rows of the flat vector in the library's order.
  std::vector<double> flat(const std::string& prefix, int rows) const;
  std::vector<double> numbers(const std::string& tensor) const { return safetensors::doubles(file.at(tensor, path)); }
  /// There are tensors of that prefix.
  bool has(const std::string& prefix) const;
  /// How many times a tensor of that prefix holds its parameter's numbers.
  int rows_of(const std::string& prefix) const;
};

std::vector<std::string> golden_names();
/// Throws also for a tensor that nobody would look at.
Golden load_golden(const std::string& name);

}  // namespace cumeta::testing
