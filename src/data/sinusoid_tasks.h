// SPDX-License-Identifier: Apache-2.0
// The sinusoid family, y = amplitude * sin(x - phase).
#pragma once
#include "cumeta/data.h"
#include "kernels/tools/episode_draws.h"
#include "src/data/task_numbers.h"

namespace cumeta {

SinusoidRanges ranges_of(const Sinusoid& family);

class SinusoidTasks {
 public:
  explicit SinusoidTasks(const Sinusoid& family);
  SourceSizes sizes() const;
  void draw(const TaskName& name, float* x, float* t) const;

 private:
  Sinusoid family_;
};

}  // namespace cumeta
