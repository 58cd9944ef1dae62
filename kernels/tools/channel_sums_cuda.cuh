// SPDX-License-Identifier: Apache-2.0
// Sums per channel over the rows of one task by one block: rows are pixels, channels lie side by side (NHWC).
//
// A block owns 16 channels. Thread t takes V of them and every (threads V / 16)-th row; sums over a block's threads are
// made in a fixed order: lanes by a butterfly, then warps 0, 1, ...
#pragma once
#include "kernels/tools/cuda_shared.cuh"

namespace cumeta {

constexpr int kChannelsOfABlock = 16;

template <int V_, int threads_ = 256>
struct ChannelBlock {
  static constexpr int V = V_, channels = kChannelsOfABlock, threads = threads_, lanes = channels / V,
                       rows = threads / lanes;
  int first_row, local, channel, total;  // local: this thread's first channel of the block's 16

  __device__ ChannelBlock(int channel_group, int channels_in_all)
      : first_row(static_cast<int>(threadIdx.x) / lanes),
        local(static_cast<int>(threadIdx.x) % lanes * V),
        channel(channel_group * channels + local),
        total(channels_in_all) {}

  /// With V = 4 the number of channels is a multiple of 4, so a thread's channels are all there or none is.
  __device__ bool active() const { return channel < total; }
  __device__ void load(const float* from, std::int64_t row, float (&out)[V]) const { load_at(from + row * total, out); }
  __device__ void load_at(const float* from, float (&out)[V]) const {
    if constexpr (V == 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + channel);
      out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
    } else {
      out[0] = from[channel];
    }
  }
  /// Of parameters, which need not be aligned; `otherwise` where there are none.
  __device__ void parameters(const float* from, float otherwise, float (&out)[V]) const {
#pragma unroll
    for (int j = 0; j < V; ++j) out[j] = from && active() ? from[channel + j] : otherwise;
  }
  /// Of numbers of this block's 16 channels.
  __device__ void own_parameters(const float* from, float (&out)[V]) const {
#pragma unroll
    for (int j = 0; j < V; ++j) out[j] = active() ? from[local + j] : 0.0f;
  }
  __device__ void store(float* to, std::int64_t row, const float (&v)[V]) const {
    if constexpr (V == 4) {
      *reinterpret_cast<float4*>(to + row * total + channel) = make_float4(v[0], v[1], v[2], v[3]);
    } else {
      to[row * total + channel] = v[0];
    }
  }
  /// One thread per channel writes a per-channel number.
  __device__ void publish(float* to, const float (&v)[V]) const {
    if (to && first_row == 0 && active())
#pragma unroll
      for (int j = 0; j < V; ++j) to[channel + j] = v[j];
  }

  /// Adds N sums of `chunks` chunks, in their order, from [chunk][row of `each` sums][channel].
  template <int N>
  __device__ void add_parts(const float* from, int chunks, int each, float (&s)[N][V]) const {
    if (!active()) return;
#pragma unroll 4
    for (int chunk = 0; chunk < chunks; ++chunk)
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int j = 0; j < V; ++j)
          s[n][j] += from[(static_cast<std::int64_t>(chunk) * each + n) * total + channel + j];
  }

  /// Replaces the N sums of every thread by the block's. `shared` holds N x 16 numbers for each warp.
  template <int N>
  __device__ void sum(float (&s)[N][V], float* shared) const {
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int j = 0; j < V; ++j)
#pragma unroll
        for (int distance = lanes; distance < 32; distance *= 2)
          s[n][j] += __shfl_xor_sync(0xffffffffu, s[n][j], distance);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    __syncthreads();
    if (lane < lanes)
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int j = 0; j < V; ++j) shared[(warp * N + n) * channels + local + j] = s[n][j];
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int j = 0; j < V; ++j) {
        float total_sum = 0.0f;
#pragma unroll
        for (int w = 0; w < threads / 32; ++w) total_sum += shared[(w * N + n) * channels + local + j];
        s[n][j] = total_sum;
      }
  }
};

}  // namespace cumeta
