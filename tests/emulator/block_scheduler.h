// SPDX-License-Identifier: Apache-2.0
// Runs the blocks of one launch, one fiber per thread, in an order that differs from launch to launch.
#pragma once
#include "tests/emulator/cuda_runtime_types.h"
#include "tests/emulator/emulator_launch.h"

namespace emulator {

struct Fault {
  cudaError_t error = cudaSuccess;
  char text[512] = "";
};

constexpr size_t shared_default = 48 * 1024, shared_opt_in = 227 * 1024;

/// The caller holds the device's lock. `shared_limit`: static and dynamic shared memory together.
Fault run_grid(const Launch& launch, size_t shared_limit, unsigned long long seed);
/// What runs launches: run_grid, or who puts himself in its place.
inline Fault (*grid_runner)(const Launch& launch, size_t shared_limit, unsigned long long seed) = run_grid;

}  // namespace emulator
