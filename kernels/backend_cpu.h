// SPDX-License-Identifier: Apache-2.0
// The CPU backend: one lane per thread of a pool, single precision, every long loop in SIMD.
#pragma once
#include <vector>

#include "kernels/backend.h"
#include "kernels/tools/thread_pool.h"

namespace cumeta {

class CpuLane final : public Lane {
 public:
  std::unique_ptr<LayerPasses> bind(const Stage& stage, const Geometry& geometry, Array scratch) override;
  std::unique_ptr<LossPasses> bind(const Loss& loss, const LossGeometry& geometry) override;

  void upload(Array from, Array out) override;
  void fill(Array out, double value) override;
  void copy(Array from, Array out) override;
  void add(Array out, double a, Array x) override;
  void subtract(Array out, Array a, Array b) override;
  void multiply(Array out, Array a, Array b) override;
  void add_product(Array out, double s, Array a, Array b) override;
  void descend(Array out, Array w, Array rate, Array g) override;
  void descend_adam(Array out, Array w, Array second, Array rate, Array g, double beta2, double eps, Array count,
                    int step) override;
  void record_to_statistics(Array out, Array record, double eps) override;
  void statistics_to_record(Array record, Array statistics, double eps) override;
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(int threads, bool pin);
  std::string name() const override;
  Number number() const override { return Number::float32; }
  bool on_host() const override { return true; }
  std::shared_ptr<std::byte> allocate(std::size_t bytes) override;
  int lanes() const override { return pool_.threads(); }
  Lane& lane(int index) override { return lanes_[static_cast<std::size_t>(index)]; }
  void for_each_chunk(int chunks, int lanes, const std::function<void(int chunk, int lane)>& work) override;
  void outer_step(const OuterStep& step) override;
  void upload(std::span<const float> from, Array to) override;
  void upload(std::span<const double> from, Array to) override;
  void download(Array from, std::span<double> to) override;
  std::unique_ptr<Recording> record(std::function<void()> calls) override;

 private:
  ThreadPool pool_;
  std::vector<CpuLane> lanes_;
};

/// The end of a meta-update in single precision, columns spread over the pool: see OuterStep.
void outer_step_cpu(const OuterStep& step, ThreadPool& pool);

}  // namespace cumeta
