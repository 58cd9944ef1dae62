// SPDX-License-Identifier: Apache-2.0
// The fused block's work per channel, by blocks of 16 channels and a range of rows: batch norm, ReLU and max-pool
// applied to z, and their gradients. Rows are pixels of z, or of y where it is pooled.
//
//   forward            y = max(0, gamma xh + beta), at the winner of each window       xh = s (z - mean)
//   tangent forward    Ry = [y > 0] (gamma Rxh + Rgamma xh + Rbeta)                     Rxh = s (Rz - m1 - xh m2)
//   backward, tangent  du = [y > 0] dy at the winner, then batch norm's dz and Rdz (kernels/layers/batch_norm.h)
#pragma once
#include "kernels/layers/batch_norm_gradient_cuda.cuh"
#include "kernels/layers/conv_block.h"
#include "kernels/tools/channel_sums_cuda.cuh"
#include "kernels/tools/fast_divisor.h"
#include "kernels/tools/task_rows_cuda.cuh"

namespace cumeta {

struct NormCall {
  TaskRows w, y, r, dy, dw, Rw, Ry, Rr, Rdy, Rdw;
  TaskRows dz, Rdz, parts, sums;                // scratch
  int channels = 0, rows = 0, counted = 0;      // rows of z; counted: those of the statistics
  int mean_at = 0, winner_at = 0;               // in r; z stands first
  int gamma_at = -1, beta_at = -1;              // in w; -1: not there
  int chunks = 1, rows_per_chunk = 0;           // of backward
  int y_rows = 0, apply_rows = 0, applies = 1;  // of forward: rows of y, per block, blocks per channel group
  bool pooled = false;
  int kernel = 1, stride = 1, z_height = 0, z_width = 0, y_height = 0, y_width = 0;
  FastDivisor z_line, z_image, y_line, y_image;  // a line's and an image's pixels
  float eps = 0;

  __device__ const float* gamma(const TaskRows& p, int task) const {
    return p.data && gamma_at >= 0 ? p.of(task) + gamma_at : nullptr;
  }
  __device__ const float* beta(const TaskRows& p, int task) const {
    return p.data && beta_at >= 0 ? p.of(task) + beta_at : nullptr;
  }
  __host__ __device__ int channel_groups() const { return (channels + kChannelsOfABlock - 1) / kChannelsOfABlock; }
};

/// What a pass makes of a channel's rows, of this block's 16 channels: mean and 1/sigma, or m1 and m2.
struct NormStatistics {
  const float *first, *second;
};

/// y of rows [first, last).
template <class Block>
__device__ __forceinline__ void norm_forward(const NormCall& call, const NormStatistics& made, int task, int group,
                                             int first, int last) {
  constexpr int V = Block::V;
  const Block b(group, call.channels);
  if (!b.active()) return;
  float* record = call.r.of(task);
  const float* z = record;
  float mean[V], s[V], gamma[V], beta[V], v[V];
  b.own_parameters(made.first, mean);
  b.own_parameters(made.second, s);
  b.parameters(call.gamma(call.w, task), 1.0f, gamma);
  b.parameters(call.beta(call.w, task), 0.0f, beta);
  float* y = call.y.of(task);
  const auto activate = [&](float(&u)[V]) {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float normal = fmaf(gamma[j], s[j] * (u[j] - mean[j]), beta[j]);
      u[j] = normal > 0.0f ? normal : normal <= 0.0f ? 0.0f : normal;  // a NaN stays one
    }
  };
  if (!call.pooled) {
#pragma unroll 4
    for (int row = first + b.first_row; row < last; row += Block::rows) {
      b.load(z, row, v);
      activate(v);
      b.store(y, row, v);
    }
    return;
  }
  for (int row = first + b.first_row; row < last; row += Block::rows) {
    const int example = call.y_image.quotient(row), rest = row - example * static_cast<int>(call.y_image.divisor);
    const int oy = call.y_line.quotient(rest), ox = rest - oy * static_cast<int>(call.y_line.divisor);
    const int corner = (example * call.z_height + oy * call.stride) * call.z_width + ox * call.stride;
    float best[V], winner[V] = {};
    b.load(z, corner, best);
    activate(best);
    for (int k = 1; k < call.kernel * call.kernel; ++k) {
      const int line = k / call.kernel;
      b.load(z, corner + line * call.z_width + k - line * call.kernel, v);
      activate(v);
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (v[j] > best[j]) best[j] = v[j], winner[j] = static_cast<float>(k);
    }
    b.store(y, row, best);
    b.store(record + call.winner_at, row, winner);
  }
}

/// Ry of rows [first, last).
template <class Block>
__device__ __forceinline__ void norm_tangent_forward(const NormCall& call, const NormStatistics& made, int task,
                                                     int group, int first, int last) {
  constexpr int V = Block::V;
  const Block b(group, call.channels);
  if (!b.active()) return;
  const float *record = call.r.of(task), *y = call.y.of(task), *Rz = call.Rr.of(task);
  float mean[V], s[V], m1[V], m2[V], gamma[V], Rgamma[V], Rbeta[V], v[V], Rv[V], out[V];
  b.parameters(record + call.mean_at, 0.0f, mean);
  b.parameters(record + call.mean_at + call.channels, 0.0f, s);
  b.own_parameters(made.first, m1);
  b.own_parameters(made.second, m2);
  b.parameters(call.gamma(call.w, task), 1.0f, gamma);
  b.parameters(call.gamma(call.Rw, task), 0.0f, Rgamma);
  b.parameters(call.beta(call.Rw, task), 0.0f, Rbeta);
#pragma unroll 2
  for (int row = first + b.first_row; row < last; row += Block::rows) {
    if (call.pooled) {
      const int example = call.y_image.quotient(row), rest = row - example * static_cast<int>(call.y_image.divisor);
      const int oy = call.y_line.quotient(rest), ox = rest - oy * static_cast<int>(call.y_line.divisor);
      const int corner = (example * call.z_height + oy * call.stride) * call.z_width + ox * call.stride;
      float winner[V];
      b.load(record + call.winner_at, row, winner);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const int k = static_cast<int>(winner[j]), line = k / call.kernel;
        const std::int64_t at =
            static_cast<std::int64_t>(corner + line * call.z_width + k - line * call.kernel) * call.channels +
            b.channel + j;
        v[j] = record[at], Rv[j] = Rz[at];
      }
    } else {
      b.load(record, row, v);
      b.load(Rz, row, Rv);
    }
    b.load(y, row, out);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float xh = s[j] * (v[j] - mean[j]), Rxh = s[j] * (Rv[j] - m1[j] - xh * m2[j]);
      out[j] = out[j] > 0.0f ? fmaf(gamma[j], Rxh, fmaf(Rgamma[j], xh, Rbeta[j])) : 0.0f;
    }
    b.store(call.Ry.of(task), row, out);
  }
}

/// What a block of backward knows of its channels, and its sums: dy, dy xh (, Rdy, Rdy xh, dy Rxh), dy masked.
template <class Block, bool tangent>
struct NormGradient {
  static constexpr int V = Block::V, kSums = kGradientSums<tangent>;
  const NormCall& call;
  const Block b;
  const float *z, *y, *winners, *dy, *Rz = nullptr, *Rdy = nullptr;
  float mean[V], s[V], gamma[V], m1[V], m2[V], Rgamma[V];

  __device__ NormGradient(const NormCall& c, int task, int group)
      : call(c), b(group, c.channels), z(c.r.of(task)), y(c.y.of(task)), winners(z + c.winner_at), dy(c.dy.of(task)) {
    b.parameters(z + c.mean_at, 0.0f, mean);
    b.parameters(z + c.mean_at + c.channels, 0.0f, s);
    b.parameters(c.gamma(c.w, task), 1.0f, gamma);
    if constexpr (tangent) {
      Rz = c.Rr.of(task), Rdy = c.Rdy.of(task);
      b.parameters(Rz + c.mean_at, 0.0f, m1);
      b.parameters(Rz + c.mean_at + c.channels, 0.0f, m2);
      b.parameters(c.gamma(c.Rw, task), 0.0f, Rgamma);
    }
  }
  __device__ __forceinline__ NormChannel channel(int j) const {
    if constexpr (tangent) return {s[j], gamma[j], Rgamma[j], m2[j]};
    return {s[j], gamma[j], 0.0f, 0.0f};
  }
  /// xh, d = [y > 0] dy and their tangents at one pixel of z.
  __device__ __forceinline__ void load(int row, float (&xh)[V], float (&d)[V], float (&Rxh)[V], float (&Rd)[V]) const {
    float v[V], mask[V];
    b.load(z, row, xh);
#pragma unroll
    for (int j = 0; j < V; ++j) xh[j] = s[j] * (xh[j] - mean[j]);
    if constexpr (tangent) {
      b.load(Rz, row, v);
#pragma unroll
      for (int j = 0; j < V; ++j) Rxh[j] = s[j] * (v[j] - m1[j] - xh[j] * m2[j]);
    }
    if (!call.pooled) {
      b.load(y, row, mask);
      b.load(dy, row, d);
      if constexpr (tangent) b.load(Rdy, row, Rd);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        d[j] = mask[j] > 0.0f ? d[j] : 0.0f;
        if constexpr (tangent) Rd[j] = mask[j] > 0.0f ? Rd[j] : 0.0f;
      }
      return;
    }
#pragma unroll
    for (int j = 0; j < V; ++j) d[j] = 0.0f, Rd[j] = 0.0f;
    const int example = call.z_image.quotient(row), rest = row - example * static_cast<int>(call.z_image.divisor);
    const int py = call.z_line.quotient(rest), px = rest - py * static_cast<int>(call.z_line.divisor);
    const int first_y = py < call.kernel ? 0 : (py - call.kernel) / call.stride + 1;
    const int first_x = px < call.kernel ? 0 : (px - call.kernel) / call.stride + 1;
    const int last_y = min(py / call.stride, call.y_height - 1), last_x = min(px / call.stride, call.y_width - 1);
    for (int oy = first_y; oy <= last_y; ++oy)
      for (int ox = first_x; ox <= last_x; ++ox) {
        const int o = (example * call.y_height + oy) * call.y_width + ox;
        const float here = static_cast<float>((py - oy * call.stride) * call.kernel + px - ox * call.stride);
        float winner[V];
        b.load(winners, o, winner);
        b.load(y, o, mask);
        b.load(dy, o, v);
#pragma unroll
        for (int j = 0; j < V; ++j)
          if (winner[j] == here && mask[j] > 0.0f) d[j] += v[j];
        if constexpr (tangent) {
          b.load(Rdy, o, v);
#pragma unroll
          for (int j = 0; j < V; ++j)
            if (winner[j] == here && mask[j] > 0.0f) Rd[j] += v[j];
        }
      }
  }
  __device__ __forceinline__ void add(int first, int last, float (&sums)[kSums][V]) const {
    if (!b.active()) return;
    float xh[V], d[V], Rxh[V] = {}, Rd[V] = {};
#pragma unroll(tangent ? 2 : 4)
    for (int row = first + b.first_row; row < last; row += Block::rows) {
      load(row, xh, d, Rxh, Rd);
#pragma unroll
      for (int j = 0; j < V; ++j) add_point(sums, j, {xh[j], d[j], Rxh[j], Rd[j]});
    }
  }
  /// Gradients of gamma and beta (their tangents), by one block of a channel group.
  __device__ __forceinline__ void publish(int task, const float (&sums)[kSums][V]) const {
    const TaskRows& out = tangent ? call.Rdw : call.dw;
    if (!out.data) return;
    float of_gamma[V], of_beta[V];
#pragma unroll
    for (int j = 0; j < V; ++j) of_gamma[j] = gamma_gradient(sums, j), of_beta[j] = beta_gradient(sums, j);
    float* row = out.of(task);
    b.publish(call.gamma_at >= 0 ? row + call.gamma_at : nullptr, of_gamma);
    b.publish(call.beta_at >= 0 ? row + call.beta_at : nullptr, of_beta);
  }
  /// dz (and Rdz) of rows [first, last).
  __device__ __forceinline__ void apply(int task, int first, int last, const float (&sums)[kSums][V]) const {
    if (!b.active()) return;
    const float inverse = call.counted > 0 ? 1.0f / static_cast<float>(call.counted) : 0.0f;
    float *dz = call.dz.of(task), *Rdz = call.Rdz.of(task);
    float xh[V], d[V], Rxh[V] = {}, Rd[V] = {}, out[V];
#pragma unroll(tangent ? 2 : 4)
    for (int row = first + b.first_row; row < last; row += Block::rows) {
      load(row, xh, d, Rxh, Rd);
      const float counts = row < call.counted ? inverse : 0.0f;
#pragma unroll
      for (int j = 0; j < V; ++j) out[j] = norm_gradient(channel(j), sums, j, {xh[j], d[j], Rxh[j], Rd[j]}, counts);
      b.store(dz, row, out);
      if constexpr (tangent) {
#pragma unroll
        for (int j = 0; j < V; ++j)
          out[j] = norm_gradient_tangent(channel(j), sums, j, {xh[j], d[j], Rxh[j], Rd[j]}, counts, out[j]);
        b.store(Rdz, row, out);
      }
    }
  }
};

}  // namespace cumeta
