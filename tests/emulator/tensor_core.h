// SPDX-License-Identifier: Apache-2.0
// Tensor cores on the CPU: rounding to TF32, and D[16][8] = A[16][8] B[8][8] + C by a warp, in float, k upwards.
#pragma once
#include <bit>
#include <cmath>

#include "tests/emulator/cuda_threads.h"

namespace emulator {

/// cvt.rna.tf32.f32: 10 bits of mantissa, to nearest, ties away from zero.
inline unsigned round_to_tf32(float value) {
  if (std::isnan(value)) return 0x7fffffffu;
  return (std::bit_cast<unsigned>(value) + 0x1000u) & ~0x1fffu;
}

/// mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32, accumulating. Lane l hands in rows l / 4 (+ 8) and columns
/// l % 4 (+ 4) of A, rows l % 4 (+ 4) and column l / 4 of B, and has rows l / 4 (+ 8), columns 2 (l % 4) (+ 1) of D.
inline void multiply_m16n8k8(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                             const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const MatrixFragments& all = exchange_fragments(a, b, {file, line});
  const unsigned first_row = lane() / 4, first_column = 2 * (lane() % 4);
  // The cores read the upper 19 bits.
  const auto number = [](unsigned bits) { return std::bit_cast<float>(bits & ~0x1fffu); };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned below = i / 2, column = first_column + i % 2;
    for (unsigned k = 0; k < 8; ++k)
      d[i] = std::fma(number(all.a[4 * first_row + k % 4][2 * (k / 4) + below]),
                      number(all.b[4 * column + k % 4][k / 4]), d[i]);
  }
}

}  // namespace emulator
