// SPDX-License-Identifier: Apache-2.0
// Fully connected layer by cuBLAS: the formulas of linear.h, each term one strided-batched matrix product over tasks.
#pragma once
#include "kernels/layers/linear.h"

namespace cumeta {

constexpr Shape output(const Vendor<Linear>& v, Shape in) { return output(v.layer, in); }
constexpr int parameters(const Vendor<Linear>& v, Shape in) { return parameters(v.layer, in); }
constexpr std::int64_t record(const Vendor<Linear>&, const Geometry&) { return 0; }
constexpr std::int64_t tangent_record(const Vendor<Linear>&, const Geometry&) { return 0; }
constexpr std::int64_t multiply_adds(const Vendor<Linear>& v, Shape in) { return multiply_adds(v.layer, in); }
constexpr std::int64_t scratch(const Vendor<Linear>& v, const Geometry& g, OnReference on) {
  return scratch(v.layer, g, on);
}
constexpr std::int64_t scratch(const Vendor<Linear>& v, const Geometry& g, OnCpu on) { return scratch(v.layer, g, on); }
constexpr std::int64_t scratch(const Vendor<Linear>&, const Geometry&, OnCuda) { return 0; }

// Other devices have no vendor: theirs is the layer itself.
inline std::unique_ptr<LayerPasses> bind(const Vendor<Linear>& v, const Geometry& g, Array scratch,
                                         ReferenceLane& lane) {
  return bind(v.layer, g, scratch, lane);
}
inline std::unique_ptr<LayerPasses> bind(const Vendor<Linear>& v, const Geometry& g, Array scratch, CpuLane& lane) {
  return bind(v.layer, g, scratch, lane);
}
std::unique_ptr<LayerPasses> bind(const Vendor<Linear>&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
