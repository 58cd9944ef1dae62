// SPDX-License-Identifier: Apache-2.0
// Pure host sums behind a convolution's contractions: sizes, the classes of backward-data, tiles and splits.
//
//   forward           C[m = pixel of z][n = filter]    K = taps x channels
//   backward-data     C[m = pixel of x][n = channel]   K = taps x filters, taps of m's class only
//   backward-weights  C[m = tap, channel][n = filter]  K = pixels of z
//
// With stride s, pixel i of x meets only the taps q with q = i + padding (mod s): s^2 classes of pixels, each a
// contraction without wasted taps.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cumeta/layers.h"
#include "kernels/layers/conv2d.h"
#include "kernels/tools/fast_divisor.h"

namespace cumeta {

/// One gather: rows m = (example, j, i) over a grid, taps (v, u), numbers c of a source pixel. The pixel read is
/// (step j + y0 + direction v, step i + x0 + direction u); outside the source it counts as zero.
struct GatherClass {
  int rows = 0, first_tile = 0;
  FastDivisor image, line;  // rows of one example, of one line of the grid
  int y0 = 0, x0 = 0;       // source
  int taps = 0;             // taps_y x taps_x
  FastDivisor taps_x;
  int tap_y0 = 0, tap_x0 = 0;  // the weight's tap is (tap_y0 + tap_step v, tap_x0 + tap_step u)
  int out_y0 = 0, out_x0 = 0;  // the pixel written is (out_y0 + out_step j, out_x0 + out_step i)
};
constexpr int kGatherClasses = 4;

struct GatherShape {
  GatherClass classes[kGatherClasses];
  int class_count = 0, tiles = 0;  // tiles along m, of all classes
  int step = 1, direction = 1, tap_step = 1, out_step = 1, kernel = 1;
  int source_height = 0, source_width = 0;
  FastDivisor depth;  // numbers per source pixel
  int out_height = 0, out_width = 0, columns = 0;
};

struct WeightShape {
  int rows = 0, columns = 0, pixels = 0;  // M, N, K
  FastDivisor image, line;                // pixels of z per example, per line
  FastDivisor channels, kernel;
  int stride = 1, padding = 0, height = 0, width = 0;
  int splits = 1, chunks_per_split = 0;
};

/// Names of the tiles that the kernels are compiled for (kernels/tools/convolution_launch_cuda.cu).
/// The short ones are for few channels (kernels/tools/short_convolution_cuda.cuh).
enum class GatherTile { m64n64, m32n64, m128n32, m20n64, m20n32, short_m64n64, short_m128n32 };
enum class WeightTile { m64n64, m64n32, m32n32, short_m16n64, short_m32n32 };

constexpr int rows_of(GatherTile t) {
  switch (t) {
    case GatherTile::m128n32:
    case GatherTile::short_m128n32:
      return 128;
    case GatherTile::m64n64:
    case GatherTile::short_m64n64:
      return 64;
    case GatherTile::m32n64:
      return 32;
    default:
      return 20;
  }
}
constexpr int columns_of(GatherTile t) {
  return t == GatherTile::m128n32 || t == GatherTile::m20n32 || t == GatherTile::short_m128n32 ? 32 : 64;
}
constexpr int rows_of(WeightTile t) {
  return t == WeightTile::m32n32 || t == WeightTile::short_m32n32 ? 32 : t == WeightTile::short_m16n64 ? 16 : 64;
}
constexpr int columns_of(WeightTile t) { return t == WeightTile::m64n64 || t == WeightTile::short_m16n64 ? 64 : 32; }
constexpr bool is_short(WeightTile t) { return t == WeightTile::short_m16n64 || t == WeightTile::short_m32n32; }
constexpr int kWeightChunk = 32;
constexpr int kShortLength = 64;  ///< most numbers along k of a short tile

constexpr int tiles_of(std::int64_t size, int tile) { return static_cast<int>((size + tile - 1) / tile); }

/// The numbers that one copy moves: `full` 4 of both operands, `half` 1 of the gathered and 4 of the other, `none` 1.
enum class Vectors { full, half, none };

/// What tiles are chosen for: a meta-batch of 32 tasks on a GPU of 132 multiprocessors. A tile's groups order the sums,
/// so neither may follow the run.
constexpr int kUsualTasks = 32, kUsualMultiprocessors = 132;

/// The time of a gather in one task's terms: numbers of C that the busiest multiprocessor makes, times what its tile
/// costs a number more than m64n64 once blocks stand in line. Measured on an H100 with K = 576: 7.6 us + 3.8 ns a
/// number for every tile while a multiprocessor has at most two blocks; in line m32n64 takes 1.02, m20n64 1.25,
/// m20n32 1.38 times as long.
constexpr double gather_cost(GatherTile tile, std::int64_t rows, int columns, int classes) {
  const std::int64_t blocks =
      std::int64_t{kUsualTasks} * classes * tiles_of(rows, rows_of(tile)) * tiles_of(columns, columns_of(tile));
  const std::int64_t rounds = (blocks + kUsualMultiprocessors - 1) / kUsualMultiprocessors;
  const double slower = tile == GatherTile::m32n64   ? 1.02
                        : tile == GatherTile::m20n64 ? 1.25
                        : tile == GatherTile::m20n32 ? 1.38
                                                     : 1.0;
  return static_cast<double>(rounds) * rows_of(tile) * columns_of(tile) * (rounds > 2 ? slower : 1.0);
}

/// The tile of a gather of `classes` times `rows` rows with `length` numbers along k; of equals that with more blocks.
constexpr GatherTile choose_gather_tile(std::int64_t rows, int columns, int length, Vectors vectors, int classes = 1) {
  if (vectors == Vectors::none) return GatherTile::m64n64;
  if (vectors == Vectors::half && length <= kShortLength)
    return columns > 32 ? GatherTile::short_m64n64 : GatherTile::short_m128n32;
  if (vectors == Vectors::half) return GatherTile::m128n32;
  GatherTile best = columns > 32 ? GatherTile::m64n64 : GatherTile::m128n32;
  const auto consider = [&](GatherTile tile) {
    if (gather_cost(tile, rows, columns, classes) <= gather_cost(best, rows, columns, classes)) best = tile;
  };
  if (columns > 32) consider(GatherTile::m32n64), consider(GatherTile::m20n64);
  consider(GatherTile::m20n32);
  return best;
}
inline WeightTile choose_weight_tile(int rows, int columns, Vectors vectors) {
  if (vectors == Vectors::none) return WeightTile::m64n64;
  if (vectors == Vectors::half)  // a short tile's last row is the bias's
    return rows < 16 ? WeightTile::short_m16n64 : has_short_rows(rows) ? WeightTile::short_m32n32 : WeightTile::m32n32;
  return columns > 32 ? WeightTile::m64n64 : WeightTile::m64n32;
}
inline GatherShape forward_shape(const Conv2d& l, const Geometry& g, GatherTile tile) {
  const Shape in = g.input, out = output(l, in);
  GatherShape s;
  s.class_count = 1, s.step = l.stride, s.kernel = l.kernel;
  s.source_height = in.height, s.source_width = in.width, s.depth = FastDivisor(in.channels);
  s.out_height = out.height, s.out_width = out.width, s.columns = l.filters;
  GatherClass& c = s.classes[0];
  c.rows = g.examples * out.height * out.width;
  c.image = FastDivisor(out.height * out.width), c.line = FastDivisor(out.width);
  c.y0 = c.x0 = -l.padding, c.taps = l.kernel * l.kernel, c.taps_x = FastDivisor(l.kernel);
  s.tiles = tiles_of(c.rows, rows_of(tile));
  return s;
}

/// The classes of backward-data, most taps first, in batches of kGatherClasses.
inline std::vector<GatherShape> backward_data_shapes(const Conv2d& l, const Geometry& g, GatherTile tile) {
  const Shape in = g.input, out = output(l, in);
  std::vector<GatherShape> shapes;
  const auto start = [&] {
    GatherShape s;
    s.step = 1, s.direction = -1, s.tap_step = l.stride, s.out_step = l.stride, s.kernel = l.kernel;
    s.source_height = out.height, s.source_width = out.width, s.depth = FastDivisor(l.filters);
    s.out_height = in.height, s.out_width = in.width, s.columns = in.channels;
    return s;
  };
  for (int remainder = 0; remainder < l.stride * l.stride; ++remainder) {
    const int ry = remainder / l.stride, rx = remainder % l.stride;
    // First pixel with (pixel + padding) mod stride = remainder, and its distance in strides.
    const auto first = [&](int r) { return ((r - l.padding) % l.stride + l.stride) % l.stride; };
    const int y = first(ry), x = first(rx);
    if (y >= in.height || x >= in.width) continue;
    const auto taps = [&](int r) { return r < l.kernel ? (l.kernel - 1 - r) / l.stride + 1 : 0; };
    if (shapes.empty() || shapes.back().class_count == kGatherClasses) shapes.push_back(start());
    GatherShape& s = shapes.back();
    GatherClass& c = s.classes[s.class_count++];
    const int lines = (in.height - 1 - y) / l.stride + 1, width = (in.width - 1 - x) / l.stride + 1;
    c.rows = g.examples * lines * width, c.first_tile = s.tiles;
    c.image = FastDivisor(lines * width), c.line = FastDivisor(width);
    c.y0 = (y + l.padding - ry) / l.stride, c.x0 = (x + l.padding - rx) / l.stride;
    c.taps = taps(ry) * taps(rx), c.taps_x = FastDivisor(taps(rx));
    c.tap_y0 = ry, c.tap_x0 = rx, c.out_y0 = y, c.out_x0 = x;
    s.tiles += tiles_of(c.rows, rows_of(tile));
  }
  return shapes;
}

inline WeightShape weight_shape(const Conv2d& l, const Geometry& g) {
  const Shape in = g.input, out = output(l, in);
  WeightShape s;
  s.rows = l.kernel * l.kernel * in.channels, s.columns = l.filters, s.pixels = g.examples * out.height * out.width;
  s.image = FastDivisor(out.height * out.width), s.line = FastDivisor(out.width);
  s.channels = FastDivisor(in.channels), s.kernel = FastDivisor(l.kernel);
  s.stride = l.stride, s.padding = l.padding, s.height = in.height, s.width = in.width;
  const int chunks = tiles_of(s.pixels, kWeightChunk);
  s.splits = weight_splits(s.rows, s.columns, s.pixels);
  s.chunks_per_split = tiles_of(chunks, s.splits);
  if (s.splits > 1 && has_short_rows(s.rows))
    s.chunks_per_split += s.chunks_per_split % 2;  // short tiles take two at a time
  s.splits = std::max(1, tiles_of(chunks, std::max(1, s.chunks_per_split)));
  return s;
}

}  // namespace cumeta
