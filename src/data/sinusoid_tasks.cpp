// SPDX-License-Identifier: Apache-2.0
// The sinusoid family: amplitude, phase and inputs uniform in their ranges.
#include "src/data/sinusoid_tasks.h"

#include <fmt/format.h>

#include <cmath>

#include "cumeta/error.h"
#include "kernels/tools/episode_draws.h"
#include "src/data/checks.h"

namespace cumeta {

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
  const SinusoidRanges ranges{{family_.amplitude[0], family_.amplitude[1]},
                              {family_.phase[0], family_.phase[1]},
                              {family_.input[0], family_.input[1]}};
  Draws draws = name.draws();
  const float amplitude = sinusoid_amplitude(draws, ranges), phase = sinusoid_phase(draws, ranges);
  const int rows = family_.shots + family_.query;
  for (int row = 0; row < rows; ++row) {
    x[row] = sinusoid_input(draws, ranges, row);
    t[row] = sinusoid_target(amplitude, phase, x[row]);
  }
}

}  // namespace cumeta
