// SPDX-License-Identifier: Apache-2.0
// The small-model program on CUDA: one launch, one block per task, everything in shared memory.
#pragma once
#include "kernels/backend_cuda.h"
#include "kernels/episode_tables.h"
#include "kernels/programs/mlp_program.h"

namespace cumeta {

/// Sinusoids drawn inside the program: tasks first_task, first_task + 1, ... of control's iteration.
struct DrawnSinusoids {
  std::uint64_t seed = 0;
  Purpose purpose = Purpose::train;
  SinusoidRanges ranges{};
  int first_task = 0;
  const double* control = nullptr;  ///< null: x and t are given
};

bool runs_mlp_program(const CudaLane& lane, const MlpProgram& program);
void run_mlp_program(const CudaLane& lane, const MlpProgram& program, const MlpArrays& arrays,
                     const DrawnSinusoids& drawn);

}  // namespace cumeta
