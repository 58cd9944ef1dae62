// SPDX-License-Identifier: Apache-2.0
// The sinusoid family: amplitude, phase and inputs uniform in their ranges.
#include "src/data/sinusoid_tasks.h"

#include <fmt/format.h>

#include <cmath>

#include "cumeta/error.h"
#include "kernels/tools/episode_draws.h"
#include "src/data/checks.h"

namespace cumeta {

SinusoidRanges ranges_of(const Sinusoid& family) {
  return {{family.amplitude[0], family.amplitude[1]},
          {family.phase[0], family.phase[1]},
          {family.input[0], family.input[1]}};
}

SinusoidTasks::SinusoidTasks(const Sinusoid& family) : family_(family) {
  const auto check = [](const char* what, const std::array<float, 2>& range) {
    if (!std::isfinite(range[0]) || !std::isfinite(range[1]) || !std::isfinite(range[1] - range[0]) ||
        range[0] > range[1])
      throw InvalidArgument(
          fmt::format("sinusoid: {} from {} to {} is not a range; give [low, high]", what, range[0], range[1]));
  };
  check("amplitude", family.amplitude);
  check("phase", family.phase);
  check("input", family.input);
  check_examples("sinusoid", family.shots, family.query);
}

SourceSizes SinusoidTasks::sizes() const {
  return {.support = family_.shots, .query = family_.query, .input = features(1), .targets = 1};
}

void SinusoidTasks::draw(const TaskName& name, float* x, float* t) const {
  const SinusoidRanges ranges = ranges_of(family_);
  Draws draws = name.draws();
  const float amplitude = sinusoid_amplitude(draws, ranges), phase = sinusoid_phase(draws, ranges);
  const int rows = family_.shots + family_.query;
  for (int row = 0; row < rows; ++row) {
    x[row] = sinusoid_input(draws, ranges, row);
    t[row] = sinusoid_target(amplitude, phase, x[row]);
  }
}

}  // namespace cumeta
