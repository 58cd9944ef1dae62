// SPDX-License-Identifier: Apache-2.0
// One comparison of arrays: the worst error, where it is, and both values.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace cumeta::testing {

struct Worst {
  double error = 0;  ///< |actual - expected| / scale; infinite where only one of both is NaN
  std::size_t task = 0, index = 0;
  double expected = 0, actual = 0, scale = 1;
};

/// `rows` rows of equal length; a row's scale is its largest finite |expected|, at least `floor`.
inline Worst worst_error(const std::vector<double>& expected, const std::vector<double>& actual, std::size_t rows,
                         double floor = 1e-30) {
  Worst worst;
  const std::size_t size = rows ? expected.size() / rows : 0;
  for (std::size_t row = 0; row < rows; ++row) {
    double scale = floor;
    for (std::size_t i = 0; i < size; ++i)
      if (std::isfinite(expected[row * size + i])) scale = std::max(scale, std::abs(expected[row * size + i]));
    for (std::size_t i = 0; i < size; ++i) {
      const double e = expected[row * size + i], a = actual[row * size + i];
      double error = std::abs(a - e) / scale;
      if (!std::isfinite(e) || !std::isfinite(a))
        error = e == a || (std::isnan(e) && std::isnan(a)) ? 0 : std::numeric_limits<double>::infinity();
      if (error > worst.error) worst = {error, row, i, e, a, scale};
    }
  }
  return worst;
}

/// EXPECT_TRUE(near(...)): fails with the worst number when it is beyond the tolerance.
inline ::testing::AssertionResult near(const std::string& what, const std::vector<double>& expected,
                                       const std::vector<double>& actual, std::size_t rows, double tolerance,
                                       double floor = 1e-30) {
  if (expected.size() != actual.size())
    return ::testing::AssertionFailure() << what << ": " << actual.size() << " numbers, expected " << expected.size();
  const Worst w = worst_error(expected, actual, rows, floor);
  if (w.error <= tolerance) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << what << ": worst error " << w.error << " (tolerance " << tolerance
                                       << ", scale " << w.scale << ") at task " << w.task << " index " << w.index
                                       << ": expected " << w.expected << ", got " << w.actual;
}

/// Equal to the bit.
inline ::testing::AssertionResult same_bits(const std::string& what, const std::vector<double>& expected,
                                            const std::vector<double>& actual) {
  if (expected.size() != actual.size())
    return ::testing::AssertionFailure() << what << ": " << actual.size() << " numbers, expected " << expected.size();
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (std::memcmp(&expected[i], &actual[i], sizeof(double)) != 0)
      return ::testing::AssertionFailure() << what << ": other bits at " << i << ": " << expected[i] << " and "
                                           << actual[i] << ", apart by " << actual[i] - expected[i];
  return ::testing::AssertionSuccess();
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace cumeta::testing
