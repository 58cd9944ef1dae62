// SPDX-License-Identifier: Apache-2.0
// Fully connected layer, per example:  z = W x + b
//   dx = W' dz   dW = dz x'   db = sum dz       (in memory W is [inputs][outputs], then b)
//   R: Rz = W Rx + RW x + Rb   Rdx = W' Rdz + RW' dz   RdW = Rdz x' + dz Rx'   Rdb = sum Rdz
#pragma once
#include "kernels/row.h"

namespace cumeta {

constexpr Shape output(const Linear& l, Shape) { return features(l.outputs); }
constexpr int parameters(const Linear& l, Shape in) { return in.size() * l.outputs + (l.bias ? l.outputs : 0); }
constexpr std::int64_t record(const Linear&, const Geometry&) { return 0; }
constexpr std::int64_t tangent_record(const Linear&, const Geometry&) { return 0; }
constexpr std::int64_t multiply_adds(const Linear& l, Shape in) { return std::int64_t{in.size()} * l.outputs; }

constexpr std::int64_t scratch(const Linear&, const Geometry&, OnReference) { return 0; }
/// The transposed weights and those of the direction.
constexpr std::int64_t scratch(const Linear& l, const Geometry& g, OnCpu) {
  return 2 * std::int64_t{g.input.size()} * l.outputs;
}
constexpr std::int64_t scratch(const Linear&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const Linear&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const Linear&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const Linear&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
