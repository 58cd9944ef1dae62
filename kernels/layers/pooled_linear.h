// SPDX-License-Identifier: Apache-2.0
// Global average pool + linear in one row:  h[c] = mean over pixels of x[.][c],  y = h W + b.     r = h   Rr = Rh
//   dx = dy W' / pixels   dW = h' dy   db = sum dy       (in memory W is [channels][outputs], then b)
//   R: Rh = mean Rx   Ry = Rh W + h RW + Rb   Rdx = (Rdy W' + dy RW') / pixels   RdW = h' Rdy + Rh' dy   Rdb = sum Rdy
#pragma once
#include "kernels/layers/global_average_pool.h"
#include "kernels/layers/linear.h"

namespace cumeta {

constexpr Shape output(const PooledLinear& l, Shape) { return features(l.linear.outputs); }
constexpr int parameters(const PooledLinear& l, Shape in) { return parameters(l.linear, features(in.channels)); }
constexpr Geometry inner_geometry(const PooledLinear&, const Geometry& g) {
  return {features(g.input.channels), g.examples, g.statistics_rows};
}
constexpr std::int64_t record(const PooledLinear&, const Geometry& g) {
  return std::int64_t{g.examples} * g.input.channels;
}
constexpr std::int64_t tangent_record(const PooledLinear& l, const Geometry& g) { return record(l, g); }
constexpr std::int64_t multiply_adds(const PooledLinear& l, Shape in) {
  return multiply_adds(l.linear, features(in.channels));
}

// The columns that compose their layers need room for the gradient of h, and for the linear layer.
constexpr std::int64_t scratch(const PooledLinear& l, const Geometry& g, OnReference) { return record(l, g); }
constexpr std::int64_t scratch(const PooledLinear& l, const Geometry& g, OnCpu) {
  return record(l, g) + scratch(l.linear, inner_geometry(l, g), OnCpu{});
}
constexpr std::int64_t scratch(const PooledLinear&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const PooledLinear&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const PooledLinear&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const PooledLinear&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
