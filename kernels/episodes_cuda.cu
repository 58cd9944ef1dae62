// SPDX-License-Identifier: Apache-2.0
// Episodes on CUDA by the formula of kernels/tools/episode_draws.h: an image row per block, a sinusoid row per thread.
#include <cassert>
#include <string>

#include "kernels/episodes_cuda.h"
#include "kernels/tools/cuda_launch.cuh"

namespace cumeta {
namespace {

constexpr int kThreads = 128;

struct DrawStream {
  std::uint64_t seed;
  Purpose purpose;
  int first_task;
  const double* control;
  __device__ Draws of_task(int task) const {
    return Draws(seed, purpose, static_cast<std::uint64_t>(control[kControlIteration]),
                 static_cast<std::uint32_t>(first_task + task));
  }
};

/// ImageEpisodes with plain pointers.
struct ImageTable {
  EpisodeRows rows;
  int side_y, side_x, channels;
  const std::uint8_t* pixels;
  const std::uint32_t* class_begin;
  std::uint32_t folders;
  int rotations;
};

/// The choice at `step` of a partial Fisher-Yates: all threads draw the positions up to it, one walks back. `position`
/// holds most_choices numbers.
__device__ std::uint32_t choose(Draws& draws, std::uint32_t first_draw, std::uint32_t step, std::uint32_t count,
                                std::uint32_t* position) {
  for (std::uint32_t i = threadIdx.x; i <= step; i += kThreads)
    position[i] = fisher_yates_position(draws, first_draw, i, count);
  __syncthreads();
  const std::uint32_t choice = fisher_yates_choice(position, step);
  __syncthreads();
  return choice;
}

__global__ void __launch_bounds__(kThreads, 4)
    draw_images(DrawStream stream, ImageTable table, float* x, std::int64_t x_task, float* t, std::int64_t t_task,
                int tasks) {
  CUMETA_SHARED(std::uint32_t, position, most_choices);
  const int row = blockIdx.x;
  const int support = table.rows.ways * table.rows.shots;
  const std::uint32_t classes = table.rotations ? 4 * table.folders : table.folders;
  for (int task = blockIdx.y; task < tasks; task += gridDim.y) {
    Draws draws = stream.of_task(task);
    const int shown = table.rows.shuffled && row < support
                          ? static_cast<int>(choose(draws, table.rows.shuffle_draw(), static_cast<std::uint32_t>(row),
                                                    static_cast<std::uint32_t>(support), position))
                          : row;
    const int label = table.rows.label(shown);
    const std::uint32_t chosen = choose(draws, 0, static_cast<std::uint32_t>(label), classes, position);
    const std::uint32_t folder = table.rotations ? chosen / 4 : chosen;
    const int turns = table.rotations ? static_cast<int>(chosen % 4) : 0;
    const std::uint32_t begin = table.class_begin[folder], images = table.class_begin[folder + 1] - begin;
    const std::uint32_t image = begin + choose(draws, table.rows.image_draw(label),
                                               static_cast<std::uint32_t>(table.rows.example(shown)), images, position);
    const int plane = table.side_y * table.side_x, size = plane * table.channels;
    const std::uint8_t* from = table.pixels + std::int64_t{image} * size;
    float* out = x + task * x_task + std::int64_t{row} * size;
    for (int i = threadIdx.x; i < size; i += kThreads) {
      const int pixel = i / table.channels, channel = i - pixel * table.channels;
      const int source =
          turns == 0 ? pixel : turned_pixel(turns, table.side_x, pixel / table.side_x, pixel % table.side_x);
      out[i] = pixel_value(from[source * table.channels + channel]);
    }
    if (threadIdx.x == 0) t[task * t_task + row] = static_cast<float>(label);
  }
}

__global__ void __launch_bounds__(kThreads, 4)
    draw_sinusoids(DrawStream stream, SinusoidRanges ranges, int rows, float* x, std::int64_t x_task, float* t,
                   std::int64_t t_task, int tasks) {
  const int row = blockIdx.x * kThreads + threadIdx.x;
  if (row >= rows) return;
  for (int task = blockIdx.y; task < tasks; task += gridDim.y) {
    Draws draws = stream.of_task(task);
    const float amplitude = sinusoid_amplitude(draws, ranges), phase = sinusoid_phase(draws, ranges);
    const float input = sinusoid_input(draws, ranges, row);
    x[task * x_task + row] = input;
    t[task * t_task + row] = sinusoid_target(amplitude, phase, input);
  }
}

template <class T>
std::shared_ptr<std::byte> resident(std::span<const T>& numbers, Backend& backend, cudaStream_t stream) {
  const std::size_t bytes = numbers.size() * sizeof(T);
  std::shared_ptr<std::byte> memory = backend.allocate(bytes);
  check(cudaMemcpyAsync(memory.get(), numbers.data(), bytes, cudaMemcpyHostToDevice, stream), "upload a data set");
  check(cudaStreamSynchronize(stream), "upload a data set");
  numbers = {reinterpret_cast<const T*>(memory.get()), numbers.size()};
  return memory;
}

}  // namespace

DeviceEpisodes::DeviceEpisodes(const EpisodeTables& tables, Backend& backend, cudaStream_t stream) : tables_(tables) {
  if (auto* images = std::get_if<ImageEpisodes>(&tables_.kind)) {
    pixels_ = resident(images->pixels, backend, stream);
    class_begin_ = resident(images->class_begin, backend, stream);
  }
}

void DeviceEpisodes::draw(const CudaLane& lane, Array x, Array t, int first_task, Array control) const {
  const DrawStream stream{tables_.seed, tables_.purpose, first_task, control.row<const double>(0)};
  if (const auto* sinusoid = std::get_if<SinusoidEpisodes>(&tables_.kind)) {
    launch(lane, "draw sinusoids", draw_sinusoids, dim3(blocks_for(sinusoid->rows, kThreads), task_blocks(x.tasks)),
           kThreads, 0, stream, sinusoid->ranges, sinusoid->rows, x.row<float>(0), x.stride, t.row<float>(0), t.stride,
           x.tasks);
    return;
  }
  const ImageEpisodes& images = std::get<ImageEpisodes>(tables_.kind);
  const ImageTable table{images.rows,          images.shape.height,       images.shape.width, images.shape.channels,
                         images.pixels.data(), images.class_begin.data(), images.folders(),   images.rotations};
  launch(lane, "draw images", draw_images, dim3(static_cast<unsigned>(images.rows.rows()), task_blocks(x.tasks)),
         kThreads, 0, stream, table, x.row<float>(0), x.stride, t.row<float>(0), t.stride, x.tasks);
}

}  // namespace cumeta
