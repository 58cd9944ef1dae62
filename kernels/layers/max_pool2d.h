// SPDX-License-Identifier: Apache-2.0
// y = maximum of each window; the record holds the winner's index in its window (row-major, first index wins ties), as
// a number.
//   dx, Ry, Rdx: routed by that index. Windows may overlap (stride < kernel): gradients add. Output size floors.
#pragma once
#include "kernels/row.h"

namespace cumeta {

constexpr Shape output(const MaxPool2d& l, Shape in) {
  const int height = in.height < l.kernel ? 0 : (in.height - l.kernel) / l.stride + 1;
  const int width = in.width < l.kernel ? 0 : (in.width - l.kernel) / l.stride + 1;
  return {height, width, in.channels};
}
constexpr int parameters(const MaxPool2d&, Shape) { return 0; }
constexpr std::int64_t record(const MaxPool2d& l, const Geometry& g) {
  return std::int64_t{g.examples} * output(l, g.input).size();
}
constexpr std::int64_t tangent_record(const MaxPool2d&, const Geometry&) { return 0; }
constexpr std::int64_t multiply_adds(const MaxPool2d&, Shape) { return 0; }

constexpr std::int64_t scratch(const MaxPool2d&, const Geometry&, OnReference) { return 0; }
constexpr std::int64_t scratch(const MaxPool2d&, const Geometry&, OnCpu) { return 0; }
constexpr std::int64_t scratch(const MaxPool2d&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const MaxPool2d&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const MaxPool2d&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const MaxPool2d&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
