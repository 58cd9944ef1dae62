// SPDX-License-Identifier: Apache-2.0
// Convolution + batch norm + ReLU (+ max-pool) in one row: the same formulas, with z never leaving the row but as its
// record.
//   r = [z, the convolution's output | mean | 1/sigma | winner's index of each window, if pooled]   Rr = [Rz | m1 | m2]
#pragma once
#include "kernels/layers/batch_norm.h"
#include "kernels/layers/conv2d.h"
#include "kernels/layers/max_pool2d.h"
#include "kernels/tools/convolution_plan.h"

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

// The columns that compose their layers need rooms of z's size for what these exchange; the convolution's own scratch
// lies behind them.
constexpr int composed_conv_block_rooms = 6;
constexpr std::int64_t scratch(const ConvBlock& b, const Geometry& g, OnReference) {
  return composed_conv_block_rooms * std::int64_t{g.examples} * output(b.convolution, g.input).size();
}
constexpr std::int64_t scratch(const ConvBlock& b, const Geometry& g, OnCpu) {
  return scratch(b, g, OnReference{}) + scratch(b.convolution, g, OnCpu{});
}

/// Chunks of rows on CUDA, each one block's work for 16 channels: one for every `least` rows, but at most
/// kMostBlockChunks while a task has 65,536 rows.
constexpr int kMostBlockChunks = 32;
constexpr std::int64_t block_chunks(std::int64_t rows, int least) {
  const std::int64_t wanted = (rows + kMostBlockChunks - 1) / kMostBlockChunks;
  const std::int64_t chunk = wanted < least ? least : wanted > 2048 ? 2048 : wanted;
  return (rows + chunk - 1) / chunk;
}
constexpr int kGradientChunk = 336;  ///< least rows of backward: Omniglot's first layer has three, one round of blocks

/// CUDA's scratch, numbers per task: the gradients of z and their tangents, sums of tiles or chunks of rows, sums per
/// channel, and the convolution's splits.
struct ConvBlockRoom {
  std::int64_t dz = 0, Rdz = 0, parts = 0, sums = 0, splits = 0, size = 0;
};
constexpr ConvBlockRoom conv_block_room(const ConvBlock& b, const Geometry& g) {
  const auto whole = [](std::int64_t n) { return (n + 3) / 4 * 4; };
  const Shape z = output(b.convolution, g.input);
  const std::int64_t rows = std::int64_t{g.examples} * z.height * z.width;
  std::int64_t tiles = 0;  // of whichever copies the addresses will allow
  for (const Vectors vectors : {Vectors::full, Vectors::half, Vectors::none}) {
    const int length = b.convolution.kernel * b.convolution.kernel * g.input.channels;
    const std::int64_t made = tiles_of(rows, rows_of(choose_gather_tile(rows, z.channels, length, vectors)));
    tiles = made > tiles ? made : tiles;
  }
  const std::int64_t chunks = block_chunks(rows, kGradientChunk);
  const std::int64_t of_tiles = 2 * tiles, of_chunks = chunks > 1 ? kNormSums * chunks : 0;
  ConvBlockRoom room;
  room.Rdz = whole(rows * z.channels);
  room.parts = 2 * room.Rdz;
  room.sums = room.parts + whole((of_tiles > of_chunks ? of_tiles : of_chunks) * z.channels);
  room.splits = room.sums + whole(std::int64_t{kNormSums} * z.channels);
  room.size = room.splits + scratch(b.convolution, g, OnCuda{});
  return room;
}
constexpr std::int64_t scratch(const ConvBlock& b, const Geometry& g, OnCuda) { return conv_block_room(b, g).size; }
inline int cuda_launches(const ConvBlock& b, const Geometry& g, const PassCall& call) {
  if (call.forward()) return 1;
  if (!call.dx()) return call.dw() ? 1 : 0;
  const auto &v = call.v, &R = call.R;
  const bool joint =
      joint_backward(b.convolution, g.input, {v.w, v.x, v.y, v.r, call.d.y, R.w, R.x, R.r, call.Rd.y, call.scratch});
  return joint ? 1 : 1 + separate_launches(b.convolution, g, true, call.dw());
}

std::unique_ptr<LayerPasses> bind(const ConvBlock&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const ConvBlock&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const ConvBlock&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
