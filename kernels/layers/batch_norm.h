// SPDX-License-Identifier: Apache-2.0
// Batch norm per channel; statistics of rows S = [0, statistics_rows), n = their examples x pixels, biased variance:
//   s = 1/sqrt(var + eps)   xh = s (x - mean)   y = gamma xh + beta      record r = [mean | s], Rr = [m1 | m2]
//   u = gamma dy;  dx = s (u - [S] (sum u + xh sum(u xh)) / n)   dgamma = sum(dy xh)   dbeta = sum dy
//   m1 = mean over S of Rx   m2 = mean over S of xh Rx   Rxh = s (Rx - m1 - xh m2)   Ry = gamma Rxh + Rgamma xh + Rbeta
//   Ru = gamma Rdy + Rgamma dy
//   Rdx = -s m2 dx + s (Ru - [S] (sum Ru + Rxh sum(u xh) + xh sum(Ru xh + u Rxh)) / n)
//   Rdgamma = sum(Rdy xh + dy Rxh)   Rdbeta = sum Rdy
// Sums without index run over all rows; [S] = 1 on rows of S, else 0. statistics_rows = 0: r is given and constant, m1
// = m2 = 0. In memory w is gamma [channels] (if scale), then beta [channels] (if shift). Ioffe & Szegedy 2015.
#pragma once
#include "kernels/row.h"

namespace cumeta {

constexpr Shape output(const BatchNorm&, Shape in) { return in; }
constexpr int parameters(const BatchNorm& l, Shape in) { return in.channels * ((l.scale ? 1 : 0) + (l.shift ? 1 : 0)); }
constexpr std::int64_t record(const BatchNorm&, const Geometry& g) { return 2 * std::int64_t{g.input.channels}; }
constexpr std::int64_t tangent_record(const BatchNorm&, const Geometry& g) {
  return 2 * std::int64_t{g.input.channels};
}
constexpr std::int64_t multiply_adds(const BatchNorm&, Shape) { return 0; }

constexpr std::int64_t scratch(const BatchNorm&, const Geometry&, OnReference) { return 0; }
constexpr std::int64_t scratch(const BatchNorm&, const Geometry&, OnCpu) { return 0; }
/// On CUDA up to 4096 rows (examples x pixels) of a task go to one block for each 16 channels; more are split into
/// chunks of about half as many, whose sums stand in the scratch: [chunk][sum][channel].
constexpr int norm_chunks(std::int64_t rows) {
  const std::int64_t chunks = rows <= 4096 ? 1 : (rows + 2047) / 2048, most = 32768;  // of a grid
  return static_cast<int>(chunks < most ? chunks : most);
}
constexpr int norm_chunks(const Geometry& g) {
  return norm_chunks(std::int64_t{g.examples} * g.input.height * g.input.width);
}
constexpr int kNormSums = 5;
constexpr std::int64_t scratch(const BatchNorm&, const Geometry& g, OnCuda) {
  const int chunks = norm_chunks(g);
  return chunks > 1 ? std::int64_t{kNormSums} * chunks * g.input.channels : 0;
}
/// With chunks, their sums are a launch of their own. Forward passes need none where the record is given.
inline int cuda_launches(const BatchNorm&, const Geometry& g, const PassCall& call) {
  return norm_chunks(g) > 1 && !(call.forward() && g.statistics_rows == 0) ? 2 : 1;
}

std::unique_ptr<LayerPasses> bind(const BatchNorm&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const BatchNorm&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const BatchNorm&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
