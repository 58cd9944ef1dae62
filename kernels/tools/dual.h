// SPDX-License-Identifier: Apache-2.0
// Dual numbers a + a' e with e^2 = 0: a formula evaluated on them yields its value and its derivative along a
// direction.
//   (a + a'e)(b + b'e) = ab + (a'b + ab')e      f(a + a'e) = f(a) + f'(a) a' e
#pragma once
#include <cmath>

namespace cumeta {

struct Dual {
  double value = 0;
  double tangent = 0;
  constexpr Dual() = default;
  constexpr Dual(double v) : value(v) {}  // NOLINT: a constant is a dual number, so that formulas may mix both
  constexpr Dual(double v, double t) : value(v), tangent(t) {}

  constexpr Dual& operator+=(Dual b) { return value += b.value, tangent += b.tangent, *this; }
};

constexpr Dual operator-(Dual a) { return {-a.value, -a.tangent}; }
constexpr Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.tangent + b.tangent}; }
constexpr Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.tangent - b.tangent}; }
constexpr Dual operator*(Dual a, Dual b) { return {a.value * b.value, a.tangent * b.value + a.value * b.tangent}; }
constexpr Dual operator/(Dual a, Dual b) {
  const double quotient = a.value / b.value;
  return {quotient, (a.tangent - quotient * b.tangent) / b.value};
}
inline Dual sqrt(Dual a) {
  const double root = std::sqrt(a.value);
  return {root, a.tangent / (2 * root)};
}
inline Dual exp(Dual a) {
  const double power = std::exp(a.value);
  return {power, power * a.tangent};
}
inline Dual log(Dual a) { return {std::log(a.value), a.tangent / a.value}; }
inline Dual tanh(Dual a) {
  const double y = std::tanh(a.value);
  return {y, (1 - y * y) * a.tangent};
}

/// What a branch of a formula may look at: along a direction the branch stays the same.
constexpr double value_of(double a) { return a; }
constexpr double value_of(Dual a) { return a.value; }

}  // namespace cumeta
