// SPDX-License-Identifier: Apache-2.0
// Cross-correlation with a square kernel, zero padding:  z[p] = sum over taps q of W[q] x[p stride + q - padding] + b
//   In memory W is [kernel][kernel][channels][filters], then b [filters]; images are NHWC.
//   R: as linear: each tangent is one contraction of twice the length.
#pragma once
#include <initializer_list>

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
/// The CPU takes so many images at a time that their input and output stay in the second-level cache.
constexpr int images_at_once(const Conv2d& l, const Geometry& g) {
  const std::int64_t image = std::int64_t{g.input.size()} + output(l, g.input).size();
  const std::int64_t most = image > 0 ? (std::int64_t{1} << 17) / image : 1;
  return static_cast<int>(most < 1 ? 1 : most < g.examples ? most : g.examples);
}
/// With so few channels the CPU pads the images and contracts over all taps at once.
constexpr bool pads_images(const Conv2d&, Shape in) { return in.channels < 8; }
constexpr std::int64_t padded_image(const Conv2d& l, Shape in) {
  return std::int64_t{in.height + 2 * l.padding} * (in.width + 2 * l.padding) * in.channels;
}
/// Transposed weights, those of the direction, and the padded images and their tangents.
constexpr std::int64_t scratch(const Conv2d& l, const Geometry& g, OnCpu) {
  const std::int64_t weights = std::int64_t{l.kernel} * l.kernel * g.input.channels * l.filters;
  return 2 * weights + (pads_images(l, g.input) ? 2 * images_at_once(l, g) * padded_image(l, g.input) : 0);
}
/// Whether a weight gradient of so many rows (tap, channel), and one for the bias, fits a short tile on CUDA.
constexpr bool has_short_rows(int rows) { return rows < 32; }
/// On CUDA the pixels of a weight gradient are split over blocks where a task has many pixels and few tiles; the
/// splits' sums stand in the scratch: [split][weights | bias].
constexpr int weight_splits(int rows, int columns, std::int64_t pixels) {
  const int width = columns <= 32 ? 32 : 64, across = (columns + width - 1) / width;
  const int tiles = ((rows + 63) / 64) * across;
  // With few channels a task has one short tile or two: parts of 128 pixels and more.
  const std::int64_t wanted = has_short_rows(rows) ? (128 + across - 1) / across : (64 + tiles - 1) / tiles;
  const std::int64_t most = has_short_rows(rows) ? (pixels + 127) / 128 : pixels / 512;
  return static_cast<int>(most < 1 ? 1 : wanted < most ? wanted : most);
}
constexpr std::int64_t scratch(const Conv2d& l, const Geometry& g, OnCuda) {
  const Shape out = output(l, g.input);
  const int rows = l.kernel * l.kernel * g.input.channels;
  const int splits = weight_splits(rows, l.filters, std::int64_t{g.examples} * out.height * out.width);
  return splits > 1 ? std::int64_t{splits} * (rows + 1) * l.filters : 0;
}
/// Backward-data goes by classes of pixels, four to a launch.
constexpr int backward_data_launches(const Conv2d& l, Shape in) {
  const int y = l.stride < in.height ? l.stride : in.height, x = l.stride < in.width ? l.stride : in.width;
  return (y * x + 3) / 4;
}
/// Largest kernel whose taps are told apart by bits; a larger one moves numbers one by one and compares.
constexpr int kMaskedKernel = 14;
/// Backward-weights joins backward-data where that is one launch and the numbers of every operand move by fours.
inline bool joint_backward(const Conv2d& l, Shape in, std::initializer_list<Array> operands) {
  bool joint = backward_data_launches(l, in) == 1 && l.kernel <= kMaskedKernel;
  joint = joint && in.channels % 4 == 0 && l.filters % 4 == 0;
  for (const Array& operand : operands) joint = joint && operand.by_fours();
  return joint;
}
constexpr int split_launches(const Conv2d& l, const Geometry& g) { return scratch(l, g, OnCuda{}) > 0 ? 1 : 0; }
constexpr int separate_launches(const Conv2d& l, const Geometry& g, bool dx, bool dw) {
  return (dx ? backward_data_launches(l, g.input) : 0) + (dw ? 1 + split_launches(l, g) : 0);
}
inline int cuda_launches(const Conv2d& l, const Geometry& g, const PassCall& call) {
  if (call.forward()) return 1;
  const auto &v = call.v, &R = call.R;
  if (call.dx() && call.dw() && joint_backward(l, g.input, {v.w, v.x, call.d.y, R.w, R.x, call.Rd.y}))
    return 1 + split_launches(l, g);
  return separate_launches(l, g, call.dx(), call.dw());
}

std::unique_ptr<LayerPasses> bind(const Conv2d&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const Conv2d&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const Conv2d&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
