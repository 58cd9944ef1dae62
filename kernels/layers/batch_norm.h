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
constexpr std::int64_t scratch(const BatchNorm&, const Geometry&, OnCuda) { return 0; }

std::unique_ptr<LayerPasses> bind(const BatchNorm&, const Geometry&, Array scratch, ReferenceLane&);
std::unique_ptr<LayerPasses> bind(const BatchNorm&, const Geometry&, Array scratch, CpuLane&);
std::unique_ptr<LayerPasses> bind(const BatchNorm&, const Geometry&, Array scratch, CudaLane&);

}  // namespace cumeta
