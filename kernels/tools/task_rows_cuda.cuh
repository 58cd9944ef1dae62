// SPDX-License-Identifier: Apache-2.0
// A row of floats per task, as kernels see an Array; null: not there.
#pragma once
#include <cstdint>

#include "kernels/array.h"

namespace cumeta {

struct TaskRows {
  float* data = nullptr;
  std::int64_t stride = 0;

  TaskRows() = default;
  explicit TaskRows(const Array& a) : data(a ? a.row<float>(0) : nullptr), stride(a.tasks > 1 ? a.stride : 0) {}
  __device__ float* of(int task) const { return data ? data + task * stride : nullptr; }
  bool by_fours() const { return cumeta::by_fours(data, stride); }
};

}  // namespace cumeta
