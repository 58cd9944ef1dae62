// SPDX-License-Identifier: Apache-2.0
// Prints the SIMD target, its lanes and the GFLOP/s of a register-only FMA loop on 1..n threads: the yardstick of the
// other benches.
#include <fmt/format.h>

#include <thread>

#include "kernels/tools/fma_peak_cpu.h"

int main() {
  fmt::print("target {}, {} lanes\n", cumeta::simd_target_name(), cumeta::simd_lanes());
  const int most = static_cast<int>(std::thread::hardware_concurrency());
  for (int threads = 1; threads <= most; ++threads) {
    fmt::print("{:3d} threads {:8.1f} GFLOP/s\n", threads, cumeta::fma_peak_gflops(threads, 0.3));
  }
  return 0;
}
