// SPDX-License-Identifier: Apache-2.0
// Kernel nodes of one meta-update on CUDA, counted without a device: the execution runs on a backend that only counts.
#pragma once
#include "src/execution.h"

namespace cumeta {

int count_launches(const Problem& problem, const Cut& cut, const Optimizer& optimizer);

}  // namespace cumeta
