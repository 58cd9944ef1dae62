// SPDX-License-Identifier: Apache-2.0
// The outer step on CUDA in at most two launches, and the few numbers it keeps on the device between its blocks.
#pragma once
#include <cstddef>

#include "kernels/backend_cuda.h"
#include "kernels/outer_step.h"
#include "kernels/outer_step_workspace.h"

namespace cumeta {

/// `workspace`: kOuterStepWorkspace bytes, zeroed once before the first step.
void outer_step_cuda(const CudaLane& lane, const OuterStep& step, std::byte* workspace);

}  // namespace cumeta
