// SPDX-License-Identifier: Apache-2.0
// A lane's algebra on CUDA:  out[task][i] = f(a[task][i], b[task][i], c[task][i]), four numbers at once where rows
// are aligned.
#include <cassert>
#include <cmath>

#include "kernels/tools/cuda_launch.cuh"
#include "kernels/tools/task_rows_cuda.cuh"

namespace cumeta {
namespace {

constexpr int kThreads = 256;

struct Copy {
  __device__ float operator()(float a, float, float) const { return a; }
};
struct Add {
  float scale;
  __device__ float operator()(float old, float x, float) const { return fmaf(scale, x, old); }
};
struct Subtract {
  __device__ float operator()(float a, float b, float) const { return a - b; }
};
struct Multiply {
  __device__ float operator()(float a, float b, float) const { return a * b; }
};
struct AddProduct {
  float scale;
  __device__ float operator()(float old, float a, float b) const { return fmaf(scale * a, b, old); }
};
struct Descend {
  __device__ float operator()(float w, float rate, float g) const { return fmaf(-rate, g, w); }
};

/// Vectors of a row that a thread asks for before it waits for the first.
template <class Vector>
constexpr int kAtOnce = sizeof(Vector) == sizeof(float) ? 4 : 2;

template <class F, int inputs, class Vector>
__global__ void __launch_bounds__(kThreads, 4) map_rows(F f, float* out, std::int64_t out_stride, TaskRows a,
                                                        TaskRows b, TaskRows c, std::int64_t size, int tasks) {
  constexpr int width = sizeof(Vector) / sizeof(float), at_once = kAtOnce<Vector>;
  const std::int64_t first = std::int64_t{blockIdx.x} * (kThreads * at_once) + threadIdx.x, count = size / width;
  // What is left of a row behind its whole vectors.
  const int left = static_cast<int>(size % width);
  const bool has_left = blockIdx.x == gridDim.x - 1 && static_cast<int>(threadIdx.x) < left;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    const float *p = a.data + task * a.stride, *q = b.data + task * b.stride, *r = c.data + task * c.stride;
    float* to = out + task * out_stride;
    Vector x[at_once], y[at_once], z[at_once];
#pragma unroll
    for (int j = 0; j < at_once; ++j) {
      x[j] = y[j] = z[j] = Vector{};
      const std::int64_t i = first + j * kThreads;
      if (i >= count) continue;
      x[j] = reinterpret_cast<const Vector*>(p)[i];
      if constexpr (inputs > 1) y[j] = reinterpret_cast<const Vector*>(q)[i];
      if constexpr (inputs > 2) z[j] = reinterpret_cast<const Vector*>(r)[i];
    }
#pragma unroll
    for (int j = 0; j < at_once; ++j) {
      const std::int64_t i = first + j * kThreads;
      if (i >= count) continue;
      Vector result;
      if constexpr (width == 1) {
        result = f(x[j], y[j], z[j]);
      } else {
        result.x = f(x[j].x, y[j].x, z[j].x), result.y = f(x[j].y, y[j].y, z[j].y);
        result.z = f(x[j].z, y[j].z, z[j].z), result.w = f(x[j].w, y[j].w, z[j].w);
      }
      reinterpret_cast<Vector*>(to)[i] = result;
    }
    if (has_left) {
      const std::int64_t i = count * width + threadIdx.x;
      to[i] = f(p[i], inputs > 1 ? q[i] : 0.0f, inputs > 2 ? r[i] : 0.0f);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    fill_rows(T* out, std::int64_t stride, std::int64_t count, int tasks, T value) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) out[task * stride + i] = value;
}

__global__ void __launch_bounds__(kThreads, 4) copy_doubles(const double* from, std::int64_t from_stride, double* out,
                                                            std::int64_t stride, std::int64_t count, int tasks) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y)
    out[task * stride + i] = from[task * from_stride + i];
}

__global__ void __launch_bounds__(kThreads, 4)
    adam_step(float* out, std::int64_t out_stride, TaskRows w, float* second, std::int64_t second_stride, TaskRows rate,
              TaskRows g, std::int64_t count, int tasks, float beta2, float rest2, float log_beta2, float eps,
              const double* steps_before, int step) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  // 1 - beta2^n without cancellation
  const float correction = -expm1f((static_cast<float>(steps_before[0]) + static_cast<float>(step)) * log_beta2);
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    const float gradient = g.data[task * g.stride + i];
    float& moment = second[task * second_stride + i];
    const float m = beta2 * moment + rest2 * gradient * gradient;
    moment = m;
    out[task * out_stride + i] =
        w.data[task * w.stride + i] - rate.data[task * rate.stride + i] * gradient / (sqrtf(m / correction) + eps);
  }
}

/// 1/sigma^2 - eps, of which rounding may leave less than 0. A NaN stays one.
__device__ __forceinline__ float variance_of(float sigma_inverse, float eps) {
  const float variance = 1.0f / (sigma_inverse * sigma_inverse) - eps;
  return variance < 0.0f ? 0.0f : variance;
}
/// Mean copied; the second half becomes the variance, or 1/sqrt(variance + eps).
template <bool to_record>
__global__ void __launch_bounds__(kThreads, 4) convert_statistics(float* out, std::int64_t out_stride, TaskRows from,
                                                                  std::int64_t channels, int tasks, float eps) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= 2 * channels) return;
  for (std::int64_t task = blockIdx.y; task < tasks; task += gridDim.y) {
    const float number = from.data[task * from.stride + i];
    out[task * out_stride + i] =
        i < channels ? number : (to_record ? 1.0f / sqrtf(number + eps) : variance_of(number, eps));
  }
}

dim3 grid_for(std::int64_t count, int tasks) { return {blocks_for(count, kThreads), task_blocks(tasks), 1}; }

template <int inputs, class F>
void map(const CudaLane& lane, Op op, F f, Array out, Array a, Array b = {}, Array c = {}) {
  assert(out.number == Number::float32 && a.number == Number::float32);
  const bool vectors = out.size >= 4 && out.by_fours() && a.by_fours() && b.by_fours() && c.by_fours();
  const auto kernel = vectors ? map_rows<F, inputs, float4> : map_rows<F, inputs, float>;
  const int a_block = kThreads * (vectors ? 4 * kAtOnce<float4> : kAtOnce<float>);
  launch(lane, op, kernel, {blocks_for(out.size, a_block), task_blocks(out.tasks), 1}, kThreads, 0, f,
         out.row<float>(0), out.stride, TaskRows(a), TaskRows(b), TaskRows(c), out.size, out.tasks);
}

}  // namespace

void CudaLane::fill(Array out, double value) {
  if (out.number == Number::float64)
    launch(*this, "fill", fill_rows<double>, grid_for(out.size, out.tasks), kThreads, 0, out.row<double>(0), out.stride,
           out.size, out.tasks, value);
  else
    launch(*this, "fill", fill_rows<float>, grid_for(out.size, out.tasks), kThreads, 0, out.row<float>(0), out.stride,
           out.size, out.tasks, static_cast<float>(value));
}
void CudaLane::copy(Array from, Array out) {
  assert(from.number == out.number);
  if (out.number == Number::float64)
    return launch(*this, "copy", copy_doubles, grid_for(out.size, out.tasks), kThreads, 0, from.row<const double>(0),
                  from.stride, out.row<double>(0), out.stride, out.size, out.tasks);
  map<1>(*this, "copy", Copy{}, out, from);
}
void CudaLane::add(Array out, double a, Array x) { map<2>(*this, "add", Add{static_cast<float>(a)}, out, out, x); }
void CudaLane::subtract(Array out, Array a, Array b) { map<2>(*this, "subtract", Subtract{}, out, a, b); }
void CudaLane::multiply(Array out, Array a, Array b) { map<2>(*this, "multiply", Multiply{}, out, a, b); }
void CudaLane::add_product(Array out, double s, Array a, Array b) {
  map<3>(*this, "add product", AddProduct{static_cast<float>(s)}, out, out, a, b);
}
void CudaLane::descend(Array out, Array w, Array rate, Array g) {
  map<3>(*this, "descend", Descend{}, out, w, rate, g);
}
void CudaLane::descend_adam(Array out, Array w, Array second, Array rate, Array g, double beta2, double eps,
                            Array count, int step) {
  launch(*this, "descend adam", adam_step, grid_for(out.size, out.tasks), kThreads, 0, out.row<float>(0), out.stride,
         TaskRows(w), second.row<float>(0), second.stride, TaskRows(rate), TaskRows(g), out.size, out.tasks,
         static_cast<float>(beta2), static_cast<float>(1 - beta2), static_cast<float>(std::log(beta2)),
         static_cast<float>(eps), count.row<const double>(0), step);
}
void CudaLane::record_to_statistics(Array out, Array record, double eps) {
  launch(*this, "record to statistics", convert_statistics<false>, grid_for(out.size, out.tasks), kThreads, 0,
         out.row<float>(0), out.stride, TaskRows(record), out.size / 2, out.tasks, static_cast<float>(eps));
}
void CudaLane::statistics_to_record(Array record, Array statistics, double eps) {
  launch(*this, "statistics to record", convert_statistics<true>, grid_for(record.size, record.tasks), kThreads, 0,
         record.row<float>(0), record.stride, TaskRows(statistics), record.size / 2, record.tasks,
         static_cast<float>(eps));
}

}  // namespace cumeta
