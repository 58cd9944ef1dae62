// SPDX-License-Identifier: Apache-2.0
// A golden file: model, algorithm, tasks and another framework's answers.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "cumeta/algorithms.h"
#include "cumeta/model.h"
#include "src/safetensors.h"

namespace cumeta::testing {

struct Golden {
  std::string name;
  Model model;
  Algorithm algorithm;
  int tasks = 0, support = 0, query = 0;
  safetensors::File file;
  std::string path;

  /// x in the library's order: [tasks][examples][height][width][channels].
  std::vector<float> inputs(const std::string& tensor) const;
  std::vector<float> targets(const std::string& tensor) const;
  /// prefix + every parameter name, `rows` (tasks, or 1) rows of the flat vector in the library's order.
  std::vector<double> flat(const std::string& prefix, int rows) const;
  std::vector<double> numbers(const std::string& tensor) const { return safetensors::doubles(file.at(tensor, path)); }
};

std::vector<std::string> golden_names();
Golden load_golden(const std::string& name);

}  // namespace cumeta::testing
