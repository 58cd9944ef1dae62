// SPDX-License-Identifier: Apache-2.0
// Forward, loss, backward and their tangents of a small fully connected model, by one block in shared memory. A tape is
// y, dy, dz of every layer (z before, y after the activation); a tangent tape is laid out the same.
#pragma once
#include "kernels/programs/mlp_program.h"
#include "kernels/programs/mlp_tile_cuda.cuh"

namespace cumeta {

constexpr int kMlpThreads = 512;

/// One block's view of its task.
struct MlpBlock {
  const MlpProgram& p;
  const MlpSharedLayout& s;
  float* shared;

  __device__ int row_of(int layer) const { return MlpSharedLayout::fours(p.layer[layer].outputs); }
  __device__ int weight_row(int layer) const { return MlpSharedLayout::odd(p.layer[layer].outputs); }
};
/// The examples and tape of one pass.
struct MlpRows {
  const float *x, *t;
  int rows;
  float* tape;
  float scale;  ///< of the loss' gradient: factor / n for classes, factor 2 / (n outputs) for squared errors
};

__device__ __forceinline__ float activated(const MlpLayer& l, float z) {
  if (l.activation == Activation::relu) return z <= 0.0f ? 0.0f : z;
  if (l.activation == Activation::leaky_relu) return z > 0.0f ? z : l.slope * z;
  if (l.activation == Activation::tanh) return tanhf(z);
  return z;
}
/// dy/dz times a value; by masks, so that a value which is not finite stays visible where the unit is on.
__device__ __forceinline__ float through(const MlpLayer& l, float y, float value) {
  if (l.activation == Activation::relu) return y <= 0.0f ? 0.0f : value;
  if (l.activation == Activation::leaky_relu) return y > 0.0f ? value : l.slope * value;
  if (l.activation == Activation::tanh) return (1.0f - y * y) * value;
  return value;
}
/// The derivative of through(y, dy) along Ry with dy held: only tanh bends.
__device__ __forceinline__ float bend(const MlpLayer& l, float y, float Ry, float dy) {
  return l.activation == Activation::tanh ? -2.0f * y * Ry * dy : 0.0f;
}

/// y of all layers at weights w; with `tangent`, Ry along v instead, reading y from the tape.
template <bool tangent>
__device__ void mlp_forward(const MlpBlock& b, const MlpRows& r, const float* w, const float* v, float* tangents) {
  for (int i = 0; i < b.p.layers; ++i) {
    const MlpLayer& l = b.p.layer[i];
    const int input_row = i ? b.row_of(i - 1) : b.s.input_row, weight_row = b.weight_row(i), row = b.row_of(i);
    const float* x = i ? r.tape + b.s.tape_y[i - 1] : r.x;
    const float* weights = w + b.s.weights_of[i];
    const int pairs = (r.rows + 1) / 2;
    for (int item = threadIdx.x; item < pairs * l.outputs; item += kMlpThreads) {
      const int m0 = item / l.outputs * 2, n = item % l.outputs;
      const bool two = m0 + 1 < r.rows;
      float sum[2] = {};
      if constexpr (tangent) {
        const float* direction = v + b.s.weights_of[i];
        if (i) add_rows({tangents + b.s.tape_y[i - 1], weights, input_row, weight_row, 1}, m0, two, n, l.inputs, sum);
        add_rows({x, direction, input_row, weight_row, 1}, m0, two, n, l.inputs, sum);
        const float bias = l.bias ? direction[l.inputs * weight_row + n] : 0.0f;
        const float* y = r.tape + b.s.tape_y[i] + m0 * row + n;
        float* Ry = tangents + b.s.tape_y[i] + m0 * row + n;
        Ry[0] = through(l, y[0], sum[0] + bias);
        if (two) Ry[row] = through(l, y[row], sum[1] + bias);
      } else {
        add_rows({x, weights, input_row, weight_row, 1}, m0, two, n, l.inputs, sum);
        const float bias = l.bias ? weights[l.inputs * weight_row + n] : 0.0f;
        float* y = r.tape + b.s.tape_y[i] + m0 * row + n;
        y[0] = activated(l, sum[0] + bias);
        if (two) y[row] = activated(l, sum[1] + bias);
      }
    }
    __syncthreads();
  }
}

/// dz of the last layer, and each row's loss and hit.
__device__ void mlp_loss(const MlpBlock& b, const MlpRows& r, float* losses, float* hits) {
  const int last = b.p.layers - 1, outputs = b.p.outputs(), row = b.row_of(last);
  for (int e = threadIdx.x; e < r.rows; e += kMlpThreads) {
    const float* y = r.tape + b.s.tape_y[last] + e * row;
    float* dz = r.tape + b.s.tape_dz[last] + e * row;
    float loss = 0.0f, hit = 0.0f;
    if (b.p.cross_entropy) {
      const int label = static_cast<int>(r.t[e]);
      int largest = 0;
      for (int i = 1; i < outputs; ++i)
        if (y[i] > y[largest]) largest = i;
      const float maximum = y[largest];
      // 1 - p[label] is what the others' p add up to, and log1p takes the sum less 1: nothing cancels where p is
      // near 1.
      float others = 0.0f;
      for (int i = 0; i < outputs; ++i) others += i == label ? 0.0f : expf(y[i] - maximum);
      const float own = expf(y[label] - maximum), sum = others + own;
      for (int i = 0; i < outputs; ++i) dz[i] = r.scale * (i == label ? -(others / sum) : expf(y[i] - maximum) / sum);
      loss = log1pf(others + (own - 1.0f)) - (y[label] - maximum);
      hit = largest == label && y[label] == y[label] ? 1.0f : 0.0f;  // scores that are no numbers hit nothing
    } else {
      for (int i = 0; i < outputs; ++i) {
        const float error = y[i] - r.t[e * outputs + i];
        loss = fmaf(error, error, loss);
        dz[i] = r.scale * error;
      }
    }
    losses[e] = loss, hits[e] = hit;
  }
  __syncthreads();
}

/// Rdz of the last layer.
__device__ void mlp_loss_tangent(const MlpBlock& b, const MlpRows& r, float* tangents) {
  const int last = b.p.layers - 1, outputs = b.p.outputs(), row = b.row_of(last);
  for (int e = threadIdx.x; e < r.rows; e += kMlpThreads) {
    const float* y = r.tape + b.s.tape_y[last] + e * row;
    const float* Ry = tangents + b.s.tape_y[last] + e * row;
    float* Rdz = tangents + b.s.tape_dz[last] + e * row;
    if (b.p.cross_entropy) {
      int largest = 0;
      for (int i = 1; i < outputs; ++i)
        if (y[i] > y[largest]) largest = i;
      // Rx is taken from its value at the largest score: where p is nearly 1, Rx - <p, Rx> would cancel otherwise.
      const float maximum = y[largest], origin = Ry[largest];
      float sum = 0.0f, mean = 0.0f;
      for (int i = 0; i < outputs; ++i) {
        const float power = expf(y[i] - maximum);
        sum += power, mean = fmaf(power, Ry[i] - origin, mean);
      }
      for (int i = 0; i < outputs; ++i) Rdz[i] = r.scale * (expf(y[i] - maximum) / sum) * (Ry[i] - origin - mean / sum);
    } else {
      for (int i = 0; i < outputs; ++i) Rdz[i] = r.scale * Ry[i];
    }
  }
  __syncthreads();
}

/// dw at weights w, and dy, dz of the layers below on the tape; with `tangent`, Rdw along v, and Rdz.
template <bool tangent>
__device__ void mlp_backward(const MlpBlock& b, const MlpRows& r, const float* w, const float* v, float* tangents,
                             float* dw) {
  for (int i = b.p.layers - 1; i >= 0; --i) {
    const MlpLayer& l = b.p.layer[i];
    const int row = b.row_of(i), weight_row = b.weight_row(i), input_row = i ? b.row_of(i - 1) : b.s.input_row;
    const float* x = i ? r.tape + b.s.tape_y[i - 1] : r.x;
    const float* dz = r.tape + b.s.tape_dz[i];
    const float* Rdz = tangents + b.s.tape_dz[i];
    const int fours = (l.inputs + 3) / 4, pairs = (r.rows + 1) / 2;
    const int weight_items = fours * l.outputs, bias_items = l.bias ? l.outputs : 0;
    const int input_items = i ? pairs * l.inputs : 0;
    for (int item = threadIdx.x; item < weight_items + bias_items + input_items; item += kMlpThreads) {
      if (item < weight_items) {
        const int m0 = item / l.outputs * 4, n = item % l.outputs;
        float sum[4] = {};
        if constexpr (tangent) {
          add_columns(x, input_row, Rdz, row, m0, n, r.rows, sum);
          if (i) add_columns(tangents + b.s.tape_y[i - 1], input_row, dz, row, m0, n, r.rows, sum);
        } else {
          add_columns(x, input_row, dz, row, m0, n, r.rows, sum);
        }
        float* out = dw + b.s.weights_of[i] + m0 * weight_row + n;
#pragma unroll
        for (int k = 0; k < 4; ++k)
          if (m0 + k < l.inputs) out[k * weight_row] = sum[k];
      } else if (item < weight_items + bias_items) {
        const int n = item - weight_items;
        const float* from = (tangent ? Rdz : dz) + n;
        float sum = 0.0f;
        for (int e = 0; e < r.rows; ++e) sum += from[e * row];
        dw[b.s.weights_of[i] + l.inputs * weight_row + n] = sum;
      } else {
        const MlpLayer& below = b.p.layer[i - 1];
        const int at = item - weight_items - bias_items;
        const int m0 = at / l.inputs * 2, n = at % l.inputs;
        const bool two = m0 + 1 < r.rows;
        const float* weights = w + b.s.weights_of[i];
        float sum[2] = {};
        const int place = m0 * input_row + n;
        const float* y = r.tape + b.s.tape_y[i - 1] + place;
        float* dy = r.tape + b.s.tape_dy[i - 1] + place;
        if constexpr (tangent) {
          add_rows({Rdz, weights, row, 1, weight_row}, m0, two, n, l.outputs, sum);
          add_rows({dz, v + b.s.weights_of[i], row, 1, weight_row}, m0, two, n, l.outputs, sum);
          const float* Ry = tangents + b.s.tape_y[i - 1] + place;
          float* out = tangents + b.s.tape_dz[i - 1] + place;
          out[0] = through(below, y[0], sum[0]) + bend(below, y[0], Ry[0], dy[0]);
          if (two)
            out[input_row] =
                through(below, y[input_row], sum[1]) + bend(below, y[input_row], Ry[input_row], dy[input_row]);
        } else {
          add_rows({dz, weights, row, 1, weight_row}, m0, two, n, l.outputs, sum);
          float* out = r.tape + b.s.tape_dz[i - 1] + place;
          dy[0] = sum[0], out[0] = through(below, y[0], sum[0]);
          if (two) dy[input_row] = sum[1], out[input_row] = through(below, y[input_row], sum[1]);
        }
      }
    }
    __syncthreads();
  }
}

}  // namespace cumeta
