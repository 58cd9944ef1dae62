// SPDX-License-Identifier: Apache-2.0
// The reference backend: binds the reference column and does a lane's algebra with one loop over tasks and numbers.
#include "kernels/backend_reference.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "kernels/all_layers.h"
#include "kernels/tools/host_memory.h"
#include "kernels/tools/host_recording.h"

namespace cumeta {
namespace {

/// Calls f(out[i], other[i]...) for every number i of every task of out.
template <class F, class... Arrays>
void for_each_number(F&& f, Array out, Arrays... others) {
  assert(out.number == Number::float64 && ((others.number == Number::float64) && ...));
  for (int task = 0; task < out.tasks; ++task)
    for (std::int64_t i = 0; i < out.size; ++i) f(out.row<double>(task)[i], others.template row<double>(task)[i]...);
}

}  // namespace

std::unique_ptr<LayerPasses> ReferenceLane::bind(const Stage& stage, const Geometry& geometry, Array scratch) {
  return std::visit([&](const auto& layer) { return cumeta::bind(layer, geometry, scratch, *this); }, stage);
}
std::unique_ptr<LossPasses> ReferenceLane::bind(const Loss& loss, const LossGeometry& geometry) {
  return std::visit([&](const auto& l) { return cumeta::bind(l, geometry, *this); }, loss);
}

void ReferenceLane::upload(Array from, Array out) { copy_rows(from, out); }
void ReferenceLane::fill(Array out, double value) {
  for_each_number([=](double& o) { o = value; }, out);
}
void ReferenceLane::copy(Array from, Array out) {
  for_each_number([](double& o, double f) { o = f; }, out, from);
}
void ReferenceLane::add(Array out, double a, Array x) {
  for_each_number([=](double& o, double n) { o += a * n; }, out, x);
}
void ReferenceLane::subtract(Array out, Array a, Array b) {
  for_each_number([](double& o, double l, double r) { o = l - r; }, out, a, b);
}
void ReferenceLane::multiply(Array out, Array a, Array b) {
  for_each_number([](double& o, double l, double r) { o = l * r; }, out, a, b);
}
void ReferenceLane::add_product(Array out, double s, Array a, Array b) {
  for_each_number([=](double& o, double l, double r) { o += s * l * r; }, out, a, b);
}
void ReferenceLane::descend(Array out, Array w, Array rate, Array g) {
  for_each_number([](double& o, double from, double r, double gradient) { o = from - r * gradient; }, out, w, rate, g);
}
void ReferenceLane::descend_adam(Array out, Array w, Array second, Array rate, Array g, double beta2, double eps,
                                 Array count, int step) {
  const double correction = 1 - std::pow(beta2, *count.row<double>(0) + step);
  for_each_number([=](double& m, double gradient) { m = beta2 * m + (1 - beta2) * gradient * gradient; },
                  second.rows(0, out.tasks), g);
  for_each_number([=](double& o, double from, double m, double r,
                      double gradient) { o = from - r * gradient / (std::sqrt(m / correction) + eps); },
                  out, w, second, rate, g);
}
void ReferenceLane::record_to_statistics(Array out, Array record, double eps) {
  const std::int64_t channels = out.size / 2;
  copy(record.slice(0, channels), out.slice(0, channels));
  for_each_number([=](double& variance, double s) { variance = std::max(1 / (s * s) - eps, 0.0); },
                  out.slice(channels, channels), record.slice(channels, channels));
}
void ReferenceLane::statistics_to_record(Array record, Array statistics, double eps) {
  const std::int64_t channels = record.size / 2;
  copy(statistics.slice(0, channels), record.slice(0, channels));
  for_each_number([=](double& s, double variance) { s = 1 / std::sqrt(variance + eps); },
                  record.slice(channels, channels), statistics.slice(channels, channels));
}

std::shared_ptr<std::byte> ReferenceBackend::allocate(std::size_t bytes) { return allocate_host(bytes); }
void ReferenceBackend::for_each_chunk(int chunks, int, const std::function<void(int chunk, int lane)>& work) {
  for (int chunk = 0; chunk < chunks; ++chunk) work(chunk, 0);
}
void ReferenceBackend::outer_step(const OuterStep& step) { outer_step_reference(step); }
void ReferenceBackend::upload(std::span<const float> from, Array to) { copy_to_rows(from, to); }
void ReferenceBackend::upload(std::span<const double> from, Array to) { copy_to_rows(from, to); }
void ReferenceBackend::download(Array from, std::span<double> to) { copy_from_rows(from, to); }
std::unique_ptr<Recording> ReferenceBackend::record(std::function<void()> calls) {
  return std::make_unique<HostRecording>(std::move(calls));
}

std::unique_ptr<Backend> open_reference() { return std::make_unique<ReferenceBackend>(); }

}  // namespace cumeta
