// SPDX-License-Identifier: Apache-2.0
// y = max(x, 0):   Ry = m Rx   dx = m dy   Rdx = m Rdy      m = [x > 0]
#pragma once
#include "kernels/row.h"

namespace cumeta {

constexpr Shape output(const Relu&, Shape in) { return in; }
constexpr int parameters(const Relu&, Shape) { return 0; }
constexpr std::int64_t record(const Relu&, const Geometry&) { return 0; }
constexpr std::int64_t tangent_record(const Relu&, const Geometry&) { return 0; }
constexpr std::int64_t multiply_adds(const Relu&, Shape) { return 0; }

constexpr std::int64_t scratch(const Relu&, const Geometry&, OnReference) { return 0; }
constexpr std::int64_t scratch(const Relu&, const Geometry&, OnCpu) { return 0; }
constexpr std::int64_t scratch(const Relu&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const Relu&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const Relu&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const Relu&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
