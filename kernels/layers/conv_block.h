// SPDX-License-Identifier: Apache-2.0
// Convolution + batch norm + ReLU (+ max-pool) in one row: the same formulas, with z never leaving the row but as its
// record.
//   r = [z, the convolution's output | mean | 1/sigma | winner's index of each window, if pooled]   Rr = [Rz | m1 | m2]
#pragma once
#include "kernels/layers/batch_norm.h"
#include "kernels/layers/conv2d.h"
#include "kernels/layers/max_pool2d.h"

namespace cumeta {

constexpr Shape output(const ConvBlock& b, Shape in) {
  const Shape z = output(b.convolution, in);
  return b.pooled ? output(b.pool, z) : z;
}
constexpr int parameters(const ConvBlock& b, Shape in) {
  return parameters(b.convolution, in) + parameters(b.norm, output(b.convolution, in));
}
constexpr Geometry inner_geometry(const ConvBlock& b, const Geometry& g) {
  return {output(b.convolution, g.input), g.examples, g.statistics_rows};
}
constexpr std::int64_t record(const ConvBlock& b, const Geometry& g) {
  const Geometry z = inner_geometry(b, g);
  return std::int64_t{g.examples} * z.input.size() + record(b.norm, z) + (b.pooled ? record(b.pool, z) : 0);
}
constexpr std::int64_t tangent_record(const ConvBlock& b, const Geometry& g) {
  const Geometry z = inner_geometry(b, g);
  return std::int64_t{g.examples} * z.input.size() + tangent_record(b.norm, z);
}
constexpr std::int64_t multiply_adds(const ConvBlock& b, Shape in) { return multiply_adds(b.convolution, in); }

// The reference column needs room for the intermediates that the composed layers exchange.
constexpr std::int64_t scratch(const ConvBlock& b, const Geometry& g, OnReference) {
  return 4 * std::int64_t{g.examples} * output(b.convolution, g.input).size();
}
constexpr std::int64_t scratch(const ConvBlock&, const Geometry&, OnCpu) { return 0; }
constexpr std::int64_t scratch(const ConvBlock&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const ConvBlock&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const ConvBlock&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const ConvBlock&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
