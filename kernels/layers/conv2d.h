// SPDX-License-Identifier: Apache-2.0
// Cross-correlation with a square kernel, zero padding:  z[p] = sum over taps q of W[q] x[p stride + q - padding] + b
//   In memory W is [kernel][kernel][channels][filters], then b [filters]; images are NHWC.
//   R: as linear: each tangent is one contraction of twice the length.
#pragma once
#include "kernels/row.h"

namespace cumeta {

constexpr int output_size(int size, int kernel, int stride, int padding) {
  return size + 2 * padding < kernel ? 0 : (size + 2 * padding - kernel) / stride + 1;
}
constexpr Shape output(const Conv2d& l, Shape in) {
  return {output_size(in.height, l.kernel, l.stride, l.padding), output_size(in.width, l.kernel, l.stride, l.padding),
          l.filters};
}
constexpr int parameters(const Conv2d& l, Shape in) {
  return l.kernel * l.kernel * in.channels * l.filters + (l.bias ? l.filters : 0);
}
constexpr std::int64_t record(const Conv2d&, const Geometry&) { return 0; }
constexpr std::int64_t tangent_record(const Conv2d&, const Geometry&) { return 0; }
/// Padding taps counted, as the literature does.
constexpr std::int64_t multiply_adds(const Conv2d& l, Shape in) {
  const Shape out = output(l, in);
  return std::int64_t{out.height} * out.width * l.filters * l.kernel * l.kernel * in.channels;
}

constexpr std::int64_t scratch(const Conv2d&, const Geometry&, OnReference) { return 0; }
constexpr std::int64_t scratch(const Conv2d&, const Geometry&, OnCpu) { return 0; }
constexpr std::int64_t scratch(const Conv2d&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const Conv2d&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const Conv2d&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const Conv2d&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
