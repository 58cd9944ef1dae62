// SPDX-License-Identifier: Apache-2.0
// The CPU backend: binds the CPU column; a lane's algebra is one sweep per task.
#include "kernels/backend_cpu.h"

#include <fmt/format.h>

#include <atomic>
#include <cassert>
#include <cmath>
#include <cstring>
#include <exception>
#include <mutex>

#include "kernels/all_layers.h"
#include "kernels/tools/elementwise_cpu.h"
#include "kernels/tools/fma_peak_cpu.h"
#include "kernels/tools/host_memory.h"
#include "kernels/tools/host_recording.h"

namespace cumeta {

std::unique_ptr<LayerPasses> CpuLane::bind(const Stage& stage, const Geometry& geometry, Array scratch) {
  return std::visit([&](const auto& layer) { return cumeta::bind(layer, geometry, scratch, *this); }, stage);
}
std::unique_ptr<LossPasses> CpuLane::bind(const Loss& loss, const LossGeometry& geometry) {
  return std::visit([&](const auto& l) { return cumeta::bind(l, geometry, *this); }, loss);
}

void CpuLane::upload(Array from, Array out) { copy_rows(from, out); }
void CpuLane::fill(Array out, double value) {
  for (int task = 0; task < out.tasks; ++task) {
    if (out.number == Number::float64) {
      for (std::int64_t i = 0; i < out.size; ++i) out.row<double>(task)[i] = value;
    } else {
      cpu::fill(out.row<float>(task), static_cast<float>(value), out.size);
    }
  }
}
void CpuLane::copy(Array from, Array out) {
  assert(from.number == out.number);
  const std::int64_t width = bytes_of(out.number);
  for (int task = 0; task < out.tasks; ++task) {
    std::memcpy(out.data + task * out.stride * width, from.data + task * from.stride * width,
                static_cast<std::size_t>(out.size * width));
  }
}
void CpuLane::add(Array out, double a, Array x) {
  for (int task = 0; task < out.tasks; ++task) {
    cpu::add_scaled(out.row<float>(task), static_cast<float>(a), x.row<float>(task), out.size);
  }
}
void CpuLane::subtract(Array out, Array a, Array b) {
  for (int task = 0; task < out.tasks; ++task) {
    cpu::subtract(out.row<float>(task), a.row<float>(task), b.row<float>(task), out.size);
  }
}
void CpuLane::multiply(Array out, Array a, Array b) {
  for (int task = 0; task < out.tasks; ++task) {
    cpu::multiply(out.row<float>(task), a.row<float>(task), b.row<float>(task), out.size);
  }
}
void CpuLane::add_product(Array out, double s, Array a, Array b) {
  for (int task = 0; task < out.tasks; ++task) {
    cpu::add_product(out.row<float>(task), static_cast<float>(s), a.row<float>(task), b.row<float>(task), out.size);
  }
}
void CpuLane::descend(Array out, Array w, Array rate, Array g) {
  for (int task = 0; task < out.tasks; ++task) {
    cpu::descend(out.row<float>(task), w.row<float>(task), rate.row<float>(task), g.row<float>(task), out.size);
  }
}
void CpuLane::descend_adam(Array out, Array w, Array second, Array rate, Array g, double beta2, double eps, Array count,
                           int step) {
  const double correction = 1 - std::pow(beta2, *count.row<double>(0) + step);
  const cpu::AdamFactors factors{static_cast<float>(beta2), static_cast<float>(1 - beta2),
                                 static_cast<float>(1 / correction), static_cast<float>(eps)};
  for (int task = 0; task < out.tasks; ++task) {
    cpu::descend_adam(out.row<float>(task), w.row<float>(task), second.row<float>(task), rate.row<float>(task),
                      g.row<float>(task), factors, out.size);
  }
}
// 1/s^2 - eps cancels where the variance is small, hence double; where it is 0 rounding may leave less than that.
void CpuLane::record_to_statistics(Array out, Array record, double eps) {
  const std::int64_t channels = out.size / 2;
  for (int task = 0; task < out.tasks; ++task) {
    const float* from = record.row<float>(task);
    float* to = out.row<float>(task);
    for (std::int64_t c = 0; c < channels; ++c) {
      const double s = from[channels + c];
      to[c] = from[c];
      to[channels + c] = static_cast<float>(std::max(1 / (s * s) - eps, 0.0));
    }
  }
}
void CpuLane::statistics_to_record(Array record, Array statistics, double eps) {
  const std::int64_t channels = record.size / 2;
  for (int task = 0; task < record.tasks; ++task) {
    const float* from = statistics.row<float>(task);
    float* to = record.row<float>(task);
    for (std::int64_t c = 0; c < channels; ++c) {
      to[c] = from[c];
      to[channels + c] = static_cast<float>(1 / std::sqrt(from[channels + c] + eps));
    }
  }
}

CpuBackend::CpuBackend(int threads, bool pin) : pool_(threads, pin), lanes_(static_cast<std::size_t>(threads)) {}

std::string CpuBackend::name() const {
  return fmt::format("cpu ({}, {} thread{})", simd_target_name(), lanes(), lanes() == 1 ? "" : "s");
}
std::shared_ptr<std::byte> CpuBackend::allocate(std::size_t bytes) { return allocate_host(bytes); }
void CpuBackend::for_each_chunk(int chunks, int lanes, const std::function<void(int chunk, int lane)>& work) {
  if (lanes == pool_.threads()) return pool_.run(chunks, work);
  // Fewer lanes than workers have memory: a job is a lane, which takes chunks until none is left.
  std::atomic<int> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  int failed = chunks;
  pool_.run(lanes, [&](int lane, int) {
    for (int chunk = next.fetch_add(1); chunk < chunks; chunk = next.fetch_add(1)) {
      try {
        work(chunk, lane);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (chunk < failed) failed = chunk, failure = std::current_exception();
      }
    }
  });
  if (failure) std::rethrow_exception(failure);
}
void CpuBackend::outer_step(const OuterStep& step) { outer_step_cpu(step, pool_); }
void CpuBackend::upload(std::span<const float> from, Array to) { copy_to_rows(from, to); }
void CpuBackend::upload(std::span<const double> from, Array to) { copy_to_rows(from, to); }
void CpuBackend::download(Array from, std::span<double> to) { copy_from_rows(from, to); }
std::unique_ptr<Recording> CpuBackend::record(std::function<void()> calls) {
  return std::make_unique<HostRecording>(std::move(calls));
}

std::unique_ptr<Backend> open_cpu(int threads, bool pin) { return std::make_unique<CpuBackend>(threads, pin); }

}  // namespace cumeta
