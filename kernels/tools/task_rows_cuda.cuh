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
  /// Four numbers at once may be read from any multiple of four.
  bool aligned() const { return !data || (reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % 4 == 0); }
};

}  // namespace cumeta
