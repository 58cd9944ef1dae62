// SPDX-License-Identifier: Apache-2.0
// What every opened source tells (its sizes) and is told (which task to draw).
#pragma once
#include <cstddef>
#include <cstdint>

#include "cumeta/shape.h"
#include "kernels/tools/philox.h"

namespace cumeta {

struct SourceSizes {
  int support = 0, query = 0;
  Shape input{};
  int targets = 1;
  int ways = 0;
  int classes = 0;
  std::size_t tasks = 0;

  int rows() const { return support + query; }
};

struct TaskName {
  std::uint64_t seed;
  Purpose purpose;
  std::uint64_t iteration;
  std::uint32_t task;

  Draws draws() const { return {seed, purpose, iteration, task}; }
};

}  // namespace cumeta
