// SPDX-License-Identifier: Apache-2.0
// The multiply-add peak of this machine: GFLOP/s of a register-only FMA loop, the yardstick of every CPU bench.
#pragma once

namespace cumeta {

/// GFLOP/s (a multiply-add counts two) of `threads` threads that run the loop for about `seconds`: by wall clock, of
/// each thread its best slice of some tenths of a millisecond, so that a busy machine does not make the yardstick
/// shorter.
double fma_peak_gflops(int threads, double seconds);

/// The SIMD target that the kernels run on here ("AVX2", "AVX3", "NEON", ...).
const char* simd_target_name();

/// Single-precision lanes of one vector of that target.
int simd_lanes();

}  // namespace cumeta
