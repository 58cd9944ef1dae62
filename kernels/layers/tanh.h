// SPDX-License-Identifier: Apache-2.0
// y = tanh x:   Ry = (1 - y^2) Rx   dx = (1 - y^2) dy   Rdx = (1 - y^2) Rdy - 2 y Ry dy
#pragma once
#include "kernels/row.h"

namespace cumeta {

constexpr Shape output(const Tanh&, Shape in) { return in; }
constexpr int parameters(const Tanh&, Shape) { return 0; }
constexpr std::int64_t record(const Tanh&, const Geometry&) { return 0; }
constexpr std::int64_t tangent_record(const Tanh&, const Geometry&) { return 0; }
constexpr std::int64_t multiply_adds(const Tanh&, Shape) { return 0; }

constexpr std::int64_t scratch(const Tanh&, const Geometry&, OnReference) { return 0; }
constexpr std::int64_t scratch(const Tanh&, const Geometry&, OnCpu) { return 0; }
constexpr std::int64_t scratch(const Tanh&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const Tanh&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const Tanh&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const Tanh&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
