// SPDX-License-Identifier: Apache-2.0
// y = x > 0 ? x : slope x:   Ry = m Rx   dx = m dy   Rdx = m Rdy      m = x > 0 ? 1 : slope
#pragma once
#include "kernels/row.h"

namespace cumeta {

constexpr Shape output(const LeakyRelu&, Shape in) { return in; }
constexpr int parameters(const LeakyRelu&, Shape) { return 0; }
constexpr std::int64_t record(const LeakyRelu&, const Geometry&) { return 0; }
constexpr std::int64_t tangent_record(const LeakyRelu&, const Geometry&) { return 0; }
constexpr std::int64_t multiply_adds(const LeakyRelu&, Shape) { return 0; }

constexpr std::int64_t scratch(const LeakyRelu&, const Geometry&, OnReference) { return 0; }
constexpr std::int64_t scratch(const LeakyRelu&, const Geometry&, OnCpu) { return 0; }
constexpr std::int64_t scratch(const LeakyRelu&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const LeakyRelu&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const LeakyRelu&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const LeakyRelu&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
