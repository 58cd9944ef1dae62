// SPDX-License-Identifier: Apache-2.0
// Examples from outside for one task: a safetensors file (x, y) or a folder of class folders of PNGs.
#pragma once
#include <string>
#include <vector>

#include "app/recipe.h"

namespace cumeta::app {

struct LabelledExamples {
  int count = 0;
  std::vector<float> x;                  ///< [count][height][width][channels]
  std::vector<float> y;                  ///< labels or targets; empty: not given; a label of -1: not known
  std::vector<std::string> class_names;  ///< of a folder, by label
};

/// `part` ("support", "query") names tensors part_x, part_y beside x, y. `classes`: the names of a folder's classes by
/// label; empty: this folder names them itself. Throws FileError for what does not fit the recipe's model.
LabelledExamples read_examples(const std::string& path, const std::string& part, const Recipe& recipe,
                               const std::vector<std::string>& classes);

}  // namespace cumeta::app
