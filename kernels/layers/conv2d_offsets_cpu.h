// SPDX-License-Identifier: Apache-2.0
// Where a convolution's operands lie: for every pixel the run of taps that fall inside the image, for every tap the
// pixels it reaches. Padding taps are in no list. Made once when a layer is bound.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/layers/conv2d.h"

namespace cumeta {

/// One segment of a contraction: offsets of its first term in A and in B, and its terms.
struct TapRun {
  std::int64_t a, b, depth;
};

/// Pixels that meet the same taps. Offsets are for `images` images, image after image, so fewer images use a prefix.
struct PixelClass {
  std::vector<TapRun> runs;
  std::vector<std::int32_t> a_rows, c_rows;
  std::int64_t per_image = 0;
};

/// Pixels that one tap joins: `x` in the input, `y` in the output, image after image.
struct TapPixels {
  std::vector<std::int32_t> x, y;
  std::int64_t per_image = 0;
};

/// y[p] += sum over taps of x[p stride + q - padding] W[q]; A = x, C = y, B = W [kernel][kernel][channels][filters].
std::vector<PixelClass> forward_classes(const Conv2d& layer, Shape in, int images);

/// dx[a] += sum over taps of dy[(a + padding - q) / stride] W[q]'; A = dy, C = dx, B = the transposed taps
/// [filters][channels], in the order of transposed_position.
std::vector<PixelClass> backward_classes(const Conv2d& layer, Shape in, int images);

/// Along one axis: the place of tap q among the transposed taps. Taps of one residue modulo the stride stand together,
/// the largest first, so that a run of outputs meets a run of taps.
int transposed_position(const Conv2d& layer, int q);

/// For each tap, row-major.
std::vector<TapPixels> tap_pixels(const Conv2d& layer, Shape in, int images);

}  // namespace cumeta
