// SPDX-License-Identifier: Apache-2.0
// The reference backend: one serial lane in double precision, plain loops; what every other device is judged by.
#pragma once
#include "kernels/backend.h"

namespace cumeta {

class ReferenceLane final : public Lane {
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

class ReferenceBackend final : public Backend {
 public:
  std::string name() const override { return "reference"; }
  Number number() const override { return Number::float64; }
  bool on_host() const override { return true; }
  std::shared_ptr<std::byte> allocate(std::size_t bytes) override;
  int lanes() const override { return 1; }
  Lane& lane(int) override { return lane_; }
  void for_each_chunk(int chunks, int lanes, const std::function<void(int chunk, int lane)>& work) override;
  void outer_step(const OuterStep& step) override;
  void upload(std::span<const float> from, Array to) override;
  void upload(std::span<const double> from, Array to) override;
  void download(Array from, std::span<double> to) override;
  std::unique_ptr<Recording> record(std::function<void()> calls) override;

 private:
  ReferenceLane lane_;
};

/// The end of a meta-update in double: see OuterStep.
void outer_step_reference(const OuterStep& step);

}  // namespace cumeta
