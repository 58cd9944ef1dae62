// SPDX-License-Identifier: Apache-2.0
// y[c] = mean over pixels of x[.][c]:   dx = dy / pixels; linear, so Ry and Rdx are the same maps.
#pragma once
#include "kernels/row.h"

namespace cumeta {

constexpr Shape output(const GlobalAveragePool&, Shape in) { return features(in.channels); }
constexpr int parameters(const GlobalAveragePool&, Shape) { return 0; }
constexpr std::int64_t record(const GlobalAveragePool&, const Geometry&) { return 0; }
constexpr std::int64_t tangent_record(const GlobalAveragePool&, const Geometry&) { return 0; }
constexpr std::int64_t multiply_adds(const GlobalAveragePool&, Shape) { return 0; }

constexpr std::int64_t scratch(const GlobalAveragePool&, const Geometry&, OnReference) { return 0; }
constexpr std::int64_t scratch(const GlobalAveragePool&, const Geometry&, OnCpu) { return 0; }
constexpr std::int64_t scratch(const GlobalAveragePool&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const GlobalAveragePool&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const GlobalAveragePool&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const GlobalAveragePool&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
