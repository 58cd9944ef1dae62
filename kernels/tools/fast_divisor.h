// SPDX-License-Identifier: Apache-2.0
// Division by a number known on the host: quotient(n) = (n + high half of n * magic) >> shift, exact for 0 <= n < 2^31.
#pragma once
#include <cstdint>

#include "kernels/array.h"

namespace cumeta {

struct FastDivisor {
  unsigned divisor = 1, magic = 1, shift = 0;

  FastDivisor() = default;
  explicit FastDivisor(int d) : divisor(d < 1 ? 1u : static_cast<unsigned>(d)) {
    while ((std::uint64_t{1} << shift) < divisor) ++shift;
    magic = static_cast<unsigned>((((std::uint64_t{1} << shift) - divisor) << 32) / divisor + 1);
  }
  CUMETA_HD int quotient(int n) const {
    const unsigned u = static_cast<unsigned>(n);
    const unsigned high = static_cast<unsigned>((static_cast<std::uint64_t>(u) * magic) >> 32);
    return static_cast<int>((u + high) >> shift);
  }
};

}  // namespace cumeta
