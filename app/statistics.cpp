// SPDX-License-Identifier: Apache-2.0
#include "app/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cumeta::app {

MeanInterval mean_interval(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  if (values.empty()) return {};
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? 0 : 1.96 * std::sqrt(squares / (n - 1)) / std::sqrt(n)};
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  for (double& value : values)
    if (std::isnan(value)) value = std::numeric_limits<double>::infinity();
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace cumeta::app
