// SPDX-License-Identifier: Apache-2.0
// Convolution by cuDNN: the formulas of conv2d.h. Arrays are copied to cuDNN's order (NCHW, filters [F][C][kernel]
// [kernel]) and back. Weights that all tasks share: one convolution over tasks x examples images; weights of each task,
// and every weight gradient: one convolution with a group per task, [examples][tasks x channels][height][width].
#pragma once
#include "kernels/layers/conv2d.h"

namespace cumeta {

constexpr Shape output(const Vendor<Conv2d>& v, Shape in) { return output(v.layer, in); }
constexpr int parameters(const Vendor<Conv2d>& v, Shape in) { return parameters(v.layer, in); }
constexpr std::int64_t record(const Vendor<Conv2d>&, const Geometry&) { return 0; }
constexpr std::int64_t tangent_record(const Vendor<Conv2d>&, const Geometry&) { return 0; }
constexpr std::int64_t multiply_adds(const Vendor<Conv2d>& v, Shape in) { return multiply_adds(v.layer, in); }
constexpr std::int64_t scratch(const Vendor<Conv2d>& v, const Geometry& g, OnReference on) {
  return scratch(v.layer, g, on);
}
constexpr std::int64_t scratch(const Vendor<Conv2d>& v, const Geometry& g, OnCpu on) { return scratch(v.layer, g, on); }

/// Numbers per task of what cuDNN reads and writes: images in, two of images out, filters; the rest is its workspace.
struct VendorConvolutionRoom {
  std::int64_t x = 0, y = 0, w = 0, workspace = 0;
  /// Each part begins at a multiple of so many numbers.
  static constexpr std::int64_t alignment = 64;
  constexpr std::int64_t size() const { return x + 2 * y + w + workspace + 5 * alignment; }
};
constexpr VendorConvolutionRoom vendor_room(const Conv2d& l, const Geometry& g) {
  VendorConvolutionRoom room;
  room.x = std::int64_t{g.examples} * g.input.size(), room.y = std::int64_t{g.examples} * output(l, g.input).size();
  room.w = std::int64_t{l.kernel} * l.kernel * g.input.channels * l.filters;
  room.workspace = room.x + room.y + room.w;
  return room;
}
/// Unlike other rows' scratch this is one block: tasks x size numbers, rows lying one after another.
constexpr std::int64_t scratch(const Vendor<Conv2d>& v, const Geometry& g, OnCuda) {
  return vendor_room(v.layer, g).size();
}

// Other devices have no vendor: theirs is the layer itself.
inline std::unique_ptr<LayerPasses> bind(const Vendor<Conv2d>& v, const Geometry& g, Array scratch,
                                         ReferenceLane& lane) {
  return bind(v.layer, g, scratch, lane);
}
inline std::unique_ptr<LayerPasses> bind(const Vendor<Conv2d>& v, const Geometry& g, Array scratch, CpuLane& lane) {
  return bind(v.layer, g, scratch, lane);
}
std::unique_ptr<LayerPasses> bind(const Vendor<Conv2d>&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
