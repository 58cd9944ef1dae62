// SPDX-License-Identifier: Apache-2.0
// Forward, loss, backward of a small fully connected model and their tangents, by one block in shared memory. A tape is
// y and dz of every layer (z before, y after the activation), and dy of a tanh; a tangent tape is laid out the same.
// One code runs both: it is short because a block fetches every instruction of it anew.
#pragma once
#include "kernels/programs/mlp_program.h"
#include "kernels/programs/mlp_tile_cuda.cuh"

namespace cumeta {

/// One block's view of its task.
struct MlpBlock {
  const MlpProgram& p;
  const MlpSharedLayout& s;
  float* shared;
};
/// One pass over examples: the gradient at w, or its tangent along v on the tape which the gradient's pass left.
struct MlpPass {
  const float *x, *t;
  int rows;
  float* tape;
  float scale;  ///< of the loss' gradient: factor / n for classes, factor 2 / (n outputs) for squared errors
  const float *w, *v;
  float* tangents;
  bool tangent;

  /// Where the pass' results go: the tape, or the tangents'.
  __device__ float* results() const { return tangent ? tangents : tape; }
};

using MlpRowSums = float[kMlpRows];

/// z becomes y.
__device__ __forceinline__ void activate(const MlpLayer& l, MlpRowSums& z) {
  if (l.activation == Activation::relu) {
#pragma unroll
    for (float& number : z) number = number <= 0.0f ? 0.0f : number;
  } else if (l.activation == Activation::leaky_relu) {
#pragma unroll
    for (float& number : z) number = number > 0.0f ? number : l.slope * number;
  } else if (l.activation == Activation::tanh) {
#pragma unroll
    for (float& number : z) number = tanhf(number);
  }
}
/// Values become dy/dz times themselves; by masks, so that a value which is not finite stays visible where the unit is
/// on.
__device__ __forceinline__ void pass_through(const MlpLayer& l, const MlpRowSums& y, MlpRowSums& value) {
  if (l.activation == Activation::relu) {
#pragma unroll
    for (int r = 0; r < kMlpRows; ++r) value[r] = y[r] <= 0.0f ? 0.0f : value[r];
  } else if (l.activation == Activation::leaky_relu) {
#pragma unroll
    for (int r = 0; r < kMlpRows; ++r) value[r] = y[r] > 0.0f ? value[r] : l.slope * value[r];
  } else if (l.activation == Activation::tanh) {
#pragma unroll
    for (int r = 0; r < kMlpRows; ++r) value[r] = (1.0f - y[r] * y[r]) * value[r];
  }
}
__device__ __forceinline__ void read_four(const float* from, MlpRowSums& out) {
  const float4 four = four_at(from);
  out[0] = four.x, out[1] = four.y, out[2] = four.z, out[3] = four.w;
}

/// y of all layers at weights w, or Ry along v. For squared errors dz of the last layer, too, and in y's place what
/// each output adds to the loss.
__device__ __forceinline__ void mlp_forward(const MlpBlock& b, const MlpPass& pass) {
  const int groups = (pass.rows + kMlpRows - 1) / kMlpRows;
  float* results = pass.results();
#pragma unroll 1
  for (int i = 0; i < b.p.layers; ++i) {
    const MlpLayer& l = b.p.layer[i];
    const MlpPlace& place = b.s.place[i];
    const bool last = i == b.p.layers - 1;
    const int columns = place.columns, inputs = i ? b.s.place[i - 1].columns : b.s.input_columns;
    const float* x = i ? pass.tape + b.s.place[i - 1].y : pass.x;
    const float* Rx = pass.tangents + b.s.place[i ? i - 1 : 0].y;
    for_each_sum(groups, l.outputs, place.by_outputs, place.forward, [&](const SharedSum& c) {
      MlpRowSums sum = {};
      // Rx w where there is one, then x w, or x v.
#pragma unroll 1
      for (int term = pass.tangent && i ? 0 : 1; term < 2; ++term)
        add_rows<false>(c, (term ? x : Rx) + c.group * inputs * 4,
                        (term && pass.tangent ? pass.v : pass.w) + place.weights + c.column, place.weight_row,
                        place.weight_depth, sum);
      add_parts(c.parts, sum);
      const int at = (c.group * columns + c.column) * 4;
      if (pass.tangent) {
        MlpRowSums y;
        read_four(pass.tape + place.y + at, y);
        pass_through(l, y, sum);
      } else {
        activate(l, sum);
      }
      if (!c.mine) return;
      float* y = results + place.y + at;
      if (last && !b.p.cross_entropy) {
        MlpRowSums t = {}, loss;
        if (!pass.tangent) read_four(pass.t + (c.group * l.outputs + c.column) * 4, t);
#pragma unroll
        for (int r = 0; r < kMlpRows; ++r) {
          const float error = c.group * kMlpRows + r < pass.rows ? sum[r] - t[r] : 0.0f;
          loss[r] = error * error;
          sum[r] = pass.scale * error;
        }
        write_four(y, loss);
        y = results + place.dz + at;
      } else if (c.column == l.outputs - 1 && !last && b.p.layer[i + 1].bias) {
        const float one = pass.tangent ? 0.0f : 1.0f;
        write_four(y + 4, {one, one, one, one});
      }
      write_four(y, sum);
    });
    __syncthreads();
  }
}

/// Of classes: dz of the last layer, each row's loss and hit; or Rdz. Some lanes share an example.
__device__ __forceinline__ void mlp_class_loss(const MlpBlock& b, const MlpPass& pass) {
  const int outputs = b.p.outputs(), lanes = 1 << b.s.loss, lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const MlpPlace& place = b.s.place[b.p.layers - 1];
  const int rows = MlpSharedLayout::fours(pass.rows);
  const float infinity = __int_as_float(0x7f800000);
#pragma unroll 1
  for (int first = static_cast<int>(threadIdx.x) / kWarp * (kWarp >> b.s.loss); first < rows;
       first += kMlpThreads >> b.s.loss) {
    const int of_warp = first + (static_cast<int>(threadIdx.x) % kWarp >> b.s.loss), e = min(of_warp, rows - 1);
    const int at = e / 4 * place.columns * 4 + e % 4;  // of the example; score i lies 4 i behind
    const float *y = pass.tape + place.y + at, *Ry = pass.tangents + place.y + at;
    // The first of the largest scores: what is no number is not larger than any, and nothing is larger than it.
    float maximum = -infinity;
    int largest = outputs;
#pragma unroll 1
    for (int i = lane; i < outputs; i += lanes) {
      const float score = y[4 * i] == y[4 * i] ? y[4 * i] : i == 0 ? infinity : -infinity;
      if (score > maximum || largest == outputs) maximum = score, largest = i;
    }
#pragma unroll 1
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, maximum, distance);
      const int place_of_other = __shfl_xor_sync(0xffffffffu, largest, distance);
      if (other > maximum || (other == maximum && place_of_other < largest)) maximum = other, largest = place_of_other;
    }
    maximum = y[4 * largest];
    // Rx is taken from its value at the largest score: where p is nearly 1, Rx - <p, Rx> would cancel otherwise.
    const float origin = pass.tangent ? Ry[4 * largest] : 0.0f;
    // 1 - p[label] is what the others' p add up to, and log1p takes the sum less 1: nothing cancels where p is near 1.
    const int label = pass.tangent ? -1 : static_cast<int>(pass.t[e]);
    const float own = pass.tangent ? 0.0f : expf(y[4 * label] - maximum);
    float others = 0.0f, mean = 0.0f;
#pragma unroll 1
    for (int i = lane; i < outputs; i += lanes) {
      const float power = i == label ? 0.0f : expf(y[4 * i] - maximum);
      others += power;
      if (pass.tangent) mean = fmaf(power, Ry[4 * i] - origin, mean);
    }
#pragma unroll 1
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
      others += __shfl_xor_sync(0xffffffffu, others, distance);
      mean += __shfl_xor_sync(0xffffffffu, mean, distance);
    }
    if (of_warp >= rows) continue;
    const float sum = others + own;
    float* dz = pass.results() + place.dz + at;
    const bool true_row = e < pass.rows;
#pragma unroll 1
    for (int i = lane; i < outputs; i += lanes) {
      const float p = i == label ? -(others / sum) : expf(y[4 * i] - maximum) / sum;
      const float d = pass.scale * (pass.tangent ? p * (Ry[4 * i] - origin - mean / sum) : p);
      dz[4 * i] = true_row ? d : 0.0f;
    }
    if (lane == 0 && !pass.tangent && true_row) {
      b.shared[b.s.losses + e] = log1pf(others + (own - 1.0f)) - (y[4 * label] - maximum);
      // scores that are no numbers hit nothing
      b.shared[b.s.hits + e] = largest == label && y[4 * label] == y[4 * label] ? 1.0f : 0.0f;
    }
  }
  __syncthreads();
}

/// dz of the layers below the last, with dy where a tanh is; or Rdz.
__device__ __forceinline__ void mlp_backward(const MlpBlock& b, const MlpPass& pass) {
  const int groups = (pass.rows + kMlpRows - 1) / kMlpRows;
#pragma unroll 1
  for (int i = b.p.layers - 1; i > 0; --i) {
    const MlpPlace &place = b.s.place[i], &below = b.s.place[i - 1];
    const MlpLayer& layer_below = b.p.layer[i - 1];
    const bool bends = layer_below.activation == Activation::tanh;
    for_each_sum(groups, b.p.layer[i].inputs, place.by_inputs, place.backward, [&](const SharedSum& c) {
      MlpRowSums sum = {};
      // dz w; or Rdz w, then dz v.
#pragma unroll 1
      for (int term = pass.tangent ? 0 : 1; term < 2; ++term)
        add_rows<true>(c, (term ? pass.tape : pass.tangents) + place.dz + c.group * place.columns * 4,
                       (term && pass.tangent ? pass.v : pass.w) + place.weights + c.column * place.weight_row,
                       place.weight_row, b.p.layer[i].outputs, sum);
      add_parts(c.parts, sum);
      const int at = (c.group * below.columns + c.column) * 4;
      MlpRowSums y;
      read_four(pass.tape + below.y + at, y);
      float* dy = pass.tape + below.dy + at;
      if (bends && !pass.tangent && c.mine) write_four(dy, sum);
      pass_through(layer_below, y, sum);
      if (bends && pass.tangent) {
        // The derivative of what passes through along Ry, dy held.
        MlpRowSums Ry, of_dy;
        read_four(pass.tangents + below.y + at, Ry), read_four(dy, of_dy);
#pragma unroll
        for (int r = 0; r < kMlpRows; ++r) sum[r] += -2.0f * y[r] * Ry[r] * of_dy[r];
      }
      if (c.mine) write_four(pass.results() + below.dz + at, sum);
    });
    __syncthreads();
  }
}

/// Four weights of one output, one below the other: rows behind the last are zeros of the padding.
struct MlpWeights {
  int shared;      ///< of the first in a parameter vector
  int shared_row;  ///< from one to the next
  int flat;        ///< of the first in the flat vector
  int flat_row;    ///< from one to the next
  int count;       ///< true ones
  bool adapted;

  /// Where they are in a flat vector; each in one instruction from the one before.
  __device__ __forceinline__ void find(const float* vector, const float* (&each)[4]) const {
    each[0] = offset_by(vector, flat);
#pragma unroll
    for (int r = 1; r < 4; ++r) each[r] = offset_by(each[r - 1], flat_row);
  }
  __device__ __forceinline__ void find(float* vector, float* (&each)[4]) const {
    const float* found[4];
    find(vector, found);
#pragma unroll
    for (int r = 0; r < 4; ++r) each[r] = const_cast<float*>(found[r]);
  }
};

/// dw, or Rdw: calls prepare(MlpWeights) for what `use` shall find when it comes to use(MlpWeights, prepared, sums).
/// A parameter's thread is the same in every pass. No barrier stands here.
template <class Prepare, class Use>
__device__ __forceinline__ void mlp_weights(const MlpBlock& b, const MlpPass& pass, Prepare prepare, Use use) {
  const int groups = (pass.rows + 3) / 4;
  int at = static_cast<int>(threadIdx.x);  // one layer's threads follow the other's
#pragma unroll 1
  for (int i = 0; i < b.p.layers; ++i) {
    const MlpLayer& l = b.p.layer[i];
    const MlpPlace& place = b.s.place[i];
    const int items = place.weight_depth / 4 * l.outputs, depth = l.inputs + l.bias;
#pragma unroll 1
    for (; at < items; at += kMlpThreads) {
      const int m = place.by_outputs.quotient(at) * 4, n = at - m / 4 * l.outputs;
      const MlpWeights weights{place.weights + m * place.weight_row + n,
                               place.weight_row,
                               l.offset + m * l.outputs + n,
                               l.outputs,
                               depth - m,
                               l.adapted != 0};
      const auto prepared = prepare(weights);
      const int inputs = i ? b.s.place[i - 1].columns : b.s.input_columns;
      const float* x = i ? pass.tape + b.s.place[i - 1].y : pass.x;
      const float* Rx = pass.tangents + b.s.place[i ? i - 1 : 0].y;
      float sum[4] = {};
      // x dz; or x Rdz, then Rx dz where there is an Rx.
#pragma unroll 1
      for (int term = 0; term < (pass.tangent && i ? 2 : 1); ++term)
        add_columns((term ? Rx : x) + m * 4, inputs, (term ? pass.tape : pass.results()) + place.dz + n * 4,
                    place.columns, groups, sum);
      use(weights, prepared, sum);
    }
    at -= items;
  }
}

}  // namespace cumeta
