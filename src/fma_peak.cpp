// SPDX-License-Identifier: Apache-2.0
// The public names of the CPU's yardstick.
#include "cumeta/device.h"
#include "cumeta/error.h"
#include "kernels/tools/fma_peak_cpu.h"

namespace cumeta {

std::string simd_target() { return simd_target_name(); }

double measured_fma_peak_gflops(int threads, double seconds) {
  if (threads < 1 || !(seconds > 0))
    throw InvalidArgument("measured_fma_peak_gflops: threads and seconds must be positive; got " +
                          std::to_string(threads) + " threads and " + std::to_string(seconds) + " s");
  return fma_peak_gflops(threads, seconds);
}

}  // namespace cumeta
