// SPDX-License-Identifier: Apache-2.0
// Figures over tasks:  mean,  ci95 = 1.96 s / sqrt(n) with s^2 = sum (x - mean)^2 / (n - 1),  median.
#pragma once
#include <span>
#include <vector>

namespace cumeta::app {

struct MeanInterval {
  double mean = 0, ci95 = 0;
};
/// ci95 is 0 for one value.
MeanInterval mean_interval(std::span<const double> values);
/// Middle value, or mean of the two middle ones; values that are not numbers count as the largest.
double median(std::vector<double> values);

}  // namespace cumeta::app
