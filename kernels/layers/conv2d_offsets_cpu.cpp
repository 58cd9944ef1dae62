// SPDX-License-Identifier: Apache-2.0
// The offset lists of a convolution, from the runs of taps along one axis.
#include "kernels/layers/conv2d_offsets_cpu.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace cumeta {
namespace {

/// A target coordinate's run: `count` sources from `source` on meet as many taps from `tap` on.
struct AxisRun {
  int source, tap, count;
};

AxisRun forward_run(const Conv2d& l, int size, int output) {
  const int origin = output * l.stride - l.padding;
  const int first = std::max(0, -origin);
  const int last = std::min(l.kernel, size - origin);
  return {origin + first, first, std::max(0, last - first)};
}

AxisRun backward_run(const Conv2d& l, int outputs, int target) {
  const int reach = target + l.padding;  // = output * stride + tap
  const int first = reach < l.kernel ? 0 : (reach - l.kernel) / l.stride + 1;
  const int last = std::min(outputs - 1, reach / l.stride);
  if (last < first) return {0, 0, 0};
  return {first, transposed_position(l, reach - first * l.stride), last - first + 1};
}

/// Sizes and steps of the two images of a pass: rows of C count over `target`, rows of A over `source`.
struct Sides {
  Shape target, source;
  int b_columns;
};

template <class Run>
std::vector<PixelClass> classes(const Conv2d& l, const Sides& s, int images, Run run) {
  std::map<std::tuple<int, int, int, int>, std::size_t> known;
  std::vector<PixelClass> all;
  const auto image_step = [](Shape shape) { return std::int64_t{shape.size()}; };
  for (int image = 0; image < images; ++image) {
    for (int row = 0; row < s.target.height; ++row) {
      for (int column = 0; column < s.target.width; ++column) {
        AxisRun y = run(row, true);
        AxisRun x = run(column, false);
        if (y.count == 0 || x.count == 0) y = x = {0, 0, 0};
        const auto [entry, fresh] = known.try_emplace({y.tap, y.count, x.tap, x.count}, all.size());
        if (fresh) {
          PixelClass& made = all.emplace_back();
          for (int i = 0; i < y.count; ++i) {
            made.runs.push_back({std::int64_t{i} * s.source.width * s.source.channels,
                                 (std::int64_t{y.tap + i} * l.kernel + x.tap) * s.source.channels * s.b_columns,
                                 std::int64_t{x.count} * s.source.channels});
          }
        }
        PixelClass& c = all[entry->second];
        c.a_rows.push_back(static_cast<std::int32_t>(image * image_step(s.source) +
                                                     (y.source * s.source.width + x.source) * s.source.channels));
        c.c_rows.push_back(static_cast<std::int32_t>(image * image_step(s.target) +
                                                     (row * s.target.width + column) * s.target.channels));
        if (image == 0) ++c.per_image;
      }
    }
  }
  return all;
}

}  // namespace

int transposed_position(const Conv2d& l, int q) {
  int before = 0;
  for (int residue = 0; residue < q % l.stride; ++residue) before += (l.kernel - residue + l.stride - 1) / l.stride;
  const int together = (l.kernel - q % l.stride + l.stride - 1) / l.stride;
  return before + together - 1 - q / l.stride;
}

std::vector<PixelClass> forward_classes(const Conv2d& l, Shape in, int images) {
  return classes(l, {output(l, in), in, l.filters}, images,
                 [&](int target, bool vertical) { return forward_run(l, vertical ? in.height : in.width, target); });
}

std::vector<PixelClass> backward_classes(const Conv2d& l, Shape in, int images) {
  const Shape out = output(l, in);
  return classes(l, {in, out, in.channels}, images,
                 [&](int target, bool vertical) { return backward_run(l, vertical ? out.height : out.width, target); });
}

std::vector<TapPixels> tap_pixels(const Conv2d& l, Shape in, int images) {
  const Shape out = output(l, in);
  std::vector<TapPixels> taps(static_cast<std::size_t>(l.kernel * l.kernel));
  for (int tap = 0; tap < l.kernel * l.kernel; ++tap) {
    TapPixels& pixels = taps[static_cast<std::size_t>(tap)];
    for (int image = 0; image < images; ++image) {
      for (int row = 0; row < out.height; ++row) {
        for (int column = 0; column < out.width; ++column) {
          const int y = row * l.stride + tap / l.kernel - l.padding;
          const int x = column * l.stride + tap % l.kernel - l.padding;
          if (y < 0 || y >= in.height || x < 0 || x >= in.width) continue;
          pixels.x.push_back(image * in.size() + (y * in.width + x) * in.channels);
          pixels.y.push_back(image * out.size() + (row * out.width + column) * out.channels);
          if (image == 0) ++pixels.per_image;
        }
      }
    }
  }
  return taps;
}

}  // namespace cumeta
