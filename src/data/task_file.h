// SPDX-License-Identifier: Apache-2.0
// Tasks written in a safetensors file: support_x, support_y, query_x, query_y.
#pragma once
#include <string>
#include <vector>

#include "cumeta/data.h"
#include "src/data/task_numbers.h"

namespace cumeta {

class FileTasks {
 public:
  /// Those of the subset. InvalidArgument when it has no file of its own.
  FileTasks(const TaskFile& source, Subset subset);
  SourceSizes sizes() const { return sizes_; }
  void draw(const TaskName& name, float* x, float* t) const;

 private:
  SourceSizes sizes_;
  std::vector<float> x_, t_;  ///< [task][support + query][...], as draw() gives them
};

}  // namespace cumeta
