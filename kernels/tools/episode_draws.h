// SPDX-License-Identifier: Apache-2.0
// The formula of an episode, shared by host and device: which draw decides which class, image, amplitude, phase, input.
//
// N-way K-shot Q-query of C classes, draws of one task:
//   draw l                        class of label l                 (partial Fisher-Yates over C)
//   draw N + l (K + Q) + e        example e of label l, e < K + Q  (partial Fisher-Yates over the class's images)
// Examples e < K are support. Rows: support label by label, then query label by label.
// Shuffled, support row r holds what draw N + N (K + Q) + r chooses of them by Fisher-Yates: any run of rows is a
// random mini-batch.
// With rotations a class is 4 * character + quarter turns.
// Sinusoid: draw 0 amplitude, draw 1 phase, draw 2 + row the input of the row.
#pragma once
#include "kernels/tools/philox.h"

namespace cumeta {

/// Most classes of an episode, and most examples of a class in an episode: bounds the lists below.
inline constexpr int most_choices = 1024;

/// Partial Fisher-Yates without the array: step i swaps places i and position[i] >= i of 0, 1, ..., count - 1 and
/// chooses what now lies at i. Going back through the earlier swaps finds it, so any choice can be made alone.
CUMETA_HD inline std::uint32_t fisher_yates_position(Draws& draws, std::uint32_t first_draw, std::uint32_t step,
                                                     std::uint32_t count) {
  return step + draws.choose(first_draw + step, count - step);
}
CUMETA_HD inline std::uint32_t fisher_yates_choice(const std::uint32_t* position, std::uint32_t step) {
  std::uint32_t place = position[step];
  for (std::uint32_t earlier = step; earlier-- > 0;)
    if (position[earlier] == place) place = earlier;
  return place;
}

/// The choice of a step with no list at all: draws the earlier positions again.
CUMETA_HD inline std::uint32_t fisher_yates_choice(Draws& draws, std::uint32_t first_draw, std::uint32_t step,
                                                   std::uint32_t count) {
  std::uint32_t place = fisher_yates_position(draws, first_draw, step, count);
  for (std::uint32_t earlier = step; earlier-- > 0;)
    if (fisher_yates_position(draws, first_draw, earlier, count) == place) place = earlier;
  return place;
}

/// N-way K-shot Q-query: what a row of a task is.
struct EpisodeRows {
  int ways, shots, query;
  bool shuffled = false;
  CUMETA_HD int rows() const { return ways * (shots + query); }
  CUMETA_HD int label(int row) const { return row < ways * shots ? row / shots : (row - ways * shots) / query; }
  /// Which of the label's K + Q chosen images.
  CUMETA_HD int example(int row) const {
    return row < ways * shots ? row % shots : shots + (row - ways * shots) % query;
  }
  CUMETA_HD std::uint32_t row(int of_label, int of_example) const {
    return static_cast<std::uint32_t>(of_example < shots ? of_label * shots + of_example
                                                         : ways * shots + of_label * query + of_example - shots);
  }
  /// First draw of the order of support rows.
  CUMETA_HD std::uint32_t shuffle_draw() const { return static_cast<std::uint32_t>(ways * (1 + shots + query)); }
  /// First draw of a label's images.
  CUMETA_HD std::uint32_t image_draw(int of_label) const {
    return static_cast<std::uint32_t>(ways + of_label * (shots + query));
  }
};

/// What a row of a task shows; kept nowhere, so any row can be asked for alone.
struct RowChoice {
  std::uint32_t image;
  int quarter_turns;
  int label;
};
CUMETA_HD inline RowChoice choose_row(Draws& draws, const EpisodeRows& rows, const std::uint32_t* class_begin,
                                      std::uint32_t folders, bool rotations, int row) {
  const int support = rows.ways * rows.shots;
  if (rows.shuffled && row < support)
    row = static_cast<int>(fisher_yates_choice(draws, rows.shuffle_draw(), static_cast<std::uint32_t>(row),
                                               static_cast<std::uint32_t>(support)));
  const int label = rows.label(row);
  const std::uint32_t turns = rotations ? 4 : 1;
  const std::uint32_t chosen = fisher_yates_choice(draws, 0, static_cast<std::uint32_t>(label), folders * turns);
  const std::uint32_t begin = class_begin[chosen / turns], images = class_begin[chosen / turns + 1] - begin;
  const auto example = static_cast<std::uint32_t>(rows.example(row));
  return {begin + fisher_yates_choice(draws, rows.image_draw(label), example, images), static_cast<int>(chosen % turns),
          label};
}

/// Where pixel (y, x) of a square image turned counter-clockwise by so many quarter turns comes from: y * side + x.
CUMETA_HD inline int turned_pixel(int quarter_turns, int side, int y, int x) {
  switch (quarter_turns) {
    case 1:
      return x * side + (side - 1 - y);
    case 2:
      return (side - 1 - y) * side + (side - 1 - x);
    case 3:
      return (side - 1 - x) * side + y;
    default:
      return y * side + x;
  }
}

/// A pixel as the network sees it.
CUMETA_HD inline float pixel_value(std::uint8_t byte) { return static_cast<float>(byte) * (1.0F / 255.0F); }

/// One sinusoid task and the input of its rows.
struct SinusoidRanges {
  float amplitude[2], phase[2], input[2];
};
CUMETA_HD inline float sinusoid_amplitude(Draws& draws, const SinusoidRanges& r) {
  return draws.uniform(0, r.amplitude[0], r.amplitude[1]);
}
CUMETA_HD inline float sinusoid_phase(Draws& draws, const SinusoidRanges& r) {
  return draws.uniform(1, r.phase[0], r.phase[1]);
}
CUMETA_HD inline float sinusoid_input(Draws& draws, const SinusoidRanges& r, int row) {
  return draws.uniform(2 + static_cast<std::uint32_t>(row), r.input[0], r.input[1]);
}
/// sin in double by one reduction to [-pi/2, pi/2] and its series: fused operations only, so every device has the same
/// bits (and no slow path for large angles, which would cost a kernel local memory).
CUMETA_HD inline double sine(double angle) {
  const double half_turns = ::rint(angle * 0.31830988618379067);
  const double r = ::fma(-half_turns, 1.2246467991473532e-16, ::fma(-half_turns, 3.141592653589793, angle));
  const double square = r * r;
  double series = 1.0 / 51090942171709440000.0;  // 1/21!, then downwards
  series = ::fma(series, square, -1.0 / 121645100408832000.0);
  series = ::fma(series, square, 1.0 / 355687428096000.0);
  series = ::fma(series, square, -1.0 / 1307674368000.0);
  series = ::fma(series, square, 1.0 / 6227020800.0);
  series = ::fma(series, square, -1.0 / 39916800.0);
  series = ::fma(series, square, 1.0 / 362880.0);
  series = ::fma(series, square, -1.0 / 5040.0);
  series = ::fma(series, square, 1.0 / 120.0);
  series = ::fma(series, square, -1.0 / 6.0);
  const double sine_of_r = ::fma(r * square, series, r);
  const double turns = half_turns * 0.5;
  return turns == ::rint(turns) ? sine_of_r : -sine_of_r;
}
/// y = amplitude * sin(x - phase): the angle rounded to float, then double, then rounded once.
CUMETA_HD inline float sinusoid_target(float amplitude, float phase, float x) {
  const float angle = x - phase;
  return static_cast<float>(static_cast<double>(amplitude) * sine(static_cast<double>(angle)));
}

}  // namespace cumeta
